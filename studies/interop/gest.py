"""A gest-api generator over our strategies: what lets Xopt, libEnsemble and other hosts run them."""

import copy
import math
import os
from collections.abc import Container, Mapping
from typing import Any

import torch

from diffsim.errors import ArgumentError
from studies.errors import ConflictError
from studies.history import History, Trial
from studies.interop.missing import needs
from studies.interop.vocs import Problem
from studies.storage.base import Storage
from studies.strategies.base import Strategy, round_size
from studies.study import Study

with needs("gest-api"):
    from gest_api.generator import Generator as BaseGenerator
    from gest_api.vocs import VOCS

__all__ = ["Generator"]


class Generator(BaseGenerator):
    """A strategy of ours for hosts that speak gest-api: pass it to `Xopt(generator=...)` or libEnsemble's `GenSpecs`.

    It keeps a study: `suggest` asks it, `ingest` tells it. Points that are suggested and not yet ingested are pending.
    Points that were not suggested join as past data. A result with an output that is missing or not finite is a failed
    trial. With a storage that lasts, all is recorded, and a host that was killed goes on with what was ingested.

    The objective belongs to the strategy: with one objective and no constraints the outcome is that objective, smaller
    is better; else it has a column for each objective and constraint, see `Problem`.

    Args:
        vocs: Variables, objectives, constraints and constants.
        strategy: What chooses the points.
        seed: Equal seeds give equal points.
        storage: Where the study is kept.
        name: The study's name in the storage.

    Raises:
        ArgumentError: The VOCS has variables or objectives that a study cannot have; see `Problem`.
        ArgumentTypeError: The VOCS or the strategy is none.
        ImportError: gest-api is missing.

    Example:
        >>> from studies.strategies.sobol import Sobol
        >>> generator = Generator(VOCS(variables={"a": [0, 1]}, objectives={"f": "MINIMIZE"}), Sobol())
        >>> points = generator.suggest(2)
        >>> generator.ingest([{**point, "f": point["a"] ** 2} for point in points])
        >>> len(generator.study.history)
        2
    """

    returns_id = True

    def __init__(
        self,
        vocs: VOCS,
        strategy: Strategy,
        seed: int = 0,
        storage: str | os.PathLike[str] | Storage = "memory",
        name: str = "study",
    ) -> None:
        super().__init__(vocs)
        self.vocs = vocs
        self._problem = Problem(vocs)
        self.study = Study(self._problem.box, strategy, storage, seed=seed, name=name)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Generator":
        return copy.copy(self)  # Xopt copies its generator; the study stays one, and this one sees its trials

    def _validate_vocs(self, vocs: VOCS) -> None:
        Problem(vocs)

    def suggest(self, num_points: int | None = None) -> list[dict[str, Any]]:
        """The next points: variables and constants by name, and the trial's number as "_id".

        Args:
            num_points: How many; None is the strategy's own number.
        """
        n = round_size(self.study.strategy, self.study.history) if num_points is None else num_points
        round = self.study.ask(n)
        rows = zip(round.trials, round.theta, strict=True)
        return [{**self._problem.point(row), "_id": trial} for trial, row in rows]

    def ingest(self, results: list[dict[str, Any]]) -> None:
        """Takes results, all or none: variables and outputs by name, and "_id" where the point was suggested.

        A point without one that equals a pending point is taken as this one, any other as past data. A result that is
        ingested again as it was is passed over.

        Raises:
            ArgumentError: A variable is missing or outside its bounds, or an "_id" is unknown.
            ConflictError: A suggested point was ingested before with other outputs.
        """
        history = self.study.history
        told: dict[int, Mapping[str, Any]] = {}
        past: list[Mapping[str, Any]] = []
        for result in results:
            trial = _named(result, history) or self._equal(result, history, told)
            if trial is None:
                past.append(result)
            elif trial.state == "pending" and trial.number not in told:
                told[trial.number] = result
            elif trial.state == "pending" or not self._is_known(trial, result):
                raise ConflictError(f"The point {trial.number} was ingested already. Ingest each point once.")
        if past:
            theta = torch.stack([self._problem.row(result) for result in past])
            outcomes = torch.tensor([self._problem.outcome(result) for result in past], dtype=torch.float64)
            self.study.add(theta, outcomes, errors=[self._error(result) for result in past])
        self._tell(told)

    def recommend(self) -> dict[str, Any]:
        """The point that the strategy believes best, by its own model: not the luckiest one.

        Raises:
            StudyError: The strategy has none: it learns or covers, it does not optimise.
        """
        return self._problem.point(self.study.recommend())

    def _tell(self, told: Mapping[int, Mapping[str, Any]]) -> None:
        outcomes = {trial: self._problem.outcome(result) for trial, result in told.items()}
        good = [trial for trial, row in outcomes.items() if all(map(math.isfinite, row))]
        if good:
            self.study.tell(good, torch.tensor([outcomes[trial] for trial in good], dtype=torch.float64))
        for trial in told.keys() - set(good):
            self.study.fail(trial, self._error(told[trial]))

    def _error(self, result: Mapping[str, Any]) -> str:
        """Why a trial failed: in the host's words, if it has any."""
        if isinstance(words := result.get("xopt_error_str"), str) and words:
            return words
        names = [*self.vocs.objectives, *self.vocs.constraints]
        return f"An output is missing or not finite: { ({name: result.get(name) for name in names}) }."

    def _equal(self, result: Mapping[str, Any], history: History, told: Container[int]) -> Trial | None:
        """The oldest pending trial at the same point that is not told yet."""
        row = self._problem.row(result)
        pending = (trial for trial in history.trials if trial.state == "pending" and trial.number not in told)
        return next((trial for trial in pending if torch.equal(trial.theta, row)), None)

    def _is_known(self, trial: Trial, result: Mapping[str, Any]) -> bool:
        row = torch.tensor(self._problem.outcome(result), dtype=torch.float64)
        return torch.equal(trial.outcome, row) if trial.outcome is not None else not bool(row.isfinite().all())


def _named(result: Mapping[str, Any], history: History) -> Trial | None:
    """The trial that a result names; None where it names none."""
    given = result.get("_id")
    if given is None or given != given or given == -1:  # tables of hosts have NaN or -1 where there is none
        return None
    if not 0 <= given < len(history.trials) or given != int(given):
        raise ArgumentError(
            f"The `_id` {given!r} is unknown: {len(history.trials)} points were suggested. Leave it out."
        )
    return history.trials[int(given)]
