"""Functions that give one number a state, such as energies: written with or without a last dimension of one."""

from collections.abc import Callable

from torch import Tensor

from diffsim.errors import ArgumentError

__all__ = ["scalar"]


def scalar(function: Callable[[Tensor], Tensor], y: Tensor, name: str) -> Tensor:
    """The number of each state, [..., d] -> [...]; of several outputs [..., m] their sum, as for any network.

    Raises:
        ArgumentError: The function returns another shape.
    """
    value = function(y)
    if value.shape == y.shape[:-1]:
        return value
    if value.shape[:-1] == y.shape[:-1]:
        return value.sum(-1)
    raise ArgumentError(
        f"`{name}` must map {list(y.shape)} to one number a state, {list(y.shape[:-1])} or "
        f"{[*y.shape[:-1], 1]}; it returned {list(value.shape)}."
    )
