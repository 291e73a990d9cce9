"""The Rosenbrock problem under heavy noise that depends on an input: ten parameters, or a subspace of a hundred."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from surrogates.simulator import Cost

__all__ = ["Rosenbrock10", "Rosenbrock100"]


def _valley(p: Tensor) -> Tensor:
    """G = sum_i (p_{i+1} - p_i^2)^2 + (1 - p_i)^2, without the usual factor 100, [..., d] -> [...]."""
    left, right = p[..., :-1], p[..., 1:]
    return ((right - left**2) ** 2 + (1 - left) ** 2).sum(-1)


def _inputs(n: int, generator: torch.Generator) -> Tensor:
    return 20 * torch.rand(n, 1, dtype=torch.float64, generator=generator, device=generator.device) - 10


def _outcome(p: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(len(p), 2, dtype=p.dtype, device=p.device, generator=generator)
    z = x[:, 0] + noise[:, 0]
    return (z + _valley(p) + (0.1 + 0.5 * z.abs()) * noise[:, 1])[:, None]


@dataclass(frozen=True, slots=True)
class Rosenbrock10:
    """The Rosenbrock problem, d = 10: y ~ N(z + G(theta), .1 + .5 |z|), z ~ N(x, 1), x ~ U(-10, 10); G is minimised.

    G = sum_i (theta_{i+1} - theta_i^2)^2 + (1 - theta_i)^2, whose minimum 0 lies at ones.

    Args:
        cost: What a simulation costs.

    Source: Shirobokov et al., 2020, arXiv 2002.04632, section 4.1.

    Example:
        >>> Rosenbrock10().exact(torch.full((10,), 2.0)).item()
        45.0
    """

    cost: Cost = Cost()
    start: ClassVar[tuple[float, ...]] = (2.0,) * 10
    minimum: ClassVar[float] = 0.0
    needs_inputs: ClassVar[bool] = False

    @property
    def space_bounds(self) -> dict[str, tuple[float, float]]:
        return {f"theta_{i}": (-5.0, 5.0) for i in range(10)}

    def inputs(self, n: int, generator: torch.Generator) -> Tensor:
        return _inputs(n, generator)

    def __call__(self, theta: Tensor, x: Tensor, generator: torch.Generator, /) -> Tensor:
        return _outcome(theta, x, generator)

    def objective(self, y: Tensor, x: Tensor | None = None) -> Tensor:
        return y.squeeze(-1)

    def exact(self, theta: Tensor) -> Tensor:
        return _valley(theta)


@functools.cache
def _mixing() -> Tensor:
    """The fixed matrix M [100, 10], with orthonormal columns."""
    return torch.from_numpy(np.linalg.qr(np.random.RandomState(1337).randn(100, 10)).Q)


@dataclass(frozen=True, slots=True)
class Rosenbrock100:
    """The Rosenbrock problem of p = theta M, d = 100, with a fixed M [100, 10]; see `Rosenbrock10`.

    Args:
        cost: What a simulation costs.

    Source: Shirobokov et al., 2020, arXiv 2002.04632, section 4.1.

    Example:
        >>> Rosenbrock100().exact(torch.zeros(100)).item()
        9.0
    """

    cost: Cost = Cost()
    start: ClassVar[tuple[float, ...]] = (0.0,) * 100
    minimum: ClassVar[float] = 0.0
    needs_inputs: ClassVar[bool] = False

    @property
    def space_bounds(self) -> dict[str, tuple[float, float]]:
        return {f"theta_{i}": (-5.0, 5.0) for i in range(100)}

    def inputs(self, n: int, generator: torch.Generator) -> Tensor:
        return _inputs(n, generator)

    def __call__(self, theta: Tensor, x: Tensor, generator: torch.Generator, /) -> Tensor:
        return _outcome(theta @ _mixing().to(theta), x, generator)

    def objective(self, y: Tensor, x: Tensor | None = None) -> Tensor:
        return y.squeeze(-1)

    def exact(self, theta: Tensor) -> Tensor:
        return _valley(theta @ _mixing().to(theta))
