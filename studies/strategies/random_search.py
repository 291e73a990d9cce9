"""Random search: uniform points, and the one whose neighbourhood is best on average."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from studies.history import History, Proposal
from studies.objective import Objective
from studies.spaces.base import Space
from studies.strategies.means import mean_objectives
from studies.strategies.plan import Plan
from studies.strategies.random import Random
from studies.strategies.settings import check_count, check_objective
from studies.strategies.success import coordinates

__all__ = ["RandomSearch"]

_MOST = 256  # neighbours
_CHUNK = 512


@dataclass(frozen=True, slots=True)
class RandomSearch:
    """Uniform points, each simulated `repeats` times; from a pool without replacement.

    It recommends the point with the lowest local average: the mean over its k nearest neighbours, where k predicts
    points left out best. The lowest mean of a point's own simulations would be the luckiest one.

    Args:
        objective: What is minimised, of the outcome (and the inputs x, where observed); None: the outcome itself.
        repeats: Simulations of each point, averaged.

    Raises:
        ArgumentError: `repeats` is too small.
        ArgumentTypeError: The objective is no function.
    """

    objective: Objective | None = None
    repeats: int = 1

    def __post_init__(self) -> None:
        check_objective(self.objective)
        check_count("repeats", self.repeats)

    def propose(self, history: History, n: int, generator: torch.Generator) -> Proposal:
        plan = Plan.last(history, "random")
        rest = torch.empty(0, history.space.dim, dtype=torch.float64)
        if plan is not None:
            rest = plan.next(history, min(n, plan.left(history)))
        if len(rest) == n:
            return Proposal(rest)
        points = Random().propose(history, math.ceil((n - len(rest)) / self.repeats), generator).theta
        plan = Plan(points, self.repeats, history.n_rounds, {})
        new = points.repeat_interleave(self.repeats, 0)[: n - len(rest)]
        return Proposal(torch.cat([rest, new]), {"random": plan.note})

    def recommend(self, history: History) -> Tensor:
        """The point with the lowest local average, shape [d]; any point where there is no finite objective."""
        means = mean_objectives(self.objective, history)
        if len(means.mean) == 0:
            return history.space.sample(1, torch.Generator().manual_seed(0))[0]
        if len(means.mean) == 1:
            return means.theta[0]
        return means.theta[_local_average(means.theta, means.mean, history.space).argmin()]

    def batch(self, history: History) -> int:
        """The repetitions that are left of the point, or those of the next one."""
        plan = Plan.last(history, "random")
        return (plan.left(history) if plan is not None else 0) or self.repeats


def _local_average(theta: Tensor, mean: Tensor, space: Space) -> Tensor:
    """Each mean averaged with its k nearest neighbours', [n, d], [n] -> [n]; leaving one out chooses k."""
    unit = coordinates(space, theta)
    most = min(len(mean) - 1, _MOST)
    nearest = [torch.cdist(part, unit).topk(most + 1, largest=False).indices for part in unit.split(_CHUNK)]
    others = mean[torch.cat(nearest)[:, 1:]].cumsum(1)  # the nearest is the point itself
    counts = torch.arange(1, most + 1, dtype=torch.float64)
    best = int((mean[:, None] - others / counts).square().mean(0).argmin())
    return (mean + others[:, best]) / (best + 2)
