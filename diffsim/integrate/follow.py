"""Gradients in times: a state follows its time with the field's slope."""

from typing import cast

from torch import Tensor
from torch.autograd.function import Function, FunctionCtx

from diffsim.integrate.constants import check_first_derivative

__all__ = ["follow"]


def follow(y: Tensor, t: Tensor, slope: Tensor) -> Tensor:
    """States [T, ..., d] as functions of their times [T] too: the identity, whose derivative in time is given."""
    return cast(Tensor, _FollowTimes.apply(y, t, slope))


class _Context(FunctionCtx):
    saved_tensors: tuple[Tensor, ...]


class _FollowTimes(Function):
    @staticmethod
    def forward(ctx: _Context, y: Tensor, t: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(t, slope)
        return y.clone()

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        check_first_derivative("Times have first derivatives only: pass t.detach().")
        t, slope = ctx.saved_tensors
        (gradient,) = gradients
        return gradient, (gradient * slope).reshape(len(t), -1).sum(-1).to(t), None
