"""Two acquisitions for the error of a model of runs, both from its linear response to what is unknown."""

import torch
from botorch.acquisition.acquisition import AcquisitionFunction
from botorch.utils.transforms import concatenate_pending_points, t_batch_mode_transform
from torch import Tensor

from surrogates.rollout_model import RolloutModel

__all__ = ["ExpectedErrorReduction", "ResponseInformation"]


class ResponseInformation(AcquisitionFunction):
    """How strongly the model disagrees with itself on a batch of runs: half the log-det of I + R R' / noise^2.

    It is the information that the runs would give about what is unknown, and is large for designs that differ.

    Args:
        model: The model of runs.
        floor: Smallest noise that is assumed, in units of the outcomes.

    Source: Lindley, 1956; Seung, Opper and Sompolinsky, 1992 (query by committee).
    """

    X_pending: Tensor | None

    def __init__(self, model: RolloutModel, floor: float = 1e-4) -> None:
        super().__init__(model)
        self.rollouts = model
        self.noise = max(model.noise, floor)
        self.X_pending = None

    @concatenate_pending_points
    @t_batch_mode_transform()
    def forward(self, X: Tensor) -> Tensor:
        """The information in nats, shape [b, q, k] -> [b]."""
        response = self.rollouts.response(X).flatten(-3, -2) / self.noise  # [b, q m, r]
        if response.shape[-1] > response.shape[-2]:
            response = response.mT
        gram = response.mT @ response
        return 0.5 * torch.logdet(gram + torch.eye(gram.shape[-1]).to(gram))


class ExpectedErrorReduction(AcquisitionFunction):
    """How much a batch of runs is expected to reduce the model's roll-out error over a target distribution.

    The reduction of the integrated posterior variance, exact for a linear-Gaussian response. Each target run counts
    by 1 / (its variance + noise^2), so that no single wild run decides: it is the gradient of the mean log variance.

    Args:
        model: The model of runs.
        targets: Designs whose runs the model should predict, shape [m, k].
        t: Output times over which it should predict them; those of the model by default.
        floor: Smallest noise that is assumed, in units of the outcomes.

    Source: Cohn, Ghahramani and Jordan, 1996, "Active learning with statistical models", equation 8; Seo et al., 2000.
    """

    X_pending: Tensor | None
    target_gram: Tensor

    def __init__(self, model: RolloutModel, targets: Tensor, t: Tensor | None = None, floor: float = 1e-4) -> None:
        super().__init__(model)
        self.rollouts = model
        self.noise = max(model.noise, floor)
        self.X_pending = None
        with torch.no_grad():
            response = model.response(targets, t)  # [m, o, r]
            variance = response.square().sum(-1).mean(-1)
            weight = 1 / ((variance + self.noise**2) * response.shape[-2] * len(targets))
            weighted = (response * weight.sqrt()[:, None, None]).flatten(0, 1)
            self.register_buffer("target_gram", weighted.mT @ weighted)
        self.error = variance.sqrt().median().item()

    @concatenate_pending_points
    @t_batch_mode_transform()
    def forward(self, X: Tensor) -> Tensor:
        """The share of the targets' variance that would go, shape [b, q, k] -> [b]."""
        response = self.rollouts.response(X).flatten(-3, -2) / self.noise  # [b, q m, r]
        if response.shape[-1] <= response.shape[-2]:
            gram = response.mT @ response
            left = torch.linalg.solve(gram + torch.eye(gram.shape[-1]).to(gram), gram)
            return (left * self.target_gram).sum((-2, -1))
        gram = response @ response.mT
        left = torch.linalg.solve(gram + torch.eye(gram.shape[-1]).to(gram), response)
        return ((response @ self.target_gram) * left).sum((-2, -1))
