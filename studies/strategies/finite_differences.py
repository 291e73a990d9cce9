"""Descent by central differences: the plainest gradient of a random simulator, and Adam."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from studies.history import History, Proposal
from studies.objective import Objective
from studies.spaces.box import Box
from studies.strategies.plan import Plan
from studies.strategies.settings import box_of, check_count, check_objective, start_point, widths_of

__all__ = ["FiniteDifferences"]

_DECAY = (0.9, 0.999)  # Adam's


@dataclass(frozen=True, slots=True)
class FiniteDifferences:
    """Adam on central differences of the mean objective: 2 d points a step, each simulated `repeats` times.

    At a bound the difference is one-sided. A parameter one of whose two points fails altogether moves away from that
    point, by its learning rate. Where all points of a step fail, the step is taken back, and its momentum forgotten.

    Args:
        objective: What is minimised, of the outcome (and the inputs x, where observed); None: the outcome itself.
        start: Where it starts; the centre of the box by default.
        repeats: Simulations of each point, averaged.
        step: Half the distance of a difference's points, in the parameters' units: one number, or one for each; for a
            Log a difference of natural logarithms.
        lr: Adam's learning rate, in the same units: one number, or one for each.

    Raises:
        ArgumentError: `repeats` is too small, the start lies outside the box, or a width is not positive.
        ArgumentTypeError: The space is no box, or the objective no function.

    Source: Kingma and Ba, 2015, arXiv 1412.6980; the baseline of Shirobokov et al., 2020, arXiv 2002.04632.
    """

    objective: Objective | None = None
    start: Sequence[float] | None = None
    repeats: int = 1
    step: float | Sequence[float] = 0.1
    lr: float | Sequence[float] = 0.1

    def __post_init__(self) -> None:
        check_objective(self.objective)
        check_count("repeats", self.repeats)

    def propose(self, history: History, n: int, generator: torch.Generator) -> Proposal:
        plan = Plan.last(history, "differences")
        if plan is None or plan.is_finished(history):
            state = self._state(plan, history)
            points = self._points(torch.tensor(state["theta"], dtype=torch.float64), box_of(history.space, self))
            plan = Plan(points, self.repeats, history.n_rounds, state)
            return Proposal(plan.next(history, n), {"differences": plan.note})
        return Proposal(plan.next(history, n))

    def recommend(self, history: History) -> Tensor:
        """The iterate, shape [d]."""
        state = self._state(Plan.last(history, "differences"), history)
        return torch.tensor(state["theta"], dtype=torch.float64)

    def batch(self, history: History) -> int:
        """The trials that are left of the step, or those of the next one."""
        plan = Plan.last(history, "differences")
        if plan is None or plan.is_finished(history):
            return 2 * history.space.dim * self.repeats
        return max(plan.left(history), 1)

    def _state(self, plan: Plan | None, history: History) -> dict[str, Any]:
        """The iterate, Adam's averages and the number of steps, after the plan if that is finished."""
        space = box_of(history.space, self)
        if plan is None:
            start, zeros = start_point(space, self.start).tolist(), [0.0] * space.dim
            return {"theta": start, "before": start, "first": zeros, "second": zeros, "steps": 0}
        if not plan.is_finished(history):
            return dict(plan.notes)
        up, down = plan.means(self.objective, history).chunk(2)
        if bool(torch.cat([up, down]).isnan().all()):
            return {**plan.notes, "theta": plan.notes.get("before", plan.notes["theta"]), "first": [0.0] * space.dim}
        above, below = space.to_scale(plan.points).chunk(2)
        slope = ((up - down) / (above - below).diagonal()).nan_to_num()
        away = up.isfinite().double() - down.isfinite().double()
        names = ("theta", "first", "second")
        theta, first, second = (torch.tensor(plan.notes[name], dtype=torch.float64) for name in names)
        steps = plan.notes["steps"] + 1
        first = torch.where(away == 0, first.lerp(slope, 1 - _DECAY[0]), 0.0)
        second = second.lerp(slope.square(), 1 - _DECAY[1])
        scale = second.sqrt() / math.sqrt(1 - _DECAY[1] ** steps) + torch.finfo(second.dtype).tiny
        step = widths_of("lr", self.lr, space) * (away - first / (1 - _DECAY[0] ** steps) / scale)
        moved = space.from_scale(space.to_scale(theta) + step)
        state = {"theta": moved, "before": theta, "first": first, "second": second}
        return {**{name: value.tolist() for name, value in state.items()}, "steps": steps}

    def _points(self, theta: Tensor, space: Box) -> Tensor:
        """The points above theta in each parameter, then those below, inside the box, shape [2 d, d]."""
        theta, steps = space.to_scale(theta), widths_of("step", self.step, space).diag()
        return space.from_scale(torch.cat([theta + steps, theta - steps]))
