"""A potential from one noisy run: multiple shooting by Gauss-Newton, its harmonics weighed by automatic relevance."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffsim import SeparableHamiltonian
from diffsim.integrate.sensitivity import runge_kutta

__all__ = ["Basis", "Harmonics", "Kinetic", "Powers", "fit_potential"]

_GAPS = (1.0, 0.3, 0.1, 0.03, 0.01)  # standard deviations of the jumps between stretches, one after the other
_FEW = 12


class Kinetic(nn.Module):
    """p^2 / 2."""

    def forward(self, p: Tensor) -> Tensor:
        return p.square().sum(-1, keepdim=True) / 2


class Basis(nn.Module, ABC):
    """A potential of one coordinate, linear in its weights [m]."""

    weights: Tensor

    def __init__(self, m: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.zeros(m, dtype=torch.float64))

    @abstractmethod
    def features(self, q: Tensor) -> Tensor:
        """[..., 1] -> [..., m]."""

    @abstractmethod
    def slopes(self, q: Tensor) -> Tensor:
        """The features' derivatives, [..., 1] -> [..., m]."""

    def forward(self, q: Tensor) -> Tensor:
        return (self.features(q) @ self.weights)[..., None]


class Harmonics(Basis):
    """A potential of an angle: cosines of its first multiples, and sines unless both sides are alike."""

    def __init__(self, n: int, *, symmetric: bool = False) -> None:
        super().__init__(n if symmetric else 2 * n)
        self.symmetric = symmetric
        self.register_buffer("multiple", torch.arange(1.0, n + 1, dtype=torch.float64))

    def features(self, q: Tensor) -> Tensor:
        angle = q * self.get_buffer("multiple")
        return angle.cos() if self.symmetric else torch.cat([angle.cos(), angle.sin()], dim=-1)

    def slopes(self, q: Tensor) -> Tensor:
        k = self.get_buffer("multiple")
        even = -k * (q * k).sin()
        return even if self.symmetric else torch.cat([even, k * (q * k).cos()], dim=-1)


class Powers(Basis):
    """A potential of a displacement: a polynomial of a given degree."""

    def __init__(self, degree: int) -> None:
        super().__init__(degree)
        self.register_buffer("power", torch.arange(1.0, degree + 1, dtype=torch.float64))

    def features(self, q: Tensor) -> Tensor:
        return q ** self.get_buffer("power")

    def slopes(self, q: Tensor) -> Tensor:
        k = self.get_buffer("power")
        return k * q ** (k - 1)


def fit_potential(potential: Basis, t: Tensor, y: Tensor, length: int = 5) -> tuple[SeparableHamiltonian, float]:
    """The most probable potential V and path of d2q/dt2 = -V'(q), given noisy states of a run of one particle.

    The run is cut into stretches with unknown first states; jumps between them are allowed at first, and less and
    less. Each weight has a normal prior of its own width, and the noise is unknown: both by the evidence.

    Args:
        potential: Gets the weights.
        t: Times, evenly spaced, shape [T], T a multiple of `length`.
        y: Noisy (q, v), shape [T, 2].
        length: Samples in a stretch.

    Returns:
        The field, and the standard deviation of the noise.

    Source: Bock, 1983 (multiple shooting); MacKay, 1994, "Bayesian methods for backpropagation networks" (relevance).
    """
    m = len(potential.weights)
    observed = y.unflatten(0, (-1, length))  # [s, L, 2]
    span = t[: length + 1]
    values = torch.cat([torch.zeros(m, dtype=y.dtype), observed[:, 0].flatten()])
    width = torch.full((m,), 10.0, dtype=y.dtype)
    noise = torch.as_tensor(0.5 * float(y.std()), dtype=y.dtype)

    def errors(x: Tensor) -> tuple[Tensor, Tensor]:
        """Of the samples, and the jumps."""
        weights, start = x[:m], x[m:].unflatten(0, (-1, 2))

        def rate(state: Tensor) -> Tensor:
            q, v = state.chunk(2, dim=-1)
            return torch.cat([v, -(potential.slopes(q) @ weights)[..., None]], dim=-1)

        run = runge_kutta(rate, start, span, float(span[1]))
        return (run[:, :-1] - observed).flatten(), (run[:-1, -1] - start[1:]).flatten()

    def residuals(x: Tensor, gap: float) -> Tensor:
        samples, jumps = errors(x)
        return torch.cat([samples / noise, jumps / gap, x[:m] / width])

    for gap in _GAPS:
        for _ in range(_FEW if gap != _GAPS[-1] else 3 * _FEW):
            values, covariance = _gauss_newton(residuals, values, gap)
            weights, variance = values[:m], covariance.diagonal()[:m]
            width = (weights.square() + variance).sqrt().clamp(1e-4, 1e2)
            samples, _ = errors(values)
            determined = (1 - variance / width.square()).sum() + 2  # weights that the data determine, and the start
            noise = (samples.square().sum() / (samples.numel() - determined)).sqrt()
    potential.weights = values[:m]
    return SeparableHamiltonian(Kinetic(), potential), float(noise)


def _gauss_newton(residuals: Callable[[Tensor, float], Tensor], values: Tensor, gap: float) -> tuple[Tensor, Tensor]:
    """One damped step, and the covariance of the linearised posterior."""
    here = residuals(values, gap)
    slopes = torch.func.jacfwd(residuals)(values, gap)
    precision, target = slopes.mT @ slopes, slopes.mT @ here
    for damping in (0.0, 1e-3, 1e-2, 1e-1, 1.0, 10.0):
        trial = values - torch.linalg.solve(precision + damping * torch.diag(precision.diagonal()), target)
        if bool(residuals(trial, gap).square().sum() < here.square().sum()):
            return trial, torch.linalg.inv(precision)
    return values, torch.linalg.inv(precision)
