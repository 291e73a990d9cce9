"""Plans: points to simulate, several times each, before a strategy thinks again; kept in the rounds' notes."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import Any

import torch
from torch import Tensor

from studies.history import History, Trial
from studies.objective import Objective, evaluate_objective

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Points to simulate, and a strategy's notes on why.

    A plan is asked for piece by piece, in rounds of any size. Who asks for more than is left, because rounds are large
    or because trials are still pending, gets more repetitions of the same points. A plan is finished when as many
    trials as it has are finished, so that a trial that never comes back holds nothing up. Points that are
    equal share their trials.

    Args:
        points: Shape [k, d].
        repeats: Simulations of each point.
        round: The number of the round that it begins with.
        notes: JSON notes of the strategy.
    """

    points: Tensor
    repeats: int
    round: int
    notes: Mapping[str, Any]

    @classmethod
    def last(cls, history: History, name: str) -> "Plan | None":
        """The last plan that was noted under a name, if any."""
        for round in reversed(range(history.n_rounds)):
            if name in history.info[round]:
                note = dict(history.info[round][name])
                points = torch.tensor(note.pop("points"), dtype=torch.float64)
                return cls(points, note.pop("repeats"), round, note)
        return None

    @property
    def note(self) -> dict[str, Any]:
        """The plan as JSON, for `Proposal.info`."""
        return {"points": self.points.tolist(), "repeats": self.repeats, **self.notes}

    @property
    def n_trials(self) -> int:
        """The number of its trials."""
        return len(self._distinct()) * self.repeats

    def left(self, history: History) -> int:
        """How many of its trials were not yet asked for."""
        return len(self._missing(self._asked(history)))

    def is_finished(self, history: History) -> bool:
        """Whether as many trials as it has are complete or failed."""
        trials, _ = self._trials(history)
        return sum(trial.state != "pending" for trial in trials) >= self.n_trials

    def next(self, history: History, n: int) -> Tensor:
        """The next n rows to simulate, shape [n, d]; repetitions of a point follow each other."""
        asked = self._asked(history)
        more = cycle(sorted(self._distinct(), key=lambda point: int(asked[point])))
        return self.points[list(islice(chain(self._missing(asked), more), n))]

    def means(self, objective: Objective | None, history: History) -> Tensor:
        """The mean objective of each point over its complete trials, shape [k]; NaN where there is none."""
        trials, matches = self._trials(history)
        complete = [number for number, trial in enumerate(trials) if trial.state == "complete"]
        values = evaluate_objective(objective, History(history.space, tuple(trials[number] for number in complete)))
        good = (matches[complete] & values.isfinite()[:, None]).double()
        return (good * values.nan_to_num()[:, None]).sum(0) / good.sum(0)

    def _distinct(self) -> list[int]:
        first = (self.points[:, None] == self.points).all(-1).double().argmax(1)
        return [point for point, other in enumerate(first.tolist()) if point == other]

    def _asked(self, history: History) -> Tensor:
        return self._trials(history)[1].sum(0)

    def _missing(self, asked: Tensor) -> list[int]:
        return [point for point in self._distinct() for _ in range(self.repeats - int(asked[point]))]

    def _trials(self, history: History) -> tuple[list[Trial], Tensor]:
        """Its trials, r of them, and which point each belongs to, shape [r, k]."""
        later: list[Trial] = []
        for trial in reversed(history.trials):
            if trial.round < self.round:
                break
            later.append(trial)
        later.reverse()
        theta = torch.stack([trial.theta for trial in later]) if later else self.points[:0]
        matches = (theta[:, None] == self.points).all(-1)
        mine = matches.any(1)
        return [trial for trial, hit in zip(later, mine.tolist(), strict=True) if hit], matches[mine]
