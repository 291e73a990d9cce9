"""L-GSO as published: a surrogate is fitted anew in a small box about the point, and Adam steps along its gradient."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.history import History, Proposal
from studies.objective import Objective, evaluate_objective
from studies.spaces.box import Box
from studies.strategies.plan import Plan
from studies.strategies.settings import box_of, check_count, check_objective, start_point
from surrogates.seeding import seeded
from surrogates.surrogate import Surrogate

__all__ = ["PaperLoop"]

_DECAY = (0.9, 0.999)  # Adam's
_MOST = 1_000_000  # rows that a surrogate is fitted to


@dataclass(frozen=True, slots=True)
class PaperLoop:
    """Local generative surrogate optimisation as its authors published it, for comparison with `LocalDescent`.

    Each step simulates a Latin hypercube of points in the box theta +- eps, and theta itself, `repeats` times each. A
    new surrogate is fitted to all simulations in that box, those of earlier steps too. The gradient of the mean
    objective of its samples moves theta by one step of Adam, at most eps long. There is no stopping rule.

    At the box's bounds points and iterate are clamped. With fewer than two good simulations theta stays; a slope that
    is not finite counts as zero. A Log parameter is replaced by its natural logarithm throughout.

    Args:
        surrogate: Makes a surrogate of the outcome, such as `lambda: CramerGAN(2)`.
        objective: What is minimised, of the outcome (and the inputs x, where observed); None: the outcome itself. It is
            differentiated in the outcome.
        start: Where it starts; the centre of the box by default.
        eps: Half-width of the local box, in the parameters' units; published: 0.5 in two dimensions, else 0.1 or 0.2.
        points: Points a step beside theta; published: 4 in two dimensions, else 3 to 60.
        repeats: Simulations of each point.
        lr: Adam's learning rate, in the parameters' units.
        samples: Draws of the surrogate for a gradient; inputs x are drawn from those that were simulated.

    Raises:
        ArgumentError: A count is too small, the start lies outside the box, or `eps` or `lr` is not positive.
        ArgumentTypeError: The space is no box, or a function is none.

    Source: Shirobokov et al., 2020, arXiv 2002.04632, algorithm 1.
    """

    surrogate: Callable[[], Surrogate]
    objective: Objective | None = None
    start: Sequence[float] | None = None
    eps: float = 0.2
    points: int = 20
    repeats: int = 3000
    lr: float = 0.1
    samples: int = 10_000

    def __post_init__(self) -> None:
        check_objective(self.objective)
        if not callable(self.surrogate) or isinstance(self.surrogate, Surrogate):
            raise ArgumentTypeError(
                f"`surrogate` must be a function that makes one, got {self.surrogate!r}. Pass `lambda: CramerGAN(2)`."
            )
        for name in ("points", "repeats", "samples"):
            check_count(name, getattr(self, name))
        for name, value in (("eps", self.eps), ("lr", self.lr)):
            if not (math.isfinite(value) and value > 0):
                raise ArgumentError(f"`{name}` must be a positive number, got {value}.")

    def propose(self, history: History, n: int, generator: torch.Generator) -> Proposal:
        plan = Plan.last(history, "paper")
        if plan is None or plan.is_finished(history):
            state = self._state(plan, history)
            theta = torch.tensor(state["theta"], dtype=torch.float64)
            points = self._points(theta, box_of(history.space, self), generator)
            state["seed"] = int(torch.randint(2**31, (), generator=generator))
            plan = Plan(points, self.repeats, history.n_rounds, state)
            return Proposal(plan.next(history, n), {"paper": plan.note})
        return Proposal(plan.next(history, n))

    def recommend(self, history: History) -> Tensor:
        """The iterate, shape [d]."""
        return torch.tensor(self._state(Plan.last(history, "paper"), history)["theta"], dtype=torch.float64)

    def batch(self, history: History) -> int:
        """The trials that are left of the step, or those of the next one."""
        plan = Plan.last(history, "paper")
        if plan is None or plan.is_finished(history):
            return (self.points + 1) * self.repeats
        return max(plan.left(history), 1)

    def _state(self, plan: Plan | None, history: History) -> dict[str, Any]:
        """The iterate, Adam's averages and the number of steps, after the plan if that is finished."""
        space = box_of(history.space, self)
        if plan is None:
            start = start_point(space, self.start).tolist()
            return {"theta": start, "first": [0.0] * space.dim, "second": [0.0] * space.dim, "steps": 0}
        state = dict(plan.notes)
        seed = state.pop("seed")
        names = ("theta", "first", "second")
        theta, first, second = (torch.tensor(state[name], dtype=torch.float64) for name in names)
        theta = space.to_scale(theta)
        slope = self._slope(history, space, theta, seed) if plan.is_finished(history) else None
        if slope is None:
            return state
        steps = state["steps"] + 1
        first = first.lerp(slope, 1 - _DECAY[0])
        second = second.lerp(slope.square(), 1 - _DECAY[1])
        scale = second.sqrt() / math.sqrt(1 - _DECAY[1] ** steps) + 1e-8
        step = -self.lr * first / (1 - _DECAY[0] ** steps) / scale
        step = step * min(1.0, self.eps / max(float(step.norm()), 1e-300))
        state = {"theta": space.from_scale(theta + step), "first": first, "second": second}
        return {**{name: value.tolist() for name, value in state.items()}, "steps": steps}

    def _slope(self, history: History, space: Box, theta: Tensor, seed: int) -> Tensor | None:
        """The gradient of the surrogate's mean objective at theta, shape [d]; None with fewer than two good rows."""
        scaled = space.to_scale(history.theta)
        near = (scaled - theta).abs().amax(1) < self.eps
        rows = (near & evaluate_objective(self.objective, history).isfinite()).nonzero()[-_MOST:, 0]
        if len(rows) < 2:
            return None
        outcome, x = history.outcome[rows].double(), None if history.x is None else history.x[rows]
        generator = torch.Generator().manual_seed(seed)
        theta = theta.clone().requires_grad_()
        with seeded(seed):  # a surrogate that draws its weights globally is repeatable
            surrogate = self.surrogate()
            surrogate.fit(scaled[rows], outcome.flatten(1) if outcome.ndim > 1 else outcome[:, None], x)
        if x is None:
            draws = surrogate.sample(theta, None, self.samples, generator)
        else:
            x = x[torch.randint(len(x), (self.samples,), generator=generator)]
            draws = surrogate.sample(theta, x, 1, generator)
        draws = draws.reshape(-1, *outcome.shape[1:])
        value = draws if self.objective is None else self.objective(*([draws] if x is None else [draws, x]))
        (slope,) = torch.autograd.grad(value.mean(), theta)
        return slope.nan_to_num(0, 0, 0)

    def _points(self, theta: Tensor, space: Box, generator: torch.Generator) -> Tensor:
        """A Latin hypercube in the local box, then its centre, inside the space, shape [points + 1, d]."""
        cells = torch.stack([torch.randperm(self.points, generator=generator) for _ in theta], dim=1)
        unit = (cells + torch.rand(cells.shape, dtype=torch.float64, generator=generator)) / self.points
        theta = space.to_scale(theta)
        return space.from_scale(torch.cat([theta + self.eps * (2 * unit - 1), theta[None]]))
