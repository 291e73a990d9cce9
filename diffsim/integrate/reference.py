"""torchdiffeq's solvers and the adjoint equation solved with them; the only file that imports torchdiffeq.

Time is measured in the solver's own unit: the whole span for an adaptive method, the step for a fixed-step one. So
no absolute constant of torchdiffeq meets the user's seconds, and backward in time is a negative unit.
"""

import contextlib
import math
import warnings
from collections.abc import Callable, Generator, Sequence
from typing import Any, cast

import torch
import torchdiffeq
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx

from diffsim.errors import IntegrationError
from diffsim.fields.base import VectorField
from diffsim.integrate.constants import check_first_derivative, check_unchanged
from diffsim.integrate.failure import DivergenceError
from diffsim.integrate.solver import Solver

__all__ = ["Reference"]

_ORDER = {"dopri8": 8, "dopri5": 5, "bosh3": 3, "fehlberg2": 2, "adaptive_heun": 2}
# torchdiffeq's dense output of these is far less accurate than their steps (dopri8: 700 times at rtol 1e-6).
_LANDS_ON_OUTPUTS = ("dopri8", "bosh3")
_ADAMS = ("explicit_adams", "implicit_adams")
# torchdiffeq's default, order 12, is unstable at steps at which order 4 is exact to six digits.
_ADAMS_OPTIONS = {"max_order": 5, "max_iters": 50}

Dynamics = Callable[[Tensor, Tensor], Tensor]
Norm = Callable[[Tensor], Tensor]


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
        self._start = start
        self._unit = unit
        self._rate = rate
        self._steps = 0
        self._clock = 0.0
        self._length = 1.0
        self._errors = torch.empty(0)  # of the last step, in units of the tolerance, for each trajectory

    def solve(self, y0: Tensor, times: Tensor, constants: Sequence[Tensor]) -> Tensor:
        """States at increasing unit times, [..., d], [T] -> [T, ..., d].

        Args:
            y0: Initial states.
            times: Unit times, float64, from 0; whole numbers for a fixed-step method.
            constants: Tensors of the field that need a gradient.
        """
        if torch.is_grad_enabled() and self.solver.gradient == "adjoint":
            return cast(Tensor, _Adjoint.apply(y0, self, times, *constants))
        return self.forward(y0, times)

    def forward(self, y0: Tensor, times: Tensor) -> Tensor:
        """The states, with the graph of all steps if gradients are enabled."""
        self._steps = 0
        self._errors = torch.full_like(y0[..., 0], math.inf)
        if self.solver.adaptive:
            self._length = self._first_step(y0, times)
        if self.solver.method not in _LANDS_ON_OUTPUTS:
            return self._integrate(self._dynamics, y0, times, _rms)
        states = [y0]
        for i in range(len(times) - 1):
            states.append(self._integrate(self._dynamics, states[-1], times[i : i + 2], _rms)[-1])
        return torch.stack(states)

    def backward(self, states: Tensor, gradient: Tensor, times: Tensor, constants: Sequence[Tensor]) -> list[Tensor]:
        """Gradients in the initial state and in each constant: the adjoint equation, solved backward in time.

        The equation is linear in the gradient, so it is solved for a gradient of size 1: its accuracy does not
        depend on the scale of the loss. At each output the state is set to the stored one.
        """
        size = gradient.abs().flatten(1).amax(1)
        scale, last = size.amax(), int(size.nonzero().amax()) if size.any() else 0
        if not torch.isfinite(scale):
            raise IntegrationError("The gradient that reaches the solve is not finite. Look for NaN in the loss.")
        gradient = gradient / scale if last else gradient
        self._steps = 0
        a, sums = gradient[last], [torch.zeros_like(c) for c in constants]
        shapes = [a.shape, a.shape, *(c.shape for c in constants)]
        for i in range(last, 0, -1):
            end = times[i]

            def dynamics(r: Tensor, packed: Tensor, end: Tensor = end) -> Tensor:
                y, a, *_ = _unpack(packed, shapes)
                return _pack(self._augmented(end - r, y, a, constants))

            def norm(packed: Tensor) -> Tensor:
                y, a, *sums = _unpack(packed, shapes)
                return torch.stack([_rms(y).amax(), _rms(a).amax(), *(_rms(s.flatten()) for s in sums if s.numel())])

            span = torch.stack([torch.zeros_like(end), end - times[i - 1]])
            packed = self._integrate(dynamics, _pack((states[i], a, *sums)), span, norm)[-1]
            y, a, *sums = _unpack(packed, shapes)
            self._check_retraced(y, states[i - 1], states[i], float(end))
            a = a + gradient[i - 1]
        return [x * scale for x in (a, *sums)] if last else [a, *sums]

    def _dynamics(self, s: Tensor, y: Tensor) -> Tensor:
        t = (s.double() * self._unit + self._start).to(y.dtype)
        return self.field(t, y) * self._rate

    def _augmented(self, s: Tensor, y: Tensor, a: Tensor, constants: Sequence[Tensor]) -> list[Tensor]:
        with torch.enable_grad():
            y = y.detach().requires_grad_(True)
            f = self._dynamics(s, y)
            inputs = (y, *constants)
            if f.requires_grad:
                products = torch.autograd.grad(f, inputs, a, allow_unused=True, materialize_grads=True)
            else:
                products = [torch.zeros_like(x) for x in inputs]
        return [-f.detach(), *products]

    def _check_retraced(self, y: Tensor, stored: Tensor, end: Tensor, s: float) -> None:
        size = torch.maximum(stored.abs(), end.abs()).amax(-1)
        if ((y - stored).abs().amax(-1) > 0.1 * size + 100 * self.solver.atol).any():
            raise IntegrationError(
                f"The adjoint equation, solved backward from t = {self._start + s * self._unit:.6g}, does not retrace "
                "the solution, so its gradient would be wrong. Pass gradient='backprop', more output times or a "
                "smaller `rtol` or `step`."
            )

    def _integrate(self, f: Dynamics, y: Tensor, times: Tensor, norm: Norm) -> Tensor:
        solver = self.solver
        options: dict[str, Any]
        if solver.adaptive:
            # The last step ends on the last time: the field may not be defined beyond it.
            first = min(self._length, float(times[-1] - times[0]))
            options = {"norm": self._recorded(norm), "first_step": first, "step_t": times[-1:]}
            call = _Observed(f, self._before_step)
        else:
            options = {"grid_constructor": _unit_grid} | (_ADAMS_OPTIONS if solver.method in _ADAMS else {})
            call = f
        try:
            with _warnings_as_errors() if solver.method == "implicit_adams" else contextlib.nullcontext():
                states = torchdiffeq.odeint(
                    call, y, times, rtol=solver.rtol, atol=solver.atol, method=solver.method, options=options
                )
                return cast(Tensor, states)
        except AssertionError as error:
            if not str(error).startswith(("underflow in dt", "non-finite values in state")):
                raise
            raise self._failure("the step underflows", self._failing()) from error
        except _NotConvergedWarning as error:
            raise IntegrationError(
                f"implicit_adams did not converge with step={solver.step}. Pass a smaller `step`."
            ) from error

    def _before_step(self, s: Tensor, y: Tensor, length: Tensor) -> None:
        self._clock, self._length = float(s), float(length)
        self._steps += 1
        if self._steps > self.solver.max_steps:
            raise self._failure(
                f"max_steps={self.solver.max_steps} steps were not enough",
                torch.ones_like(self._errors, dtype=torch.bool),
            )

    def _failing(self) -> Tensor:
        members = ~(self._errors <= 1)
        return members if members.any() else ~members

    def _failure(self, reason: str, members: Tensor) -> DivergenceError:
        time = self._start + self._clock * self._unit
        return DivergenceError(
            f"{self.solver.method} stopped at t = {time:.6g}: {reason}. The solution may blow up or be stiff there: "
            "shorten `t`, loosen `rtol` and `atol`, raise `max_steps`, or pass on_divergence='nan'.",
            time,
            members,
        )

    def _recorded(self, norm: Norm) -> Norm:
        def recorded(x: Tensor) -> Tensor:
            self._errors = norm(x.detach())
            # A trial step out of the field's domain is a failed step, to be taken again shorter.
            return self._errors.amax().nan_to_num(nan=math.inf)

        return recorded

    @torch.no_grad()
    def _first_step(self, y: Tensor, times: Tensor) -> float:
        # Hairer, Norsett and Wanner, 1993, II.4; torchdiffeq's own fails where the trial leaves the field's domain.
        scale = self.solver.atol + self.solver.rtol * y.abs()
        f = self._dynamics(times[0], y)
        d0, d1 = float(_rms(y / scale).amax()), float(_rms(f / scale).amax())
        longest = float(times[-1] - times[0])
        h = min(max(0.01 * d0 / d1, 1e-14 * longest), longest) if d0 > 1e-5 and d1 > 1e-5 else 1e-6 * longest
        change = self._dynamics(times[0] + h, y + h * f) - f
        d2 = float(_rms(change / scale).amax()) / h
        if not math.isfinite(d2):
            return 1e-3 * h
        largest = max(d1, d2)
        best = (0.01 / largest) ** (1 / _ORDER[self.solver.method]) if largest > 1e-15 else longest
        return min(100 * h, best, longest)


