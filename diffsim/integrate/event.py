"""Events: when each trajectory of a batch first meets a surface, with gradients of that time and state."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError, IntegrationError
from diffsim.fields.base import VectorField
from diffsim.integrate.adaptive_problem import AdaptiveProblem
from diffsim.integrate.checks import check_arguments, check_field
from diffsim.integrate.constants import check_first_derivative, constants
from diffsim.integrate.follow import follow
from diffsim.integrate.path import Path, Step
from diffsim.integrate.runge_kutta import interpolate
from diffsim.integrate.solution import check_dense
from diffsim.integrate.solver import Solver

__all__ = ["Event", "odeint_event"]

Surface = Callable[[Tensor, Tensor], Tensor]

_SAMPLES = 16  # of the dense output in each step
_BISECTIONS = 54
_NO_SECOND = "An event has first derivatives only."


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """The end of each trajectory: at its event, or at `t_max` without one.

    Attributes:
        t: Times, shape [...]; NaN where a trajectory has failed and the solver goes on without it.
        y: States there, shape [..., d]; NaN likewise.
        happened: Whether it is an event, shape [...].
    """

    t: Tensor
    y: Tensor
    happened: Tensor


def odeint_event(
    field: VectorField,
    y0: Tensor,
    event: Surface,
    t0: float | Tensor,
    solver: Solver = Solver(),
    *,
    t_max: float,
) -> Event:
    """The first time after t0 at which event(t, y) changes its sign or is 0, for each trajectory.

    A trajectory that starts on the surface, to the accuracy of the solver, first has to leave it. Each step is sampled
    at 16 points, so that two crossings within a step are seen unless they lie closer together than that. Gradients of
    the time and of the state follow from the implicit function theorem and reach y0, t0, the constants of the field
    and every tensor that the event's value depends on.

    Args:
        field: The vector field; it gets times of shape [..., 1] if there is more than one trajectory.
        y0: Initial states, float32 or float64, shape [..., d].
        event: Maps times [..., 1] and states [..., d] to [...], with any number of leading dimensions.
        t0: The first time.
        solver: `dopri5`, `tsit5` or `bosh3`; every trajectory has steps of its own.
        t_max: Where to give up; before t0 to go backward in time.

    Raises:
        ArgumentError: A wrong shape or value, or a field that does not take a time for each trajectory.
        ArgumentTypeError: A wrong type or dtype.
        IntegrationError: The solution diverges before the event, or the event's value is not finite.

    Example:
        >>> from diffsim.fields import FunctionField
        >>> fall = FunctionField(lambda t, y: torch.stack([y[..., 1], -9.81 + 0 * y[..., 1]], -1))
        >>> ground = odeint_event(
        ...     fall, torch.tensor([[10.0, 0.0], [20.0, 0.0]]), lambda t, y: y[..., 0], 0.0, t_max=9.0
        ... )
        >>> ground.t
        tensor([1.4278, 2.0193])

    Source: Chen, Amos and Nickel, 2021, arXiv 2011.03902, section 3 (gradients of event times).
    """
    if not callable(event):
        raise ArgumentTypeError(
            f"`event` must be a function(t, y), got {type(event).__name__}. It is the third argument, `t0` the fourth."
        )
    start = torch.as_tensor(t0, dtype=torch.float64) if isinstance(t0, float | int) else t0
    if start.ndim or float(start.detach()) == t_max:
        raise ArgumentError(f"`t0` must be one number other than t_max={t_max}, got {t0}.")
    ends = torch.stack([start.double(), torch.full_like(start, t_max, dtype=torch.float64)]).to(y0.device)
    check_arguments(field, y0, ends, solver)
    check_dense(solver)
    known = constants(field) if torch.is_grad_enabled() else ()
    slope = check_field(field, y0, ends, known)
    follows = torch.is_grad_enabled() and ends.requires_grad
    started = follow(y0[None], ends[:1], -slope[None])[0] if follows else y0
    n = y0[..., 0].numel()
    solver = dataclasses.replace(solver, independent=n > 1)
    first, last = ends.tolist()
    problem = AdaptiveProblem(field, solver, known, started, first, last)
    search = _Search(event, problem, y0.detach())
    path = problem.path(stop=search.look)
    s = search.refine(path).reshape(y0.shape[:-1])
    happened = search.found.reshape(s.shape)
    y = problem.states(path, s[None])[0]
    t = (s * problem.span + problem.start).to(y.dtype)
    t = torch.where(path.failed.reshape(s.shape) > 0, torch.nan, t)
    if torch.is_grad_enabled():
        t, y = _implicit(event, problem, t, y, happened)
    return Event(t, y, happened)


def _implicit(
    event: Surface, problem: AdaptiveProblem, t: Tensor, y: Tensor, happened: Tensor
) -> tuple[Tensor, Tensor]:
    """The same time and state, with the gradients that keep the state on the surface."""
    at, there = t.detach()[..., None].requires_grad_(True), y.detach().requires_grad_(True)
    value = event(at, there)
    parts = torch.autograd.grad(value.sum(), (at, there), allow_unused=True, materialize_grads=True)
    with torch.no_grad():
        s = problem.unit(at[..., 0]).flatten()
        slope = (problem.dynamics(s, there.reshape(len(s), -1)) / problem.span).reshape(y.shape)
        rate = parts[0][..., 0] + (parts[1] * slope).sum(-1)
    value = event(at.detach(), y)
    if not value.requires_grad:
        return t, y
    shift = torch.where(happened, -value / torch.where(happened, rate, 1.0), 0.0)
    shift = shift - shift.detach()
    t, y = t + shift, y + slope * shift[..., None]
    for x in (t, y):
        x.register_hook(lambda _: check_first_derivative(_NO_SECOND))
    return t, y


class _Search:
    """Looks for the first change of sign along the steps of a solve."""

    def __init__(self, event: Surface, problem: AdaptiveProblem, y0: Tensor) -> None:
        self._event, self._problem, self._shape = event, problem, y0.shape
        y = y0.reshape(-1, y0.shape[-1])
        s = torch.zeros(len(y), dtype=torch.float64, device=y0.device)
        with torch.enable_grad():
            leaf = y.detach().requires_grad_(True)
            value = self._value(s[None], leaf[None])[0]
            slope = torch.zeros_like(leaf)
            if value.requires_grad:
                (slope,) = torch.autograd.grad(value.sum(), leaf, allow_unused=True, materialize_grads=True)
        # As far as the solver's errors move the value: nearer to the surface the sign says nothing.
        tolerance = problem.solver.atol + problem.solver.rtol * y.abs()
        self._slack = 10 * (slope.abs() * tolerance).sum(-1) + torch.finfo(y.dtype).tiny
        value = value.detach()
        self._side = torch.where(value.abs() > self._slack, value.sign(), 0.0)
        self._y = y
        self.found = torch.zeros_like(s, dtype=torch.bool)
        self._low, self._high = s.clone(), torch.ones_like(s)

    def _value(self, s: Tensor, y: Tensor) -> Tensor:
        """Values at unit times and states, shapes [q, n], [q, n, d] -> [q, n]."""
        problem, batch = self._problem, self._shape[:-1]
        t = (s * problem.span + problem.start).to(y.dtype).reshape(len(s), *batch, 1)
        value = self._event(t, y.reshape(len(s), *self._shape))
        if value.shape != (len(s), *batch):
            raise ArgumentError(
                f"`event` must return shape {[len(s), *batch]} for states of shape {[len(s), *self._shape]} and times "
                f"of shape {list(t.shape)}, got {list(value.shape)}. Take t[..., 0] where it uses the time."
            )
        if not torch.isfinite(value).all():
            raise IntegrationError("The event's value is not finite. Give an event that is defined along the solution.")
        return value.reshape(len(s), -1)

    def look(self, step: Step) -> Tensor:
        """Which of a step's trajectories have met the surface, shape [m]."""
        m, rows = len(step.rows), step.rows
        x = torch.linspace(0, 1, _SAMPLES + 1, dtype=torch.float64, device=step.s.device)[1:]
        shares = x.repeat_interleave(m)
        k, h = step.k.repeat(1, _SAMPLES, 1), step.h.repeat(_SAMPLES)
        y = self._y.expand(_SAMPLES, -1, -1).clone()
        y[:, rows] = interpolate(self._problem.tableau, step.y.repeat(_SAMPLES, 1), h, k, shares).unflatten(0, (-1, m))
        self._y = y[-1]
        s = torch.zeros_like(y[..., 0], dtype=torch.float64)
        s[:, rows] = step.s + x[:, None] * step.h
        value = self._value(s, y)[:, rows]
        side, moved = self._side[rows], step.h > 0
        away = (value.abs() > self._slack[rows]) & moved
        # The sign before is the one at the start, or for a start on the surface the first one away from it.
        first = torch.where(side != 0, -1, torch.where(away.any(0), away.int().argmax(0), _SAMPLES))
        left = value.sign().gather(0, first.clamp(0, _SAMPLES - 1)[None])[0]
        side = torch.where(side != 0, side, torch.where(first < _SAMPLES, left, 0.0))
        crossed = (torch.arange(_SAMPLES, device=s.device)[:, None] > first) & (value.sign() != side) & moved
        hit, place = crossed.any(0), crossed.int().argmax(0)
        self._side[rows] = side
        self._low[rows] = torch.where(hit, step.s + place / _SAMPLES * step.h, self._low[rows])
        self._high[rows] = torch.where(hit, step.s + (place + 1) / _SAMPLES * step.h, self._high[rows])
        self.found[rows] |= hit
        return hit

    @torch.no_grad()
    def refine(self, path: Path) -> Tensor:
        """Unit times of the events by bisection of the dense output, 1 where there is none, shape [n]."""
        low, high, rows = self._low, self._high, torch.arange(len(self.found), device=self.found.device)
        if not self.found.any():
            return torch.ones_like(high)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            y = path.states(path.find(middle, rows))
            y = torch.where(self.found[:, None], y, self._y)
            beyond = self._value(middle[None], y[None])[0].sign() != self._side
            low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
        return torch.where(self.found, high, 1.0)
