"""A stored study as an Optuna study: for optuna-dashboard and Optuna's plots."""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffsim.errors import ArgumentError
from studies.errors import StorageError, StudyError
from studies.interop.missing import needs
from studies.objective import Objective, apply_objective
from studies.storage.base import Result, RoundRecord, Storage, StudyRecord, settled
from studies.storage.resolve import open_storage

with needs("Optuna"):
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.storages import BaseStorage
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial, TrialState, create_trial

__all__ = ["export_optuna"]

_SOURCE = "studies:study"  # the user attribute that marks a study as exported, and says from which
_MOST = 64  # numbers of an outcome that are shown


def export_optuna(
    storage: str | os.PathLike[str] | Storage, name: str, url: str | BaseStorage, objective: Objective | None = None
) -> optuna.Study:
    """Copies a study into an Optuna storage, under its own name; again, it adds what is new.

    Trials keep their numbers. Complete ones have the objective as value, and are minimised; failed ones have their
    traceback as user attribute "error"; pending ones are running there, until a later export finds them told.

    Args:
        storage: Where the study is: a URL such as "sqlite:///runs.db", a path, or a storage.
        name: The study's name.
        url: Optuna's storage: a URL such as "sqlite:///optuna.db", or an object of Optuna's.
        objective: Maps outcomes, shape [n, ...], and inputs x, shape [n, k], where there are any, to shape [n], or to
            [n, m] for several objectives. None: the outcome, where it is one number.

    Returns:
        The Optuna study.

    Raises:
        ArgumentError: The outcome is no single number and `objective` is missing, or returns the wrong shape.
        ImportError: Optuna is missing.
        StorageError: There is no such study.
        StudyError: Optuna's storage has a study of this name that was not exported from this one.
    """
    opened = open_storage(storage)
    record = next((study for study in opened.studies() if study.name == name), None)
    if record is None:
        raise StorageError(f"There is no study {name!r}. There are {[study.name for study in opened.studies()]}.")
    rounds, told = opened.read(name)
    results = settled(told)
    values = _values(objective, [result for result in results.values() if result.outcome is not None])
    m = next((len(row) for row in values.values()), 1)
    study = _study(url, record, m)
    theta = np.concatenate([round.theta for round in rounds]) if rounds else np.zeros((0, 0))
    spreads = _distributions(record.space, theta)
    known = study.get_trials(deepcopy=False)
    for round in rounds:
        for number, row in zip(round.trials, round.theta, strict=True):
            if number < len(known) and known[number].state.is_finished():
                continue
            trial = _trial(row, round, results.get(number), values.get(number), spreads)
            if number >= len(known):
                study.add_trial(trial)
            elif trial.state.is_finished():
                _finish(study, known[number], trial)
    return study


def _values(objective: Objective | None, complete: Sequence[Result]) -> dict[int, list[float]]:
    """The objectives of complete trials by their numbers."""
    if not complete:
        return {}
    outcome = torch.stack([torch.from_numpy(np.asarray(result.outcome)) for result in complete])
    inputs = [torch.from_numpy(result.x) for result in complete if result.x is not None]
    x = torch.stack(inputs) if len(inputs) == len(complete) else None
    value: Tensor = apply_objective(None, outcome, x) if objective is None else _call(objective, outcome, x)
    rows = cast(list[list[float]], value.detach().double().reshape(len(complete), -1).tolist())
    return dict(zip([result.trial for result in complete], rows, strict=True))


def _call(objective: Objective, outcome: Tensor, x: Tensor | None) -> Tensor:
    with torch.no_grad():
        value = objective(outcome) if x is None else objective(outcome, x)
    if not isinstance(value, Tensor) or value.ndim not in (1, 2) or len(value) != len(outcome):
        got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ArgumentError(
            f"`objective` must return shape [{len(outcome)}] or [{len(outcome)}, m], got {got}. "
            "Return one number a row: `lambda y: y.square().sum(-1)`, say."
        )
    return value


