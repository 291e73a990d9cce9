"""Methods that the native library has: solves, and the exact reverse of the computed solution."""

import ctypes
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from diffsim.integrate.symplectic import COMPOSITION
from diffsim.integrate.tableaux import FIXED_TABLEAUX, AdaptiveTableau, Tableau
from diffsim.native.kernel_call import Call
from diffsim.native.memory import Memory, pointer
from diffsim.native.program import Program

__all__ = ["Adaptive", "Method", "Record", "RungeKutta", "Solved", "Splitting"]

Record = Sequence[Tensor]
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


class _Grid(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_double),
        ("step", ctypes.c_double),
        ("n_nodes", ctypes.c_int32),
        ("nodes", ctypes.c_void_p),
    )


class _Tableau(ctypes.Structure):
    _fields_ = (
        ("stages", ctypes.c_int32),
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
        ("c", ctypes.c_void_p),
    )


class _Moves(ctypes.Structure):
    _fields_ = (
        ("n", ctypes.c_int32),
        ("drifts", ctypes.c_void_p),
        ("kicks", ctypes.c_void_p),
        ("half_kick", ctypes.c_double),
    )


class _Embedded(ctypes.Structure):
    _fields_ = (
        ("tableau", _Tableau),
        ("order", ctypes.c_int32),
        ("error", ctypes.c_void_p),
        ("dense", ctypes.c_void_p),
        ("rtol", ctypes.c_double),
        ("atol", ctypes.c_double),
        ("max_steps", ctypes.c_int64),
    )


class _Outputs(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_double),
        ("sign", ctypes.c_double),
        ("n", ctypes.c_int32),
        ("at", ctypes.c_void_p),
    )


class _Steps(ctypes.Structure):
    _fields_ = (
        ("offsets", ctypes.c_void_p),
        ("begins", ctypes.c_void_p),
        ("lengths", ctypes.c_void_p),
        ("states", ctypes.c_void_p),
    )


def _tableau(tableau: Tableau, memory: Memory) -> _Tableau:
    return _Tableau(len(tableau.b), *(memory.doubles(x) for x in _coefficients(tableau)))


@functools.cache
def _coefficients(tableau: Tableau) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(x.ravel().tolist()) for x in (tableau.a, tableau.b, tableau.c))


@functools.cache
def _estimates(tableau: AdaptiveTableau) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(x.ravel().tolist()) for x in (tableau.error, tableau.dense))


def _grid(start: float, step: float, nodes: tuple[int, ...], memory: Memory) -> _Grid:
    return _Grid(start, step, len(nodes), memory.integers(nodes))


@dataclass(frozen=True, slots=True)
class RungeKutta:
    """An explicit Runge-Kutta method in equal steps.

    Attributes:
        method: Its name.
        start: First time.
        step: Signed step.
        nodes: Step numbers of the outputs, increasing from 0.
    """

    method: str
    start: float
    step: float
    nodes: tuple[int, ...]

    def solve(self, program: Program, y0: Tensor, *, keep: bool) -> Solved:
        memory = Memory()
        nodes = tuple(range(self.nodes[-1] + 1)) if keep else self.nodes
        states = y0.new_empty(len(nodes), *y0.shape)
        states[0] = y0
        tableau = _tableau(FIXED_TABLEAUX[self.method], memory)
        grid = _grid(self.start, self.step, nodes, memory)
        call = Call(program, y0.dtype)
        call("runge_kutta", tableau, grid, ctypes.c_int(len(y0)), pointer(states))
        if not keep:
            return Solved(states)
        return Solved(states[torch.tensor(self.nodes)], (states,))

    def reverse(self, program: Program, record: Record, gradient: Tensor, wanted: Sequence[Tensor]) -> list[Tensor]:
        memory = Memory()
        (states,) = record
        initial = torch.empty_like(states[0])
        tableau = _tableau(FIXED_TABLEAUX[self.method], memory)
        grid = _grid(self.start, self.step, self.nodes, memory)
        call = Call(program, states.dtype, wanted)
        call(
            "runge_kutta_reverse",
            tableau,
            grid,
            ctypes.c_int(len(initial)),
            pointer(states),
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

    def solve(self, program: Program, y0: Tensor, *, keep: bool) -> Solved:
        memory = Memory()
        states = y0.new_empty(len(self.nodes), *y0.shape)
        states[0] = y0
        inner = y0.new_empty(self.nodes[-1] + 1, *y0.shape) if keep else None
        grid = _grid(self.start, self.step, self.nodes, memory)
        call = Call(program, y0.dtype)
        moves = self._moves(memory)
        rows = ctypes.c_int(len(y0))
        call("splitting", moves, grid, rows, pointer(states), pointer(inner))
        return Solved(states, () if inner is None else (y0, inner))

    def reverse(self, program: Program, record: Record, gradient: Tensor, wanted: Sequence[Tensor]) -> list[Tensor]:
        memory = Memory()
        y0, inner = record
        initial = torch.empty_like(y0)
        grid = _grid(self.start, self.step, self.nodes, memory)
        moves = self._moves(memory)
        call = Call(program, y0.dtype, wanted)
        call(
            "splitting_reverse",
            moves,
            grid,
            ctypes.c_int(len(y0)),
            pointer(y0),
            pointer(inner),
            pointer(gradient),
            pointer(initial),
            ctypes.c_int(bool(wanted)),
        )
        return [initial, *call.gradients.values()]

    def _moves(self, memory: Memory) -> _Moves:
        weights = COMPOSITION[self.method]
        kicks = tuple((a + b) / 2 for a, b in pairwise((*weights, weights[0])))
        return _Moves(len(weights), memory.doubles(weights), memory.doubles(kicks), weights[0] / 2)


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
        starts = record[-1]
        initial = torch.empty_like(gradient[0])
        steps = _Steps(*(x.data_ptr() for x in record))
        call = Call(program, starts.dtype, wanted)
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

    def _method(self, memory: Memory) -> _Embedded:
        tableau = self.tableau
        error, dense = (memory.doubles(x) for x in _estimates(tableau))
        return _Embedded(_tableau(tableau, memory), tableau.order, error, dense, self.rtol, self.atol, self.max_steps)

    def _outputs(self, memory: Memory) -> _Outputs:
        start, *rest = self.times.tolist()
        sign = 1.0 if rest[-1] > start else -1.0
        distances = (0.0, *[(t - start) * sign for t in rest])
        return _Outputs(start, sign, len(distances), memory.doubles(distances))
