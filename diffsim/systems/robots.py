"""Systems with a motor: the cart with a pole and the acrobot, in angles; `EmbeddedField` gives (cos, sin)."""

from functools import partial

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from diffsim.fields.forces import Dissipation
from diffsim.fields.inputs import Input, Signal
from diffsim.fields.lagrangian import LagrangianField
from diffsim.fields.mechanics import MechanicalLagrangian

__all__ = ["Acrobot", "CartPole"]


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ArgumentError(f"`{name}` must be positive, got {value}.")


class CartPole(LagrangianField):
    """A cart on a rail with a pole; the state is (x [m], angle from upright [rad], their rates).

    Args:
        cart: Mass of the cart, kg.
        pole: Mass of the pole, kg.
        half_length: Half the length of the uniform pole, m.
        gravity: m/s^2.
        u: Force on the cart [N], or with `torque` force and torque on the pole [N, N m]: constant or of time.
        torque: Whether a second input turns the pole (fully actuated).
        dissipation: Damping of the two rates.

    Source: Barto, Sutton and Anderson, 1983, IEEE Transactions on Systems, Man, and Cybernetics 13, 834, without
        friction.
    """

    def __init__(
        self,
        cart: float = 0.5,
        pole: float = 0.5,
        half_length: float = 0.5,
        gravity: float = 9.8,
        *,
        u: Signal | None = None,
        torque: bool = False,
        dissipation: Dissipation | None = None,
    ) -> None:
        _positive(cart=cart, pole=pole, half_length=half_length)

        matrix = torch.eye(2, dtype=torch.float64) if torque else torch.tensor([[1.0], [0.0]], dtype=torch.float64)
        super().__init__(
            MechanicalLagrangian(
                partial(_cart_mass, cart, pole, half_length), partial(_cart_potential, pole * gravity * half_length)
            ),
            dissipation=dissipation,
            input=None if u is None else Input(u, matrix),
        )


class Acrobot(LagrangianField):
    """Two equal links hung from a pivot, a motor at the elbow; the state is (q1, q2, their rates), rad and rad/s.

    q1 is the first link's angle from hanging, q2 the second's relative to the first.

    Args:
        mass: Of each link, kg.
        length: Of each link, m.
        center: Distance of a link's centre of mass from its joint, m.
        inertia: Of a link about its centre of mass, kg m^2.
        gravity: m/s^2.
        u: Torque at the elbow [N m], or with `shoulder` at both joints: constant or of time.
        shoulder: Whether the first joint has a motor too (fully actuated).
        dissipation: Damping of the two rates.

    Source: Sutton and Barto, Reinforcement Learning, 2nd edition, 2018, section 11.3 of the first edition.
    """

    def __init__(
        self,
        mass: float = 1.0,
        length: float = 1.0,
        center: float = 0.5,
        inertia: float = 1.0,
        gravity: float = 9.8,
        *,
        u: Signal | None = None,
        shoulder: bool = False,
        dissipation: Dissipation | None = None,
    ) -> None:
        _positive(mass=mass, length=length, center=center, inertia=inertia)

        where = torch.eye(2, dtype=torch.float64) if shoulder else torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        super().__init__(
            MechanicalLagrangian(
                partial(_links_mass, mass, length, center, inertia),
                partial(_links_potential, mass * gravity * (center + length), mass * gravity * center),
            ),
            dissipation=dissipation,
            input=None if u is None else Input(u, where),
        )


def _symmetric(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.stack([torch.stack([a, b], dim=-1), torch.stack([b, c], dim=-1)], dim=-2)


def _cart_mass(cart: float, pole: float, half_length: float, q: Tensor) -> Tensor:
    coupling = pole * half_length * q[..., 1].cos()
    turn = torch.full_like(coupling, 4 / 3 * pole * half_length**2)
    return _symmetric(torch.full_like(coupling, cart + pole), coupling, turn)


def _cart_potential(weight: float, q: Tensor) -> Tensor:
    return weight * q[..., 1].cos()


def _links_mass(mass: float, length: float, center: float, inertia: float, q: Tensor) -> Tensor:
    bend = mass * length * center * q[..., 1].cos()
    lower = mass * center**2 + inertia
    return _symmetric(2 * lower + mass * length**2 + 2 * bend, lower + bend, torch.full_like(bend, lower))


def _links_potential(upper: float, lower: float, q: Tensor) -> Tensor:
    return -(upper * q[..., 0].cos() + lower * (q[..., 0] + q[..., 1]).cos())
