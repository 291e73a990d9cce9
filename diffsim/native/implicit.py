"""The implicit midpoint rule of the native library."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsim.errors import IntegrationError
from diffsim.native.kernel_call import Call
from diffsim.native.memory import Memory, pointer
from diffsim.native.methods import Record, Solved
from diffsim.native.program import Program
from diffsim.native.specs import grid_spec

__all__ = ["ImplicitMidpoint", "NotFoundError"]


class NotFoundError(Exception):
    """A midpoint was not found by fixed-point iteration; the plain path has a Newton iteration."""


@dataclass(frozen=True, slots=True)
class ImplicitMidpoint:
    """The implicit midpoint rule in equal steps.

    Attributes:
        start: First time.
        step: Signed step.
        nodes: Step numbers of the outputs, increasing from 0.
    """

    start: float
    step: float
    nodes: tuple[int, ...]

    def solve(self, program: Program, y0: Tensor, *, keep: bool) -> Solved:
        """States at the outputs.

        Raises:
            NotFoundError: The step is too long for fixed-point iteration, or the solution diverges.
        """
        memory = Memory()
        nodes = tuple(range(self.nodes[-1] + 1)) if keep else self.nodes
        states = y0.new_empty(len(nodes), *y0.shape)
        states[0] = y0
        failed = torch.zeros(len(y0), dtype=torch.int32)
        grid = grid_spec(self.start, self.step, nodes, memory)
        Call(program, y0.dtype)("midpoint", grid, ctypes.c_int(len(y0)), pointer(states), pointer(failed))
        if failed.any():
            raise NotFoundError
        return Solved(states[torch.tensor(self.nodes)], (states,)) if keep else Solved(states)

    def reverse(self, program: Program, record: Record, gradient: Tensor, wanted: Sequence[Tensor]) -> list[Tensor]:
        """Gradients in the initial states and in the weights that are wanted.

        Raises:
            IntegrationError: An adjoint was not found.
        """
        memory = Memory()
        initial = torch.empty_like(gradient[0])
        failed = torch.zeros(len(initial), dtype=torch.int32)
        grid = grid_spec(self.start, self.step, self.nodes, memory)
        call = Call(program, gradient.dtype, wanted)
        call(
            "midpoint_reverse",
            grid,
            ctypes.c_int(len(initial)),
            pointer(record[0]),
            pointer(gradient),
            pointer(initial),
            pointer(failed),
            ctypes.c_int(bool(wanted)),
        )
        if failed.any():
            raise IntegrationError("The gradient of implicit_midpoint did not converge. Pass a smaller `step`.")
        return [initial, *call.gradients.values()]
