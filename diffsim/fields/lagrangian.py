"""Lagrangian vector fields: the Euler-Lagrange equations of a given or learned L(q, v), with forces and constraints."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from diffsim.fields.base import VectorField
from diffsim.fields.constraints import Constraints, rows_of_jacobian
from diffsim.fields.forces import Dissipation, Force, Forces
from diffsim.fields.hamiltonian import split_state
from diffsim.fields.linear import solve_mass
from diffsim.fields.perceptron import is_perceptron, second_derivatives
from diffsim.fields.scalar import scalar

__all__ = ["LagrangianField"]

_SINGULAR = (
    "The mass matrix d2L/dv2 of `lagrangian` is singular {where}: no acceleration follows from it. L must depend on "
    "all velocities, not linearly; for a network pass a `regularisation`, say 1e-3."
)
_REDUNDANT = (
    "`constraints` are redundant or the mass matrix is degenerate along them {where}. Drop what follows already."
)


class LagrangianField(VectorField):
    """The Euler-Lagrange equations d/dt dL/dv = dL/dq + forces; the state is y = (q, v), positions and velocities.

    With a network this is the Lagrangian neural network; with `MechanicalLagrangian` the deep Lagrangian network.
    The second derivatives of a whole batch are written out for perceptrons (`nn.Sequential` of linear layers and smooth
    activations); those of other functions of k positions take k reverse passes.

    Args:
        lagrangian: L, maps states [..., 2k] to [..., 1] or [...].
        dissipation: Damping: a coefficient, a matrix [k, k], or a function of q; None for none.
        input: A generalised force(t, q, v), such as `Input(u, matrix)`; None for none.
        constraints: Phi(q) = 0, a function [..., k] -> [..., c] such as `Rods`; None for none.
        regularisation: e: eigenvalues s of the mass matrix are inverted as s / (s^2 + e^2), which keeps their sign.
            A network's mass matrix is singular somewhere: give it one. 0 solves as it is.
        tolerance: Largest violation of the constraints at the start of a run.

    Raises:
        ArgumentError: Values out of range; when called: a singular mass matrix.

    Source: Cranmer, Greydanus, Hoyer, Battaglia, Spergel and Ho, 2020, arXiv 2003.04630, equation 6; constraints:
        Finzi, Wang and Wilson, 2020, arXiv 2010.13581, section 4.

    Example:
        >>> spring = LagrangianField(lambda y: (y[..., 1] ** 2 - 4 * y[..., 0] ** 2) / 2)
        >>> spring(torch.tensor(0.0), torch.tensor([1.0, 0.5])).detach()
        tensor([ 0.5000, -4.0000])
    """

    def __init__(
        self,
        lagrangian: Callable[[Tensor], Tensor],
        *,
        dissipation: Dissipation | None = None,
        input: Force | None = None,
        constraints: Callable[[Tensor], Tensor] | None = None,
        regularisation: float = 0.0,
        tolerance: float = 1e-3,
    ) -> None:
        super().__init__()
        if not 0 <= regularisation < float("inf"):
            raise ArgumentError(f"`regularisation` must be at least 0, got {regularisation}.")
        self.function = lagrangian
        self.forces = Forces(dissipation, input)
        self.constraints = None if constraints is None else Constraints(constraints, tolerance)
        self.regularisation = regularisation

    def lagrangian(self, y: Tensor) -> Tensor:
        """L(q, v), shape [..., 2k] -> [...]."""
        return scalar(self.function, y, "lagrangian")

    def _derivatives(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient [..., 2k], and the velocities' rows of the Hessian [..., k, 2k]."""
        if is_perceptron(self.function):
            return second_derivatives(self.function, y, y.shape[-1] // 2)
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            y = y if create_graph and y.requires_grad else y.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.lagrangian(y).sum(), y, create_graph=True)
            rows = rows_of_jacobian(gradient[..., y.shape[-1] // 2 :], y, create_graph)
        return gradient if create_graph else gradient.detach(), rows

    def momentum(self, y: Tensor) -> Tensor:
        """The canonical momenta p = dL/dv, shape [..., 2k] -> [..., k]."""
        split_state(y)
        return self._derivatives(y)[0][..., y.shape[-1] // 2 :]

    def mass(self, y: Tensor) -> Tensor:
        """The mass matrix d2L/dv2, shape [..., 2k] -> [..., k, k]."""
        split_state(y)
        return self._derivatives(y)[1][..., y.shape[-1] // 2 :]

    def energy(self, y: Tensor) -> Tensor:
        """The energy v . dL/dv - L, shape [..., 2k] -> [...]; constant without forces."""
        _, v = split_state(y)
        return (self.momentum(y) * v).sum(-1) - self.lagrangian(y)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        q, v = split_state(y)
        k = q.shape[-1]
        gradient, rows = self._derivatives(y)
        mixed, mass = rows[..., :k], rows[..., k:]
        force = gradient[..., :k] - (mixed @ v[..., None])[..., 0] + self.forces(t, q, v)
        if self.constraints is None:
            acceleration = solve_mass(mass, force[..., None], self.regularisation, _SINGULAR)[..., 0]
            return torch.cat([v, acceleration], dim=-1)
        jacobian = self.constraints.jacobian(q)
        both = solve_mass(mass, torch.cat([force[..., None], jacobian.mT], -1), self.regularisation, _SINGULAR)
        free, response = both[..., 0], both[..., 1:]
        excess = (jacobian @ free[..., None])[..., 0] + _curvature(self.constraints, q, v)
        multiplier = solve_mass(jacobian @ response, excess[..., None], 0.0, _REDUNDANT)
        return torch.cat([v, free - (response @ multiplier)[..., 0]], dim=-1)

    def check_state(self, y: Tensor) -> None:
        if self.constraints is not None:
            self.constraints.check(*split_state(y))

    @torch.no_grad()
    def project(self, y: Tensor) -> Tensor:
        """The state moved onto the constraints: nearest positions, then velocities along them; [..., 2k] -> same."""
        q, v = split_state(y)
        if self.constraints is None:
            return y
        q = self.constraints.project(q)
        jacobian = self.constraints.jacobian(q)
        response = torch.linalg.solve(self.mass(torch.cat([q, v], -1)), jacobian.mT)
        return torch.cat([q, v - _along(jacobian, response, v)], dim=-1)


def _along(jacobian: Tensor, response: Tensor, v: Tensor) -> Tensor:
    """What impulses of the constraints take from velocities, shape [..., k]."""
    multiplier = torch.linalg.solve(jacobian @ response, jacobian @ v[..., None])
    return (response @ multiplier)[..., 0]


def _curvature(constraints: Constraints, q: Tensor, v: Tensor) -> Tensor:
    """The acceleration v . d2Phi/dq2 v that the constraints ask for, shape [..., c]."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        x = q if create_graph and q.requires_grad else q.detach().requires_grad_(True)
        speed = (constraints.jacobian(x) @ (v if create_graph else v.detach())[..., None])[..., 0]
        rows = rows_of_jacobian(speed, x, create_graph)
    return (rows @ v[..., None])[..., 0]
