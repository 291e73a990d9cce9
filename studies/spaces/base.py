"""What a design space is: where a strategy may place its trials."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError

__all__ = ["Rounded", "Space", "check_names", "check_theta"]


@runtime_checkable
class Space(Protocol):
    """A design space of d named parameters."""

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, in the order of the columns of theta."""
        ...

    @property
    def dim(self) -> int:
        """The number of parameters, d."""
        ...

    @property
    def bounds(self) -> Tensor:
        """Lower and upper bounds, float64, shape [2, d]."""
        ...

    def contains(self, theta: Tensor) -> Tensor:
        """Which rows lie in the space, shape [n, d] -> [n], bool."""
        ...

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Uniform draws, float64, shape [n, d]."""
        ...

    def to_dict(self, row: Tensor) -> Mapping[str, float | int | str]:
        """One row of theta by name, shape [d], decoded."""
        ...

    def describe(self) -> dict[str, Any]:
        """The space as a JSON mapping: what a storage keeps, and compares when a study is reopened."""
        ...


@runtime_checkable
class Rounded(Space, Protocol):
    """A space that can move any point into itself: its surface may have no volume to search in."""

    def round(self, theta: Tensor) -> Tensor:
        """Rows moved to a near point of the space, shape [n, d] -> [n, d]; rows of the space stay."""
        ...


def check_names(names: Sequence[object]) -> tuple[str, ...]:
    """The names as a tuple of differing, non-empty strings."""
    if not names:
        raise ArgumentError("A design space needs at least one parameter, got none. Pass Box({'q': (-2, 2)}).")
    for name in names:
        if not isinstance(name, str):
            raise ArgumentTypeError(f"Parameter names must be strings, got {name!r}. Pass Box({{'q': (-2, 2)}}).")
        if not name:
            raise ArgumentError("Parameter names must not be empty, got ''. Name every parameter.")
    if len(set(names)) < len(names):
        raise ArgumentError(f"Parameter names must differ, got {list(names)}. Rename the repeated one.")
    return cast(tuple[str, ...], tuple(names))


def check_theta(theta: Tensor, dim: int) -> Tensor:
    """The argument theta, a tensor of shape [n, d]."""
    if not isinstance(theta, Tensor):
        raise ArgumentTypeError(f"`theta` must be a tensor, got a {type(theta).__name__}. Pass torch.as_tensor(theta).")
    if theta.ndim != 2 or theta.shape[1] != dim:
        raise ArgumentError(f"`theta` must have shape [n, {dim}], got {list(theta.shape)}.")
    return theta
