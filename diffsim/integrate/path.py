"""The accepted steps of an adaptive solve, trajectory by trajectory: its dense output and what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsim.integrate.runge_kutta import interpolate
from diffsim.integrate.tableaux import AdaptiveTableau

__all__ = ["Path", "Places", "Step"]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step of m trajectories; a trajectory that stands still has the length 0.

    Attributes:
        rows: The trajectories, shape [m].
        s: Unit times before it, float64, shape [m].
        h: Lengths, shape [m].
        y: States before it, shape [m, d].
        k: Its slopes, shape [stages, m, d].
    """

    rows: Tensor
    s: Tensor
    h: Tensor
    y: Tensor
    k: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where q states lie in a path.

    Attributes:
        step: Numbers of their steps, shape [q]; -1 before the first.
        place: Positions in these steps, shape [q].
        x: Shares of the steps, shape [q].
        rows: Their trajectories, shape [q].
    """

    step: Tensor
    place: Tensor
    x: Tensor
    rows: Tensor


class Path:
    """The accepted steps of n trajectories.

    Args:
        method: The method.
        y0: Initial states, shape [n, d].
        begin: The unit time there.
        steps: In the order in which they were taken.
        reached: Unit time that each trajectory has reached, shape [n].
        failed: 0, 1 (the step underflows) or 2 (too many steps) for each trajectory, shape [n].
        counts: Accepted and rejected steps of each trajectory, shape [2, n].
        following: The step that each trajectory would take next, shape [n].
    """

    def __init__(
        self,
        method: AdaptiveTableau,
        y0: Tensor,
        begin: float,
        steps: Sequence[Step],
        reached: Tensor,
        failed: Tensor,
        counts: Tensor,
        following: Tensor,
    ) -> None:
        self.method, self.y0, self.steps = method, y0, list(steps)
        self.begin, self.reached, self.failed, self.counts, self.following = begin, reached, failed, counts, following
        self._index()

    def _index(self) -> None:
        moved = [step.h > 0 for step in self.steps]
        empty = self.reached.new_zeros(0)
        s = torch.cat([empty, *(step.s[m] for step, m in zip(self.steps, moved, strict=True))])
        rows = torch.cat([empty.long(), *(step.rows[m] for step, m in zip(self.steps, moved, strict=True))])
        number = [torch.full_like(step.rows[m], i) for i, (step, m) in enumerate(zip(self.steps, moved, strict=True))]
        place = [m.nonzero()[:, 0] for m in moved]
        # Trajectory after trajectory, each in the order of time: times lie between 0 and 1.
        self._keys, self._order = (2 * rows + s).sort()
        self._number, self._place = torch.cat([empty.long(), *number]), torch.cat([empty.long(), *place])
        if not self.steps:
            return
        self._s, self._h, self._y = (torch.cat([getattr(x, name) for x in self.steps]) for name in ("s", "h", "y"))
        self._k = torch.cat([step.k for step in self.steps], dim=1)
        sizes = [len(step.rows) for step in self.steps]
        self._offsets = torch.tensor([0, *sizes], device=s.device).cumsum(0)
        # Each number is kept once: the steps are views.
        parts = zip(
            self.steps, *(x.split(sizes) for x in (self._s, self._h, self._y)), self._k.split(sizes, 1), strict=True
        )
        self.steps = [Step(step.rows, *part) for step, *part in parts]

    def find(self, s: Tensor, rows: Tensor) -> Places:
        """Where the states at unit times are, shapes [q], [q]; the last step serves what lies beyond it."""
        found = torch.searchsorted(self._keys, 2 * rows + s) - 1
        before = s <= self.begin
        if not self.steps:
            return Places(torch.full_like(rows, -1), rows, torch.zeros_like(s), rows)
        # A trajectory without a step finds that of another one.
        at = self._order[found.clamp(min=0)]
        step, place = self._number[at], self._place[at]
        flat = self._offsets[step] + place
        own = (found >= 0) & ~before & (self._keys[found.clamp(min=0)] >= 2 * rows)
        x = torch.where(own, (s - self._s[flat]) / self._h[flat], 0.0).clamp(max=1.0)
        return Places(torch.where(own, step, -1), place, x, rows)

    def states(self, places: Places) -> Tensor:
        """The states at places, shape [q, d], without a graph."""
        start = self.y0[places.rows]
        if not self.steps:
            return start
        flat = self._offsets[places.step.clamp(min=0)] + places.place
        within = interpolate(self.method, self._y[flat], self._h[flat], self._k[:, flat], places.x)
        return torch.where((places.step >= 0)[:, None], within, start)
