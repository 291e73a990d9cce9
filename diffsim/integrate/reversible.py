"""Gradients of a time-reversible method that store no states: these are found again by going back."""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx

from diffsim.errors import IntegrationError
from diffsim.integrate.constants import check_first_derivative, check_unchanged
from diffsim.integrate.symplectic import Splitting

__all__ = ["retrace"]

_PIECE = 8  # steps whose graph is held at once


def retrace(stepper: Splitting, y0: Tensor, nodes: Sequence[int], constants: Sequence[Tensor]) -> Tensor:
    """States at the nodes, [..., d] -> [nodes, ..., d]; backward the memory does not grow with the number of steps.

    Args:
        stepper: The method.
        y0: State at the first node.
        nodes: Increasing step numbers.
        constants: Tensors of the field that need a gradient.
    """
    return cast(Tensor, _Retrace.apply(y0, stepper, tuple(nodes), *constants))


class _Context(FunctionCtx):
    stepper: Splitting
    nodes: tuple[int, ...]
    saved_tensors: tuple[Tensor, ...]


class _Retrace(Function):
    @staticmethod
    def forward(ctx: _Context, y0: Tensor, stepper: Splitting, nodes: tuple[int, ...], *constants: Tensor) -> Tensor:
        ctx.stepper, ctx.nodes = stepper, nodes
        states = [y0]
        for first, last in pairwise(nodes):
            states.append(stepper.advance(states[-1], first, last))
        result = torch.stack(states)
        ctx.save_for_backward(result, *constants)
        return result

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        check_first_derivative("Pass gradient='backprop'.")
        states, *constants = ctx.saved_tensors
        check_unchanged(ctx.stepper.field, constants)
        (gradient,), nodes, back = gradients, ctx.nodes, ctx.stepper.reversed()
        a, sums = gradient[-1], [torch.zeros_like(c) for c in constants]
        for i in range(len(nodes) - 1, 0, -1):
            y = states[i]
            for last in range(nodes[i], nodes[i - 1], -_PIECE):
                first = max(last - _PIECE, nodes[i - 1])
                y = (
                    back.advance(y, first, last)
                    if first > nodes[i - 1]
                    else _checked(back, y, first, last, states[i - 1])
                )
                with torch.enable_grad():
                    start = y.detach().requires_grad_(True)
                    end = ctx.stepper.advance(start, first, last)
                    a, *parts = torch.autograd.grad(
                        end, (start, *constants), a, allow_unused=True, materialize_grads=True
                    )
                for total, part in zip(sums, parts, strict=True):
                    total += part
            a = a + gradient[i - 1]
        return (a, None, None, *sums)


def _checked(back: Splitting, y: Tensor, first: int, last: int, stored: Tensor) -> Tensor:
    """The state at an output, which the way back has to meet.

    Raises:
        IntegrationError: It does not.
    """
    found = back.advance(y, first, last)
    size = torch.maximum(stored.abs(), y.abs()).amax(-1)
    if not ((found - stored).abs().amax(-1) <= torch.finfo(y.dtype).eps ** 0.5 * size).all():
        raise IntegrationError(
            "Going back does not find the states again: rounding errors grow too fast along this solution for "
            "gradient='reversible'. Pass gradient='checkpoint', or more output times."
        )
    return stored
