"""BoTorch's Gaussian process through mean objectives, and a quiet, seeded block to fit and search models in."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager

import torch
from botorch.exceptions.warnings import BotorchWarning
from botorch.models import SingleTaskGP
from gpytorch.utils.warnings import NumericalWarning

from studies.randomness import isolated
from studies.spaces.base import Space
from studies.strategies.means import Means
from surrogates.gaussian_process import gaussian_process

__all__ = ["fit_means", "modelling", "quiet"]


def fit_means(means: Means, space: Space) -> SingleTaskGP:
    """A Gaussian process through means [p], over the space's bounds; their errors are its noise, where known."""
    return gaussian_process(means.theta, means.mean, bounds=space.bounds, noise=means.error)


@contextmanager
def modelling(generator: torch.Generator) -> Generator[None]:
    """A quiet block for fitting and searching models: its global random numbers come from a generator."""
    with isolated(generator), quiet():
        yield


@contextmanager
def quiet() -> Generator[None]:
    """A block without some warnings of others.

    Those of jitter in a covariance, of means that are all equal, of a search that ends early and of unchecked sparse
    matrices say nothing that a user could mend: they are not shown.
    """
    with warnings.catch_warnings():
        for category in (BotorchWarning, NumericalWarning):
            warnings.simplefilter("ignore", category)
        warnings.filterwarnings("ignore", "Optimization failed in", RuntimeWarning)
        warnings.filterwarnings("ignore", "Sparse invariant checks", UserWarning)
        yield
