"""Control by energy shaping: an input that gives a system another potential energy and damping."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError
from diffsim.fields.hamiltonian import gradient_of
from diffsim.fields.matrices import Matrix, MatrixOf
from diffsim.fields.scalar import scalar

__all__ = ["EnergyShaping"]


class EnergyShaping(nn.Module):
    """The feedback u with g(q) u = dV/dq - dV_d/dq - damping v: closed loop, the system has the potential V_d.

    Fully actuated systems follow exactly, with the least inputs where there are more than positions; else u is the
    least-squares answer. It is given as the `input` of the system that it controls, while V and g come from a model,
    known or learned.

    Args:
        potential: V of the model, [..., k] -> [..., 1] or [...].
        desired: V_d, likewise; its minimum is where the system shall rest.
        damping: Injected, at least 0.
        matrix: g(q) of the model, shape [k, m], or a function of q; None for the identity.
        limit: Largest absolute value of each component of u.
        plant: g(q) of the system where it is not the model's.

    Raises:
        ArgumentError: Negative damping, or a limit that is not positive.

    Source: Zhong, Dey and Chakraborty, 2020, arXiv 1909.12077, section 3.6; Ortega, van der Schaft, Mareels and
        Maschke, 2001, IEEE Control Systems 21(2), 18.

    Example:
        >>> from diffsim.fields.port_hamiltonian import PortHamiltonian
        >>> from diffsim.systems import Pendulum
        >>> pendulum = Pendulum()
        >>> upright = EnergyShaping(pendulum.potential, lambda q: -pendulum.potential(q), damping=3.0)
        >>> field = PortHamiltonian(pendulum, input=upright)
        >>> field(torch.tensor(0.0), torch.tensor([3.0, 0.0])).detach()  # it swings up instead of falling
        tensor([0.0000, 1.3844])
    """

    def __init__(
        self,
        potential: Callable[[Tensor], Tensor],
        desired: Callable[[Tensor], Tensor],
        *,
        damping: float = 0.0,
        matrix: Matrix | None = None,
        limit: float | None = None,
        plant: Matrix | None = None,
    ) -> None:
        super().__init__()
        if not damping >= 0:
            raise ArgumentError(f"`damping` must not be negative, got {damping}.")
        if limit is not None and not limit > 0:
            raise ArgumentError(f"`limit` must be positive, got {limit}.")
        self.potential = potential
        self.desired = desired
        self.damping = damping
        self.matrix = None if matrix is None else MatrixOf(matrix, "matrix")
        self.plant = self.matrix if plant is None else MatrixOf(plant, "plant")
        self.limit = limit

    def control(self, q: Tensor, v: Tensor) -> Tensor:
        """The input u at positions and velocities, [..., k], [..., k] -> [..., m]."""
        slope = gradient_of(lambda q: scalar(self.potential, q, "potential") - scalar(self.desired, q, "desired"), q)
        u = slope - self.damping * v
        if self.matrix is not None:
            u = (torch.linalg.pinv(self.matrix(q)) @ u[..., None])[..., 0]
        return u if self.limit is None else u.clamp(-self.limit, self.limit)

    def forward(self, t: Tensor, q: Tensor, v: Tensor) -> Tensor:
        """The generalised force of the input, [], [..., k], [..., k] -> [..., k]."""
        u = self.control(q, v)
        return u if self.plant is None else (self.plant(q) @ u[..., None])[..., 0]
