"""A conditional normalizing flow: normal noise, bent by monotonic splines whose knots depend on the condition."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from zuko.distributions import NormalizingFlow
from zuko.flows import NSF
from zuko.nn import MLP, MaskedMLP

from diffsim.errors import ArgumentError
from diffsim.training.report import FitReport
from diffsim.training.settings import Training
from surrogates.generators.neural import ConditionNetwork, NeuralSurrogate
from surrogates.generators.pushforward import Pushforward, Rescaled
from surrogates.seeding import seeded

__all__ = ["ConditionalFlow"]


class _FlowDistribution(Pushforward):
    """A flow at given conditions."""

    def __init__(self, flow: NormalizingFlow, like: Tensor) -> None:
        m = flow.event_shape.numel()
        super().__init__(m, flow.batch_shape, m, like)
        self.flow = flow

    def push(self, noise: Tensor) -> Tensor:
        noise = noise.expand(len(noise), *self.batch_shape, self.n_noise)
        return cast(Tensor, self.flow.transform.inv(noise))

    def log_prob(self, value: Tensor) -> Tensor:
        return self.flow.log_prob(value)


class ConditionalFlow(NeuralSurrogate):
    """A neural spline flow, autoregressive in the outcomes: a density of any shape.

    Args:
        dim: Number d of parameters.
        n_outcomes: Number m of outcomes.
        n_inputs: Number k of observed random inputs.
        transforms: Number of transformations in a row.
        bins: Number of bins of each spline, which acts within 5 standard deviations of the outcomes.
        hidden: Width of each hidden layer.
        precision: Of the normal prior of the weights: a larger one gives a smoother surrogate.
        seed: Of the initial weights.

    Raises:
        ArgumentError: A number is below its least.

    Source: Durkan, Bekasov, Murray and Papamakarios, 2019, arXiv 1906.04032, section 3; in the package zuko.

    Example:
        >>> ConditionalFlow(2)(torch.zeros(5, 2)).log_prob(torch.zeros(5, 1)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        dim: int,
        n_outcomes: int = 1,
        n_inputs: int = 0,
        *,
        transforms: int = 1,
        bins: int = 8,
        hidden: Sequence[int] = (32, 32),
        precision: float = 10.0,
        seed: int = 0,
    ) -> None:
        super().__init__(dim, n_outcomes, n_inputs, precision=precision)
        least = {"transforms": (transforms, 1), "bins": (bins, 2), "hidden": (min(hidden, default=0), 1)}
        for name, (value, smallest) in least.items():
            if value < smallest:
                raise ArgumentError(f"`{name}` must be at least {smallest}, got {value}.")
        with seeded(seed):
            self.flow = NSF(
                n_outcomes,
                dim + n_inputs,
                bins=bins,
                transforms=transforms,
                hidden_features=hidden,
                activation=nn.Tanh,
            ).float()
        with torch.no_grad():  # the splines start near the identity
            for layers in self.flow.modules():
                if isinstance(layers, MLP | MaskedMLP):
                    weight, bias = layers[-1].parameters()
                    weight.mul_(0.1)
                    bias.zero_()
        self.network = ConditionNetwork(dim + n_inputs, torch.zeros(2 * n_outcomes), hidden, seed=seed)

    def distribution(self, context: Tensor) -> Pushforward:
        loc, log_scale = self.network(context).chunk(2, dim=-1)
        return Rescaled(_FlowDistribution(self.flow(context), context), loc, log_scale.exp())

    def fit(
        self,
        theta: Tensor,
        outcome: Tensor,
        x: Tensor | None = None,
        training: Training = Training(steps=300, lr=1e-2, batch=256),
    ) -> FitReport:
        return super().fit(theta, outcome, x, training)
