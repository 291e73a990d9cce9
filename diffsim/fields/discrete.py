"""Fields with a time step of their own: discrete gradients that keep energy exact, and variational integrators."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError, IntegrationError
from diffsim.fields.base import VectorField
from diffsim.fields.hamiltonian import Hamiltonian, gradient_of, split_state
from diffsim.fields.matrices import Matrix
from diffsim.fields.port_hamiltonian import GradientHamiltonian
from diffsim.fields.scalar import scalar

__all__ = [
    "DiscreteField",
    "DiscreteGradient",
    "DiscreteGradientField",
    "Scheme",
    "VariationalField",
    "discrete_gradient",
    "roll_out",
]

DiscreteGradient = Literal["midpoint", "mean"]
Scheme = Literal["velocity", "stoermer", "rotation"]

_NODES = 4
_NEWTONS = 30


def discrete_gradient(
    energy: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, kind: DiscreteGradient = "mean"
) -> Tensor:
    """A vector g between two states with g . (y - x) = H(y) - H(x), of second order and symmetric in x and y.

    - ``mean``: the mean gradient on the way from x to y, by four Gauss nodes: exact for polynomials up to degree
      eight, to rounding for smooth energies and short steps, and without cancellation.
    - ``midpoint``: the gradient at the midpoint, corrected along y - x: exact for any energy, to its rounding.

    Args:
        energy: H, [..., d] -> [...].
        x: State before, shape [..., d].
        y: State after.
        kind: As above.

    Source: McLachlan, Quispel and Robidoux, 1999, Phil. Trans. R. Soc. A 357, 1021 (mean); Gonzalez, 1996, Journal
        of Nonlinear Science 6, 449 (midpoint).

    Example:
        >>> x, y = torch.tensor([1.0]), torch.tensor([2.0])
        >>> bool((discrete_gradient(lambda z: z[..., 0] ** 3, x, y) - 7).abs() < 1e-5)
        True
    """
    if kind not in get_args(DiscreteGradient):
        raise ArgumentError(f"`kind` must be one of {', '.join(get_args(DiscreteGradient))}, got {kind!r}.")
    if kind == "mean":
        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        s = torch.as_tensor((nodes + 1) / 2).to(x).reshape(-1, *[1] * x.ndim)
        slopes = gradient_of(energy, x + s * (y - x))
        return torch.tensordot(torch.as_tensor(weights / 2).to(x), slopes, 1)
    slope, change = gradient_of(energy, (x + y) / 2), y - x
    square = change.square().sum(-1)
    before, after = energy(x), energy(y)
    rest = after - before - (slope * change).sum(-1)
    # Of the energies' rounding, divided by a short way, nothing must remain: a step could not be solved for.
    rounding = 8 * torch.finfo(x.dtype).eps * torch.maximum(before.abs(), after.abs()).detach()
    rest = rest - torch.clamp(rest, -rounding, rounding)
    moved = square > 0
    return slope + (rest / torch.where(moved, square, 1.0) * moved)[..., None] * change


class DiscreteField(VectorField):
    """A field that also knows how to step: `forward` is the continuous limit, `step` the discrete-time model."""

    @abstractmethod
    def step(self, t: Tensor, y: Tensor, h: Tensor) -> Tensor:
        """The state a step later.

        Args:
            t: Time before the step, shape [].
            y: State, shape [..., d].
            h: Step, shape [].
        """


def roll_out(field: DiscreteField, y0: Tensor, t: Tensor, substeps: int = 1) -> Tensor:
    """The run of a field by its own steps, one (or `substeps`) from each time to the next, [..., d] -> [T, ..., d].

    Args:
        field: The field.
        y0: Initial states, shape [..., d].
        t: Times, shape [T], monotone; a step is as long as the way to the next.
        substeps: Steps between two times.

    Raises:
        ArgumentTypeError: The field has no steps of its own.
        ArgumentError: Times are not monotone, or there are no steps between them.
        IntegrationError: An implicit step does not converge.
    """
    if not isinstance(field, DiscreteField):
        raise ArgumentTypeError(f"`field` {type(field).__name__} has no steps of its own. Call odeint, with a solver.")
    steps = t.detach().diff()
    if t.ndim != 1 or not (bool((steps > 0).all()) or bool((steps < 0).all())):
        raise ArgumentError("`t` must have shape [T] and be strictly monotone.")
    if substeps < 1:
        raise ArgumentError(f"`substeps` must be at least 1, got {substeps}.")
    field.check_state(y0.detach())
    states, y = [y0], y0
    for start, h in zip(t[:-1].to(y0), steps.to(y0) / substeps, strict=True):
        for i in range(substeps):
            y = field.step(start + i * h, y, h)
        states.append(y)
    return torch.stack(states)


class DiscreteGradientField(GradientHamiltonian, DiscreteField):
    """The flow dx/dt = (Q - P) grad V whose steps are (y - x) / h = (Q - P)((x + y) / 2) discrete_gradient(x, y).

    Along steps the energy changes by -h g . P g exactly (to the tolerance of the solve): it stays where P is zero.
    A step is implicit, and training is not: `DiscreteGradientLoss` needs no solve.

    Args:
        energy: V, a `Hamiltonian`, or a function (a network) of states [..., d] -> [..., 1] or [...].
        structure: Q, antisymmetric, [d, d] or a function of the state; None for none.
        dissipation: P, positive semi-definite, likewise; None for none.
        kind: Of the discrete gradient.
        tolerance: Largest change of the last Newton iteration, relative to the state; rounding by default.

    Source: Matsubara, Ishikawa and Yaguchi, 2020, arXiv 1905.08604, equation 3.
    """

    def __init__(
        self,
        energy: Hamiltonian | Callable[[Tensor], Tensor],
        structure: Matrix | None = None,
        dissipation: Matrix | None = None,
        *,
        kind: DiscreteGradient = "mean",
        tolerance: float | None = None,
    ) -> None:
        super().__init__(energy, structure, dissipation)
        if kind not in get_args(DiscreteGradient):
            raise ArgumentError(f"`kind` must be one of {', '.join(get_args(DiscreteGradient))}, got {kind!r}.")
        if tolerance is not None and not tolerance > 0:
            raise ArgumentError(f"`tolerance` must be positive, got {tolerance}.")
        self.kind: DiscreteGradient = kind
        self.tolerance = tolerance

    def rate(self, x: Tensor, y: Tensor) -> Tensor:
        """The discrete field between two states, (Q - P) discrete_gradient(x, y), shape [..., d]."""
        slope = discrete_gradient(self.energy, x, y, self.kind)
        return (self.matrix((x + y) / 2) @ slope[..., None])[..., 0]

    def step(self, t: Tensor, y: Tensor, h: Tensor) -> Tensor:
        start, rounding = y.detach(), torch.finfo(y.dtype).eps
        tolerance = self.tolerance or 8 * rounding
        end = start + h * self.forward(t, start).detach()
        inverse, before = self._inverse(start, end, h), None
        for _ in range(_NEWTONS):
            with torch.no_grad():
                residual = end - start - h * self.rate(start, end)
                change = (inverse @ residual[..., None])[..., 0]
                end = end - change
            size, scale = float(change.abs().amax()), float(end.abs().amax())
            if not np.isfinite(size):
                break
            slow = before is not None and size > 0.1 * before
            if size <= tolerance * scale or (slow and size <= self._attainable(start, end, h)):
                return self._differentiable(y, end, h) if torch.is_grad_enabled() else end
            if slow:
                inverse = self._inverse(start, end, h)
            before = size
        raise IntegrationError(
            f"The discrete-gradient step did not converge at t = {float(t):.6g} with a step of {float(h):.3g}. "
            "Take shorter steps (`substeps`)."
        )

    def _attainable(self, start: Tensor, end: Tensor, h: Tensor) -> float:
        """What rounding leaves of a step: of the state's, and of the energies' where a difference of them is used."""
        rounding, scale = torch.finfo(end.dtype).eps, float(end.abs().amax())
        if self.kind == "mean":
            return 1000 * rounding * scale
        with torch.no_grad():
            way = (end - start).norm(dim=-1).clamp_min(torch.finfo(end.dtype).tiny)
            rows = self.matrix((start + end) / 2).abs().sum(-1).amax(-1)
            energies = float((h.abs() * rows * self.energy(end).abs() / way).amax())
        return min(1000 * rounding * (scale + energies), rounding**0.5 * scale)

    def _inverse(self, start: Tensor, end: Tensor, h: Tensor) -> Tensor:
        """The inverse Jacobian of the step's equation in its end, [..., d, d]."""
        size = end.shape[-1]
        with torch.enable_grad():
            z = end.detach().requires_grad_(True)
            rate = self.rate(start, z)
            basis = torch.eye(size, dtype=end.dtype, device=end.device)
            seeds = basis.reshape(size, *[1] * (end.ndim - 1), size).expand(size, *end.shape)
            (rows,) = torch.autograd.grad(rate, z, seeds, is_grads_batched=True, materialize_grads=True)
        return torch.linalg.inv(basis - h * rows.movedim(0, -2).detach())

    def _differentiable(self, y: Tensor, end: Tensor, h: Tensor) -> Tensor:
        """The end with the derivatives of the implicit function: one Newton step that keeps the graph."""
        residual = end - y - h * self.rate(y, end)
        return end - (self._inverse(y.detach(), end, h) @ residual[..., None])[..., 0]


