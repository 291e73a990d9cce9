"""A relativistic particle on a spring or in a constant force, as a Hamiltonian and by its two published Lagrangians."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from diffsim.fields.hamiltonian import Separable, split_state
from diffsim.systems.constants import Constant, check_size, match, register_constants, register_positive

__all__ = ["RelativisticOscillator", "relativistic_lagrangian", "toy_relativistic_lagrangian"]


class RelativisticOscillator(Separable):
    """H = c sqrt(p^2 + mass^2 c^2) + linear q^2 / 2 + cubic q^4 / 4 - force q; the state is (q [m], p [kg m/s]).

    With `linear` = `cubic` = 1 the relativistic Duffing oscillator; its drive is an input of `PortHamiltonian`.
    With `force` alone the relativistic particle, of acceleration force (1 - v^2)^(3/2) where mass = c = 1.

    Args:
        mass: Rest mass, kg.
        speed_of_light: c, m/s.
        linear: Linear stiffness, N/m.
        cubic: Cubic stiffness, N/m^3.
        force: N.

    Raises:
        ArgumentError: The mass or the speed of light is not positive.

    Source: Desai, Mattheakis, Sondak, Protopapas and Roberts, 2021, arXiv 2107.08024, section IV; Landau and
        Lifshitz, The Classical Theory of Fields, 4th edition, 1975, section 9.

    Example:
        >>> RelativisticOscillator(linear=2.0).energy(torch.tensor([1.0, 0.0]))
        tensor(2.)
    """

    mass: Tensor
    speed_of_light: Tensor
    linear: Tensor
    cubic: Tensor
    force_constant: Tensor

    def __init__(
        self,
        mass: Constant = 1.0,
        speed_of_light: Constant = 1.0,
        linear: Constant = 0.0,
        cubic: Constant = 0.0,
        force: Constant = 0.0,
    ) -> None:
        super().__init__()
        register_positive(self, mass=mass, speed_of_light=speed_of_light)
        register_constants(self, linear=linear, cubic=cubic, force_constant=force)

    def _energy_of_motion(self, p: Tensor) -> tuple[Tensor, Tensor]:
        check_size(p, 1, "momentum (second half of the state)")
        mass, light = match(p, mass=self.mass, speed_of_light=self.speed_of_light)
        return light * (p.square() + (mass * light).square()).sqrt(), light

    def kinetic(self, p: Tensor) -> Tensor:
        return self._energy_of_motion(p)[0].sum(-1)

    def velocity(self, p: Tensor) -> Tensor:
        energy, light = self._energy_of_motion(p)
        return light.square() * p / energy

    def potential(self, q: Tensor) -> Tensor:
        check_size(q, 1, "position (first half of the state)")
        linear, cubic, force = match(q, linear=self.linear, cubic=self.cubic, force=self.force_constant)
        square = q.square()
        return (square * (linear / 2 + cubic / 4 * square) - force * q).sum(-1)

    def force(self, q: Tensor) -> Tensor:
        check_size(q, 1, "position (first half of the state)")
        linear, cubic, force = match(q, linear=self.linear, cubic=self.cubic, force=self.force_constant)
        return force - q * (linear + cubic * q.square())


def relativistic_lagrangian(force: Constant = 1.0) -> Callable[[Tensor], Tensor]:
    """L(q, v) = -sqrt(1 - v^2) + force q, the physical one: acceleration force (1 - v^2)^(3/2); c = mass = 1.

    Source: Landau and Lifshitz, The Classical Theory of Fields, 4th edition, 1975, equation 8.2.
    """
    return partial(_physical, force)


def toy_relativistic_lagrangian(force: Constant = 1.0) -> Callable[[Tensor], Tensor]:
    """L(q, v) = (1 - v^2)^(-1/2) + force q, of the LNN paper's code: acceleration force (1-v^2)^(5/2) / (1 + 2 v^2).

    Source: Cranmer, Greydanus, Hoyer, Battaglia, Spergel and Ho, 2020, arXiv 2003.04630, section 4.2, and its code.
    """
    return partial(_toy, force)


def _physical(force: Constant, y: Tensor) -> Tensor:
    q, v = split_state(y)
    return (-(1 - v.square()).sqrt() + torch.as_tensor(force).to(q) * q).sum(-1)


def _toy(force: Constant, y: Tensor) -> Tensor:
    q, v = split_state(y)
    return ((1 - v.square()).rsqrt() + torch.as_tensor(force).to(q) * q).sum(-1)
