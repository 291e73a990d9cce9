"""A study as it is shown: its parameters, trials and rounds' notes, and one value a trial, as plain arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from studies.history import History, Trial
from studies.ledger import Ledger
from studies.objective import Objective, evaluate_objective
from studies.spaces.base import Space
from studies.spaces.box import Box
from studies.spaces.parameters import Choice, Integer, Log, Real
from studies.spaces.pool import Pool
from studies.storage.base import Storage, StudyRecord

__all__ = ["Parameter", "View", "read_view", "recorded_space", "view_of"]

_COLUMNS = 64  # outcomes with more numbers are runs or fields: none of their numbers is an objective

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a space, as recorded.

    Args:
        name: Its name.
        unit: Its unit; empty if not given.
        low: Its lower bound.
        high: Its upper bound.
        kind: How it varies.
        choices: What the whole numbers of a choice stand for.
    """

    name: str
    unit: str
    low: float
    high: float
    kind: Literal["real", "log", "integer", "choice"] = "real"
    choices: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its name with its unit."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name

    def text(self, value: float) -> str:
        """A value as people read it, without unit."""
        if self.choices and 0 <= round(value) < len(self.choices):
            return self.choices[round(value)]
        return f"{value:.0f}" if self.kind == "integer" else f"{value:.5g}"

    def to_unit(self, values: Floats) -> Floats:
        """Values as shares of the way from the lower to the upper bound, on its own scale."""
        low, high = self._scaled(np.array([self.low, self.high]))
        return (self._scaled(values) - low) / (high - low if high > low else 1.0)

    def from_unit(self, unit: float) -> float:
        """The inverse of `to_unit` for one value."""
        low, high = self._scaled(np.array([self.low, self.high]))
        value = float(low + unit * (high - low))
        return float(np.exp(value)) if self.kind == "log" else value

    def _scaled(self, values: Floats) -> Floats:
        return np.log(values) if self.kind == "log" else values


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A study at one moment.

    Args:
        record: Its head.
        history: Its trials and notes.
        parameters: Its parameters, d of them.
        theta: Parameters of all trials, shape [n, d].
        value: One number a trial, shape [n]: smaller is better. NaN where there is none.
        measure: What that number is; empty where the outcomes hold none that could be an objective.
    """

    record: StudyRecord
    history: History
    parameters: tuple[Parameter, ...]
    theta: Floats
    value: Floats
    measure: str

    @property
    def trials(self) -> Sequence[Trial]:
        """All trials."""
        return self.history.trials

    @property
    def best(self) -> int | None:
        """The trial with the smallest value seen, noise included."""
        return int(np.nanargmin(self.value)) if bool(np.isfinite(self.value).any()) else None

    @property
    def n_columns(self) -> int:
        """How many numbers an outcome holds, where each could be shown; 0 for runs."""
        outcome = self.history.outcome
        return outcome[0].numel() if len(outcome) and outcome.ndim <= 2 and outcome[0].numel() <= _COLUMNS else 0

    def where(self, state: str) -> NDArray[np.int64]:
        """The numbers of the trials in a state."""
        return np.array([trial.number for trial in self.trials if trial.state == state], dtype=np.int64)

    def first_trials(self) -> dict[int, int]:
        """The first trial of each round."""
        first: dict[int, int] = {}
        for trial in self.trials:
            first.setdefault(trial.round, trial.number)
        return first


def read_view(
    storage: Storage, name: str, objective: Objective | None = None, space: Space | None = None
) -> tuple[View, Ledger]:
    """A study of a storage, and its records.

    Args:
        storage: Holds the study.
        name: The study's name.
        objective: What was minimised; None: the outcome, or its first number.
        space: The study's space, where it is at hand.

    Raises:
        StorageError: There is no such study.
    """
    ledger = Ledger(storage, name)
    ledger.read()
    record = next(study for study in storage.studies() if study.name == name)
    return view_of(record, ledger.history(space or recorded_space(record.space)), objective), ledger


def view_of(record: StudyRecord, history: History, objective: Objective | None = None, column: int = 0) -> View:
    """A history as it is shown.

    Args:
        record: The study's head.
        history: Its trials.
        objective: What was minimised; None: one number of the outcome.
        column: Which one.
    """
    theta = history.tried.numpy()
    measured, measure = _measure(history, objective, column)
    value = np.full(len(history.trials), np.nan)
    complete = [trial.number for trial in history.trials if trial.state == "complete"]
    value[complete] = measured.numpy()
    return View(record, history, _parameters(record.space, theta), theta, value, measure)


def recorded_space(description: Mapping[str, Any]) -> Space:
    """A space with the recorded names, kinds, bounds and units; constraints are not made anew."""
    if "candidates" in description:
        return Pool(torch.tensor(description["candidates"], dtype=torch.float64), description["names"])
    ranges = _parameters(description, np.empty((0, len(description["names"]))))
    made: dict[str, Real | Log | Integer | Choice] = {}
    for each in ranges:
        if each.kind == "choice":
            made[each.name] = Choice(*each.choices)
        elif each.kind == "integer":
            made[each.name] = Integer(round(each.low), round(each.high))
        else:
            made[each.name] = (Log if each.kind == "log" else Real)(each.low, each.high)
    return Box(made, {each.name: each.unit for each in ranges if each.unit})


def _measure(history: History, objective: Objective | None, column: int) -> tuple[Tensor, str]:
    outcome = history.outcome
    if objective is not None and len(history):
        return evaluate_objective(objective, history), "objective"
    blank = torch.full((len(history),), torch.nan, dtype=torch.float64)
    if not len(history) or outcome.ndim > 2 or not 0 <= column < outcome[0].numel() <= _COLUMNS:
        return blank, "" if len(history) else "outcome"
    values = outcome.reshape(len(history), -1)[:, column].double()
    label = "outcome" if outcome[0].numel() == 1 else f"outcome[{column}]"
    return torch.where(values.isfinite(), values, torch.nan), label


def _parameters(description: Mapping[str, Any], theta: Floats) -> tuple[Parameter, ...]:
    names: Sequence[str] = description["names"]
    units: Mapping[str, str] = description.get("units") or {}
    choices: Mapping[str, Sequence[str]] = description.get("choices") or {}
    kinds: Any = description.get("kinds") or ["real"] * len(names)
    rows = np.array(description["candidates"]) if "candidates" in description else theta
    low = description.get("low") or (rows.min(0).tolist() if len(rows) else [0.0] * len(names))
    high = description.get("high") or (rows.max(0).tolist() if len(rows) else [1.0] * len(names))
    return tuple(
        Parameter(name, str(units.get(name, "")), low[i], high[i], kinds[i], tuple(map(str, choices.get(name, ()))))
        for i, name in enumerate(names)
    )
