"""Partial differential equations on a periodic grid as flows of an energy: Korteweg-de Vries and Cahn-Hilliard."""

from functools import partial

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from diffsim.fields.port_hamiltonian import GradientHamiltonian

__all__ = [
    "CahnHilliard",
    "KortewegDeVries",
    "central_difference",
    "sample_mixture",
    "sample_solitons",
    "second_difference",
]


def central_difference(n: int, spacing: float) -> Tensor:
    """The matrix of d/dx on a periodic grid, (u[i+1] - u[i-1]) / (2 spacing): antisymmetric, shape [n, n], float64."""
    eye = torch.eye(n, dtype=torch.float64)
    return (eye.roll(1, 1) - eye.roll(-1, 1)) / (2 * spacing)


def second_difference(n: int, spacing: float) -> Tensor:
    """The matrix of d2/dx2 on a periodic grid, three points wide: negative semi-definite, shape [n, n], float64."""
    eye = torch.eye(n, dtype=torch.float64)
    return (eye.roll(1, 1) + eye.roll(-1, 1) - 2 * eye) / spacing**2


def _check_grid(n: int, width: float) -> float:
    if n < 3 or not width > 0:
        raise ArgumentError(f"`n` must be at least 3 and `width` positive, got {n} and {width}.")
    return width / n


class KortewegDeVries(GradientHamiltonian):
    """Solitons on a ring, u_t = d/dx(-a u^2 / 2 + b u_xx), on n points; the state is u at the points, shape [..., n].

    The energy sum(-a u^3 / 6 - b (u_x)^2 / 2) dx, with the mean of the squares of forward and backward differences,
    and the mass sum(u) dx stay constant.

    Args:
        n: Points.
        width: Of the ring.
        a: Of the nonlinear term.
        b: Of the dispersion.

    Source: Matsubara, Ishikawa and Yaguchi, 2020, arXiv 1905.08604, section 4.2; Furihata, 1999, Journal of
        Computational Physics 156, 181.
    """

    def __init__(self, n: int = 50, width: float = 10.0, a: float = -6.0, b: float = 1.0) -> None:
        spacing = _check_grid(n, width)

        super().__init__(partial(_wave_energy, a, b, spacing), central_difference(n, spacing))
        self.spacing = spacing

    def total_energy(self, u: Tensor) -> Tensor:
        """The energy integrated over the ring, shape [..., n] -> [...]; `energy` is the sum over the points."""
        return self.energy(u) * self.spacing


class CahnHilliard(GradientHamiltonian):
    """A mixture that separates, u_t = d2/dx2(-u + u^3 - gamma u_xx), on n points of a ring; u in [-1, 1] or so.

    The energy sum((u^2 - 1)^2 / 4 + gamma (u_x)^2 / 2) dx never grows; the mass sum(u) dx stays constant.

    Args:
        n: Points.
        width: Of the ring.
        gamma: Of the surface energy.

    Source: Matsubara, Ishikawa and Yaguchi, 2020, arXiv 1905.08604, section 4.2; Furihata, 2001, Numerische
        Mathematik 87, 675.
    """

    def __init__(self, n: int = 50, width: float = 1.0, gamma: float = 5e-4) -> None:
        spacing = _check_grid(n, width)

        super().__init__(partial(_mixture_energy, gamma, spacing), dissipation=-second_difference(n, spacing))
        self.spacing = spacing

    def total_energy(self, u: Tensor) -> Tensor:
        """The energy integrated over the ring, shape [..., n] -> [...]; `energy` is the sum over the points."""
        return self.energy(u) * self.spacing


def _wave_energy(a: float, b: float, spacing: float, u: Tensor) -> Tensor:
    # The squares of forward and of backward differences have the same sum on a ring.
    slope = (u.roll(-1, -1) - u) / spacing
    return (-a / 6 * u**3 - b / 2 * slope.square()).sum(-1)


def _mixture_energy(gamma: float, spacing: float, u: Tensor) -> Tensor:
    slope = (u.roll(-1, -1) - u) / spacing
    return ((u.square() - 1).square() / 4 + gamma / 2 * slope.square()).sum(-1)


def sample_solitons(count: int, n: int = 50, width: float = 10.0, *, seed: int = 0) -> Tensor:
    """Pairs of solitons, sum of 2 k^2 sech^2(k (x - place)), mirrored with probability 1/2; [count, n], float64.

    Source: Matsubara, Ishikawa and Yaguchi, 2020, arXiv 1905.08604, appendix, and its code.
    """
    generator = torch.Generator().manual_seed(seed)
    k = 0.5 + 1.5 * torch.rand(count, 2, 1, generator=generator, dtype=torch.float64)
    place = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    first = 0.2 + 0.1 * place[:, :1]
    centre = width * torch.cat([first, first + 0.2 + 0.3 * place[:, 1:]], dim=1)[..., None]
    x = torch.linspace(0, width, n + 1, dtype=torch.float64)[:-1]
    u = (2 * k.square() / torch.cosh(k * (x - centre)).square()).sum(1)
    mirrored = torch.rand(count, 1, generator=generator, dtype=torch.float64) < 0.5
    return torch.where(mirrored, u.flip(-1), u)


def sample_mixture(count: int, n: int = 50, *, seed: int = 0) -> Tensor:
    """Nearly even mixtures, (U(0, 1) - 1/2) / 10 at each point, shape [count, n], float64.

    Source: Matsubara, Ishikawa and Yaguchi, 2020, arXiv 1905.08604, appendix, and its code.
    """
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(count, n, generator=generator, dtype=torch.float64) - 0.5) * 0.1
