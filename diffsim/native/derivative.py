"""Squared errors of a field's derivatives, by the native library where it knows the field."""

import ctypes
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx

from diffsim.fields.base import VectorField
from diffsim.integrate.constants import check_first_derivative, constants
from diffsim.native.choose import native_evaluation
from diffsim.native.kernel_call import Call
from diffsim.native.memory import pointer
from diffsim.native.program import Program

__all__ = ["squared_error"]


def squared_error(field: VectorField, t: Tensor, y: Tensor, dy: Tensor) -> Tensor:
    """The sum of the squared errors of a field's derivatives, a scalar.

    Args:
        field: The field.
        t: Time, shape [].
        y: States, shape [..., d].
        dy: What the derivatives should be, shape [..., d].
    """
    program = None if y.requires_grad or dy.requires_grad else native_evaluation(field, y)
    if program is None:
        return (field(t, y) - dy).square().sum()
    if not torch.is_grad_enabled():
        return (_derivatives(program, float(t), y) - dy).square().sum()
    return cast(Tensor, _SquaredError.apply(program, float(t), y, dy, *constants(field)))


def _derivatives(program: Program, t: float, y: Tensor) -> Tensor:
    rows = y.reshape(-1, y.shape[-1]).contiguous()
    f = torch.empty_like(rows)
    Call(program, y.dtype)("evaluate", ctypes.c_int(len(rows)), ctypes.c_double(t), pointer(rows), pointer(f))
    return f.reshape(y.shape)


class _Context(FunctionCtx):
    gradients: Sequence[Tensor]


class _SquaredError(Function):
    """The gradient is made beside the error, while what it needs is in the cache."""

    @staticmethod
    def forward(ctx: _Context, program: Program, t: float, y: Tensor, dy: Tensor, *constants: Tensor) -> Tensor:
        d = y.shape[-1]
        y, dy = y.reshape(-1, d).contiguous(), dy.reshape(-1, d).contiguous()
        error, y_gradient = y.new_empty(len(y)), torch.empty_like(y)
        call = Call(program, y.dtype, constants)
        call(
            "squared_error",
            ctypes.c_int(len(y)),
            ctypes.c_double(t),
            pointer(y),
            pointer(dy),
            pointer(error),
            pointer(y_gradient),
            ctypes.c_int(bool(constants)),
        )
        ctx.gradients = [call.gradients[id(c)] for c in constants]
        return error.sum()

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        check_first_derivative("Differentiate the field itself.")
        # The library gives the gradient of half the sum.
        return (None, None, None, None, *(2 * gradients[0] * g for g in ctx.gradients))
