"""Mean objectives of distinct parameters, with their standard errors, and a Gaussian process through them."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from botorch.exceptions.warnings import BotorchWarning
from botorch.models import SingleTaskGP
from gpytorch.utils.warnings import NumericalWarning
from torch import Tensor

from studies.history import History
from studies.objective import Objective, evaluate_objective
from studies.randomness import isolated
from studies.spaces.base import Space
from surrogates.gaussian_process import gaussian_process

__all__ = ["Means", "fit_means", "mean_objectives", "modelling"]

_PRIOR = 10  # repetitions that the pooled variance counts for, beside a point's own


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """Mean objectives of p distinct parameters.

    Args:
        theta: Shape [p, d].
        mean: Shape [p].
        error: Standard errors of the means, shape [p]; None where there are too few repetitions to tell.
    """

    theta: Tensor
    mean: Tensor
    error: Tensor | None


def mean_objectives(objective: Objective | None, history: History) -> Means:
    """The mean objective of each distinct theta over its complete trials; those that are not finite are left out.

    A point's variance is its own, drawn to the pooled one as if ten more repetitions had shown that.
    """
    values = evaluate_objective(objective, history)
    good = values.isfinite()
    values = values[good]
    theta, index = history.theta[good].unique(dim=0, return_inverse=True)
    count = torch.zeros(len(theta), dtype=torch.float64).index_add_(0, index, torch.ones_like(values))
    mean = torch.zeros_like(count).index_add_(0, index, values) / count
    squares = torch.zeros_like(count).index_add_(0, index, (values - mean[index]).square())
    freedom = (count - 1).sum()
    if freedom < _PRIOR:
        return Means(theta, mean, None)
    variance = (_PRIOR * squares.sum() / freedom + squares) / (_PRIOR + count - 1)
    spread = mean.std() if len(mean) > 1 and bool(mean.std() > 0) else torch.ones(()).double()
    return Means(theta, mean, (variance / count).sqrt().clamp_min(1e-3 * spread))


def fit_means(means: Means, space: Space) -> SingleTaskGP:
    """A Gaussian process through means [p], over the space's bounds; their errors are its noise, where known."""
    return gaussian_process(means.theta, means.mean, bounds=space.bounds, noise=means.error)


@contextmanager
def modelling(generator: torch.Generator) -> Generator[None]:
    """A block for fitting and searching models: its global random numbers come from a generator.

    Warnings of jitter in a covariance, of means that are all equal and of a search that ends early say nothing that a
    user could mend: they are not shown.
    """
    with isolated(generator), warnings.catch_warnings():
        for category in (BotorchWarning, NumericalWarning):
            warnings.simplefilter("ignore", category)
        warnings.filterwarnings("ignore", "Optimization failed in", RuntimeWarning)
        yield
