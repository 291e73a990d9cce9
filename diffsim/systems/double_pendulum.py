"""The plane double pendulum in canonical coordinates, with the way to and from angular velocities."""

import torch
from torch import Tensor

from diffsim.fields.hamiltonian import Hamiltonian, split_state
from diffsim.systems.constants import Constant, components, match, register_constants, register_positive

__all__ = ["DoublePendulum"]


class DoublePendulum(Hamiltonian):
    """Two point masses on massless rods in a plane, the second hung from the first.

    The state is (q1, q2, p1, p2): the angles of both rods from hanging straight down [rad] and their canonical
    momenta p = M(q) dq/dt [kg m^2/s], with

        M = [[(m1 + m2) l1^2,             m2 l1 l2 cos(q1 - q2)],
             [m2 l1 l2 cos(q1 - q2),      m2 l2^2              ]].

    H = p M^-1 p / 2 + (m1 + m2) g l1 (1 - cos q1) + m2 g l2 (1 - cos q2): zero at rest, hanging down.
    Experiments speak of angular velocities: see `from_velocities` and `angular_velocities`.

    Args:
        mass1: Of the upper bob, kg.
        mass2: Of the lower bob, kg.
        length1: Of the upper rod, m.
        length2: Of the lower rod, m.
        gravity: m/s^2.

    Raises:
        ArgumentError: A mass or a length is not positive.

    Source: Landau and Lifshitz, Mechanics, 3rd edition, 1976, section 5, problem 1 (its Lagrangian).

    Example:
        >>> field = DoublePendulum(gravity=10.0)
        >>> y = field.from_velocities(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0]))
        >>> y
        tensor([0., 0., 2., 1.])
        >>> field.energy(y)
        tensor(1.)
    """

    mass1: Tensor
    mass2: Tensor
    length1: Tensor
    length2: Tensor
    gravity: Tensor

    def __init__(
        self,
        mass1: Constant = 1.0,
        mass2: Constant = 1.0,
        length1: Constant = 1.0,
        length2: Constant = 1.0,
        gravity: Constant = 9.81,
    ) -> None:
        super().__init__()
        register_positive(self, mass1=mass1, mass2=mass2, length1=length1, length2=length2)
        register_constants(self, gravity=gravity)

    def _inertia(self, difference: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The elements M11, M12, M22 at an angle difference q1 - q2 of shape [..., 1]."""
        mass1, mass2, length1, length2 = match(
            difference, mass1=self.mass1, mass2=self.mass2, length1=self.length1, length2=self.length2
        )
        coupling = mass2 * length1 * length2 * torch.cos(difference)
        return (mass1 + mass2) * length1.square(), coupling, mass2 * length2.square()

    def _weights(self, angle: Tensor) -> tuple[Tensor, Tensor]:
        """The torques (m1 + m2) g l1 and m2 g l2 that hold the rods level."""
        mass1, mass2, length1, length2, gravity = match(
            angle,
            mass1=self.mass1,
            mass2=self.mass2,
            length1=self.length1,
            length2=self.length2,
            gravity=self.gravity,
        )
        return (mass1 + mass2) * gravity * length1, mass2 * gravity * length2

    def from_velocities(self, angles: Tensor, angular_velocities: Tensor) -> Tensor:
        """The state (q, p) of given angles [rad] and angular velocities [rad/s], both [..., 2] -> [..., 4]."""
        q1, q2 = components(angles, 2, "angles")
        w1, w2 = components(angular_velocities, 2, "angular velocities")
        m11, m12, m22 = self._inertia(q1 - q2)
        return torch.cat([q1, q2, m11 * w1 + m12 * w2, m12 * w1 + m22 * w2], dim=-1)

    def angular_velocities(self, y: Tensor) -> Tensor:
        """The angular velocities dq/dt of the rods [rad/s], shape [..., 4] -> [..., 2]."""
        q1, q2, p1, p2 = components(y, 4, "state (q1, q2, p1, p2)")
        m11, m12, m22 = self._inertia(q1 - q2)
        return torch.cat([m22 * p1 - m12 * p2, m11 * p2 - m12 * p1], dim=-1) / (m11 * m22 - m12.square())

    def energy(self, y: Tensor) -> Tensor:
        q, p = split_state(y)
        kinetic = (self.angular_velocities(y) * p).sum(-1) / 2
        q1, q2 = components(q, 2, "angles (first half of the state)")
        weight1, weight2 = self._weights(q1)
        # 2 sin^2(q/2) = 1 - cos q, without the cancellation near rest.
        heights = weight1 * torch.sin(q1 / 2).square() + weight2 * torch.sin(q2 / 2).square()
        return kinetic + 2 * heights.sum(-1)

    def energy_gradient(self, y: Tensor) -> Tensor:
        velocity = self.angular_velocities(y)
        w1, w2 = velocity.split(1, dim=-1)
        q1, q2, _, _ = y.split(1, dim=-1)
        mass2, length1, length2 = match(q1, mass2=self.mass2, length1=self.length1, length2=self.length2)
        weight1, weight2 = self._weights(q1)
        swing = mass2 * length1 * length2 * torch.sin(q1 - q2) * w1 * w2
        return torch.cat([weight1 * torch.sin(q1) + swing, weight2 * torch.sin(q2) - swing, velocity], dim=-1)
