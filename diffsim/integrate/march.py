"""Our own fixed-step solvers' walk over a grid, with the graph of all steps or with a repeat of each piece."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx

from diffsim.fields.base import VectorField
from diffsim.integrate.constants import check_first_derivative, check_unchanged

__all__ = ["Stepper", "march"]


class Stepper(Protocol):
    """A fixed-step method on one grid."""

    @property
    def field(self) -> VectorField:
        """The field that is solved."""
        ...

    def advance(self, y: Tensor, first: int, last: int) -> Tensor:
        """The state at step number `last` from that at `first`."""
        ...


def march(stepper: Stepper, y0: Tensor, nodes: Sequence[int], constants: Sequence[Tensor], *, replay: bool) -> Tensor:
    """States at the nodes, [..., d] -> [nodes, ..., d].

    Args:
        stepper: The method.
        y0: State at the first node.
        nodes: Increasing step numbers.
        constants: Tensors of the field that need a gradient.
        replay: Whether to forget the graph and repeat pieces of about sqrt(n) steps when the gradient is asked for.
    """
    piece = math.ceil(math.sqrt(nodes[-1] - nodes[0])) if replay else nodes[-1]
    states = [y0]
    for a, b in pairwise(nodes):
        y = states[-1]
        for first in range(a, b, piece):
            last = min(first + piece, b)
            if replay:
                y = cast(Tensor, _Replay.apply(y, stepper, first, last, *constants))
            else:
                y = stepper.advance(y, first, last)
        states.append(y)
    return torch.stack(states)


class _Context(FunctionCtx):
    stepper: Stepper
    steps: tuple[int, int]
    saved_tensors: tuple[Tensor, ...]


class _Replay(Function):
    @staticmethod
    def forward(ctx: _Context, y: Tensor, stepper: Stepper, first: int, last: int, *constants: Tensor) -> Tensor:
        ctx.stepper, ctx.steps = stepper, (first, last)
        ctx.save_for_backward(y, *constants)
        return stepper.advance(y.detach(), first, last)

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        check_first_derivative("Pass gradient='backprop'.")
        y, *constants = ctx.saved_tensors
        check_unchanged(ctx.stepper.field, constants)
        with torch.enable_grad():
            y = y.detach().requires_grad_(True)
            end = ctx.stepper.advance(y, *ctx.steps)
            y_gradient, *rest = torch.autograd.grad(end, (y, *constants), gradients, allow_unused=True)
        return (y_gradient, None, None, None, *rest)
