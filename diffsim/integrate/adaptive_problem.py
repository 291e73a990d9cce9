"""An initial value problem by our own adaptive steps: its path, its states at any times, its failures."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsim.fields.base import VectorField
from diffsim.integrate.adaptive import REASONS, Stepper, Stop
from diffsim.integrate.dynamics import dynamics_of
from diffsim.integrate.failure import DivergenceError
from diffsim.integrate.interpolated import interpolated
from diffsim.integrate.path import Path
from diffsim.integrate.replay import replay, unroll
from diffsim.integrate.solver import Solver
from diffsim.integrate.tableaux import AdaptiveTableau

__all__ = ["AdaptiveProblem"]


class AdaptiveProblem:
    """A field, initial states and a span of time, by `dopri5`, `tsit5` or `bosh3`.

    Args:
        field: The vector field.
        solver: Method, tolerances, gradient and what to do with diverging trajectories.
        constants: Tensors of the field that need a gradient.
        y0: Initial states, shape [..., d].
        start: First time.
        end: Last time.

    Raises:
        ArgumentError: The trajectories have steps of their own, and the field does not take times of shape [..., 1].
    """

    def __init__(
        self, field: VectorField, solver: Solver, constants: Sequence[Tensor], y0: Tensor, start: float, end: float
    ) -> None:
        self.solver, self.start, self.span = solver, start, end - start
        self.dynamics = dynamics_of(field, y0.detach(), start, self.span, independent=solver.independent)
        self._constants = constants
        self._y0 = y0
        self._rows_y0 = y0.reshape(-1, y0.shape[-1])
        rows = self.dynamics.rows
        self._stepper = Stepper(
            solver.method, solver.rtol, solver.atol, solver.max_steps, rows == "together", rows == "any"
        )

    @property
    def tableau(self) -> AdaptiveTableau:
        """The method's coefficients."""
        return self._stepper.tableau

    def path(self, stop: Stop | None = None) -> Path:
        """The steps, which carry no gradient.

        Args:
            stop: Tells of the trajectories of a step, shape [m], which ones are to go no further.

        Raises:
            DivergenceError: A trajectory fails, and the solver does not ask for NaN instead.
        """
        path = self._stepper.run(self.dynamics, self._rows_y0.detach(), stop=stop)
        if self.solver.on_divergence == "raise" and path.failed.any():
            raise self._failure(path)
        return path

    def unit(self, t: Tensor) -> Tensor:
        """Unit times, float64."""
        return (t.double() - self.start) / self.span

    def states(self, path: Path, s: Tensor) -> Tensor:
        """States at unit times of each trajectory, [q, ...] -> [q, ..., d]; NaN where one has failed."""
        n = len(path.y0)
        s = s.reshape(len(s), n)
        states = self._differentiable(path, s).reshape(len(s), n, -1)
        failed = (path.failed > 0)[:, None]
        if failed.any():
            states = torch.where(failed, states.detach(), states)
            states = torch.where((failed[:, 0] & (s > path.reached))[..., None], torch.nan, states)
        return states.reshape(len(s), *self._y0.shape)

    def at(self, path: Path, times: Tensor) -> Tensor:
        """States at the times, [T] -> [T, ..., d]."""
        s = self.unit(times).clamp(0.0, 1.0)
        return self.states(path, s.reshape(-1, *[1] * (self._y0.ndim - 1)).expand(-1, *self._y0.shape[:-1]))

    def _differentiable(self, path: Path, s: Tensor) -> Tensor:
        """States of rows, shape [q, n] -> [q n, d]."""
        n, y0 = len(path.y0), self._rows_y0
        needed = torch.is_grad_enabled() and (y0.requires_grad or len(self._constants) > 0)
        if needed and self.solver.gradient == "interpolated":
            s, order = s.sort(0)
            states = interpolated(self.dynamics, self._stepper, path, s, y0, self._constants)
            return states.gather(0, order.argsort(0)[..., None].expand_as(states)).flatten(0, 1)
        places = path.find(s.flatten(), torch.arange(n, device=s.device).repeat(len(s)))
        if not needed:
            return path.states(places)
        if self.solver.gradient == "backprop":
            return unroll(self.dynamics, path, places, y0)
        return replay(self.dynamics, path, places, y0, self._constants)

    def _failure(self, path: Path) -> DivergenceError:
        failed = path.failed > 0
        time = self.start + self.span * float(path.reached[failed].amin())
        reason = REASONS[int(path.failed.amax())].format(max_steps=self.solver.max_steps)
        return DivergenceError(
            f"{self.solver.method} stopped at t = {time:.6g}: {reason}. The solution may blow up or be stiff there: "
            "shorten `t`, loosen `rtol` and `atol`, raise `max_steps`, or pass on_divergence='nan'.",
            time,
            failed.reshape(self._y0.shape[:-1]),
        )
