"""Bayesian optimisation of a noisy simulator: Gaussian processes of means, and noisy expected improvement."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsim.errors import ArgumentTypeError
from studies.history import History, Proposal
from studies.objective import Objective
from studies.spaces.box import Box
from studies.strategies.box_search import around, search_box
from studies.strategies.improvement_model import ImprovementModel
from studies.strategies.means import Means, mean_objectives, means_of
from studies.strategies.penalties import learnable
from studies.strategies.plan import Plan
from studies.strategies.settings import check_asked, check_count, check_objective, start_point
from studies.strategies.sobol import Sobol
from studies.strategies.success import Success, likely, parted
from surrogates.threads import one_thread

__all__ = ["NoisyExpectedImprovement"]

_INITIAL = 5
_CANDIDATES, _CENTRES, _NEAR = 512, 4, 64
_CLIMBS, _ITERATIONS = 3, 30


@dataclass(frozen=True, slots=True)
class NoisyExpectedImprovement:
    """Bayesian optimisation by noisy expected improvement, on the mean objectives of repeated simulations.

    The model is a mixture of Gaussian processes, whose settings are as likely as the data make them. It knows
    logarithmic, integer and choice parameters; what it proposes satisfies the box's constraints, and was not tried
    before, unless all was, and keeps away from where trials fail. Every other point is sought where more than the noise
    may be gained: the search leaves a basin in which only noise is left.

    Args:
        objective: What is minimised, of the outcome (and the inputs x, where observed); None: the outcome itself.
        repeats: Simulations of each point, averaged. Their scatter tells the model its noise; without, it is estimated.
        start: The first point; that of a Sobol sequence by default.
        initial: Points, those of a Sobol sequence, before the model decides; 5 by default.

    Raises:
        ArgumentError: A count is too small, or the start lies outside the box.
        ArgumentTypeError: The space is no box, or the objective no function.

    Source: Letham et al., 2019, arXiv 1706.07094; Snoek, Larochelle and Adams, 2012, arXiv 1206.2944; Ament et al.,
    2023, arXiv 2310.20708.
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
        box = _box(history)
        start = None if self.start is None else start_point(box, self.start)
        plan = Plan.last(history, "improvement")
        rest = torch.empty(0, box.dim, dtype=torch.float64)
        if plan is not None:
            rest = plan.next(history, min(n, plan.left(history)))
        if len(rest) == n:
            return Proposal(rest)
        values = learnable(self.objective, history)
        means = means_of(values, history)
        pending = torch.cat([history.pending, rest]).unique(dim=0)
        pending = pending[~(pending[:, None] == means.theta).all(-1).any(-1)]
        count = math.ceil((n - len(rest)) / self.repeats)
        initial = _INITIAL if self.initial is None else self.initial
        if len(means.mean) == 0 or len(means.mean) + len(pending) < initial:
            first = Sobol().propose(history, count, generator)
            points, info = first.theta, first.info
            if start is not None and not len(history.tried):
                points = torch.cat([start[None], points[1:]])
        else:
            with one_thread():
                success = Success.of(box, *parted(values.isfinite(), history))
                tried = torch.cat([history.tried, rest])
                points, info = _improve(means, box, success, tried, pending, count, generator)
        plan = Plan(points, self.repeats, history.n_rounds, {})
        new = points.repeat_interleave(self.repeats, 0)[: n - len(rest)]
        return Proposal(torch.cat([rest, new]), {**info, "improvement": plan.note})

    def recommend(self, history: History) -> Tensor:
        """Where the model is surest of a low mean, shape [d]; the start where no objective is finite."""
        box = _box(history)
        values = learnable(self.objective, history)
        means = means_of(values, history)
        if len(means.mean) == 0:
            return start_point(box, self.start)
        with one_thread():
            return self._model(means, box).best(Success.of(box, *parted(values.isfinite(), history)))

    def estimate(self, history: History, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The model's mean objective and its standard deviation.

        Args:
            history: The trials that it learns from, one complete at least.
            theta: Where, shape [n, d]; `recommend(history)[None]`, say.

        Returns:
            Mean and standard deviation, float64, each of shape [n].

        Raises:
            ArgumentError: Theta has the wrong shape, or there is nothing to learn from.
            ArgumentTypeError: Theta is no tensor.
        """
        box, means = _box(history), mean_objectives(self.objective, history)
        theta = check_asked(theta, box, len(means.mean))
        with one_thread():
            return self._model(means, box).moments(theta)

    def batch(self, history: History) -> int:
        """The repetitions that are left of the point, or those of the next one."""
        plan = Plan.last(history, "improvement")
        return (plan.left(history) if plan is not None else 0) or self.repeats

    def _model(self, means: Means, box: Box) -> ImprovementModel:
        return ImprovementModel.fit(means, box, torch.Generator().manual_seed(0))


def _box(history: History) -> Box:
    if not isinstance(history.space, Box):
        raise ArgumentTypeError(
            f"`NoisyExpectedImprovement` needs a Box, got {history.space!r}. Use ModelBased for this space."
        )
    return history.space


def _improve(
    means: Means,
    box: Box,
    success: Success | None,
    tried: Tensor,
    pending: Tensor,
    n: int,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, list[float]]]:
    """Points of the largest expected improvement, one after the other, shape [n, d]; notes.

    The notes are its logarithms, and the mean and deviation of the objective at the best point tried.
    """
    model = ImprovementModel.fit(means, box, generator)
    mean, deviation = model.moments(means.theta)
    order = mean.argsort(stable=True)
    centres = means.theta[order[:_CENTRES]]
    values: list[float] = []
    for _ in range(n):
        score = likely(model.improvement(pending, generator), success)
        spread = box.sobol(_CANDIDATES, int(torch.randint(2**31, (), generator=generator)))
        near = around(box, centres, _NEAR, generator)
        points, scores = search_box(box, score, [spread, near], _CLIMBS, _ITERATIONS)
        new = ~(points[:, None] == tried).all(-1).any(-1)
        best = int(new.double().argmax())
        pending = torch.cat([pending, points[[best]]])
        tried = torch.cat([tried, points[[best]]])
        values.append(float(scores[best]))
    return pending[-n:], {"acquisition": values, "estimate": [float(mean[order[0]]), float(deviation[order[0]])]}
