"""The three-hump problem, in two dimensions and on a curved two-dimensional surface in forty."""

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from surrogates.simulator import Cost

__all__ = ["Hump2", "Hump40"]

RANGES = ((-2.0, 2.0), (0.0, 5.0))  # of x1 and x2


def _height(p: Tensor) -> Tensor:
    """The three-hump camel function, [..., 2] -> [...]."""
    a, b = p.unbind(-1)
    return 2 * a**2 - 1.05 * a**4 + a**6 / 6 + a * b + b**2


def _chances(p: Tensor) -> Tensor:
    """The chances of the two branches, |p_i| / sum |p|, one half at zero, [..., 2] -> [..., 2]."""
    weight = p.abs() + torch.finfo(p.dtype).tiny
    return weight / weight.sum(-1, keepdim=True)


def _inputs(n: int, generator: torch.Generator) -> Tensor:
    low, high = torch.tensor(RANGES, dtype=torch.float64, device=generator.device).T
    unit = torch.rand(n, 2, dtype=torch.float64, generator=generator, device=generator.device)
    return low + (high - low) * unit


def _outcome(p: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(len(p), 3, dtype=p.dtype, device=p.device, generator=generator)
    unit = torch.rand(len(p), dtype=p.dtype, device=p.device, generator=generator)
    mean = x * _height(p)[:, None] + noise[:, :2]
    branch = torch.where(unit < _chances(p)[:, 0], mean[:, 0], mean[:, 1])
    return (branch + noise[:, 2])[:, None]


def _objective(y: Tensor) -> Tensor:
    return (torch.sigmoid(y - 10) - torch.sigmoid(y)).squeeze(-1)


def _integral(y: Tensor) -> Tensor:
    """An antiderivative of the objective in y."""
    return torch.nn.functional.softplus(y - 10) - torch.nn.functional.softplus(y)


def _exact(p: Tensor) -> Tensor:
    """The expected objective: Gauss-Hermite in the noise, and in x a closed form or, for flat humps, Gauss-Legendre."""
    points, weights = (torch.from_numpy(part).to(p) for part in np.polynomial.hermite_e.hermegauss(40))
    noise, weights = math.sqrt(2) * points, weights / math.sqrt(2 * math.pi)
    unit, share = (torch.from_numpy(part).to(p) for part in np.polynomial.legendre.leggauss(20))
    height = _height(p)[..., None]
    flat = height.abs() < 1
    steep, low_height = height.where(~flat, torch.ones_like(height)), height.where(flat, torch.zeros_like(height))
    means: list[Tensor] = []
    for low, high in RANGES:
        closed = (_integral(high * steep + noise) - _integral(low * steep + noise)) / (steep * (high - low))
        x = (low + high) / 2 + (high - low) / 2 * unit[:, None]
        summed = (_objective((low_height[..., None] * x + noise)[..., None]) * share[:, None] / 2).sum(-2)
        means.append((torch.where(flat, summed, closed) * weights).sum(-1))
    return (_chances(p) * torch.stack(means, -1)).sum(-1)


@dataclass(frozen=True, slots=True)
class Hump2:
    """The three-hump problem, d = 2: y ~ N(mu_i, 1), mu_i ~ N(x_i h(theta), 1), branch i with chance |theta_i| / sum.

    h is the three-hump camel function, x1 ~ U(-2, 2), x2 ~ U(0, 5), and the objective sigmoid(y - 10) - sigmoid(y) is
    smallest where y lies between 0 and 10. The minimum is a cusp at (0, +-1.2323).

    Args:
        cost: What a simulation costs.

    Source: Shirobokov et al., 2020, arXiv 2002.04632, section 4.1; the exact objective is ours.

    Example:
        >>> round(Hump2().exact(torch.tensor([2.0, 0.0])).item(), 4)
        -0.4993
    """

    cost: Cost = Cost()
    start: ClassVar[tuple[float, ...]] = (2.0, 0.0)
    minimum: ClassVar[float] = -0.8582085
    needs_inputs: ClassVar[bool] = False

    @property
    def space_bounds(self) -> dict[str, tuple[float, float]]:
        return {"a": (-5.0, 5.0), "b": (-5.0, 5.0)}

    def inputs(self, n: int, generator: torch.Generator) -> Tensor:
        return _inputs(n, generator)

    def __call__(self, theta: Tensor, x: Tensor, generator: torch.Generator, /) -> Tensor:
        return _outcome(theta, x, generator)

    def objective(self, y: Tensor, x: Tensor | None = None) -> Tensor:
        return _objective(y)

    def exact(self, theta: Tensor) -> Tensor:
        return _exact(theta)


@functools.cache
def _mixing() -> tuple[Tensor, Tensor]:
    """The fixed matrices A [40, 16] and B [16, 2], with orthonormal columns."""
    random = np.random.RandomState(1337)
    return tuple(torch.from_numpy(np.linalg.qr(random.randn(*shape)).Q) for shape in ((40, 16), (16, 2)))  # pyright: ignore[reportReturnType]


def _surface(theta: Tensor) -> Tensor:
    inner, outer = (matrix.to(theta) for matrix in _mixing())
    return torch.tanh(theta @ inner) @ outer


@dataclass(frozen=True, slots=True)
class Hump40:
    """The three-hump problem at p = B^T tanh(A^T theta), d = 40, with fixed A [40, 16] and B [16, 2]; see `Hump2`.

    Args:
        cost: What a simulation costs.

    Source: Shirobokov et al., 2020, arXiv 2002.04632, section 4.1; the exact objective is ours.

    Example:
        >>> round(Hump40().exact(torch.tensor(Hump40.start)).item(), 4)
        -0.5198
    """

    cost: Cost = Cost()
    start: ClassVar[tuple[float, ...]] = (2.0, *[0.0] * 39)
    minimum: ClassVar[float] = -0.8582085
    needs_inputs: ClassVar[bool] = False

    @property
    def space_bounds(self) -> dict[str, tuple[float, float]]:
        return {f"theta_{i}": (-5.0, 5.0) for i in range(40)}

    def inputs(self, n: int, generator: torch.Generator) -> Tensor:
        return _inputs(n, generator)

    def __call__(self, theta: Tensor, x: Tensor, generator: torch.Generator, /) -> Tensor:
        return _outcome(_surface(theta), x, generator)

    def objective(self, y: Tensor, x: Tensor | None = None) -> Tensor:
        return _objective(y)

    def exact(self, theta: Tensor) -> Tensor:
        return _exact(_surface(theta))
