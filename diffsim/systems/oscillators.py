"""Systems of one degree of freedom: mass-spring, pendulum, double well, Duffing and van der Pol oscillators."""

import torch
from torch import Tensor

from diffsim.fields.base import VectorField
from diffsim.fields.hamiltonian import Separable
from diffsim.systems.constants import (
    Constant,
    check_size,
    components,
    match,
    register_constants,
    register_nonnegative,
    register_positive,
)

__all__ = ["DoubleWell", "Duffing", "ForcedDuffing", "MassSpring", "Pendulum", "VanDerPol"]


class MassSpring(Separable):
    """Masses on springs, H = p^2 / (2 mass) + stiffness q^2 / 2; the state is (q [m], p [kg m/s]).

    A state of 2k components holds k uncoupled oscillators. The HNN paper's code has H = q^2 + p^2, which is
    `MassSpring(mass=0.5, stiffness=2.0)`.

    Args:
        mass: kg.
        stiffness: N/m.

    Raises:
        ArgumentError: A constant is not positive.

    Source: Goldstein, Poole and Safko, Classical Mechanics, 3rd edition, 2002, section 8.1.

    Example:
        >>> MassSpring(mass=0.5, stiffness=2.0).energy(torch.tensor([1.0, 2.0]))
        tensor(5.)
    """

    mass: Tensor
    stiffness: Tensor

    def __init__(self, mass: Constant = 1.0, stiffness: Constant = 1.0) -> None:
        super().__init__()
        register_positive(self, mass=mass, stiffness=stiffness)

    def kinetic(self, p: Tensor) -> Tensor:
        return (self.velocity(p) * p / 2).sum(-1)

    def potential(self, q: Tensor) -> Tensor:
        return -(self.force(q) * q / 2).sum(-1)

    def velocity(self, p: Tensor) -> Tensor:
        (mass,) = match(p, mass=self.mass)
        return p / mass

    def force(self, q: Tensor) -> Tensor:
        (stiffness,) = match(q, stiffness=self.stiffness)
        return -stiffness * q


class Pendulum(Separable):
    """A plane pendulum, H = p^2 / (2 mass length^2) + mass gravity length (1 - cos q).

    The state is (q, p): the angle from hanging at rest [rad] and the canonical momentum
    p = mass length^2 dq/dt [kg m^2/s]. The HNN paper's code has H = 3 (1 - cos q) + p^2, which is
    `Pendulum(mass=0.5, length=1.0, gravity=6.0)`.

    Args:
        mass: kg.
        length: m.
        gravity: m/s^2.

    Raises:
        ArgumentError: The mass or the length is not positive.

    Source: Goldstein, Poole and Safko, Classical Mechanics, 3rd edition, 2002, section 8.1.

    Example:
        >>> lengths = torch.tensor([[1.0], [2.0]])  # one a state
        >>> upright = torch.tensor([torch.pi, 0.0]).expand(2, 2)
        >>> Pendulum(length=lengths, gravity=10.0).energy(upright)
        tensor([20., 40.])
    """

    mass: Tensor
    length: Tensor
    gravity: Tensor

    def __init__(self, mass: Constant = 1.0, length: Constant = 1.0, gravity: Constant = 9.81) -> None:
        super().__init__()
        register_positive(self, mass=mass, length=length)
        register_constants(self, gravity=gravity)

    def kinetic(self, p: Tensor) -> Tensor:
        return (self.velocity(p) * p / 2).sum(-1)

    def potential(self, q: Tensor) -> Tensor:
        check_size(q, 1, "angle (first half of the state)")
        mass, length, gravity = match(q, mass=self.mass, length=self.length, gravity=self.gravity)
        # 2 sin^2(q/2) = 1 - cos q, without the cancellation near rest.
        return (2 * mass * gravity * length * torch.sin(q / 2).square()).sum(-1)

    def velocity(self, p: Tensor) -> Tensor:
        check_size(p, 1, "angular momentum (second half of the state)")
        mass, length = match(p, mass=self.mass, length=self.length)
        return p / (mass * length.square())

    def force(self, q: Tensor) -> Tensor:
        check_size(q, 1, "angle (first half of the state)")
        mass, length, gravity = match(q, mass=self.mass, length=self.length, gravity=self.gravity)
        return -(mass * gravity * length) * torch.sin(q)


class DoubleWell(Separable):
    """A particle in a double well, H = p^2 / (2 mass) + barrier ((q / width)^2 - 1)^2; the state is (q, p).

    The minima lie at q = -width and q = width with energy 0, the separatrix at energy `barrier`. Frequency at
    the bottom of a well: sqrt(8 barrier / mass) / width.

    Args:
        mass: kg.
        barrier: Height of the barrier at q = 0, J.
        width: Half the distance of the minima, m.

    Raises:
        ArgumentError: A constant is not positive.

    Source: Strogatz, Nonlinear Dynamics and Chaos, 2nd edition, 2015, example 6.5.2.

    Example:
        >>> DoubleWell(barrier=3.0).energy(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
        tensor([3., 0.])
    """

    mass: Tensor
    barrier: Tensor
    width: Tensor

    def __init__(self, mass: Constant = 1.0, barrier: Constant = 0.25, width: Constant = 1.0) -> None:
        super().__init__()
        register_positive(self, mass=mass, barrier=barrier, width=width)

    def kinetic(self, p: Tensor) -> Tensor:
        return (self.velocity(p) * p / 2).sum(-1)

    def potential(self, q: Tensor) -> Tensor:
        check_size(q, 1, "position (first half of the state)")
        barrier, width = match(q, barrier=self.barrier, width=self.width)
        return (barrier * ((q / width).square() - 1).square()).sum(-1)

    def velocity(self, p: Tensor) -> Tensor:
        check_size(p, 1, "momentum (second half of the state)")
        (mass,) = match(p, mass=self.mass)
        return p / mass

    def force(self, q: Tensor) -> Tensor:
        check_size(q, 1, "position (first half of the state)")
        barrier, width = match(q, barrier=self.barrier, width=self.width)
        scaled = q / width
        return -4 * barrier / width * scaled * (scaled.square() - 1)


