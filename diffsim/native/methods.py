"""Methods that the native library has: solves, and the exact reverse of the computed solution."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from diffsim.integrate.symplectic import COMPOSITION
from diffsim.integrate.tableaux import FIXED_TABLEAUX, AdaptiveTableau
from diffsim.native.kernel_call import Call
from diffsim.native.memory import Memory, pointer, room
from diffsim.native.program import Program
from diffsim.native.specs import (
    EmbeddedSpec,
    MovesSpec,
    OutputsSpec,
    StepsSpec,
    estimates,
    grid_spec,
    tableau_spec,
)

__all__ = ["Adaptive", "Method", "Record", "RungeKutta", "Solved", "Splitting"]

Record = Sequence[Tensor | None]
"""What a solve leaves for its reverse."""


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """A solve by the native library.

    Attributes:
        states: At the outputs, shape [T, n, d]; NaN from where a trajectory was given up.
        record: For the reverse, if it was to be kept.
        failed: Why a trajectory was given up, shape [n]: 1 where its step underflows, 2 after too many steps.
        steps: Accepted steps, shape [n]; None where all have the same.
        rejected: Rejected steps, shape [n].
    """

    states: Tensor
    record: Record = ()
    failed: Tensor | None = None
    steps: Tensor | None = None
    rejected: Tensor | None = None


class Method(Protocol):
    """A method on the output times of one solve."""

    def solve(self, program: Program, y0: Tensor, *, keep: bool) -> Solved:
        """States at the outputs from initial states, shape [n, d]; `keep` what the reverse needs."""
        ...

    def reverse(self, program: Program, record: Record, gradient: Tensor, wanted: Sequence[Tensor]) -> list[Tensor]:
        """Gradients in the initial states, [n, d], and in the weights that are wanted, of [T, n, d] in the states."""
        ...


@dataclass(frozen=True, slots=True)
class RungeKutta:
    """An explicit Runge-Kutta method in equal steps.

    Attributes:
        method: Its name.
        start: First time.
        step: Signed step.
        nodes: Step numbers of the outputs, increasing from 0.
        tape: Most bytes of evaluations that are kept for the reverse; more are computed again from the steps' states.
    """

    method: str
    start: float
    step: float
    nodes: tuple[int, ...]
    tape: int

    def solve(self, program: Program, y0: Tensor, *, keep: bool) -> Solved:
        memory = Memory()
        tableau = FIXED_TABLEAUX[self.method]
        call = Call(program, y0.dtype)
        tape = _tape(call, y0, len(tableau.b) * self.nodes[-1], self.tape) if keep else None
        every = keep and tape is None
        nodes = tuple(range(self.nodes[-1] + 1)) if every else self.nodes
        states = y0.new_empty(len(nodes), *y0.shape)
        states[0] = y0
        grid = grid_spec(self.start, self.step, nodes, memory)
        rows = ctypes.c_int(len(y0))
        call("runge_kutta", tableau_spec(tableau, memory), grid, rows, pointer(states), pointer(tape))
        if not every:
            return Solved(states, (None, tape))
        return Solved(states[torch.tensor(self.nodes)], (states, None))

    def reverse(self, program: Program, record: Record, gradient: Tensor, wanted: Sequence[Tensor]) -> list[Tensor]:
        memory = Memory()
        states, tape = record
        initial = torch.empty_like(gradient[0])
        tableau = tableau_spec(FIXED_TABLEAUX[self.method], memory)
        grid = grid_spec(self.start, self.step, self.nodes, memory)
        call = Call(program, gradient.dtype, wanted)
        call(
            "runge_kutta_reverse",
            tableau,
            grid,
            ctypes.c_int(len(initial)),
            pointer(states),
            pointer(tape),
            pointer(gradient),
            pointer(initial),
            ctypes.c_int(bool(wanted)),
        )
        return [initial, *call.gradients.values()]


@dataclass(frozen=True, slots=True)
class Splitting:
    """Leapfrog or a composition of it, in equal steps; attributes as those of `RungeKutta`."""

    method: str
    start: float
    step: float
    nodes: tuple[int, ...]
    tape: int

    def solve(self, program: Program, y0: Tensor, *, keep: bool) -> Solved:
        memory = Memory()
        states = y0.new_empty(len(self.nodes), *y0.shape)
        states[0] = y0
        call = Call(program, y0.dtype)
        moves, n_steps = self._moves(memory), self.nodes[-1]
        tape = _tape(call, y0, moves.n * n_steps + 1, self.tape) if keep else None
        inner = y0.new_empty(n_steps + 1, *y0.shape) if keep and tape is None else None
        grid = grid_spec(self.start, self.step, self.nodes, memory)
        rows = ctypes.c_int(len(y0))
        call("splitting", moves, grid, rows, pointer(states), pointer(inner), pointer(tape))
        return Solved(states, (y0, inner, tape))

    def reverse(self, program: Program, record: Record, gradient: Tensor, wanted: Sequence[Tensor]) -> list[Tensor]:
        memory = Memory()
        y0, inner, tape = record
        initial = torch.empty_like(gradient[0])
        grid = grid_spec(self.start, self.step, self.nodes, memory)
        moves = self._moves(memory)
        call = Call(program, gradient.dtype, wanted)
        call(
            "splitting_reverse",
            moves,
            grid,
            ctypes.c_int(len(initial)),
            pointer(y0),
            pointer(inner),
            pointer(tape),
            pointer(gradient),
            pointer(initial),
            ctypes.c_int(bool(wanted)),
        )
        return [initial, *call.gradients.values()]

    def _moves(self, memory: Memory) -> MovesSpec:
        weights = COMPOSITION[self.method]
        kicks = tuple((a + b) / 2 for a, b in pairwise((*weights, weights[0])))
        return MovesSpec(len(weights), memory.doubles(weights), memory.doubles(kicks), weights[0] / 2)


@dataclass(frozen=True, slots=True)
class Adaptive:
    """An adaptive Runge-Kutta method that chooses the steps of every trajectory for itself.

    Attributes:
        tableau: The method.
        times: Monotone output times, float64, shape [T].
        rtol: Relative tolerance of a step.
        atol: Absolute tolerance of a step.
        max_steps: Number of steps after which a trajectory is given up.
    """

    tableau: AdaptiveTableau
    times: Tensor
    rtol: float
    atol: float
    max_steps: int

    def solve(self, program: Program, y0: Tensor, *, keep: bool) -> Solved:
        """States at the outputs; kept are the steps' offsets, beginnings, lengths and first states."""
        memory = Memory()
        n = len(y0)
        states = y0.new_empty(len(self.times), *y0.shape)
        states[0] = y0
        steps, rejected = torch.empty(n, dtype=torch.int64), torch.empty(n, dtype=torch.int64)
        failed = torch.empty(n, dtype=torch.int32)
        call = Call(program, y0.dtype)
        method, outputs = self._method(memory), self._outputs(memory)
        address = call.paths(
            method,
            outputs,
            ctypes.c_int(n),
            pointer(states),
            ctypes.c_int(keep),
            pointer(steps),
            pointer(rejected),
            pointer(failed),
        )
        try:
            if not keep:
                return Solved(states, (), failed, steps, rejected)
            offsets = torch.cat([steps.new_zeros(1), steps.cumsum(0)])
            total = int(offsets[-1])
            begins, lengths = torch.empty(total, dtype=torch.float64), torch.empty(total, dtype=torch.float64)
            starts = y0.new_empty(total, y0.shape[1])
            call.copy_paths(address, begins, lengths, starts)
            return Solved(states, (offsets, begins, lengths, starts), failed, steps, rejected)
        finally:
            call.free_paths(address)

    def reverse(self, program: Program, record: Record, gradient: Tensor, wanted: Sequence[Tensor]) -> list[Tensor]:
        memory = Memory()
        initial = torch.empty_like(gradient[0])
        steps = StepsSpec(*(pointer(x) for x in record))
        call = Call(program, gradient.dtype, wanted)
        method, outputs = self._method(memory), self._outputs(memory)
        call(
            "adaptive_reverse",
            method,
            outputs,
            ctypes.c_int(len(initial)),
            steps,
            pointer(gradient),
            pointer(initial),
            ctypes.c_int(bool(wanted)),
        )
        return [initial, *call.gradients.values()]

    def _method(self, memory: Memory) -> EmbeddedSpec:
        tableau = self.tableau
        error, dense = (memory.doubles(x) for x in estimates(tableau))
        return EmbeddedSpec(
            tableau_spec(tableau, memory), tableau.order, error, dense, self.rtol, self.atol, self.max_steps
        )

    def _outputs(self, memory: Memory) -> OutputsSpec:
        start, *rest = self.times.tolist()
        sign = 1.0 if rest[-1] > start else -1.0
        distances = (0.0, *[(t - start) * sign for t in rest])
        return OutputsSpec(start, sign, len(distances), memory.doubles(distances))


def _tape(call: Call, y0: Tensor, evaluations: int, most: int) -> Tensor | None:
    """Room for what evaluations leave for their reverse; None where it would be too much."""
    numbers = call.record_numbers() * len(y0) * evaluations
    return room(numbers, y0.dtype) if 0 < numbers * y0.element_size() <= most else None
