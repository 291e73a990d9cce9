"""What is refused before a solve: wrong arguments, and a field that does not give a state's derivative."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError, IntegrationError
from diffsim.fields.base import VectorField
from diffsim.integrate.constants import hidden_leaves
from diffsim.integrate.solver import Solver

__all__ = ["check_arguments", "check_field"]


def check_arguments(field: object, y0: object, t: object, solver: object) -> None:
    """Refuses arguments of the wrong type, dtype, shape or value.

    Raises:
        ArgumentError: A wrong shape or value.
        ArgumentTypeError: A wrong type or dtype.
    """
    if not isinstance(field, VectorField):
        raise ArgumentTypeError(
            f"`field` must be a VectorField, got {type(field).__name__}. Wrap a function f(t, y) in FunctionField(f)."
        )
    if not isinstance(solver, Solver):
        raise ArgumentTypeError(
            f"`solver` must be a Solver, got {type(solver).__name__}. Pass Solver('rk4', step=...)."
        )
    for name, value in (("y0", y0), ("t", t)):
        if not isinstance(value, Tensor):
            raise ArgumentTypeError(f"`{name}` must be a tensor, got {type(value).__name__}. Pass torch.tensor(...).")
        if value.dtype not in (torch.float32, torch.float64):
            raise ArgumentTypeError(f"`{name}` must be float32 or float64, got {value.dtype}. Pass {name}.double().")
    y0, t = cast(Tensor, y0), cast(Tensor, t)
    if torch._C._functorch.is_functorch_wrapped_tensor(y0):  # pyright: ignore
        raise ArgumentTypeError(
            "`y0` must be a plain tensor, not one inside vmap, jacrev or another transformation of torch.func. Pass a "
            "batch as it is, and take derivatives by torch.autograd (autograd.functional.jacobian)."
        )
    if y0.ndim == 0 or y0.numel() == 0:
        raise ArgumentError(f"`y0` must have shape [..., d] and not be empty, got {list(y0.shape)}.")
    if t.ndim != 1 or len(t) == 0:
        raise ArgumentError(f"`t` must have shape [T] with T >= 1, got {list(t.shape)}.")
    if t.device != y0.device:
        raise ArgumentError(f"`t` must be on y0's device {y0.device}, got {t.device}. Pass t.to(y0.device).")
    for name, value in (("y0", y0), ("t", t)):
        if not math.isfinite(torch.linalg.vector_norm(value.detach(), math.inf)):
            count = int((~torch.isfinite(value)).sum())
            raise ArgumentError(f"`{name}` must be finite, got {count} values that are NaN or infinite.")
    steps = t.detach().diff()
    if len(steps) and not (steps.amin() > 0 or steps.amax() < 0):
        raise ArgumentError(
            "`t` must be strictly increasing or strictly decreasing, got unsorted or repeated times. "
            "Pass t.unique(), in float64 if the times differ by less than float32 resolves."
        )
    field.check_state(y0.detach())


def check_field(field: VectorField, y0: Tensor, t: Tensor, known: Sequence[Tensor]) -> Tensor:
    """The field at the start, shape [..., d]; refuses one that does not give a state's derivative.

    Raises:
        ArgumentError: A wrong shape or dtype, NaN, or a tensor requiring a gradient that is no constant of the field.
        ArgumentTypeError: A wrong type or dtype.
    """
    time = t[0].detach().to(y0.dtype)
    y = y0.detach().requires_grad_(torch.is_grad_enabled())
    try:
        slope = field(time, y)
    except (IntegrationError, torch.OutOfMemoryError):
        raise
    except RuntimeError as error:
        raise ArgumentError(
            f"`field` could not be evaluated at `y0` of shape {list(y0.shape)} and {y0.dtype}: {error}. Give it states "
            "of its own dimension, and one dtype: field.to(y0.dtype), or y0.to(...)."
        ) from error
    if not isinstance(slope, Tensor):
        raise ArgumentTypeError(f"`field` must return a tensor, got {type(slope).__name__}.")
    if slope.shape != y0.shape:
        raise ArgumentError(f"`field` must return y's shape {list(y0.shape)}, got {list(slope.shape)}.")
    if slope.dtype != y0.dtype:
        raise ArgumentTypeError(
            f"`field` must return y's dtype {y0.dtype}, got {slope.dtype}. Convert one: "
            "field.to(y0.dtype), or y0.to(...)."
        )
    if not torch.isfinite(slope).all():
        raise ArgumentError(f"`field` must be finite at `y0`, got NaN or infinity at t = {float(time):.6g}.")
    hidden = hidden_leaves(slope, (y, *known)) if slope.requires_grad else []
    if hidden:
        raise ArgumentError(
            f"`field` depends on {len(hidden)} tensors that require a gradient and are neither its parameters nor its "
            f"buffers (shapes {[list(h.shape) for h in hidden]}), so the gradient would miss them. Register them, or "
            "pass them to FunctionField by keyword."
        )
    return slope.detach()