class _Observed:
    """A function with the callback that torchdiffeq looks for."""

    def __init__(self, f: Dynamics, callback_step: Callable[[Tensor, Tensor, Tensor], None]) -> None:
        self._f = f
        self.callback_step = callback_step

    def __call__(self, s: Tensor, y: Tensor) -> Tensor:
        return self._f(s, y)


class _Context(FunctionCtx):
    problem: Reference
    times: Tensor
    saved_tensors: tuple[Tensor, ...]


class _Adjoint(Function):
    # torchdiffeq's own adjoint solves to an absolute tolerance whatever the loss's scale, returns zeros as second
    # derivatives, fails on a field that does not depend on the state and does not notice replaced constants.
    @staticmethod
    def forward(ctx: _Context, y0: Tensor, problem: Reference, times: Tensor, *constants: Tensor) -> Tensor:
        states = problem.forward(y0.detach(), times)
        ctx.problem, ctx.times = problem, times
        ctx.save_for_backward(states, *constants)
        return states

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        check_first_derivative("Pass gradient='backprop'.")
        states, *constants = ctx.saved_tensors
        check_unchanged(ctx.problem.field, constants)
        y0, *rest = ctx.problem.backward(states, gradients[0], ctx.times, constants)
        return (y0, None, None, *rest)


class _NotConvergedWarning(UserWarning):
    pass


@contextlib.contextmanager
def _warnings_as_errors() -> Generator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Functional iteration did not converge")
        try:
            yield
        except UserWarning as error:
            if not str(error).startswith("Functional iteration"):
                raise
            raise _NotConvergedWarning from error


def _unit_grid(f: object, y0: object, times: Tensor) -> Tensor:
    n = round(float(times[-1] - times[0]))
    return times[0] + torch.arange(n + 1, dtype=times.dtype, device=times.device)


def _rms(x: Tensor) -> Tensor:
    return x.square().mean(-1).sqrt()


def _pack(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([x.reshape(-1) for x in parts])


def _unpack(packed: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    parts = packed.split([shape.numel() for shape in shapes])
    return [x.view(shape) for x, shape in zip(parts, shapes, strict=True)]
