"""TuRBO-1: Bayesian optimisation by Thompson sampling in one trust region, which grows, shrinks and starts again."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from botorch.generation import MaxPosteriorSampling
from botorch.models import SingleTaskGP
from gpytorch.settings import max_cholesky_size
from torch import Tensor

from studies.history import History, Proposal
from studies.objective import Objective
from studies.spaces.box import Box
from studies.strategies.means import Means, mean_objectives
from studies.strategies.modelling import fit_means, modelling
from studies.strategies.plan import Plan
from studies.strategies.settings import box_of, check_count, check_objective, start_point

__all__ = ["TuRBO"]

_LENGTH, _SHORTEST, _LONGEST = 0.8, 0.5**7, 1.6  # sides of the region, in widths of the box
_SUCCESSES = 3
_GAIN = 1e-3  # relative to the best value, that makes a success
_MOVED = 20  # coordinates of a candidate, on average, that differ from the centre


@dataclass(frozen=True, slots=True)
class TuRBO:
    """TuRBO-1: a Gaussian process in a trust region around the best point, and Thompson samples of it.

    Three steps with a gain double the region's sides, max(4, d) / points without one halve them; a region that gets
    too small starts again elsewhere. The noise of the simulator enters in one place: the best point, and
    a gain, are those of the model's mean, where the paper takes the observed values.

    Args:
        objective: What is minimised, of the outcome (and the inputs x, where observed); None: the outcome itself.
        repeats: Simulations of each point, averaged. Their scatter tells the model its noise; without, it is estimated.
        start: The first point; the centre of the box by default.
        points: Points a step.
        initial: Points, those of a Sobol sequence, with which a region starts; 2 d by default.
        candidates: Among how many points of the region a sample is minimised; 100 d, at most 5000, by default.

    Raises:
        ArgumentError: A count is too small, or the start lies outside the box.
        ArgumentTypeError: The space is no box, or the objective no function.

    Source: Eriksson et al., 2019, arXiv 1910.01739.
    """

    objective: Objective | None = None
    repeats: int = 1
    start: Sequence[float] | None = None
    points: int = 4
    initial: int | None = None
    candidates: int | None = None

    def __post_init__(self) -> None:
        check_objective(self.objective)
        for name in ("repeats", "points", "initial", "candidates"):
            if (count := getattr(self, name)) is not None:
                check_count(name, count)

    def propose(self, history: History, n: int, generator: torch.Generator) -> Proposal:
        box, start = box_of(history.space, self), start_point(history.space, self.start)
        plan = Plan.last(history, "turbo")
        if plan is not None and not plan.is_finished(history):
            return Proposal(plan.next(history, n))
        with modelling(generator):
            state, means, model = self._state(plan, history)
            missing = self._initial(box) - len(means.theta)
            if model is None or missing > 0:
                points = box.sobol(max(missing, 1), int(torch.randint(2**31, (), generator=generator)))
                if not history.tried.numel():
                    points[0] = start
            else:
                points = self._sample(model, means, state["length"], box, generator)
        notes = {**state, "initial": missing > 0}
        plan = Plan(points, self.repeats, history.n_rounds, notes)
        return Proposal(plan.next(history, n), {"turbo": plan.note})

    def recommend(self, history: History) -> Tensor:
        """The point with the lowest model mean, over all regions so far, shape [d]; the start without any."""
        box = box_of(history.space, self)
        with modelling(torch.Generator().manual_seed(0)):
            state, means, model = self._state(Plan.last(history, "turbo"), history)
            best = _better(state["best"], _best(model, means, box))
        return start_point(box, self.start) if best is None else torch.tensor(best[0], dtype=torch.float64)

    def batch(self, history: History) -> int:
        """The trials that are left of the step, or those of the next one."""
        plan = Plan.last(history, "turbo")
        if plan is None:
            return max(self._initial(box_of(history.space, self)) - len(history.theta.unique(dim=0)), 1) * self.repeats
        return max(plan.left(history), 1) if not plan.is_finished(history) else self.points * self.repeats

    def _initial(self, box: Box) -> int:
        return 2 * box.dim if self.initial is None else self.initial

    def _state(self, plan: Plan | None, history: History) -> tuple[dict[str, Any], Means, SingleTaskGP | None]:
        """The region, its means and their model (None without data), after the plan if that is finished."""
        box = box_of(history.space, self)
        state: dict[str, Any] = {"length": _LENGTH, "successes": 0, "failures": 0, "since": 0, "best": None}
        if plan is not None:
            state = {name: plan.notes[name] for name in state}
        means, model = self._learn(state["since"], history)
        if plan is None or model is None or plan.notes["initial"] or not plan.is_finished(history):
            return state, means, model
        value = _values(model, means.theta, box)
        new = (means.theta[:, None] == plan.points).all(-1).any(1)
        gain = bool(new.any()) and bool((~new).any()) and _is_gain(float(value[new].min()), float(value[~new].min()))
        successes, failures = (state["successes"] + 1, 0) if gain else (0, state["failures"] + 1)
        if successes == _SUCCESSES:
            successes, state["length"] = 0, min(2 * state["length"], _LONGEST)
        elif failures >= math.ceil(max(4, means.theta.shape[1]) / self.points):
            failures, state["length"] = 0, state["length"] / 2
        state |= {"successes": successes, "failures": failures}
        if state["length"] < _SHORTEST:
            best = _better(state["best"], _best(model, means, box))
            state = {"length": _LENGTH, "successes": 0, "failures": 0, "since": len(history.trials), "best": best}
            return state, *self._learn(state["since"], history)
        return state, means, model

    def _learn(self, since: int, history: History) -> tuple[Means, SingleTaskGP | None]:
        """Means of the trials since a number, and their model in the unit cube."""
        means = mean_objectives(self.objective, History(history.space, history.trials[since:]))
        if len(means.mean) == 0:
            return means, None
        box = box_of(history.space, self)
        cube = Box({name: (0.0, 1.0) for name in box.names})
        return means, fit_means(replace(means, theta=box.to_unit(means.theta), mean=-means.mean), cube)

    def _sample(self, model: SingleTaskGP, means: Means, length: float, box: Box, generator: torch.Generator) -> Tensor:
        """Thompson samples in the region, whose sides follow the model's length scales, shape [points, d]."""
        scale = cast(Tensor, model.covar_module.lengthscale).detach().flatten().log()
        half = (scale - scale.mean()).exp() * length / 2
        centre = box.to_unit(means.theta)[_values(model, means.theta, box).argmin()]
        count = max(min(100 * box.dim, 5000) if self.candidates is None else self.candidates, self.points)
        sobol = torch.quasirandom.SobolEngine(
            box.dim, scramble=True, seed=int(torch.randint(2**31, (), generator=generator))
        )
        inner, outer = (centre - half).clamp(0, 1), (centre + half).clamp(0, 1)
        candidates = inner + (outer - inner) * sobol.draw(count, dtype=torch.float64)
        moved = torch.rand(count, box.dim, generator=generator) < _MOVED / box.dim
        one = torch.randint(box.dim, (count, 1), generator=generator)
        moved.scatter_(1, one, True)
        candidates = torch.where(moved, candidates, centre)
        with max_cholesky_size(10**6), torch.no_grad():
            return box.from_unit(MaxPosteriorSampling(model, replacement=False)(candidates, self.points))


def _values(model: SingleTaskGP, theta: Tensor, box: Box) -> Tensor:
    """The model's mean objective, [n, d] -> [n]."""
    with torch.no_grad():
        return -model.posterior(box.to_unit(theta)).mean.squeeze(-1)


def _best(model: SingleTaskGP | None, means: Means, box: Box) -> list[Any] | None:
    if model is None:
        return None
    values = _values(model, means.theta, box)
    return [means.theta[values.argmin()].tolist(), float(values.min())]


def _better(one: list[Any] | None, other: list[Any] | None) -> list[Any] | None:
    found = [best for best in (one, other) if best is not None]
    return min(found, key=lambda best: best[1], default=None)


def _is_gain(new: float, old: float) -> bool:
    return new < old - _GAIN * abs(old)
