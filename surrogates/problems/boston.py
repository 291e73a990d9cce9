"""The weights of a small neural network as parameters of a simulator: the Boston housing regression."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from surrogates.simulator import Cost

__all__ = ["Boston91"]

_FEATURES, _HIDDEN = 13, 6


@functools.cache
def _rows() -> Tensor:
    """The data, 13 features and the median value of homes in 1000 dollars, shape [506, 14]."""
    try:
        from mlxtend.data import boston_housing_data
    except ImportError as error:
        raise ImportError(
            "Boston91 needs the data of mlxtend. Install it with: pip install 'diffsim-studies[boston]'"
        ) from error
    features, value = boston_housing_data()
    return torch.from_numpy(np.column_stack([features, value]).astype(np.float64))


def _network(theta: Tensor, features: Tensor) -> Tensor:
    """The network 13 - 6 tanh - 1, its weights theta [..., 91], broadcast against features [..., 13] -> [...]."""
    inner, bias, outer, offset = theta.split([_HIDDEN * _FEATURES, _HIDDEN, _HIDDEN, 1], -1)
    hidden = torch.tanh((inner.unflatten(-1, (_HIDDEN, _FEATURES)) * features[..., None, :]).sum(-1) + bias)
    return (hidden * outer).sum(-1) + offset[..., 0]


@dataclass(frozen=True, slots=True)
class Boston91:
    """The Boston problem, d = 91: theta are the weights of a network 13 - 6 tanh - 1, whose squared error is minimised.

    theta = [W1 6 x 13 | b1 6 | W2 6 | b2 1]. x is a random row of the data, 13 unscaled features and the target;
    y is the network's answer, without noise; the exact objective is the mean squared error over the 506 rows.
    Its minimum is the least that descent from many starts found in the box, not a proven one.

    Args:
        cost: What a simulation costs.

    Source: Shirobokov et al., 2020, arXiv 2002.04632, section 4.1; data: Harrison and Rubinfeld, 1978.
    """

    cost: Cost = Cost()
    minimum: ClassVar[float] = 5.4288
    needs_inputs: ClassVar[bool] = True

    @property
    def start(self) -> tuple[float, ...]:
        """Weights drawn from U(0, .105), the last the mean target 22.5328: 91 numbers."""
        return (*np.random.RandomState(1337).uniform(0, 0.105, 90).tolist(), 22.5328)

    @property
    def space_bounds(self) -> dict[str, tuple[float, float]]:
        inner = [f"W1_{i}_{j}" for i in range(_HIDDEN) for j in range(_FEATURES)] + [f"b1_{i}" for i in range(_HIDDEN)]
        outer = [f"W2_{i}" for i in range(_HIDDEN)]
        return {**dict.fromkeys(inner, (-2.0, 2.0)), **dict.fromkeys(outer, (-10.0, 10.0)), "b2": (0.0, 45.0)}

    def inputs(self, n: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(_rows()), (n,), generator=generator, device=generator.device)
        return _rows().to(generator.device)[rows]

    def __call__(self, theta: Tensor, x: Tensor, generator: torch.Generator, /) -> Tensor:
        return _network(theta, x[:, :_FEATURES])[:, None]

    def objective(self, y: Tensor, x: Tensor | None) -> Tensor:
        if x is None:
            raise ArgumentError("The objective needs the inputs x, whose last column is the target. Pass x.")
        return (y.squeeze(-1) - x[..., -1]) ** 2

    def exact(self, theta: Tensor) -> Tensor:
        rows = _rows().to(theta)
        return ((_network(theta[..., None, :], rows[:, :_FEATURES]) - rows[:, -1]) ** 2).mean(-1)
