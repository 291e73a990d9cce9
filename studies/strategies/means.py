"""Mean objectives of distinct parameters, with their standard errors."""

from dataclasses import dataclass

import torch
from torch import Tensor

from studies.history import History
from studies.objective import Objective
from studies.strategies.penalties import learnable

__all__ = ["Means", "mean_objectives", "means_of"]

_PRIOR = 10  # repetitions that the pooled variance counts for, beside a point's own


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """Mean objectives of p distinct parameters.

    Args:
        theta: Shape [p, d].
        mean: Shape [p].
        error: Standard errors of the means, shape [p]; None where there are too few repetitions to tell.
        count: Repetitions, shape [p].
        squares: The sum of squares of the repetitions within the means.
    """

    theta: Tensor
    mean: Tensor
    error: Tensor | None
    count: Tensor
    squares: float


def mean_objectives(objective: Objective | None, history: History) -> Means:
    """The mean objective of each distinct theta over its complete trials, without those not finite or a penalty."""
    return means_of(learnable(objective, history), history)


def means_of(values: Tensor, history: History) -> Means:
    """The same, from the objective of each complete trial, shape [n].

    A point's variance is its own, drawn to the pooled one as if ten more repetitions had shown that.
    """
    good = values.isfinite()
    values = values[good]
    theta, index = history.theta[good].unique(dim=0, return_inverse=True)
    count = torch.zeros(len(theta), dtype=torch.float64).index_add_(0, index, torch.ones_like(values))
    mean = torch.zeros_like(count).index_add_(0, index, values) / count
    squares = torch.zeros_like(count).index_add_(0, index, (values - mean[index]).square())
    freedom = (count - 1).sum()
    if freedom < _PRIOR:
        return Means(theta, mean, None, count, float(squares.sum()))
    variance = (_PRIOR * squares.sum() / freedom + squares) / (_PRIOR + count - 1)
    spread = mean.std() if len(mean) > 1 and bool(mean.std() > 0) else torch.ones(()).double()
    return Means(theta, mean, (variance / count).sqrt().clamp_min(1e-3 * spread), count, float(squares.sum()))
