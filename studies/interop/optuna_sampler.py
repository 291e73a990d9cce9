"""A strategy of ours as an Optuna sampler: the study's trials are its history, and keep the notes of its proposals."""

import hashlib
import json
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from studies.errors import StudyError
from studies.history import History, Trial
from studies.interop.missing import needs
from studies.interop.optuna_space import SearchSpace, distributions_of
from studies.randomness import isolated, key_generator
from studies.spaces.box import Box
from studies.strategies.base import Optimiser, Strategy, checked

with needs("Optuna"):
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.search_space import intersection_search_space
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial, TrialState

__all__ = ["OptunaSampler"]

_NOTE = "studies:proposal"  # the key of the system attribute of a trial that holds its proposal
_ONE_AT_A_TIME = threading.Lock()  # the global random state, which a proposal sets and restores, is one for all threads


class OptunaSampler(BaseSampler):
    """A strategy of ours in an Optuna study: `optuna.create_study(sampler=OptunaSampler(strategy))`.

    Each trial of Optuna's is a round of one trial, and the strategy's notes are kept with it, so that a study goes on
    after a restart, and several processes may share it. Its outcome is the values and then the constraints, by name:
    what Optuna maximises is negated, and a constraint holds where it is not positive. Failed and pruned trials count
    as failed, running ones as pending.

    Args:
        strategy: What chooses the trials.
        space: The parameters that the objective suggests. None lets the completed trials tell: those that all of them
            have alike. The first trial, and parameters that come and go, are then drawn uniformly.
        seed: Equal seeds give equal studies, if trials run one after the other.

    Raises:
        ImportError: Optuna is missing.
    """

    def __init__(self, strategy: Strategy, space: Box | None = None, seed: int = 0) -> None:
        self._strategy, self._seed = strategy, seed
        self._known = None if space is None else SearchSpace(distributions_of(space), space)

    def __repr__(self) -> str:
        return f"OptunaSampler({self._strategy!r}, space={self._known and self._known.box!r}, seed={self._seed})"

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self._space(study).distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        space = self._known if self._known and self._known.distributions == search_space else SearchSpace(search_space)
        if space.box is None:
            return space.params(None)
        history = _history(study, space, space.box, trial.number)
        with _ONE_AT_A_TIME, isolated(key_generator(self._seed, trial.number, "propose", 1)):
            proposal = self._strategy.propose(history, 1, key_generator(self._seed, trial.number, "propose"))
        theta, info = checked(proposal, space.box, 1)
        note = {"theta": theta[0].tolist(), "info": info, "space": _signature(space.box)}
        study._storage.set_trial_system_attr(trial._trial_id, _NOTE, note)  # pyright: ignore[reportPrivateUsage]
        return space.params(theta[0])

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401 - Optuna's values are of any type
        space = SearchSpace({param_name: param_distribution})
        generator = key_generator(self._seed, trial.number, f"independent {param_name}")
        return space.params(None if space.box is None else space.box.sample(1, generator)[0])[param_name]

    def recommend(self, study: Study) -> dict[str, Any]:
        """The parameters that the strategy believes best, by its own model: not those of the luckiest trial.

        Raises:
            StudyError: The strategy has no answer, or the trials have no parameter in common.
        """
        space = self._space(study)
        if not isinstance(self._strategy, Optimiser):
            raise StudyError(
                f"{self._strategy!r} does not optimise: it has no `recommend`. Use `study.trials` instead."
            )
        if space.box is None:
            raise StudyError("The completed trials have no parameter in common. Pass space=Box(...) to the sampler.")
        n_trials = len(study.get_trials(deepcopy=False))
        with _ONE_AT_A_TIME, isolated(key_generator(self._seed, n_trials, "recommend")):
            return space.params(self._strategy.recommend(_history(study, space, space.box, n_trials)))

    def _space(self, study: Study) -> SearchSpace:
        return self._known or SearchSpace(intersection_search_space(study.get_trials(deepcopy=False)))


def _history(study: Study, space: SearchSpace, box: Box, before: int) -> History:
    """The trials up to a number that have all parameters of the box; round numbers are Optuna's trial numbers."""
    frozen = [trial for trial in study.get_trials(deepcopy=False) if trial.number < before]
    signature = _signature(box)
    notes = [trial.system_attrs.get(_NOTE, {}) for trial in frozen]
    notes = [note if note.get("space") == signature else {} for note in notes]
    constraints = sorted({name for trial in frozen for name in trial.constraints})
    trials: list[Trial] = []
    for trial, note in zip(frozen, notes, strict=True):
        if (theta := _theta(space, trial, note)) is None:
            continue
        outcome = _outcome(trial, study.directions, constraints)
        state = "complete" if outcome is not None else "failed" if trial.state.is_finished() else "pending"
        trials.append(Trial(len(trials), trial.number, theta, state, outcome))
    return History(box, tuple(trials), tuple(note.get("info", {}) for note in notes))


def _theta(space: SearchSpace, trial: FrozenTrial, note: Mapping[str, Any]) -> Tensor | None:
    """The row of a trial, shape [d]: the proposed one where the trial has what was proposed, as far as it is known."""
    if note:
        proposed = torch.tensor(note["theta"], dtype=torch.float64)
        wanted = space.params(proposed)
        if all(trial.params[name] == wanted[name] for name in wanted if name in trial.params):
            return proposed
    return space.row(trial.params)


def _outcome(trial: FrozenTrial, directions: Sequence[StudyDirection], constraints: Sequence[str]) -> Tensor | None:
    """Values, smaller is better, and constraints, float64, shape [m + c]; None unless all are there and finite."""
    if trial.state != TrialState.COMPLETE or set(trial.constraints) != set(constraints):
        return None
    values = [
        -value if direction == StudyDirection.MAXIMIZE else value
        for value, direction in zip(trial.values, directions, strict=True)
    ]
    row = [*values, *(trial.constraints[name] for name in constraints)]
    return torch.tensor(row, dtype=torch.float64) if all(map(math.isfinite, row)) else None


def _signature(box: Box) -> str:
    """What tells boxes apart: notes on another box mean nothing in this one."""
    return hashlib.sha256(json.dumps(box.describe()).encode()).hexdigest()[:16]
