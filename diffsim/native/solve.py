"""Solves by the native library as differentiable functions, with what becomes of trajectories that diverge."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx

from diffsim.fields.base import VectorField
from diffsim.integrate.constants import check_first_derivative, check_unchanged
from diffsim.native.methods import Method, Record, Solved
from diffsim.native.program import Program

__all__ = ["NativeSolve"]


@dataclass(frozen=True, slots=True, eq=False)
class NativeSolve:
    """One solve of a field.

    Attributes:
        field: The field.
        program: Its description.
        method: The method on the solve's output times.
        constants: Tensors of the field that need a gradient.
        plain: The same solve with a graph, [..., d] -> [T, ..., d], for derivatives of gradients; None refuses these.
    """

    field: VectorField
    program: Program
    method: Method
    constants: Sequence[Tensor]
    plain: Callable[[Tensor], Tensor] | None

    def __call__(self, y0: Tensor) -> tuple[Tensor, Solved]:
        """States at the outputs, [..., d] -> [T, ..., d], and the solve behind them."""
        if torch.is_grad_enabled() and (y0.requires_grad or self.constants):
            kept: list[Solved] = []
            states = cast(Tensor, _Solve.apply(y0, self, kept, *self.constants))
            return states, kept.pop()
        solved = self.solve(y0.detach(), keep=False)
        return solved.states.reshape(-1, *y0.shape), solved

    def solve(self, y0: Tensor, *, keep: bool) -> Solved:
        """The solve of all rows of initial states, shape [..., d]."""
        return self.method.solve(self.program, y0.reshape(-1, y0.shape[-1]).contiguous(), keep=keep)

    def pull_back(self, record: Record, y0: Tensor, gradient: Tensor) -> Tensor:
        """The gradient in the initial states, [..., d], of one in the states; with a graph where one is asked for."""
        if torch.is_grad_enabled():
            (start,) = _graph(self, y0, (), gradient)[:1]
            return cast(Tensor, start)
        rows = gradient.reshape(len(gradient), -1, y0.shape[-1]).contiguous()
        return self.method.reverse(self.program, record, rows, ())[0].reshape(y0.shape)


class _Context(FunctionCtx):
    native: NativeSolve
    n_record: int
    saved_tensors: tuple[Tensor, ...]  # None where the record has None


class _Solve(Function):
    @staticmethod
    def forward(ctx: _Context, y0: Tensor, native: NativeSolve, kept: list[Solved], *constants: Tensor) -> Tensor:
        solved = native.solve(y0, keep=True)
        kept.append(solved)
        ctx.native, ctx.n_record = native, len(solved.record)
        ctx.save_for_backward(*cast(Sequence[Tensor], solved.record), y0, *constants)
        return solved.states.reshape(-1, *y0.shape)

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        native, saved = ctx.native, ctx.saved_tensors
        record, y0, constants = saved[: ctx.n_record], saved[ctx.n_record], saved[ctx.n_record + 1 :]
        check_unchanged(native.field, constants)
        if torch.is_grad_enabled():
            return _graph(native, y0, constants, gradients[0])
        gradient = gradients[0].reshape(len(gradients[0]), -1, y0.shape[-1]).contiguous()
        wanted = {id(x): x for x in native.program.constants() if any(x is c for c in constants)}
        initial, *weights = native.method.reverse(native.program, record, gradient, list(wanted.values()))
        found = dict(zip(wanted, weights, strict=True))
        return (initial.reshape(y0.shape), None, None, *(found.get(id(c)) for c in constants))


def _graph(native: NativeSolve, y0: Tensor, constants: Sequence[Tensor], gradient: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients with a graph of their own, by solving once more with one."""
    if native.plain is None:
        check_first_derivative("Pass gradient='backprop'.")
    assert native.plain is not None
    start = y0 if y0.requires_grad else y0.detach().requires_grad_(True)
    states = native.plain(start)
    first, *rest = torch.autograd.grad(states, (start, *constants), gradient, create_graph=True, allow_unused=True)
    return (first, None, None, *rest)