class Duffing(Separable):
    """The undamped, unforced Duffing oscillator, H = p^2 / 2 + linear q^2 / 2 + cubic q^4 / 4; the state is (q, p).

    Units are those of a unit mass; `ForcedDuffing` adds damping and a drive.

    Args:
        linear: Linear stiffness; negative for two wells.
        cubic: Cubic stiffness; negative for a softening spring.

    Source: Guckenheimer and Holmes, Nonlinear Oscillations, Dynamical Systems, and Bifurcations of Vector
    Fields, 1983, section 2.2.

    Example:
        >>> Duffing(linear=1.0, cubic=1.0).force(torch.tensor([2.0]))
        tensor([-10.])
    """

    linear: Tensor
    cubic: Tensor

    def __init__(self, linear: Constant = 1.0, cubic: Constant = 1.0) -> None:
        super().__init__()
        register_constants(self, linear=linear, cubic=cubic)

    def kinetic(self, p: Tensor) -> Tensor:
        check_size(p, 1, "momentum (second half of the state)")
        return p.square().sum(-1) / 2

    def potential(self, q: Tensor) -> Tensor:
        check_size(q, 1, "position (first half of the state)")
        linear, cubic = match(q, linear=self.linear, cubic=self.cubic)
        square = q.square()
        return (square * (linear / 2 + cubic / 4 * square)).sum(-1)

    def velocity(self, p: Tensor) -> Tensor:
        check_size(p, 1, "momentum (second half of the state)")
        return p

    def force(self, q: Tensor) -> Tensor:
        check_size(q, 1, "position (first half of the state)")
        linear, cubic = match(q, linear=self.linear, cubic=self.cubic)
        return -q * (linear + cubic * q.square())


class ForcedDuffing(VectorField):
    """The damped, driven Duffing oscillator, q'' = -damping q' - dV/dq + amplitude cos(frequency t + phase).

    V is the potential of `Duffing` and the state is (q, q'). The defaults are chaotic.

    Args:
        linear: Linear stiffness; negative for two wells.
        cubic: Cubic stiffness.
        damping: Of the velocity; not negative.
        amplitude: Of the drive.
        frequency: Angular frequency of the drive, rad per unit of time.
        phase: Of the drive, rad; -pi/2 gives a sine.

    Raises:
        ArgumentError: The damping is negative.

    Source: Guckenheimer and Holmes, Nonlinear Oscillations, Dynamical Systems, and Bifurcations of Vector
    Fields, 1983, section 2.2.

    Example:
        >>> ForcedDuffing(amplitude=0.5)(torch.tensor(0.0), torch.tensor([0.0, 1.0]))
        tensor([1.0000, 0.2000])
    """

    damping: Tensor
    amplitude: Tensor
    frequency: Tensor
    phase: Tensor

    def __init__(
        self,
        linear: Constant = -1.0,
        cubic: Constant = 1.0,
        damping: Constant = 0.3,
        amplitude: Constant = 0.5,
        frequency: Constant = 1.2,
        phase: Constant = 0.0,
    ) -> None:
        super().__init__()
        self.spring = Duffing(linear, cubic)
        register_nonnegative(self, damping=damping)
        register_constants(self, amplitude=amplitude, frequency=frequency, phase=phase)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        q, v = components(y, 2, "state (position, velocity)")
        damping, amplitude, frequency, phase = match(
            q, damping=self.damping, amplitude=self.amplitude, frequency=self.frequency, phase=self.phase
        )
        drive = amplitude * torch.cos(frequency * t.to(y) + phase)
        return torch.cat([v, self.spring.force(q) - damping * v + drive], dim=-1)


class VanDerPol(VectorField):
    """The van der Pol oscillator, x'' = mu (1 - x^2) x' - x, without dimensions; the state is (x, x').

    Args:
        mu: Strength of the non-linear damping. Small: a nearly circular limit cycle of radius 2. Large: stiff.

    Raises:
        ArgumentError: `mu` is negative.

    Source: Strogatz, Nonlinear Dynamics and Chaos, 2nd edition, 2015, equation 7.1.1.

    Example:
        >>> VanDerPol(mu=3.0)(torch.tensor(0.0), torch.tensor([2.0, 1.0]))
        tensor([  1., -11.])
    """

    mu: Tensor

    def __init__(self, mu: Constant = 1.0) -> None:
        super().__init__()
        register_nonnegative(self, mu=mu)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        x, v = components(y, 2, "state (x, x')")
        (mu,) = match(x, mu=self.mu)
        return torch.cat([v, mu * (1 - x.square()) * v - x], dim=-1)