def _study(url: str | BaseStorage, record: StudyRecord, m: int) -> optuna.Study:
    directions = [StudyDirection.MINIMIZE] * m
    made = optuna.create_study(storage=url, study_name=record.name, directions=directions, load_if_exists=True)
    source = {"created": record.created, "seed": record.seed}
    if (kept := made.user_attrs.get(_SOURCE)) is None and not made.get_trials(deepcopy=False):
        notes = {"strategy": record.strategy, "space": dict(record.space), "versions": dict(record.versions)}
        for key, value in {_SOURCE: source, **notes}.items():
            made.set_user_attr(key, value)
    elif kept != source:
        raise StudyError(
            f"The Optuna storage has another study {record.name!r}. Export into another storage, or delete that study."
        )
    if len(made.directions) != m:
        if made.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            raise StudyError(f"The study {record.name!r} was exported with {len(made.directions)} objectives, now {m}.")
        optuna.delete_study(study_name=record.name, storage=url)  # it was made before the first trial was complete
        return _study(url, record, m)
    return made


def _distributions(space: Mapping[str, Any], theta: NDArray[np.float64]) -> dict[str, BaseDistribution]:
    """Optuna's distributions of a space as described; they hold all trials, imported ones outside the bounds too."""
    names: Sequence[str] = space["names"]
    spreads: dict[str, BaseDistribution] = {}
    for column, name in enumerate(names):
        kind = space.get("kinds", ["real"] * len(names))[column]
        seen = theta[:, column].tolist() if len(theta) else []
        bounds = [space[side][column] for side in ("low", "high") if side in space] + seen or [0.0]
        low, high = min(bounds), max(bounds)
        if kind == "choice":
            spreads[name] = CategoricalDistribution(space["choices"][name])
        elif kind == "integer":
            spreads[name] = IntDistribution(round(low), round(high))
        else:
            spreads[name] = FloatDistribution(low, high, log=kind == "log")
    return spreads


def _trial(
    row: NDArray[np.float64],
    round: RoundRecord,
    result: Result | None,
    values: list[float] | None,
    spreads: Mapping[str, BaseDistribution],
) -> FrozenTrial:
    named = zip(spreads.items(), row.tolist(), strict=True)
    params = {name: spread.to_external_repr(value) for (name, spread), value in named}  # theta is what Optuna keeps
    notes: dict[str, Any] = {"round": round.number}
    finite = values is not None and bool(np.isfinite(values).all())
    if result is not None:
        given = {"seconds": result.seconds, "host": result.host, "seed": result.seed, "error": result.error}
        notes |= {key: value for key, value in given.items() if value is not None}
        if result.outcome is not None and result.outcome.size <= _MOST:
            notes["outcome"] = result.outcome.tolist()
        if result.x is not None:
            notes["x"] = result.x.tolist()
        if result.outcome is not None and not finite:
            notes["error"] = f"The objective is not finite: {values}."
    trial = create_trial(
        state=TrialState.RUNNING if result is None else TrialState.COMPLETE if finite else TrialState.FAIL,
        values=values if finite else None,
        params=params,
        distributions=dict(spreads),
        user_attrs=notes,
    )
    if result is not None and result.started is not None:
        trial.datetime_start = datetime.fromtimestamp(result.started)
        trial.datetime_complete = datetime.fromtimestamp(result.started + (result.seconds or 0.0))
    return trial


def _finish(study: optuna.Study, known: FrozenTrial, trial: FrozenTrial) -> None:
    """Tells a trial that was running when it was exported."""
    storage, trial_id = study._storage, known._trial_id  # pyright: ignore[reportPrivateUsage] - there is no public way
    for key, value in trial.user_attrs.items():
        storage.set_trial_user_attr(trial_id, key, value)
    storage.set_trial_state_values(trial_id, trial.state, trial.values)
