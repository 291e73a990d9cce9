"""One solve: the choice of the method, and what becomes of trajectories that diverge."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsim.fields.base import VectorField
from diffsim.integrate.adaptive_problem import AdaptiveProblem
from diffsim.integrate.compiled import compiled
from diffsim.integrate.failure import DivergenceError
from diffsim.integrate.grid import Grid
from diffsim.integrate.implicit_midpoint import ImplicitMidpoint
from diffsim.integrate.march import march
from diffsim.integrate.reference import Reference
from diffsim.integrate.reversible import retrace
from diffsim.integrate.runge_kutta import RungeKutta, step
from diffsim.integrate.solver import REFERENCE_METHODS, Solver
from diffsim.integrate.symplectic import Splitting, check_separable, move

__all__ = ["InitialValueProblem"]


@dataclass(frozen=True, slots=True, eq=False)
class InitialValueProblem:
    """A field and how to solve it.

    Attributes:
        field: The vector field.
        solver: Method, gradient and what to do with diverging trajectories.
        constants: Tensors of the field that need a gradient.
        resolution: Relative rounding error of the times.
    """

    field: VectorField
    solver: Solver
    constants: Sequence[Tensor]
    resolution: float

    def solve(self, y0: Tensor, times: Tensor) -> Tensor:
        """States at the times, [..., d], [T] -> [T, ..., d].

        Raises:
            IntegrationError: The solve fails, and the solver does not ask for NaN instead.
        """
        if self.solver.records_steps:
            ends = float(times[0]), float(times[-1])
            problem = AdaptiveProblem(self.field, self.solver, self.constants, y0, *ends)
            return problem.at(problem.path(), times)
        try:
            states = self._states(y0, times)
            self._check_finite(states, times)
            return states
        except DivergenceError:
            if self.solver.on_divergence == "raise":
                raise
        with torch.no_grad():
            states, good = self._survivors(y0, times, torch.ones_like(y0[..., 0], dtype=torch.bool))
        marked = torch.where(good[..., None], states, torch.nan)
        survivors = good[-1]
        if not (torch.is_grad_enabled() and survivors.any()):
            return marked
        # Once more with the graph: the diverged ones stand still, so that no NaN reaches the others' gradients.
        return torch.where(survivors[..., None], self._states(y0, times, survivors), marked)

    def _states(self, y0: Tensor, times: Tensor, moving: Tensor | None = None) -> Tensor:
        solver = self.solver

        def rate(unit: float) -> float | Tensor:
            return unit if moving is None else unit * moving[..., None].to(y0)

        if solver.step is None:
            span = times[-1] - times[0]
            reference = Reference(self.field, solver, float(times[0]), float(span), rate(float(span)))
            return reference.solve(y0, (times - times[0]) / span, self.constants)
        grid = Grid.over(times, solver.step, solver.max_steps, self.resolution)
        if solver.backend == "compiled":
            states = self._march(y0, grid, rate(1.0) * y0.new_tensor(grid.h), compiled(step), compiled(move))
            return grid.interpolate(self.field, states, rate(grid.h))
        h = rate(grid.h)
        if solver.method in REFERENCE_METHODS and solver.gradient != "checkpoint":
            nodes = torch.tensor(grid.nodes, dtype=torch.float64, device=y0.device)
            states = Reference(self.field, solver, grid.start, grid.h, h).solve(y0, nodes, self.constants)
        else:
            states = self._march(y0, grid, h, step, move)
        return grid.interpolate(self.field, states, h)

    def _march(
        self,
        y0: Tensor,
        grid: Grid,
        h: float | Tensor,
        step: Callable[..., Tensor],
        move: Callable[..., tuple[Tensor, Tensor, Tensor]],
    ) -> Tensor:
        """States at the grid's nodes by our own steppers, [..., d] -> [nodes, ..., d]."""
        solver = self.solver
        if solver.method in REFERENCE_METHODS:
            stepper = RungeKutta(self.field, solver.method, grid, h, step)
        elif solver.method == "implicit_midpoint":
            stepper = ImplicitMidpoint(self.field, grid, h)
        else:
            stepper = Splitting(check_separable(self.field, solver.method), solver.method, h, move)
        gradient = solver.gradient if torch.is_grad_enabled() else "backprop"
        if gradient == "reversible" and isinstance(stepper, Splitting):
            return retrace(stepper, y0, grid.nodes, self.constants)
        return march(stepper, y0, grid.nodes, self.constants, replay=gradient != "backprop")

    def _survivors(self, y0: Tensor, times: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
        """States [T, ..., d] and whether each is good [T, ...]: after a failure the others go on."""
        states, good, start, y = [y0[None]], [moving[None]], 0, y0
        while start < len(times) - 1:
            rest, failed = times[start:], torch.zeros_like(moving)
            try:
                piece = self._states(y, rest, moving)
                mask = moving & torch.isfinite(piece).all(-1).cummin(0).values
            except DivergenceError as failure:
                failed = failure.members & moving
                failed = failed if failed.any() else moving
                passed = int(((rest - failure.time) * (rest[-1] - rest[0]) < 0).sum())
                reached = min(max(passed, 1), len(rest) - 1)
                if reached > 1:
                    piece, mask = self._survivors(y, rest[:reached], moving)
                else:
                    piece, mask = y[None], moving[None]
            states.append(piece[1:])
            good.append(mask[1:])
            start, y = start + len(piece) - 1, piece[-1]
            moving = mask[-1] & ~failed
            if not moving.any():
                remaining = len(times) - 1 - start
                states.append(y0.expand(remaining, *y0.shape))
                good.append(moving.expand(remaining, *moving.shape))
                break
        return torch.cat(states), torch.cat(good)

    def _check_finite(self, states: Tensor, times: Tensor) -> None:
        finite = torch.isfinite(states).all(-1)
        if finite.all():
            return
        first = float(times[~finite.reshape(len(times), -1).all(1)][0])
        raise DivergenceError(
            f"{self.solver.method} gave a state that is not finite at or before t = {first:.6g}. "
            "Shorten `t`, pass a smaller `step`, or pass on_divergence='nan'.",
            first,
            ~finite.all(0),
        )