class VariationalField(DiscreteField):
    """Second-order dynamics d2q/dt2 = f(q) with the steps of a variational integrator; the state is y = (q, v).

    - ``velocity``: velocity Verlet; v is the velocity at the time of q.
    - ``stoermer``: q' = q + h v + h^2 f(q), where v = (q - q_before) / h is the backward difference: positions only.
    - ``rotation``: the same on angles, q' = q + asin(sin(h v) + h^2 f(q)): Stoermer-Verlet on SO(2).

    Args:
        potential: V, a function (a network) of positions [..., k] -> [..., 1] or [...]: then f = -dV/dq.
        force: f itself, [..., k] -> [..., k], in place of the potential.
        scheme: As above.

    Raises:
        ArgumentError: Not exactly one of potential and force, or an unknown scheme.

    Source: Saemundsson, Terenin, Hofmann and Deisenroth, 2020, arXiv 1910.09349, section 3.
    """

    def __init__(
        self,
        potential: Callable[[Tensor], Tensor] | None = None,
        *,
        force: Callable[[Tensor], Tensor] | None = None,
        scheme: Scheme = "velocity",
    ) -> None:
        super().__init__()
        if (potential is None) == (force is None):
            raise ArgumentError("Give `potential` or `force`, and not both.")
        if scheme not in get_args(Scheme):
            raise ArgumentError(f"`scheme` must be one of {', '.join(get_args(Scheme))}, got {scheme!r}.")
        self.function = potential
        self.force_function = force
        self.scheme: Scheme = scheme

    def force(self, q: Tensor) -> Tensor:
        """The acceleration f(q), shape [..., k] -> [..., k]."""
        return -gradient_of(self.potential, q) if self.force_function is None else self.force_function(q)

    def potential(self, q: Tensor) -> Tensor:
        """V(q), shape [..., k] -> [...].

        Raises:
            ArgumentError: The field was made of a force.
        """
        if self.function is None:
            raise ArgumentError("A field of a `force` has no potential.")
        return scalar(self.function, q, "potential")

    def energy(self, y: Tensor) -> Tensor:
        """The energy v^2 / 2 + V(q), shape [..., 2k] -> [...]."""
        q, v = split_state(y)
        return v.square().sum(-1) / 2 + self.potential(q)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        q, v = split_state(y)
        return torch.cat([v, self.force(q)], dim=-1)

    def step(self, t: Tensor, y: Tensor, h: Tensor) -> Tensor:
        q, v = split_state(y)
        if self.scheme == "velocity":
            half = v + h / 2 * self.force(q)
            q = q + h * half
            return torch.cat([q, half + h / 2 * self.force(q)], dim=-1)
        if self.scheme == "stoermer":
            v = v + h * self.force(q)
            return torch.cat([q + h * v, v], dim=-1)
        edge = 1 - 4 * torch.finfo(q.dtype).eps
        turn = torch.asin(((h * v).sin() + h.square() * self.force(q)).clamp(-edge, edge))
        return torch.cat([q + turn, turn / h], dim=-1)
