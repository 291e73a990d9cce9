"""Pendula hung from each other in Cartesian coordinates: rods as constraints, any number of bobs."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from diffsim.fields.constraints import Rods
from diffsim.fields.forces import Force
from diffsim.fields.mechanics import MechanicalHamiltonian, ParticleMasses
from diffsim.fields.port_hamiltonian import PortHamiltonian

__all__ = ["PendulumChain", "chain_rods", "from_angles", "random_pendulum_chain", "sample_pendulum_chain"]


def chain_rods(lengths: Sequence[float] | Tensor) -> Rods:
    """The rods of a chain hung from the origin of the plane: lengths [n] in m, top first."""
    n = len(lengths)
    pairs: list[tuple[int, int | Sequence[float]]] = [(0, (0.0, 0.0))]
    pairs += [(i, i - 1) for i in range(1, n)]
    return Rods(pairs, lengths, n)


class PendulumChain(PortHamiltonian):
    """n point masses hung from each other by massless rods, in Cartesian coordinates of the plane.

    The state is (x1, y1, ..., xn, yn, momenta likewise), in m and kg m/s, y upward, the top fixed at the origin.
    H = sum p_i^2 / (2 m_i) + m_i gravity y_i, with the rods as constraints.

    Args:
        masses: kg, shape [n], top first.
        lengths: m, shape [n].
        gravity: m/s^2.
        dissipation: Damping of each coordinate, kg/s.
        input: A force(t, q, v) on the Cartesian coordinates, N.
        tolerance: Largest violation of the constraints at the start of a run.

    Raises:
        ArgumentError: A mass or a length is not positive, or the counts differ.

    Source: Finzi, Wang and Wilson, 2020, arXiv 2010.13581, section 5.
    """

    def __init__(
        self,
        masses: Sequence[float] | Tensor = (1.0,),
        lengths: Sequence[float] | Tensor = (1.0,),
        gravity: float = 9.81,
        *,
        dissipation: float | None = None,
        input: Force | None = None,
        tolerance: float = 1e-3,
    ) -> None:
        if len(masses) != len(lengths):
            raise ArgumentError(f"`masses` and `lengths` must be as many, got {len(masses)} and {len(lengths)}.")
        inverse_mass = ParticleMasses(masses, inverse=True, learn=False)
        rods = chain_rods(lengths)

        super().__init__(
            MechanicalHamiltonian(inverse_mass, partial(_potential, inverse_mass, gravity)),
            dissipation=dissipation,
            input=input,
            constraints=rods,
            tolerance=tolerance,
        )
        self.rods = rods

    @property
    def masses(self) -> Tensor:
        """The masses, kg, shape [n]."""
        inverse_mass = self.hamiltonian.get_submodule("inverse_mass.function")
        assert isinstance(inverse_mass, ParticleMasses)
        return inverse_mass.masses

    def state(self, angles: Tensor, rates: Tensor) -> Tensor:
        """The Cartesian state of angles from hanging [rad] and their rates [rad/s], both [..., n] -> [..., 4n]."""
        x, v = from_angles(angles, rates, self.rods.lengths.to(angles))
        return torch.cat([x, v * self.masses.to(v).repeat_interleave(2)], dim=-1)

    def velocities(self, y: Tensor) -> Tensor:
        """States (x, p) as (x, v), [..., 4n] -> [..., 4n]."""
        x, p = y.chunk(2, dim=-1)
        return torch.cat([x, p / self.masses.to(p).repeat_interleave(2)], dim=-1)


def _potential(masses: ParticleMasses, gravity: float, q: Tensor) -> Tensor:
    return gravity * (masses.masses.to(q) * q[..., 1::2]).sum(-1)


def from_angles(angles: Tensor, rates: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Cartesian positions and velocities of the bobs of a chain, [..., n], [..., n], [n] -> two of [..., 2n]."""
    step = lengths[:, None] * torch.stack([angles.sin(), -angles.cos()], dim=-1)
    speed = lengths[:, None] * torch.stack([angles.cos(), angles.sin()], dim=-1) * rates[..., None]
    return step.cumsum(-2).flatten(-2), speed.cumsum(-2).flatten(-2)


def random_pendulum_chain(n: int, seed: int = 0) -> PendulumChain:
    """A chain of n bobs with masses and lengths uniform in (.6, 1.4).

    Source: Finzi, Wang and Wilson, 2020, arXiv 2010.13581, appendix, and its code.
    """
    generator = torch.Generator().manual_seed(seed)
    masses, lengths = 0.6 + 0.8 * torch.rand(2, n, generator=generator, dtype=torch.float64)
    return PendulumChain(masses, lengths)


def sample_pendulum_chain(chain: PendulumChain, count: int, *, seed: int = 0) -> Tensor:
    """Random states of a chain, [count, 4n]: normal angles and rates, disturbed and moved back onto the rods.

    Source: Finzi, Wang and Wilson, 2020, arXiv 2010.13581, its code.
    """
    generator = torch.Generator().manual_seed(seed)
    n = len(chain.rods.lengths)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, v = from_angles(normal(count, n), normal(count, n), chain.rods.lengths)
    x, v = x + 0.2 * normal(count, 2 * n), 3 * (0.5 * v + 0.4 * normal(count, 2 * n))
    return chain.project(torch.cat([x, v * chain.masses.repeat_interleave(2)], dim=-1))
