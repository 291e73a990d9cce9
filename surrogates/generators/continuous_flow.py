"""A conditional continuous normalizing flow: normal noise, carried along a learned vector field for unit time."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError
from diffsim.fields.base import VectorField
from diffsim.fields.neural import mlp
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver
from diffsim.training.report import FitReport
from diffsim.training.settings import Training
from surrogates.generators.neural import NeuralSurrogate
from surrogates.generators.pushforward import Pushforward

__all__ = ["ContinuousFlow"]


class _Drift(VectorField):
    """A field of outcomes at given conditions, and the rate of their log-density: states are (y, log p)."""

    context: Tensor

    def __init__(self, network: nn.Sequential, context: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("context", context)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        outcome = y[..., :-1]
        m = outcome.shape[-1]
        time = t.to(y).expand(*y.shape[:-1], 1)
        value = torch.cat([outcome, time, self.context.expand(*y.shape[:-1], -1)], dim=-1)
        # The Jacobian in the outcome goes through the layers beside the value: with few outcomes it is exact and cheap.
        jacobian: Tensor | None = None
        for layer in self.network:
            value = layer(value)
            if isinstance(layer, nn.Linear):
                jacobian = layer.weight[:, :m].T if jacobian is None else jacobian @ layer.weight.T
            elif jacobian is not None:
                jacobian = jacobian * (1 - value.square())[..., None, :]
        assert jacobian is not None
        return torch.cat([value, -jacobian.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)], dim=-1)


class _ContinuousDistribution(Pushforward):
    """The flow at given conditions, shape [..., d + k]."""

    def __init__(self, network: nn.Sequential, context: Tensor, n_outcomes: int, solver: Solver) -> None:
        super().__init__(n_outcomes, context.shape[:-1], n_outcomes, context)
        self.drift, self.solver = _Drift(network, context), solver

    def push(self, noise: Tensor) -> Tensor:
        return self._carry(noise.expand(len(noise), *self.batch_shape, self.n_noise), 0.0, 1.0)[..., :-1]

    def log_prob(self, value: Tensor) -> Tensor:
        value = value.expand(*torch.broadcast_shapes(value.shape[:-1], self.batch_shape), value.shape[-1])
        arrived = self._carry(value, 1.0, 0.0)
        base = torch.distributions.Normal(0.0, 1.0, validate_args=False).log_prob(arrived[..., :-1]).sum(-1)
        return base - arrived[..., -1]

    def _carry(self, outcome: Tensor, start: float, end: float) -> Tensor:
        states = torch.cat([outcome, torch.zeros_like(outcome[..., :1])], dim=-1)
        times = torch.tensor([start, end], dtype=states.dtype, device=states.device)
        return odeint(self.drift, states, times, self.solver)[-1]


class ContinuousFlow(NeuralSurrogate):
    """FFJORD with a condition: one block, whose field depends on time, theta and x; the divergence is exact.

    It needs one solve for a draw, and one for a density. For few outcomes: the cost of the divergence is linear in m.

    Args:
        dim: Number d of parameters.
        n_outcomes: Number m of outcomes.
        n_inputs: Number k of observed random inputs.
        hidden: Width of each hidden layer.
        solver: Solves from time 0 to 1; RK4 in steps of 1/4 by default.
        precision: Of the normal prior of the weights: a larger one gives a smoother surrogate.
        seed: Of the initial weights.

    Raises:
        ArgumentError: `hidden` is empty.

    Source: Grathwohl, Chen, Bettencourt, Sutskever and Duvenaud, 2018, arXiv 1810.01367, equations 3 to 5.

    Example:
        >>> ContinuousFlow(2)(torch.zeros(5, 2)).log_prob(torch.zeros(5, 1)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        dim: int,
        n_outcomes: int = 1,
        n_inputs: int = 0,
        *,
        hidden: Sequence[int] = (32, 32),
        solver: Solver = Solver("rk4", step=0.25, gradient="backprop"),
        precision: float = 10.0,
        seed: int = 0,
    ) -> None:
        super().__init__(dim, n_outcomes, n_inputs, precision=precision)
        if not hidden:
            raise ArgumentError("`hidden` must name at least one layer, got none. Pass (32, 32).")
        self.solver = solver
        self.network = mlp(n_outcomes + 1 + dim + n_inputs, n_outcomes, hidden, seed=seed)
        with torch.no_grad():
            self.network[-1].get_parameter("weight").mul_(0.1)

    def distribution(self, context: Tensor) -> Pushforward:
        return _ContinuousDistribution(self.network, context, self.n_outcomes, self.solver)

    def fit(
        self,
        theta: Tensor,
        outcome: Tensor,
        x: Tensor | None = None,
        training: Training = Training(steps=200, lr=2e-2, batch=256),
    ) -> FitReport:
        return super().fit(theta, outcome, x, training)
