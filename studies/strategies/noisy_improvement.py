"""Bayesian optimisation of a noisy simulator: a Gaussian process of means, and noisy expected improvement."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from botorch.acquisition import PosteriorMean
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.models import SingleTaskGP
from botorch.optim import optimize_acqf
from botorch.sampling import SobolQMCNormalSampler
from torch import Tensor

from studies.history import History, Proposal, Trial
from studies.objective import Objective
from studies.spaces.box import Box
from studies.strategies.means import Means, fit_means, mean_objectives, modelling
from studies.strategies.model_based import ModelBased
from studies.strategies.plan import Plan
from studies.strategies.settings import box_of, check_count, check_objective, start_point

__all__ = ["NoisyExpectedImprovement"]

_SAMPLES = 128
_CANDIDATES = 256
_RESTARTS = 4
_optimize = cast("Callable[..., tuple[Tensor, Tensor]]", optimize_acqf)


@dataclass(frozen=True, slots=True)
class NoisyExpectedImprovement:
    """Bayesian optimisation by noisy expected improvement, on the mean objectives of repeated simulations.

    Args:
        objective: What is minimised, of the outcome (and the inputs x, where observed); None: the outcome itself.
        repeats: Simulations of each point, averaged. Their scatter tells the model its noise; without, it is estimated.
        start: The first point; the centre of the box by default.
        initial: Points, those of a Sobol sequence, before the model decides; 2 (d + 1), at most 20, by default.

    Raises:
        ArgumentError: A count is too small, or the start lies outside the box.
        ArgumentTypeError: The space is no box, or the objective no function.

    Source: Ament et al., 2023, arXiv 2310.20708; Balandat et al., 2020, arXiv 1910.06403.
    """

    objective: Objective | None = None
    repeats: int = 1
    start: Sequence[float] | None = None
    initial: int | None = None

    def __post_init__(self) -> None:
        check_objective(self.objective)
        check_count("repeats", self.repeats)
        if self.initial is not None:
            check_count("initial", self.initial)

    def propose(self, history: History, n: int, generator: torch.Generator) -> Proposal:
        box = box_of(history.space, self)
        start = start_point(box, self.start)
        plan = Plan.last(history, "improvement")
        rest = torch.empty(0, box.dim, dtype=torch.float64)
        if plan is not None:
            rest = plan.next(history, min(n, plan.left(history)))
        if len(rest) == n:
            return Proposal(rest)
        means = mean_objectives(self.objective, history)
        initial = min(2 * (box.dim + 1), 20) if self.initial is None else self.initial
        inner = ModelBased(lambda _: _model(means, box), lambda model, _: _improvement(model, means), start=initial)
        with modelling(generator):
            proposal = inner.propose(_seen(means, rest, history), math.ceil((n - len(rest)) / self.repeats), generator)
        points = proposal.theta if len(history.tried) else torch.cat([start[None], proposal.theta[1:]])
        plan = Plan(points, self.repeats, history.n_rounds, {})
        new = points.repeat_interleave(self.repeats, 0)[: n - len(rest)]
        return Proposal(torch.cat([rest, new]), {**proposal.info, "improvement": plan.note})

    def recommend(self, history: History) -> Tensor:
        """The minimum of the model's mean over the box, shape [d]; the start where there is no finite objective."""
        box = box_of(history.space, self)
        means = mean_objectives(self.objective, history)
        if len(means.mean) == 0:
            return start_point(box, self.start)
        with modelling(torch.Generator().manual_seed(0)):
            mean = PosteriorMean(_model(means, box))
            candidates = torch.cat([means.theta, box.sobol(_CANDIDATES, seed=0)])
            with torch.no_grad():
                values = mean(candidates[:, None])
            best = values.argsort(descending=True, stable=True)[:_RESTARTS]
            climbed, value = _optimize(
                mean, box.bounds, q=1, num_restarts=len(best), batch_initial_conditions=candidates[best, None]
            )
        return climbed[0].detach() if float(value) > float(values[best[0]]) else candidates[best[0]]

    def estimate(self, history: History, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The model's mean objective and its standard deviation.

        Args:
            history: The trials that it learns from, one complete at least.
            theta: Where, shape [n, d]; `recommend(history)[None]`, say.

        Returns:
            Mean and standard deviation, float64, each of shape [n].
        """
        with modelling(torch.Generator().manual_seed(0)):
            model = _model(mean_objectives(self.objective, history), box_of(history.space, self))
            posterior = model.posterior(theta.double())
        return -posterior.mean.detach().squeeze(-1), posterior.variance.detach().squeeze(-1).sqrt()

    def batch(self, history: History) -> int:
        """The repetitions that are left of the point, or those of the next one."""
        plan = Plan.last(history, "improvement")
        return (plan.left(history) if plan is not None else 0) or self.repeats


def _model(means: Means, box: Box) -> SingleTaskGP:
    """A Gaussian process of the gain: larger is better, as BoTorch has it."""
    return fit_means(replace(means, mean=-means.mean), box)


def _improvement(model: SingleTaskGP, means: Means) -> qLogNoisyExpectedImprovement:
    sampler = SobolQMCNormalSampler(torch.Size([_SAMPLES]), seed=0)
    return qLogNoisyExpectedImprovement(model, means.theta, sampler=sampler)


def _seen(means: Means, rest: Tensor, history: History) -> History:
    """The history of points instead of simulations: those with a mean are complete, the others pending."""
    waiting = torch.cat([history.pending, rest]).unique(dim=0)
    waiting = waiting[~(waiting[:, None] == means.theta).all(-1).any(-1)]
    rows = [Trial(0, 0, theta, "complete", value) for theta, value in zip(means.theta, means.mean, strict=True)]
    rows += [Trial(0, 0, theta) for theta in waiting]
    return History(history.space, tuple(replace(row, number=i) for i, row in enumerate(rows)), history.info)
