"""The constants of the systems: buffers, learnt, differentiated or batched, in the dtype of the state when used."""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError, ArgumentTypeError

__all__ = [
    "Constant",
    "check_size",
    "components",
    "match",
    "register_constants",
    "register_nonnegative",
    "register_positive",
]

Constant: TypeAlias = float | Tensor
"""A number or a tensor that broadcasts with one component of the state: shape [], or [n, 1] for one value a state."""


def _tensor(name: str, value: Constant | Sequence[float]) -> Tensor:
    try:
        tensor = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentTypeError(f"`{name}` must be a number or a real tensor, got {value!r}.") from None
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise ArgumentTypeError(f"`{name}` must be a number or a real tensor, got dtype {tensor.dtype}.")
    if not torch.isfinite(tensor).all():
        raise ArgumentError(f"`{name}` must be finite, got {value!r}.")
    return tensor if tensor.is_floating_point() else tensor.to(torch.float64)


def register_constants(field: nn.Module, **values: Constant | Sequence[float]) -> None:
    """Keeps each value as a buffer of the field, or as a parameter where it is an `nn.Parameter`.

    A tensor that requires a gradient keeps its graph. Plain numbers become float64 of shape [].

    Raises:
        ArgumentTypeError: A value is not a real number or tensor.
        ArgumentError: A value is not finite.
    """
    for name, value in values.items():
        tensor = _tensor(name, value)
        if isinstance(tensor, nn.Parameter):
            field.register_parameter(name, tensor)
        else:
            field.register_buffer(name, tensor)


def register_positive(field: nn.Module, **values: Constant | Sequence[float]) -> None:
    """As `register_constants`, for constants that must be positive.

    Raises:
        ArgumentError: A value is zero, negative or not finite.
    """
    for name, value in values.items():
        if not (_tensor(name, value) > 0).all():
            raise ArgumentError(f"`{name}` must be positive, got {value!r}.")
    register_constants(field, **values)


def register_nonnegative(field: nn.Module, **values: Constant | Sequence[float]) -> None:
    """As `register_constants`, for constants that must not be negative.

    Raises:
        ArgumentError: A value is negative or not finite.
    """
    for name, value in values.items():
        if not (_tensor(name, value) >= 0).all():
            raise ArgumentError(f"`{name}` must not be negative, got {value!r}.")
    register_constants(field, **values)


def match(like: Tensor, **constants: Tensor) -> list[Tensor]:
    """The constants in the dtype and on the device of `like`, with shapes that broadcast to its shape.

    Raises:
        ArgumentError: A constant's shape would change the shape of the state.
    """
    matched: list[Tensor] = []
    for name, value in constants.items():
        if value.ndim:
            pairs = zip(reversed(value.shape), reversed(like.shape), strict=False)
            if value.ndim > like.ndim or any(ours not in (1, theirs) for ours, theirs in pairs):
                raise ArgumentError(
                    f"`{name}` must have shape [] or [n, 1], one row a state, got {list(value.shape)} "
                    f"with states of batch shape {list(like.shape[:-1])}. Pass {name}[:, None] for one value a state."
                )
        matched.append(value.to(like))
    return matched


def check_size(y: Tensor, n: int, what: str) -> None:
    """Checks the last dimension of a state, or of its positions or momenta.

    Args:
        y: Shape [..., n].
        n: Number of components.
        what: What the components are, for the message.

    Raises:
        ArgumentError: The last dimension is not n.
    """
    if y.ndim == 0 or y.shape[-1] != n:
        raise ArgumentError(f"The {what} must have shape [..., {n}], got {list(y.shape)}.")


def components(y: Tensor, n: int, what: str) -> tuple[Tensor, ...]:
    """The n components of a state, each of shape [..., 1].

    Args:
        y: Shape [..., n].
        n: Number of components.
        what: What the components are, for the message.

    Raises:
        ArgumentError: The last dimension is not n.
    """
    check_size(y, n, what)
    return y.split(1, dim=-1)
