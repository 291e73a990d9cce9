"""Solves of several fields from the same initial states, as one differentiable function."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx

from diffsim.native.methods import Solved
from diffsim.native.solve import NativeSolve

__all__ = ["solve_together"]


def solve_together(members: Sequence[NativeSolve], y0: Tensor) -> Tensor:
    """States of all members at their method's outputs, [..., d] -> [k, T, ..., d], differentiable in y0 alone."""
    if torch.is_grad_enabled() and y0.requires_grad:
        return cast(Tensor, _Ensemble.apply(y0, members))
    start = y0.detach()
    return _stack([member.solve(start, keep=False) for member in members], y0)


def _stack(solved: Sequence[Solved], y0: Tensor) -> Tensor:
    states = torch.stack([one.states for one in solved])
    return states.reshape(*states.shape[:2], *y0.shape)


class _Context(FunctionCtx):
    members: Sequence[NativeSolve]
    lengths: Sequence[int]
    saved_tensors: tuple[Tensor, ...]


class _Ensemble(Function):
    @staticmethod
    def forward(ctx: _Context, y0: Tensor, members: Sequence[NativeSolve]) -> Tensor:
        solved = [member.solve(y0, keep=True) for member in members]
        records = [x for one in solved for x in one.record]
        ctx.members, ctx.lengths = members, [len(one.record) for one in solved]
        ctx.save_for_backward(*cast(Sequence[Tensor], records), y0)
        return _stack(solved, y0)

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *records, y0 = ctx.saved_tensors
        total = torch.zeros_like(y0)
        for member, length, gradient in zip(ctx.members, ctx.lengths, gradients[0], strict=True):
            record, records = records[:length], records[length:]
            total = total + member.pull_back(record, y0, gradient)
        return total, None
