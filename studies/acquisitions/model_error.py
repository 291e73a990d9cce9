"""Acquisitions as arguments of `ModelBased`: what to simulate next to make a model of runs better."""

from dataclasses import dataclass

import torch
from botorch.models.gpytorch import GPyTorchModel
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.acquisitions.gaussian_process import PosteriorInformation
from studies.acquisitions.linear_gaussian import ExpectedErrorReduction, ResponseInformation
from studies.history import History
from studies.spaces.box import Box
from studies.spaces.pool import Pool
from surrogates.rollout_model import RolloutModel

__all__ = ["ErrorReduction", "disagreement"]

_FLOOR = 1e-4


def disagreement(model: RolloutModel | GPyTorchModel, history: History) -> ResponseInformation | PosteriorInformation:
    """Where the model disagrees with itself most: the information that noisy trials there would give about it.

    For a model of runs it is the log-det of its response over the batch, for a Gaussian process of outcomes that of its
    posterior. Needs no target distribution; it tends to the edges of the space.

    Raises:
        ArgumentTypeError: The model is neither a `RolloutModel` nor a Gaussian process.
    """
    if isinstance(model, GPyTorchModel):
        return PosteriorInformation(model, _floor(history))
    return ResponseInformation(_checked(model), _floor(history))


@dataclass(frozen=True, slots=True, eq=False)
class ErrorReduction:
    """Expected reduction of the roll-out error over a target distribution of designs.

    Args:
        targets: Draws from the target distribution, in the coordinates of the space, shape [m, k]; they may lie
            outside it. By default the space itself, evenly.
        t: Output times over which runs should be predicted; those of the model by default.

    Raises:
        ArgumentError: `targets` has the wrong shape.
        ArgumentTypeError: The model is not a `RolloutModel`.
    """

    targets: Tensor | None = None
    t: Tensor | None = None

    def __call__(self, model: RolloutModel, history: History) -> ExpectedErrorReduction:
        targets = _even(history) if self.targets is None else self.targets
        if targets.ndim != 2 or targets.shape[1] != history.space.dim or len(targets) == 0:
            raise ArgumentError(f"`targets` must have shape [m, {history.space.dim}], got {list(targets.shape)}.")
        return ExpectedErrorReduction(_checked(model), targets, self.t, _floor(history))


def _floor(history: History) -> float:
    """The smallest noise that is assumed: a small share of the outcomes' spread, whatever their unit."""
    spread = float(history.outcome.double().std(correction=0)) if len(history) else 0.0
    return _FLOOR * (spread or 1.0)


def _even(history: History, n: int = 64) -> Tensor:
    space = history.space
    if isinstance(space, Box):
        return space.sobol(n, seed=0)
    return space.sample(min(n, len(space)) if isinstance(space, Pool) else n, torch.Generator().manual_seed(0))


def _checked(model: object) -> RolloutModel:
    if not isinstance(model, RolloutModel):
        raise ArgumentTypeError(
            "`fit` of ModelBased must return a RolloutEnsemble or a RolloutPosterior for this acquisition, got "
            f"{model!r}."
        )
    return model
