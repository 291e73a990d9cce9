"""Free particles: the kinetic energy alone, as the known part of a system whose potential is to be learned."""

import torch
from torch import Tensor

from diffsim.fields.hamiltonian import Separable
from diffsim.systems.constants import Constant, match, register_positive

__all__ = ["FreeParticle"]


class FreeParticle(Separable):
    """Free particles, H = p^2 / (2 mass); the state is (q [m], p [kg m/s]), of any even dimension.

    Args:
        mass: kg.

    Raises:
        ArgumentError: The mass is not positive.

    Source: Goldstein, Poole and Safko, 2002, "Classical mechanics", section 8.1.
    """

    mass: Tensor

    def __init__(self, mass: Constant = 1.0) -> None:
        super().__init__()
        register_positive(self, mass=mass)

    def kinetic(self, p: Tensor) -> Tensor:
        return (self.velocity(p) * p / 2).sum(-1)

    def potential(self, q: Tensor) -> Tensor:
        return torch.zeros_like(q[..., 0])

    def velocity(self, p: Tensor) -> Tensor:
        (mass,) = match(p, mass=self.mass)
        return p / mass

    def force(self, q: Tensor) -> Tensor:
        return torch.zeros_like(q)

    def energy_hessian(self, y: Tensor) -> Tensor:
        q, p = y.chunk(2, dim=-1)
        return torch.diag_embed(torch.cat([torch.zeros_like(q), self.velocity(torch.ones_like(p))], dim=-1))
