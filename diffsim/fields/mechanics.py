"""Mechanical energies T + V with a mass matrix: what `PortHamiltonian` and `LagrangianField` are given to learn."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError
from diffsim.fields.hamiltonian import Hamiltonian, split_state
from diffsim.fields.matrices import Matrix, MatrixOf
from diffsim.fields.scalar import scalar

__all__ = ["MechanicalHamiltonian", "MechanicalLagrangian", "ParticleMasses"]


class MechanicalHamiltonian(Hamiltonian):
    """H(q, p) = p M(q)^-1 p / 2 + V(q), the energy of SymODEN; with inputs it goes into a `PortHamiltonian`.

    Args:
        inverse_mass: M^-1, shape [k, k], or a function of positions [..., k] -> [..., k, k] (`PositiveMatrix`).
        potential: V, a function (a network) of positions, [..., k] -> [..., 1] or [...].

    Source: Zhong, Dey and Chakraborty, 2020, arXiv 1909.12077, equation 8.
    """

    def __init__(self, inverse_mass: Matrix, potential: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inverse_mass = MatrixOf(inverse_mass, "inverse_mass")
        self.function = potential

    def potential(self, q: Tensor) -> Tensor:
        """V(q), shape [..., k] -> [...]."""
        return scalar(self.function, q, "potential")

    def velocity(self, y: Tensor) -> Tensor:
        """dq/dt = M(q)^-1 p, shape [..., 2k] -> [..., k]."""
        q, p = split_state(y)
        return (self.inverse_mass(q) @ p[..., None])[..., 0]

    def energy(self, y: Tensor) -> Tensor:
        q, p = split_state(y)
        return (self.velocity(y) * p).sum(-1) / 2 + self.potential(q)


class MechanicalLagrangian(nn.Module):
    """L(q, v) = v M(q) v / 2 - V(q), the deep Lagrangian network; it goes into a `LagrangianField`.

    Args:
        mass: M, shape [k, k], or a function of positions [..., k] -> [..., k, k] (`PositiveMatrix` with a floor).
        potential: V, a function (a network) of positions, [..., k] -> [..., 1] or [...].

    Source: Lutter, Ritter and Peters, 2019, arXiv 1907.04490, equation 4.
    """

    def __init__(self, mass: Matrix, potential: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.mass = MatrixOf(mass, "mass")
        self.function = potential

    def potential(self, q: Tensor) -> Tensor:
        """V(q), shape [..., k] -> [...]."""
        return scalar(self.function, q, "potential")

    def forward(self, y: Tensor) -> Tensor:
        """L(q, v), shape [..., 2k] -> [...]."""
        q, v = split_state(y)
        return (v * (self.mass(q) @ v[..., None])[..., 0]).sum(-1) / 2 - self.potential(q)


class ParticleMasses(nn.Module):
    """The mass matrix of particles, one learned or given mass for all coordinates of each; or its inverse.

    Args:
        masses: Positive, shape [n]; the start where they are learned.
        dimension: Of the space.
        inverse: Whether the matrix holds 1 / m.
        learn: Whether the logarithms of the masses are parameters.

    Raises:
        ArgumentError: A mass is not positive.

    Example:
        >>> ParticleMasses([1.0, 2.0], inverse=True, learn=False)(torch.zeros(4)).diagonal()
        tensor([1.0000, 1.0000, 0.5000, 0.5000])
    """

    log_masses: Tensor

    def __init__(
        self, masses: Sequence[float] | Tensor, dimension: int = 2, *, inverse: bool = False, learn: bool = True
    ) -> None:
        super().__init__()
        value = torch.as_tensor(masses, dtype=torch.float64)
        if value.ndim != 1 or not bool((value > 0).all()):
            raise ArgumentError(f"`masses` must be positive numbers of shape [n], got {value.tolist()}.")
        if learn:
            self.log_masses = nn.Parameter(value.log().to(torch.get_default_dtype()))
        else:
            self.register_buffer("log_masses", value.log())
        self.dimension = dimension
        self.sign = -1 if inverse else 1

    @property
    def masses(self) -> Tensor:
        """The masses, shape [n]."""
        return self.log_masses.exp()

    def forward(self, q: Tensor) -> Tensor:
        """The diagonal matrix, [..., n dimension] -> [n dimension, n dimension]."""
        return torch.diag((self.sign * self.log_masses.to(q)).exp().repeat_interleave(self.dimension))
