"""Descents of a simulator that knows its gradient: L-BFGS-B, replayed from the history, start after start."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from diffsim.errors import ArgumentError
from studies.gradients import smooth_box, split_outcome, to_unit_gradient, value_of
from studies.history import History, Proposal, Trial
from studies.objective import Objective
from studies.spaces.box import Box
from studies.strategies.settings import check_count, start_point

__all__ = ["GradientDescent"]


@dataclass(frozen=True, slots=True)
class GradientDescent:
    """Descents by L-BFGS-B of a simulator whose outcome is its value and gradient; see `with_gradient`.

    Trials asked together, or while others are pending, belong to descents of their own. A descent that has converged
    makes room for one from the next point of a Sobol sequence. Descents are replayed from the trials at each
    round, so that a resumed study goes on in the middle of a line search. A failed trial counts as a wall: the
    step that led there is shortened.

    The simulator should be deterministic: a line search cannot tell noise from a slope. `GradientImprovement` can.

    Args:
        start: The first start; the centre of the box by default.
        memory: Pairs of steps and changes of the gradient that make up the model of the curvature.
        tolerance: A descent has converged when no slope inside the box exceeds this share of the largest one at its
            start.

    Raises:
        ArgumentError: The memory is too small, the tolerance is not positive, or the start lies outside the box.
        ArgumentTypeError: The space is no box of real parameters without constraints.

    Source: Byrd, Lu, Nocedal and Zhu, 1995, A limited memory algorithm for bound constrained optimization.
    """

    start: Sequence[float] | None = None
    memory: int = 10
    tolerance: float = 1e-7

    def __post_init__(self) -> None:
        check_count("memory", self.memory)
        if not 0 < self.tolerance < 1:
            raise ArgumentError(f"`tolerance` must lie between 0 and 1, got {self.tolerance!r}.")

    @property
    def objective(self) -> Objective:
        """What is minimised: the outcome's first column."""
        return value_of

    def propose(self, history: History, n: int, generator: torch.Generator) -> Proposal:
        box, start = smooth_box(history.space, self), start_point(history.space, self.start)
        split_outcome(history)  # outcomes of a wrong shape are told
        notes = [info["descent"] for info in history.info if "descent" in info]
        seed = notes[0]["seed"] if notes else int(torch.randint(2**31, (), generator=generator))
        over: set[int] = set(notes[-1]["over"]) if notes else set()
        lanes = _lanes(history)
        rows: list[Tensor] = []
        chosen: list[int] = []
        for lane in sorted(set(lanes) - over):
            if len(rows) == n:
                break
            if lanes[lane][-1].state == "pending":
                continue
            point = self._next(lanes[lane], box)
            if point is None:
                over.add(lane)
            else:
                rows.append(point)
                chosen.append(lane)
        lane = max((lane for note in notes for lane in note["lanes"]), default=-1) + 1
        for new in range(lane, lane + n - len(rows)):
            rows.append(box.sobol(1, seed, skip=new)[0] if new else start)
            chosen.append(new)
        note = {"seed": seed, "lanes": chosen, "over": sorted(over)}
        return Proposal(torch.stack(rows), {"descent": note})

    def recommend(self, history: History) -> Tensor:
        """The best point so far, shape [d]; the start where there is none."""
        value, _ = split_outcome(history)
        return history.theta[value.argmin()] if len(value) else start_point(history.space, self.start)

    def _next(self, trials: Sequence[Trial], box: Box) -> Tensor | None:
        """The next point of a descent; None when it has converged, or when its start failed."""
        if trials[0].outcome is None:
            return None
        outcome = torch.stack([trial.outcome for trial in trials if trial.outcome is not None]).double()
        theta = torch.stack([trial.theta for trial in trials if trial.outcome is not None])
        slopes = to_unit_gradient(box, theta, outcome[:, 1:])
        scale = float(slopes[0].abs().max()) or 1.0
        told = zip((outcome[:, 0] / scale).tolist(), (slopes / scale).numpy(), strict=True)
        known = iter(trials)
        least, at = float("inf"), np.zeros(box.dim)

        def simulate(unit: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            nonlocal least, at
            trial = next(known, None)
            if trial is None:
                raise _Unknown(unit.copy())
            if trial.outcome is None:  # a wall: a steep bowl around the best point
                away = unit - at
                return least + 10 * float(away @ away), 20 * away
            value, slope = next(told)
            if value < least:
                least, at = value, unit.copy()
            return value, slope

        options = {"maxcor": self.memory, "gtol": self.tolerance, "ftol": 1e-15, "maxiter": 10**6, "maxfun": 10**6}
        begin = box.to_unit(trials[0].theta).clamp(0, 1).numpy()
        try:
            minimize(simulate, begin, jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * box.dim, options=options)
        except _Unknown as asked:
            return box.from_unit(torch.from_numpy(asked.unit))
        return None


class _Unknown(Exception):
    """The point of a descent that was not simulated yet."""

    def __init__(self, unit: NDArray[np.float64]) -> None:
        super().__init__()
        self.unit = unit


def _lanes(history: History) -> dict[int, list[Trial]]:
    """The trials of each descent, in their order."""
    lanes: dict[int, list[Trial]] = {}
    first: dict[int, int] = {}
    for trial in history.trials:
        note: dict[str, Any] | None = history.info[trial.round].get("descent")
        if note is not None:
            place = trial.number - first.setdefault(trial.round, trial.number)
            lanes.setdefault(note["lanes"][place], []).append(trial)
    return lanes
