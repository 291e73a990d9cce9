"""Neural vector fields: the neural ODE, and the multi-layer perceptron that most learned fields are built from."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError
from diffsim.fields.base import VectorField

__all__ = ["NeuralField", "mlp"]


def mlp(
    n_in: int,
    n_out: int,
    hidden: Sequence[int] = (200, 200),
    activation: Callable[[], nn.Module] = nn.Tanh,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> nn.Sequential:
    """A multi-layer perceptron with orthogonal weights and no bias on the last layer, as in the HNN paper.

    Args:
        n_in: Number of inputs.
        n_out: Number of outputs.
        hidden: Width of each hidden layer.
        activation: Makes the non-linearity; it must be smooth where the network is an energy.
        seed: Of the initial weights; equal seeds give equal networks, whatever was drawn before.
        dtype: Of the weights.

    Raises:
        ArgumentError: A width is below one.

    Source: Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563, appendix A.
    """
    widths = [n_in, *hidden, n_out]
    if min(widths) < 1:
        raise ArgumentError(f"`n_in`, `n_out` and `hidden` must be at least 1, got {widths}.")
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        last = i == len(widths) - 2
        layer = cast(nn.Linear, nn.utils.skip_init(nn.Linear, a, b, bias=not last, dtype=dtype))
        nn.init.orthogonal_(layer.weight, generator=generator)
        if not last:
            bound = 1 / math.sqrt(a)
            nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        layers += [layer] if last else [layer, activation()]
    return nn.Sequential(*layers)


class NeuralField(VectorField):
    """A neural ordinary differential equation, dy/dt = net(y), or net(t, y) if `time` is set.

    Args:
        net: Maps [..., d] (with `time`: [..., 1 + d], time first) to [..., d].
        time: Whether the field depends on time.

    Source: Chen, Rubanova, Bettencourt and Duvenaud, 2018, arXiv 1806.07366, equation 2.
    """

    def __init__(self, net: nn.Module, *, time: bool = False) -> None:
        super().__init__()
        self.net = net
        self.time = time

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        if not self.time:
            return self.net(y)
        return self.net(torch.cat([t.to(y).expand(*y.shape[:-1], 1), y], dim=-1))
