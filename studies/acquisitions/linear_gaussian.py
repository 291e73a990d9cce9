"""Two acquisitions for the error of a model of runs, both from its linear response to what is unknown."""

from abc import abstractmethod

import torch
from botorch.acquisition.acquisition import AcquisitionFunction
from botorch.utils.transforms import match_batch_shape
from torch import Tensor

from diffsim.errors import ArgumentError
from surrogates.rollout_model import RolloutModel

__all__ = ["ExpectedErrorReduction", "ResponseInformation"]


class _ResponseAcquisition(AcquisitionFunction):
    """What both share: the response of a batch of designs and of the pending ones, in units of the noise."""

    def __init__(self, model: RolloutModel, floor: float) -> None:
        super().__init__(model)
        if not floor > 0:
            raise ArgumentError(f"`floor` must be positive, got {floor}: exact runs leave nothing to learn.")
        self.rollouts = model
        self.noise = max(model.noise, floor)
        self.set_X_pending(None)

    def set_X_pending(self, X_pending: Tensor | None = None) -> None:
        """Take designs [n, k] as about to be simulated; their response is computed here, once."""
        super().set_X_pending(X_pending)
        with torch.no_grad():
            self.pending = None if self.X_pending is None else self._response(self.X_pending)

    def forward(self, X: Tensor) -> Tensor:
        """The acquisition's value, shape [b, q, k] -> [b]."""
        response = self._response(X if X.ndim > 2 else X[None])
        if self.pending is not None:
            response = torch.cat([response, match_batch_shape(self.pending, response)], dim=-2)
        return self._value(response)

    def _response(self, designs: Tensor) -> Tensor:
        """In units of the noise, [..., n, k] -> [..., n o, r]."""
        return self.rollouts.response(designs).flatten(-3, -2) / self.noise

    @abstractmethod
    def _value(self, response: Tensor) -> Tensor:
        """The value of a response, shape [b, o, r] -> [b]."""


class ResponseInformation(_ResponseAcquisition):
    """How strongly the model disagrees with itself on a batch of runs: half the log-det of I + R R' / noise^2.

    It is the information in nats that the runs would give about what is unknown, and is large for designs that differ.

    Args:
        model: The model of runs.
        floor: Smallest noise that is assumed, in units of the outcomes.

    Source: Lindley, 1956; Seung, Opper and Sompolinsky, 1992 (query by committee).
    """

    def __init__(self, model: RolloutModel, floor: float = 1e-4) -> None:
        super().__init__(model, floor)

    def _value(self, response: Tensor) -> Tensor:
        if response.shape[-1] > response.shape[-2]:
            response = response.mT
        gram = response.mT @ response
        return 0.5 * torch.logdet(gram + torch.eye(gram.shape[-1]).to(gram))


class ExpectedErrorReduction(_ResponseAcquisition):
    """How much a batch of runs is expected to reduce the model's roll-out error over a target distribution.

    The value is the share of the targets' variance that would go, 0 to 1: the reduction of the integrated posterior
    variance, exact for a linear-Gaussian response. Each target run counts by 1 / (its variance + noise^2), so that no
    single wild run decides: it is the gradient of the mean log variance.

    Args:
        model: The model of runs.
        targets: Designs whose runs the model should predict, shape [m, k].
        t: Output times over which it should predict them; those of the model by default.
        floor: Smallest noise that is assumed, in units of the outcomes.

    Source: Cohn, Ghahramani and Jordan, 1996, "Active learning with statistical models", equation 8; Seo et al., 2000.
    """

    target_gram: Tensor

    def __init__(self, model: RolloutModel, targets: Tensor, t: Tensor | None = None, floor: float = 1e-4) -> None:
        super().__init__(model, floor)
        with torch.no_grad():
            response = model.response(targets, t)  # [m, o, r]
            variance = response.square().sum(-1).mean(-1)
            weight = 1 / ((variance + self.noise**2) * response.shape[-2] * len(targets))
            weighted = (response * weight.sqrt()[:, None, None]).flatten(0, 1)
            self.register_buffer("target_gram", weighted.mT @ weighted)
        self.error = variance.sqrt().median().item()

    def _value(self, response: Tensor) -> Tensor:
        if response.shape[-1] <= response.shape[-2]:
            gram = response.mT @ response
            left = torch.linalg.solve(gram + torch.eye(gram.shape[-1]).to(gram), gram)
            return (left * self.target_gram).sum((-2, -1))
        gram = response @ response.mT
        left = torch.linalg.solve(gram + torch.eye(gram.shape[-1]).to(gram), response)
        return ((response @ self.target_gram) * left).sum((-2, -1))
