"""A normal distribution, full covariance, whose mean and covariance are outputs of a network."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.nn.functional import softplus

from diffsim.training.report import FitReport
from diffsim.training.settings import Training
from surrogates.generators.neural import ConditionNetwork, NeuralSurrogate
from surrogates.generators.pushforward import Pushforward

__all__ = ["Gaussian", "GaussianNetwork"]

_FLOOR = 1e-3  # smallest standard deviation, in units of the data's


class Gaussian(Pushforward):
    """A normal distribution of mean `loc`, shape [..., m], and covariance `scale_tril` `scale_tril`^T, [..., m, m].

    Example:
        >>> Gaussian(torch.zeros(2), torch.eye(2)).push(torch.ones(1, 2))
        tensor([[1., 1.]])
    """

    def __init__(self, loc: Tensor, scale_tril: Tensor) -> None:
        super().__init__(loc.shape[-1], loc.shape[:-1], loc.shape[-1], loc)
        self.loc, self.scale_tril = loc, scale_tril

    @property
    def mean(self) -> Tensor:
        """Shape [..., m]."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """Shape [..., m]."""
        return self.scale_tril.square().sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        log_prob: Any = MultivariateNormal(self.loc, scale_tril=self.scale_tril, validate_args=False).log_prob(value)
        return log_prob

    def push(self, noise: Tensor) -> Tensor:
        return self.loc + (self.scale_tril @ noise[..., None])[..., 0]

    def rescaled(self, shift: Tensor, scale: Tensor) -> "Gaussian":
        return Gaussian(shift + scale * self.loc.to(shift), scale[:, None] * self.scale_tril.to(shift))


class GaussianNetwork(NeuralSurrogate):
    """A surrogate with normal outcomes: the simplest density, for outcomes that are averages.

    Args:
        dim: Number d of parameters.
        n_outcomes: Number m of outcomes.
        n_inputs: Number k of observed random inputs.
        hidden: Width of each hidden layer.
        precision: Of the normal prior of the weights: a larger one gives a smoother surrogate.
        seed: Of the initial weights.

    Source: Nix and Weigend, 1994, Estimating the mean and variance of the target probability distribution.

    Example:
        >>> surrogate = GaussianNetwork(2)
        >>> surrogate(torch.zeros(5, 2)).log_prob(torch.zeros(5, 1)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        dim: int,
        n_outcomes: int = 1,
        n_inputs: int = 0,
        *,
        hidden: Sequence[int] = (32, 32),
        precision: float = 10.0,
        seed: int = 0,
    ) -> None:
        super().__init__(dim, n_outcomes, n_inputs, precision=precision)
        start = torch.zeros(n_outcomes * (n_outcomes + 3) // 2)
        start[n_outcomes : 2 * n_outcomes] = 0.54  # softplus: a standard deviation of 1
        self.network = ConditionNetwork(dim + n_inputs, start, hidden, seed=seed)

    def distribution(self, context: Tensor) -> Gaussian:
        m = self.n_outcomes
        loc, deviation, below = self.network(context).split([m, m, m * (m - 1) // 2], dim=-1)
        scale_tril = torch.diag_embed(_FLOOR + softplus(deviation))
        rows, columns = torch.tril_indices(m, m, -1)
        scale_tril[..., rows, columns] = below
        return Gaussian(loc, scale_tril)

    def fit(
        self,
        theta: Tensor,
        outcome: Tensor,
        x: Tensor | None = None,
        training: Training = Training(steps=300, lr=1e-2, batch=256),
    ) -> FitReport:
        return super().fit(theta, outcome, x, training)
