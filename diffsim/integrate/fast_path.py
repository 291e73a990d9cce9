"""Solves by the native library: the method on the output times, and what becomes of trajectories that diverge."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsim.fields.base import VectorField
from diffsim.integrate.failure import DivergenceError
from diffsim.integrate.grid import Grid
from diffsim.integrate.solver import SEPARABLE_METHODS, Solver
from diffsim.integrate.tableaux import ADAPTIVE_TABLEAUX
from diffsim.native.implicit import ImplicitMidpoint, NotFoundError
from diffsim.native.methods import Adaptive, RungeKutta, Solved, Splitting
from diffsim.native.program import Program
from diffsim.native.solve import NativeSolve

__all__ = ["FastPath"]

FastMethod = Adaptive | ImplicitMidpoint | RungeKutta | Splitting
_REASONS = {1: "the step underflows", 2: "max_steps={max_steps} steps were not enough"}
_TAPE = {"adjoint": 2**27, "backprop": 2**31}  # bytes that a fixed-step solve may keep for its reverse


@dataclass(frozen=True, slots=True, eq=False)
class FastPath:
    """A field that the native library knows, and how to solve it; attributes as those of `InitialValueProblem`.

    Attributes:
        program: The field's description for the library.
        plain: The same solve by the plain path, [..., d] -> [T, ..., d].
    """

    field: VectorField
    solver: Solver
    constants: Sequence[Tensor]
    resolution: float
    program: Program
    plain: Callable[[Tensor, Tensor], Tensor]

    def solve(self, y0: Tensor, times: Tensor) -> Tensor:
        """States at the times, [..., d], [T] -> [T, ..., d].

        Raises:
            IntegrationError: The solve fails, and the solver does not ask for NaN instead.
        """
        try:
            states, solved = self._states(y0, times)
        except NotFoundError:
            return self.plain(y0, times)
        if math.isfinite(torch.linalg.vector_norm(states.detach(), math.inf)):
            return states
        finite = torch.isfinite(states.detach()).all(-1)
        if self.solver.on_divergence == "raise":
            raise self._failure(finite, times, solved)
        good = finite.cummin(0).values
        marked = torch.where(good[..., None], states.detach(), torch.nan)
        survivors = good[-1]
        if not (states.requires_grad and survivors.any()):
            return marked
        # Once more without the diverged ones, so that no NaN reaches the others' gradients.
        alive = self._states(y0[survivors], times)[0]
        rows = survivors.expand(finite.shape)[..., None].expand_as(marked)
        return marked.masked_scatter(rows, alive)

    def method(self, times: Tensor, share: int = 1) -> tuple[FastMethod, Grid | None]:
        """The method on the times, [T], and the grid to whose nodes it goes, if it is one of fixed steps.

        Args:
            times: Output times, float64, shape [T].
            share: How many such solves share the memory for what the reverse needs.
        """
        solver = self.solver
        if solver.step is None:
            tableau = ADAPTIVE_TABLEAUX[solver.method]
            return Adaptive(tableau, times.cpu(), solver.rtol, solver.atol, solver.max_steps), None
        grid = Grid.over(times, solver.step, solver.max_steps, self.resolution)
        if solver.method == "implicit_midpoint":
            return ImplicitMidpoint(grid.start, grid.h, grid.nodes), grid
        kind = Splitting if solver.method in SEPARABLE_METHODS else RungeKutta
        tape = _TAPE.get(solver.gradient, 0) // share
        return kind(solver.method, grid.start, grid.h, grid.nodes, tape), grid

    def native(self, method: FastMethod, times: Tensor) -> NativeSolve:
        """The solve by a method on the times."""
        plain = self._plain(method, times) if self.solver.gradient == "backprop" else None
        return NativeSolve(self.field, self.program, method, self.constants, plain)

    def _states(self, y0: Tensor, times: Tensor) -> tuple[Tensor, Solved]:
        method, grid = self.method(times)
        states, solved = self.native(method, times)(y0)
        return (states if grid is None else grid.interpolate(self.field, states, grid.h)), solved

    def _plain(self, method: FastMethod, times: Tensor) -> Callable[[Tensor], Tensor]:
        if isinstance(method, Adaptive):
            return lambda y0: self.plain(y0, times)
        start, step, nodes = method.start, method.step, method.nodes
        return lambda y0: self.plain(y0, start + torch.tensor(nodes, dtype=torch.float64) * step)

    def _failure(self, finite: Tensor, times: Tensor, solved: Solved) -> DivergenceError:
        first = float(times[~finite.reshape(len(times), -1).all(1)][0])
        code = 0 if solved.failed is None else int(solved.failed.max())
        reason = _REASONS.get(code, "a state is not finite").format(max_steps=self.solver.max_steps)
        mend = "a smaller `step`" if self.solver.step else "looser `rtol` and `atol`, or a larger `max_steps`"
        return DivergenceError(
            f"{self.solver.method} stopped at or before t = {first:.6g}: {reason}. The solution may blow up or be "
            f"stiff there: shorten `t`, pass {mend}, or pass on_divergence='nan'.",
            first,
            ~finite.all(0),
        )
