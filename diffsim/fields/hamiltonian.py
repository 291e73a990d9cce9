"""Hamiltonian vector fields: canonical equations of a given, a learned or a separable energy."""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError
from diffsim.fields.base import VectorField
from diffsim.fields.perceptron import first_derivative, is_perceptron
from diffsim.fields.scalar import scalar

__all__ = ["Hamiltonian", "HamiltonianField", "Separable", "SeparableHamiltonian", "gradient_of", "split_state"]


def gradient_of(energy: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """The gradient of a scalar function of states, [..., d] -> [..., d]; with a graph only where gradients are on."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Without a graph y may be a view that only looks as if it required a gradient.
        y = y if create_graph and y.requires_grad else y.detach().requires_grad_(True)
        # Each state of a batch has its own energy: the gradient of the sum holds all of them.
        (gradient,) = torch.autograd.grad(energy(y).sum(), y, create_graph=create_graph)
    return gradient


def split_state(y: Tensor) -> tuple[Tensor, Tensor]:
    """Positions and momenta of a state, shape [..., 2k] -> [..., k], [..., k].

    Raises:
        ArgumentError: The state's dimension is odd.
    """
    if y.ndim == 0 or y.shape[-1] % 2 or y.shape[-1] == 0:
        raise ArgumentError(
            f"`y` must have shape [..., 2k] (k positions, then k momenta), got {list(y.shape)}. "
            "A Hamiltonian field needs an even state dimension."
        )
    q, p = y.chunk(2, dim=-1)
    return q, p


class Hamiltonian(VectorField):
    """A field of canonical equations: dq/dt = dH/dp, dp/dt = -dH/dq; the state is y = (q, p).

    Subclasses implement `energy`; `forward` is written once, here. A subclass that knows the gradient of its
    energy in closed form implements `energy_gradient` too.
    """

    @abstractmethod
    def energy(self, y: Tensor) -> Tensor:
        """The energy H(q, p), shape [..., 2k] -> [...]."""

    def energy_gradient(self, y: Tensor) -> Tensor:
        """The gradient of the energy in the state, shape [..., 2k] -> [..., 2k]; differentiable again."""
        return gradient_of(self.energy, y)

    def energy_hessian(self, y: Tensor) -> Tensor:
        """The Hessian of the energy in the state, shape [..., 2k] -> [..., 2k, 2k]; differentiable again."""
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            y = y if create_graph and y.requires_grad else y.detach().requires_grad_(True)
            gradient = self.energy_gradient(y)
            if not gradient.requires_grad:
                return torch.diag_embed(torch.zeros_like(y))
            rows = [
                torch.autograd.grad(g.sum(), y, retain_graph=True, create_graph=create_graph, materialize_grads=True)[0]
                for g in gradient.unbind(-1)
            ]
        return torch.stack(rows, dim=-2)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        split_state(y)
        dq, dp = self.energy_gradient(y).chunk(2, dim=-1)
        return torch.cat([dp, -dq], dim=-1)


class HamiltonianField(Hamiltonian):
    """A Hamiltonian neural network: the energy is `net(y)`.

    Args:
        net: Maps [..., 2k] to [..., 1] or [...]; with more outputs the energy is their sum.

    Source: Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563, equation 2.
    """

    def __init__(self, net: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net = net

    def energy(self, y: Tensor) -> Tensor:
        return scalar(self.net, y, "net")

    def energy_gradient(self, y: Tensor) -> Tensor:
        if is_perceptron(self.net) and type(self).energy is HamiltonianField.energy:
            return first_derivative(self.net, y)
        return super().energy_gradient(y)


class Separable(Hamiltonian):
    """A Hamiltonian H(q, p) = T(p) + V(q): what the explicit symplectic solvers need.

    Subclasses implement `kinetic` and `potential`.
    """

    @abstractmethod
    def kinetic(self, p: Tensor) -> Tensor:
        """The kinetic energy T(p), shape [..., k] -> [...]."""

    @abstractmethod
    def potential(self, q: Tensor) -> Tensor:
        """The potential energy V(q), shape [..., k] -> [...]."""

    def energy(self, y: Tensor) -> Tensor:
        q, p = split_state(y)
        return self.kinetic(p) + self.potential(q)

    def velocity(self, p: Tensor) -> Tensor:
        """dq/dt = dT/dp, shape [..., k] -> [..., k]."""
        return gradient_of(self.kinetic, p)

    def force(self, q: Tensor) -> Tensor:
        """dp/dt = -dV/dq, shape [..., k] -> [..., k]."""
        return -gradient_of(self.potential, q)

    def energy_gradient(self, y: Tensor) -> Tensor:
        q, p = split_state(y)
        return torch.cat([-self.force(q), self.velocity(p)], dim=-1)


class SeparableHamiltonian(Separable):
    """A separable Hamiltonian of two networks: H(q, p) = kinetic(p) + potential(q).

    Args:
        kinetic: Maps [..., k] to [..., 1].
        potential: Maps [..., k] to [..., 1].

    Source: Chen, Zhang, Arjovsky and Bottou, 2020, arXiv 1909.13334, section 3.
    """

    def __init__(self, kinetic: nn.Module, potential: nn.Module) -> None:
        super().__init__()
        self.kinetic_net = kinetic
        self.potential_net = potential

    def kinetic(self, p: Tensor) -> Tensor:
        return self.kinetic_net(p).sum(-1)

    def potential(self, q: Tensor) -> Tensor:
        return self.potential_net(q).sum(-1)

    def velocity(self, p: Tensor) -> Tensor:
        if is_perceptron(self.kinetic_net) and type(self).kinetic is SeparableHamiltonian.kinetic:
            return first_derivative(self.kinetic_net, p)
        return super().velocity(p)

    def force(self, q: Tensor) -> Tensor:
        if is_perceptron(self.potential_net) and type(self).potential is SeparableHamiltonian.potential:
            return -first_derivative(self.potential_net, q)
        return super().force(q)
