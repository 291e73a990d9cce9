"""Hamiltonian fields with damping, inputs and constraints, and flows that split into a conserved and a lost part."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from diffsim.fields.base import VectorField
from diffsim.fields.constraints import Constraints, rows_of_jacobian
from diffsim.fields.forces import Dissipation, Force, Forces
from diffsim.fields.hamiltonian import Hamiltonian, HamiltonianField, gradient_of, split_state
from diffsim.fields.linear import solve_mass
from diffsim.fields.matrices import Matrix, MatrixOf, positive_semi_definite
from diffsim.fields.scalar import scalar

__all__ = ["DissipativeHamiltonian", "GradientHamiltonian", "PortHamiltonian"]

_REDUNDANT = "`constraints` are redundant, or the energy is degenerate along them, {where}. Drop what follows already."


class PortHamiltonian(VectorField):
    """Canonical equations with forces: dq/dt = dH/dp, dp/dt = -dH/dq - D(q) dq/dt + input(t, q, dq/dt).

    Constraints Phi(q) = 0 act by multipliers on the momenta, so positions may be Cartesian. The energy H changes by
    the power of the forces: dH/dt = v . (input - D v).

    Args:
        energy: H, a `Hamiltonian`, or a function (a network) of states [..., 2k] -> [..., 1] or [...].
        dissipation: D, positive semi-definite: a coefficient, a matrix [k, k], or a function of q such as
            `PositiveMatrix`; None for none.
        input: A generalised force(t, q, v), such as `Input(u, matrix)`; None for none.
        constraints: Phi, a function [..., k] -> [..., c] such as `Rods`; None for none.
        tolerance: Largest violation of the constraints at the start of a run.

    Source: Desai, Mattheakis, Sondak, Protopapas and Roberts, 2021, arXiv 2107.08024, equation 9 (port-Hamiltonian);
        Zhong, Dey and Chakraborty, 2020, arXiv 1909.12077 (inputs); Finzi, Wang and Wilson, 2020, arXiv 2010.13581,
        section 3 (constraints).

    Example:
        >>> from diffsim.systems import MassSpring
        >>> damped = PortHamiltonian(MassSpring(), dissipation=0.5)
        >>> damped(torch.tensor(0.0), torch.tensor([1.0, 2.0]))
        tensor([ 2., -2.])
    """

    def __init__(
        self,
        energy: Hamiltonian | Callable[[Tensor], Tensor],
        *,
        dissipation: Dissipation | None = None,
        input: Force | None = None,
        constraints: Callable[[Tensor], Tensor] | None = None,
        tolerance: float = 1e-3,
    ) -> None:
        super().__init__()
        self.hamiltonian = energy if isinstance(energy, Hamiltonian) else HamiltonianField(energy)
        self.forces = Forces(dissipation, input)
        self.constraints = None if constraints is None else Constraints(constraints, tolerance)

    def energy(self, y: Tensor) -> Tensor:
        """H(q, p), shape [..., 2k] -> [...]."""
        return self.hamiltonian.energy(y)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        if self.constraints is not None:
            return self._constrained(t, y, self.constraints)
        q, _ = split_state(y)
        slope, v = self.hamiltonian.energy_gradient(y).chunk(2, dim=-1)
        return torch.cat([v, self.forces(t, q, v) - slope], dim=-1)

    def _constrained(self, t: Tensor, y: Tensor, constraints: Constraints) -> Tensor:
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            y = y if create_graph and y.requires_grad else y.detach().requires_grad_(True)
            q, _ = split_state(y)
            slope, v = self.hamiltonian.energy_gradient(y).chunk(2, dim=-1)
            jacobian = constraints.jacobian(q)
            # The rates of the constraints must stay zero: their derivative along the flow gives the multipliers.
            rates = rows_of_jacobian((jacobian @ v[..., None])[..., 0], y, create_graph)
        if not create_graph:
            slope, v, jacobian, q = slope.detach(), v.detach(), jacobian.detach(), q.detach()
        force = self.forces(t, q, v) - slope
        excess = rates @ torch.cat([v, force], dim=-1)[..., None]
        response = rates[..., q.shape[-1] :] @ jacobian.mT
        multiplier = solve_mass(response, excess, 0.0, _REDUNDANT)
        return torch.cat([v, force - (jacobian.mT @ multiplier)[..., 0]], dim=-1)

    def check_state(self, y: Tensor) -> None:
        if self.constraints is not None:
            q, _ = split_state(y)
            with torch.no_grad():
                velocity = self.hamiltonian.energy_gradient(y).chunk(2, dim=-1)[1]
            self.constraints.check(q, velocity)

    @torch.no_grad()
    def project(self, y: Tensor) -> Tensor:
        """The state moved onto the constraints: nearest positions, then momenta that stay on them; [..., 2k] -> same.

        The momenta are corrected along the constraints, exactly where the energy is quadratic in them.
        """
        q, p = split_state(y)
        if self.constraints is None:
            return y
        q = self.constraints.project(q)
        jacobian = self.constraints.jacobian(q)
        y = torch.cat([q, p], dim=-1)
        velocity = self.hamiltonian.energy_gradient(y).chunk(2, dim=-1)[1]
        inverse_mass = self.hamiltonian.energy_hessian(y)[..., q.shape[-1] :, q.shape[-1] :]
        multiplier = torch.linalg.solve(jacobian @ inverse_mass @ jacobian.mT, jacobian @ velocity[..., None])
        return torch.cat([q, p - (jacobian.mT @ multiplier)[..., 0]], dim=-1)


class GradientHamiltonian(VectorField):
    """A flow on an energy V: dx/dt = (Q(x) - P(x)) grad V + input(t, x), conserved by Q and dissipated by P.

    Q is antisymmetric and P symmetric, positive semi-definite; both given (matrices or discretised operators such as
    d/dx and d2/dx2) or learned (`AntisymmetricMatrix`, `PositiveMatrix`). Along a run dV/dt = -grad V . P grad V.

    Args:
        energy: V, a `Hamiltonian`, or a function (a network) of states [..., d] -> [..., 1] or [...].
        structure: Q, shape [d, d], or a function of the state; None for none: a gradient flow.
        dissipation: P, likewise; None for none.
        input: A function of time and state, [], [..., d] -> [..., d]; None for none.

    Raises:
        ArgumentError: A given Q is not antisymmetric, or a given P not positive semi-definite.

    Source: Howse, Abdallah and Heileman, 1996, "Gradient and Hamiltonian dynamics applied to learning in neural
        networks", NIPS 8, equation 3; Matsubara, Ishikawa and Yaguchi, 2020, arXiv 1905.08604, equation 2.

    Example:
        >>> from diffsim.fields.matrices import canonical_structure
        >>> bowl = GradientHamiltonian(lambda x: x.square().sum(-1) / 2, canonical_structure(1), 0.1 * torch.eye(2))
        >>> bowl(torch.tensor(0.0), torch.tensor([1.0, 0.0])).detach()
        tensor([-0.1000, -1.0000])
    """

    def __init__(
        self,
        energy: Hamiltonian | Callable[[Tensor], Tensor],
        structure: Matrix | None = None,
        dissipation: Matrix | None = None,
        *,
        input: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if structure is None and dissipation is None:
            raise ArgumentError("`structure` or `dissipation` must be given: without both nothing moves.")
        if isinstance(structure, Tensor):
            size = float(structure.detach().abs().amax())
            if structure.ndim < 2 or float((structure + structure.mT).detach().abs().amax()) > 1e-6 * size:
                raise ArgumentError(
                    "`structure` must be antisymmetric. Pass the symmetric part, with its sign changed, as dissipation."
                )
        if isinstance(dissipation, Tensor):
            positive_semi_definite(dissipation, "dissipation")
        self.function = energy
        self.structure = None if structure is None else MatrixOf(structure, "structure")
        self.dissipation = None if dissipation is None else MatrixOf(dissipation, "dissipation")
        self.input = input

    def energy(self, y: Tensor) -> Tensor:
        """V(x), shape [..., d] -> [...]."""
        return self.function.energy(y) if isinstance(self.function, Hamiltonian) else scalar(self.function, y, "energy")

    def energy_gradient(self, y: Tensor) -> Tensor:
        """The gradient of V, shape [..., d] -> [..., d]; differentiable again."""
        if isinstance(self.function, Hamiltonian):
            return self.function.energy_gradient(y)
        return gradient_of(self.energy, y)

    def matrix(self, y: Tensor) -> Tensor:
        """Q(x) - P(x), shape [..., d] -> [..., d, d]."""
        if self.structure is None:
            assert self.dissipation is not None
            return -self.dissipation(y)
        return self.structure(y) if self.dissipation is None else self.structure(y) - self.dissipation(y)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        slope = (self.matrix(y) @ self.energy_gradient(y)[..., None])[..., 0]
        return slope if self.input is None else slope + self.input(t, y)


class DissipativeHamiltonian(VectorField):
    """A Helmholtz decomposition: dy/dt = J grad H + grad D, a rotational and an irrotational part; y = (q, p).

    Nothing ties the sign of D: the energy may grow. Where damping acts on velocities take `PortHamiltonian`.

    Args:
        energy: H, a `Hamiltonian`, or a function (a network) of states [..., 2k] -> [..., 1] or [...].
        dissipation: D, a function likewise.

    Source: Sosanya and Greydanus, 2022, arXiv 2201.10085, equation 8.
    """

    def __init__(
        self, energy: Hamiltonian | Callable[[Tensor], Tensor], dissipation: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.hamiltonian = energy if isinstance(energy, Hamiltonian) else HamiltonianField(energy)
        self.function = dissipation

    def energy(self, y: Tensor) -> Tensor:
        """H(q, p), shape [..., 2k] -> [...]."""
        return self.hamiltonian.energy(y)

    def dissipation(self, y: Tensor) -> Tensor:
        """D(q, p), shape [..., 2k] -> [...]."""
        return scalar(self.function, y, "dissipation")

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.hamiltonian(t, y) + gradient_of(self.dissipation, y)
