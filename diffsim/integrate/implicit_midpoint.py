"""The implicit midpoint rule: symplectic, time-reversible and of second order, for any field."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffsim.errors import IntegrationError
from diffsim.fields.base import VectorField
from diffsim.integrate.constants import check_first_derivative
from diffsim.integrate.failure import DivergenceError
from diffsim.integrate.grid import Grid

__all__ = ["ImplicitMidpoint"]

_CHORDS = 15
_NEWTONS = 30
_LINEAR = 200


class ImplicitMidpoint:
    """Steps y -> y + h f(t + h/2, m) with the midpoint m = y + h/2 f(t + h/2, m), solved to rounding error.

    Fixed-point iteration, and where that is slow a Newton iteration whose Jacobian is kept as long as it serves.
    Gradients follow from the implicit function theorem, not from the iteration.

    Args:
        field: Any vector field.
        grid: The steps.
        rate: The step, or the step of each trajectory, shape [..., 1].

    Source: Hairer, Lubich and Wanner, 2006, Geometric Numerical Integration, sections VI.4 and VIII.6.
    """

    def __init__(self, field: VectorField, grid: Grid, rate: float | Tensor) -> None:
        self.field = field
        self._grid = grid
        self._half = rate / 2
        self._inverse: Tensor | None = None

    def advance(self, y: Tensor, first: int, last: int) -> Tensor:
        """The state at step number `last` from that at `first`.

        Raises:
            DivergenceError: The midpoint's equation did not converge.
        """
        rise = earlier = None
        for k in range(first, last):
            t = torch.tensor(self._grid.time(k + 0.5), dtype=y.dtype, device=y.device)
            with torch.no_grad():
                guess = y if rise is None else y + (rise if earlier is None else 2 * rise - earlier)
                m = self._midpoint(t, y.detach(), guess, k)
                earlier, rise = rise, m - y
            if torch.is_grad_enabled():
                m = self._differentiable(t, y, m)
            y = 2 * m - y
        return y

    def _midpoint(self, t: Tensor, y: Tensor, guess: Tensor, k: int) -> Tensor:
        def g(m: Tensor) -> Tensor:
            return y + self._half * self.field(t, m)

        m, converged = _iterate(g, guess, self._inverse, _CHORDS)
        if converged.all():
            return m
        m = torch.where(converged[..., None], m, y)
        for _ in range(_NEWTONS):
            self._inverse = self._newton_inverse(t, m)
            m, converged = _iterate(g, m, self._inverse, 2)
            if converged.all():
                return m
        time = self._grid.time(k)
        raise DivergenceError(
            f"implicit_midpoint did not converge at t = {time:.6g} with step={abs(self._grid.h):.3g}. The solution may "
            "blow up there: pass a smaller `step`, shorten `t`, or pass on_divergence='nan'.",
            time,
            ~converged,
        )

    def _newton_inverse(self, t: Tensor, m: Tensor) -> Tensor | None:
        with torch.enable_grad():
            z = m.detach().requires_grad_(True)
            f = self.field(t, z)
            if not f.requires_grad:
                return None
            # Trajectories are independent: the gradient of a component's sum holds that component's row of each.
            rows = [
                torch.autograd.grad(f[..., i].sum(), z, retain_graph=True, materialize_grads=True)[0]
                for i in range(m.shape[-1])
            ]
        jacobian = torch.stack(rows, dim=-2)
        half = self._half[..., None] if isinstance(self._half, Tensor) else self._half
        matrix = torch.eye(m.shape[-1], dtype=m.dtype, device=m.device) - half * jacobian
        inverse, info = torch.linalg.inv_ex(matrix)
        return torch.where((info == 0)[..., None, None] & torch.isfinite(inverse), inverse, torch.zeros_like(inverse))

    def _differentiable(self, t: Tensor, y: Tensor, solution: Tensor) -> Tensor:
        z = solution.detach().requires_grad_(True)
        f = self.field(t, z)
        m = y + self._half * f
        inverse = None if self._inverse is None else self._inverse.mT

        def solve(gradient: Tensor) -> Tensor:
            check_first_derivative("Use another method than implicit_midpoint, with gradient='backprop'.")

            def g(w: Tensor) -> Tensor:
                (product,) = torch.autograd.grad(f, z, self._half * w, retain_graph=True, materialize_grads=True)
                return gradient + product

            w, converged = _iterate(g, gradient, inverse, _LINEAR)
            if not converged.all():
                raise IntegrationError("The gradient of implicit_midpoint did not converge. Pass a smaller `step`.")
            return w

        m.register_hook(solve)
        return m


def _iterate(g: Callable[[Tensor], Tensor], x: Tensor, inverse: Tensor | None, limit: int) -> tuple[Tensor, Tensor]:
    """Solves x = g(x) for each trajectory; returns x, shape [..., d], and whether it converged, shape [...]."""
    rounding = torch.finfo(x.dtype).eps
    before = None
    converged = torch.zeros(x.shape[:-1], dtype=torch.bool, device=x.device)
    for _ in range(limit):
        change = g(x) - x
        if inverse is not None:
            change = (inverse @ change[..., None])[..., 0]
        x = x + change
        change, size = change.abs().amax(-1), x.abs().amax(-1)
        converged = change <= 8 * rounding * size
        if before is not None:
            # Changes that no longer shrink are rounding errors of the field.
            converged |= (change >= before) & (change <= 1000 * rounding * size)
        if converged.all():
            break
        before = change
    return x, converged
