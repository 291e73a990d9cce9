"""Many masses on springs: a chain between two walls, and particles that all pull at each other."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from diffsim.fields.hamiltonian import Separable
from diffsim.systems.constants import check_size, match, register_positive

__all__ = ["ParticleSprings", "SpringChain", "sample_particle_springs", "sample_spring_chain"]


class SpringChain(Separable):
    """N masses on a line between two walls, H = sum p_i^2 / (2 m_i) + sum_{i=0..N} k_i (q_{i+1} - q_i)^2 / 2.

    q_i is the displacement [m] of mass i from its place; q_0 = q_{N+1} = 0 are the walls. The state is (q, p).

    Args:
        masses: kg, shape [N].
        stiffness: Of the springs, from wall to wall, N/m, shape [N + 1].

    Raises:
        ArgumentError: A constant is not positive, or there is not one spring more than masses.

    Source: Chen, Zhang, Arjovsky and Bottou, 2020, arXiv 1909.13334, section 5.1.

    Example:
        >>> SpringChain([1.0, 1.0], [1.0, 2.0, 1.0]).force(torch.tensor([1.0, 0.0]))
        tensor([-3.,  2.])
    """

    masses: Tensor
    stiffness: Tensor

    def __init__(self, masses: Sequence[float] | Tensor, stiffness: Sequence[float] | Tensor) -> None:
        super().__init__()
        register_positive(self, masses=masses, stiffness=stiffness)
        if self.masses.ndim == 0 or self.stiffness.shape[-1:] != (self.masses.shape[-1] + 1,):
            raise ArgumentError(
                f"`stiffness` must have one spring more than there are masses, got shapes "
                f"{list(self.stiffness.shape)} and {list(self.masses.shape)}."
            )

    def _stretch(self, q: Tensor) -> Tensor:
        check_size(q, self.masses.shape[-1], "displacements (first half of the state)")
        wall = torch.zeros_like(q[..., :1])
        return torch.cat([wall, q, wall], dim=-1).diff(dim=-1)

    def kinetic(self, p: Tensor) -> Tensor:
        return (self.velocity(p) * p).sum(-1) / 2

    def potential(self, q: Tensor) -> Tensor:
        stretch = self._stretch(q)
        (stiffness,) = match(stretch, stiffness=self.stiffness)
        return (stiffness * stretch.square()).sum(-1) / 2

    def velocity(self, p: Tensor) -> Tensor:
        check_size(p, self.masses.shape[-1], "momenta (second half of the state)")
        (masses,) = match(p, masses=self.masses)
        return p / masses

    def force(self, q: Tensor) -> Tensor:
        stretch = self._stretch(q)
        (stiffness,) = match(stretch, stiffness=self.stiffness)
        return (stiffness * stretch).diff(dim=-1)


def sample_spring_chain(n: int, masses: int = 20, *, seed: int = 0) -> tuple[SpringChain, Tensor]:
    """A chain with random constants and n initial states, [n, 2 masses]; the first and last mass start at rest.

    Source: Chen, Zhang, Arjovsky and Bottou, 2020, arXiv 1909.13334, section 5.1, and its code.
    """
    if n < 1 or masses < 3:
        raise ArgumentError(f"`n` must be at least 1 and `masses` at least 3, got {n} and {masses}.")
    generator = torch.Generator().manual_seed(seed)

    def positive(size: int) -> Tensor:
        return (1 + torch.randn(size, generator=generator, dtype=torch.float64) / 4).clamp(min=0.2)

    chain = SpringChain(positive(masses), 5 * positive(masses + 1))
    y0 = 5 * torch.rand(n, 2, masses, generator=generator, dtype=torch.float64) - 2.5
    y0[..., [0, -1]] = 0
    return chain, y0.flatten(1)


class ParticleSprings(Separable):
    """Particles that all pull at each other, H = sum p_i^2 / (2 m_i) + sum_{i != j} k_i k_j |q_i - q_j|^2 / 2.

    The sum runs over ordered pairs. The state is (q, p), particle after particle, as in `NBody`.

    Args:
        masses: kg, shape [N], or [n, N] for one row a state.
        stiffness: k_i of each particle, sqrt(N/m), shape [N] or [n, N].
        dimension: Of the space.

    Raises:
        ArgumentError: A constant is not positive, or the shapes differ.

    Source: Finzi, Stanton, Izmailov and Wilson, 2020, arXiv 2002.12880, section 6.
    """

    masses: Tensor
    stiffness: Tensor

    def __init__(
        self, masses: Sequence[float] | Tensor, stiffness: Sequence[float] | Tensor, dimension: int = 2
    ) -> None:
        super().__init__()
        register_positive(self, masses=masses, stiffness=stiffness)
        if self.masses.shape != self.stiffness.shape or self.masses.ndim == 0:
            raise ArgumentError(
                f"`masses` and `stiffness` must have the same shape [N] or [n, N], got {list(self.masses.shape)} and "
                f"{list(self.stiffness.shape)}."
            )
        if dimension < 1:
            raise ArgumentError(f"`dimension` must be at least 1, got {dimension}.")
        self.dimension = dimension

    def _particles(self, x: Tensor) -> Tensor:
        check_size(x, self.masses.shape[-1] * self.dimension, f"half of the state of {self.masses.shape[-1]} particles")
        return x.unflatten(-1, (-1, self.dimension))

    def kinetic(self, p: Tensor) -> Tensor:
        return (self.velocity(p) * p).sum(-1) / 2

    def potential(self, q: Tensor) -> Tensor:
        return -(self.force(q) * q).sum(-1) / 2

    def velocity(self, p: Tensor) -> Tensor:
        particles = self._particles(p)
        (masses,) = match(particles[..., 0], masses=self.masses)
        return (particles / masses[..., None]).flatten(-2)

    def force(self, q: Tensor) -> Tensor:
        particles = self._particles(q)
        (k,) = match(particles[..., 0], stiffness=self.stiffness)
        total = k.sum(-1, keepdim=True)[..., None] * particles
        return -2 * (k[..., None] * (total - (k[..., None] * particles).sum(-2, keepdim=True))).flatten(-2)


def sample_particle_springs(n: int, particles: int = 6, *, seed: int = 0) -> tuple[ParticleSprings, Tensor]:
    """Systems, each with its own constants, and one initial state of each, [n, 4 particles] in the plane.

    Source: Finzi, Stanton, Izmailov and Wilson, 2020, arXiv 2002.12880, section 6, and its code.
    """
    if n < 1 or particles < 2:
        raise ArgumentError(f"`n` must be at least 1 and `particles` at least 2, got {n} and {particles}.")
    generator = torch.Generator().manual_seed(seed)

    def uniform() -> Tensor:
        return torch.rand(n, particles, generator=generator, dtype=torch.float64)

    masses, stiffness = 0.1 + 3 * uniform(), 5 * uniform().clamp(min=1e-6)
    q = 0.4 * torch.randn(n, particles, 2, generator=generator, dtype=torch.float64)
    p = 0.6 * torch.randn(n, particles, 2, generator=generator, dtype=torch.float64)
    p = p - p.mean((0, 1), keepdim=True)
    return ParticleSprings(masses, stiffness), torch.cat([q.flatten(1), p.flatten(1)], dim=-1)
