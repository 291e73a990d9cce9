"""Active learning of an outcome by a Gaussian process: its integrated variance, and the information of trials."""

from dataclasses import dataclass
from typing import Any

import torch
from botorch.acquisition.acquisition import AcquisitionFunction
from botorch.acquisition.active_learning import qNegIntegratedPosteriorVariance
from botorch.acquisition.objective import ScalarizedPosteriorTransform
from botorch.models.gpytorch import GPyTorchModel
from botorch.models.model import Model
from botorch.utils.transforms import match_batch_shape
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.history import History
from studies.strategies.search import cover

__all__ = ["IntegratedVariance", "PosteriorInformation"]


@dataclass(frozen=True, slots=True, eq=False)
class IntegratedVariance:
    """How little variance a Gaussian process would be left with over a target distribution, after the next trials.

    Several outputs count in units of their own spread.

    Args:
        targets: Draws from the target distribution, in the coordinates of the space, shape [m, d]; they may lie outside
            it. By default the space itself, evenly.

    Raises:
        ArgumentError: `targets` has the wrong shape.
        ArgumentTypeError: The model is no Gaussian process.

    Source: Seo et al., 2000, Gaussian process regression: active data selection; Binois et al., 2019, arXiv 1710.03206.

    Example:
        >>> from studies.strategies.model_based import ModelBased
        >>> from surrogates.gaussian_process import gaussian_process
        >>> def learn(history):
        ...     return gaussian_process(history.theta, history.outcome, bounds=history.space.bounds)
        >>> strategy = ModelBased(learn, IntegratedVariance(), start=5)
    """

    targets: Tensor | None = None

    def __call__(self, model: Model, history: History) -> qNegIntegratedPosteriorVariance:
        targets = cover(history.space, 64, seed=0) if self.targets is None else self.targets.double()
        if targets.ndim != 2 or targets.shape[1] != history.space.dim or len(targets) == 0:
            raise ArgumentError(f"`targets` must have shape [m, {history.space.dim}], got {list(targets.shape)}.")
        if not isinstance(model, GPyTorchModel):
            raise ArgumentTypeError(
                f"`fit` of ModelBased must return a Gaussian process for IntegratedVariance, got {type(model)!r}. Use "
                "ErrorReduction for models of runs."
            )
        transform = None
        if model.num_outputs > 1:
            spread = history.outcome.double().flatten(1).std(0, correction=0)
            transform = ScalarizedPosteriorTransform(1 / torch.where(spread > 0, spread, torch.ones_like(spread)))
        return qNegIntegratedPosteriorVariance(model, targets, posterior_transform=transform)


class PosteriorInformation(AcquisitionFunction):
    """What noisy trials at a batch of points would tell about a Gaussian process, in nats; with pending ones.

    It is half the log-det of I + covariance / noise variance: where draws from the posterior disagree most.

    Args:
        model: The Gaussian process.
        floor: Smallest noise that is assumed, in units of the outcomes.

    Source: Lindley, 1956; Srinivas et al., 2012, arXiv 0912.3995, equation 3.
    """

    def __init__(self, model: Model, floor: float = 1e-4) -> None:
        super().__init__(model)
        if not floor > 0:
            raise ArgumentError(f"`floor` must be positive, got {floor}: exact outcomes leave nothing to learn.")
        self.floor = floor
        self.set_X_pending(None)

    def forward(self, X: Tensor) -> Tensor:
        """The information, shape [b, q, d] -> [b]."""
        points = X if X.ndim > 2 else X[None]
        if self.X_pending is not None:
            points = torch.cat([points, match_batch_shape(self.X_pending, points)], -2)
        exact: Any = self.model.posterior(points)
        noisy: Any = self.model.posterior(points, observation_noise=True)
        covariance = exact.distribution.covariance_matrix
        added = noisy.distribution.covariance_matrix.diagonal(dim1=-2, dim2=-1) - covariance.diagonal(dim1=-2, dim2=-1)
        noise = added.clamp_min(self.floor**2).sqrt()
        gram = covariance / (noise[..., None] * noise[..., None, :])
        return 0.5 * torch.logdet(gram + torch.eye(gram.shape[-1]).to(gram))
