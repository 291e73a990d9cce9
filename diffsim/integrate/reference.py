"""torchdiffeq's solvers and the adjoint equation solved with them; the only file that imports torchdiffeq.

Time is measured in the solver's own unit: the whole span for an adaptive method, the step for a fixed-step one. So
no absolute constant of torchdiffeq meets the user's seconds, and backward in time is a negative unit.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torchdiffeq
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from diffsim.errors import IntegrationError
from diffsim.fields.base import VectorField
from diffsim.integrate.constants import check_unchanged
from diffsim.integrate.failure import DivergenceError
from diffsim.integrate.solver import Solver

__all__ = ["Reference"]

_ORDER = {"dopri8": 8, "dopri5": 5, "bosh3": 3, "fehlberg2": 2, "adaptive_heun": 2}
# torchdiffeq's dense output of these is far less accurate than their steps (dopri8: 700 times at rtol 1e-6).
_LANDS_ON_OUTPUTS = {"dopri8", "bosh3"}
# torchdiffeq's order 12 is unstable at steps at which the lower orders are exact to four digits.
_ADAMS = {"max_order": 5, "max_iters": 50}

Dynamics = Callable[[Tensor, Any], Any]


class Reference:
    """One initial value problem, in units of the solver's time.

    Args:
        field: The vector field, called as `field(t, y)`.
        solver: Method and tolerances.
        start: Time at which the unit clock is 0.
        unit: Length of the unit, in t's unit; negative backward in time.
        rate: The field's factor: `unit`, or a tensor [..., 1] that is 0 for trajectories that stand still.
    """

    def __init__(self, field: VectorField, solver: Solver, start: float, unit: float, rate: float | Tensor) -> None:
        self.field = field
        self.solver = solver
        self.start = start
        self.unit = unit
        self.rate = rate
        self._steps = 0
        self._clock = 0.0
        self._length = 0.0
        self._errors: Tensor | None = None

    def solve(self, y0: Tensor, times: Tensor, constants: Sequence[Tensor], *, backprop: bool) -> Tensor:
        """States at increasing unit times, [T], [..., d] -> [T, ..., d]."""
        if backprop or not torch.is_grad_enabled():
            return self.forward(y0, times)
        return cast(Tensor, _Adjoint.apply(y0, self, times, *constants))

    def dynamics(self, s: Tensor, y: Tensor) -> Tensor:
        """The field per unit of the solver's time."""
        return self.field(self.time(s, y), y) * self.rate

    def time(self, s: Tensor, y: Tensor) -> Tensor:
        return (s.double() * self.unit + self.start).to(y.dtype)

    def forward(self, y0: Tensor, times: Tensor) -> Tensor:
        self._steps = 0
        self._length = self._first_step(y0, times) if self.solver.adaptive else 1.0
        if self.solver.method not in _LANDS_ON_OUTPUTS:
            return self._integrate(self.dynamics, y0, times, _worst)
        states = [y0]
        for i in range(len(times) - 1):
            states.append(self._integrate(self.dynamics, states[-1], times[i : i + 2], _worst)[-1])
        return torch.stack(states)

    def backward(self, states: Tensor, gradient: Tensor, times: Tensor, constants: Sequence[Tensor]) -> list[Tensor]:
        """Gradients in the initial state and in each constant: the adjoint equation, from the last time to the first.

        The equation is linear in the gradient, so it is solved for a gradient of size 1: its accuracy does not
        depend on the scale of the loss.
        """
        scale = gradient.abs().amax()
        if not torch.isfinite(scale):
            raise IntegrationError("The gradient given to the solve is not finite. Look for a NaN in the loss.")
        if scale == 0:
            return [torch.zeros_like(states[0]), *(torch.zeros_like(c) for c in constants)]
        gradient = gradient / scale
        self._steps = 0
        a = gradient[-1]
        sums = [torch.zeros_like(c) for c in constants]
        for i in range(len(times) - 1, 0, -1):
            end = times[i]

            def dynamics(r: Tensor, state: tuple[Tensor, ...], end: Tensor = end) -> tuple[Tensor, ...]:
                return self._augmented(end - r, state[0], state[1], constants)

            span = torch.stack([torch.zeros_like(end), end - times[i - 1]])
            state = (states[i], a, *sums)
            y, a, *sums = (x[-1] for x in self._integrate(dynamics, state, span, _worst_of_all))
            self._check_retraced(y, states[i - 1], states[i], float(end))
            a = a + gradient[i - 1]
        return [a * scale, *(x * scale for x in sums)]

    def _augmented(self, s: Tensor, y: Tensor, a: Tensor, constants: Sequence[Tensor]) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            y = y.detach().requires_grad_(True)
            f = self.dynamics(s, y)
            if f.requires_grad:
                products = torch.autograd.grad(f, (y, *constants), a, allow_unused=True)
            else:
                products = (None,) * (1 + len(constants))
        found = (torch.zeros_like(x) if g is None else g for g, x in zip(products, (y, *constants), strict=True))
        return (-f.detach(), *found)

    def _check_retraced(self, y: Tensor, stored: Tensor, end: Tensor, s: float) -> None:
        size = torch.maximum(stored.abs(), end.abs()).amax(-1)
        if ((y - stored).abs().amax(-1) > 0.1 * size + 100 * self.solver.atol).any():
            raise IntegrationError(
                f"The adjoint equation, solved backward from t = {self.start + s * self.unit:.6g}, does not retrace the "
                "solution, so its gradient would be wrong. Pass gradient='backprop', more output times or a smaller "
                "`rtol` or `step`."
            )

    def _integrate(self, f: Dynamics, y: Any, times: Tensor, norm: Callable[[Any], Tensor]) -> Any:
        solver = self.solver
        options: dict[str, Any]
        if solver.adaptive:
            length = min(self._length, float(times[-1] - times[0]))
            options = {"norm": self._recorded(norm), "first_step": length, "step_t": times[-1:]}
        else:
            options = {"grid_constructor": _unit_grid, "interp": "cubic"}
        if solver.method in ("explicit_adams", "implicit_adams"):
            options |= _ADAMS
        call = _Observed(f, self._observe if solver.adaptive else None)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="Functional iteration did not converge")
                return torchdiffeq.odeint(
                    call, y, times, rtol=solver.rtol, atol=solver.atol, method=solver.method, options=options
                )
        except AssertionError as error:
            if not str(error).startswith(("underflow in dt", "non-finite values in state")):
                raise
            raise self._failure("the step underflows or the state is no longer finite", y) from error
        except UserWarning as error:
            raise IntegrationError(
                f"implicit_adams did not converge with step={solver.step}. Pass a smaller `step`."
            ) from error

    def _observe(self, s: Tensor, y: Tensor, length: Tensor) -> None:
        self._clock, self._length = float(s), float(length)
        self._steps += 1
        if self._steps > self.solver.max_steps:
            raise self._failure(f"{self.solver.max_steps} steps were not enough", y)

    def _failure(self, reason: str, y: Any) -> DivergenceError:
        y = y[0] if isinstance(y, tuple) else y
        errors = self._errors
        members = torch.ones(y.shape[:-1], dtype=torch.bool, device=y.device)
        if errors is not None and errors.shape == members.shape and not (errors <= 1).all():
            members = ~(errors <= 1)
        time = self.start + self._clock * self.unit
        return DivergenceError(
            f"{self.solver.method} stopped at t = {time:.6g}: {reason}. The solution may blow up or be stiff there: "
            "shorten `t`, loosen `rtol` and `atol`, raise `max_steps`, or pass on_divergence='nan'.",
            time,
            members,
        )

    def _recorded(self, norm: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
        def recorded(x: Any) -> Tensor:
            self._errors = norm(x)
            # A trial step out of the field's domain is a failed step, to be taken again shorter.
            return self._errors.amax().nan_to_num(nan=math.inf)

        return recorded

    @torch.no_grad()
    def _first_step(self, y: Tensor, times: Tensor) -> float:
        # Hairer, Norsett and Wanner, 1993, II.4; torchdiffeq's own fails where the trial leaves the field's domain.
        scale = self.solver.atol + self.solver.rtol * y.abs()
        f = self.dynamics(times[0], y)
        d0, d1 = (float(_worst(x / scale).amax()) for x in (y, f))
        longest = float(times[-1] - times[0])
        h = min(0.01 * d0 / d1, longest) if d0 > 1e-5 and d1 > 1e-5 else 1e-6 * longest
        change = self.dynamics(times[0] + h, y + h * f) - f
        d2 = float(_worst(change / scale).amax()) / h
        if not math.isfinite(d2):
            return 1e-3 * h
        largest = max(d1, d2)
        order = _ORDER[self.solver.method]
        best = (0.01 / largest) ** (1 / order) if largest > 1e-15 else max(1e-6 * longest, 1e-3 * h)
        return min(100 * h, best, longest)


class _Observed:
    """A function with the callback that torchdiffeq calls before each step."""

    def __init__(self, f: Dynamics, before_step: Callable[[Tensor, Any, Tensor], None] | None) -> None:
        self._f = f
        if before_step is not None:
            self.callback_step = before_step

    def __call__(self, s: Tensor, y: Any) -> Any:
        return self._f(s, y)


class _Adjoint(Function):
    @staticmethod
    def forward(ctx: Any, y0: Tensor, problem: Reference, times: Tensor, *constants: Tensor) -> Tensor:
        states = problem.forward(y0.detach(), times)
        ctx.problem, ctx.times = problem, times
        ctx.save_for_backward(states, *constants)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        states, *constants = ctx.saved_tensors
        check_unchanged(ctx.problem.field, constants)
        y0, *rest = ctx.problem.backward(states, gradient, ctx.times, constants)
        return (y0, None, None, *rest)


def _unit_grid(f: object, y0: object, times: Tensor) -> Tensor:
    n = round(float(times[-1] - times[0]))
    return times[0] + torch.arange(n + 1, dtype=times.dtype, device=times.device)


def _worst(x: Tensor) -> Tensor:
    return x.detach().square().mean(-1).sqrt()


def _worst_of_all(x: tuple[Tensor, ...]) -> Tensor:
    # torchdiffeq hands over (y, a, sums of the constants); a constant without elements has no error.
    y, a, *sums = x
    parts = [_worst(y).amax(), _worst(a).amax(), *(s.square().mean().sqrt() for s in sums if s.numel())]
    return torch.stack(parts)
