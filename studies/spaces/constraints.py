"""Constraints of a box: what must hold beside the bounds, as functions that are non-negative where they do."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError

__all__ = ["Constraint", "Linear", "Nonlinear", "check_constraints", "function_name"]

_ROUNDING = 1e-12  # relative: 0.1 + 0.2 + 0.7 is no more than 1


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Linear:
    """A weighted sum of parameters that is at most, or at least, a number.

    Args:
        weights: The weight of each parameter that takes part, by name.
        most: The largest sum that is allowed.
        least: The smallest sum that is allowed.

    Raises:
        ArgumentError: No weight, a number that is not finite, or neither or crossing limits.
        ArgumentTypeError: The weights are no mapping of numbers.

    Example:
        >>> import torch
        >>> from studies.spaces.box import Box
        >>> box = Box({"a": (0, 2), "b": (0, 2)}, constraints=[Linear({"a": 1.0, "b": 2.0}, most=3.0)])
        >>> box.contains(torch.tensor([[1.0, 1.0], [1.0, 1.5]]))
        tensor([ True, False])
    """

    terms: tuple[tuple[str, float], ...]
    most: float | None
    least: float | None

    def __init__(self, weights: Mapping[str, float], most: float | None = None, least: float | None = None) -> None:
        if not isinstance(weights, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(
                f"`weights` must be a mapping, got {weights!r}. Pass Linear({{'a': 1.0}}, most=3.0)."
            )
        terms = tuple((name, _finite(f"the weight of {name!r}", weight)) for name, weight in weights.items())
        if all(weight == 0 for _, weight in terms):
            raise ArgumentError(f"`weights` needs one that is not 0, got {dict(weights)}.")
        if most is None and least is None:
            raise ArgumentError("A Linear needs `most` or `least`, got neither. Pass Linear({'a': 1.0}, most=3.0).")
        limits = [None if limit is None else _finite("a limit", limit) for limit in (most, least)]
        if limits[0] is not None and limits[1] is not None and limits[1] >= limits[0]:
            raise ArgumentError(
                f"`least` must lie below `most`, got {least} and {most}. For an equation use a Manifold, or leave a "
                "parameter out."
            )
        object.__setattr__(self, "terms", terms)
        object.__setattr__(self, "most", limits[0])
        object.__setattr__(self, "least", limits[1])

    def __repr__(self) -> str:
        limits = [
            f"{name}={value}" for name, value in (("most", self.most), ("least", self.least)) if value is not None
        ]
        return f"Linear({self.weights}, {', '.join(limits)})"

    @property
    def weights(self) -> dict[str, float]:
        """The weights by parameter name."""
        return dict(self.terms)

    def row(self, names: tuple[str, ...]) -> Tensor:
        """The weights of all parameters of a box, float64, shape [d]."""
        weights = self.weights
        return torch.tensor([weights.get(name, 0.0) for name in names], dtype=torch.float64)

    def slack(self, theta: Tensor, names: tuple[str, ...]) -> Tensor:
        """How far the sum is from its limits, shape [..., d] -> [..., 1 or 2]; negative where it is beyond."""
        row = self.row(names).to(theta)
        total, size = theta @ row, theta.abs() @ row.abs()
        sides = [] if self.most is None else [self.most - total + _ROUNDING * (size + abs(self.most))]
        sides += [] if self.least is None else [total - self.least + _ROUNDING * (size + abs(self.least))]
        return torch.stack(sides, -1)

    def describe(self) -> dict[str, Any]:
        """The constraint as a JSON mapping."""
        return {"kind": "Linear", "weights": self.weights, "most": self.most, "least": self.least}


@dataclass(frozen=True, slots=True)
class Nonlinear:
    """A function of theta that must not be negative.

    Args:
        function: Maps theta, in the columns and units of the box, shape [n, d], to [n]: feasible where it is >= 0, not
            where it is NaN. Strategies that climb differentiate it in theta. It must not draw random numbers.

    Raises:
        ArgumentTypeError: The function is none.

    Example:
        >>> import torch
        >>> from studies.spaces.box import Box
        >>> disc = Nonlinear(lambda theta: 1 - theta.square().sum(-1))
        >>> Box({"a": (-1, 1), "b": (-1, 1)}, constraints=[disc]).contains(torch.tensor([[0.6, 0.6], [0.9, 0.9]]))
        tensor([ True, False])
    """

    function: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        if isinstance(self.function, type) or not callable(self.function):
            raise ArgumentTypeError(
                f"`function` must be a function of theta, got {self.function!r}. Pass `lambda theta: 1 - theta[:, 0]`."
            )

    def slack(self, theta: Tensor, names: tuple[str, ...]) -> Tensor:
        """The function's values, shape [n, d] -> [n, 1].

        Raises:
            ArgumentError: The function returns another shape.
        """
        values = cast(object, self.function(theta))
        if not isinstance(values, Tensor) or values.shape != theta.shape[:-1]:
            got = list(values.shape) if isinstance(values, Tensor) else repr(values)
            raise ArgumentError(
                f"The function of a Nonlinear must map theta {list(theta.shape)} to a tensor of shape "
                f"{list(theta.shape[:-1])}, got {got}. Sum over the last dimension only."
            )
        return values[..., None]

    def describe(self) -> dict[str, Any]:
        """The constraint as a JSON mapping: the function by its name alone."""
        return {"kind": "Nonlinear", "function": function_name(self.function)}


Constraint = Linear | Nonlinear


def check_constraints(
    given: Sequence[object], names: tuple[str, ...], choices: Mapping[str, object]
) -> tuple[Constraint, ...]:
    """The constraints of a box of names and choices, as a tuple."""
    if isinstance(given, Linear | Nonlinear):
        given = [given]
    constraints: list[Constraint] = []
    for constraint in given:
        if not isinstance(constraint, Linear | Nonlinear):
            raise ArgumentTypeError(
                f"`constraints` must hold Linear and Nonlinear ones, got {constraint!r}. Pass Nonlinear(function), say."
            )
        weighed = set(constraint.weights) if isinstance(constraint, Linear) else set[str]()
        if unknown := weighed - set(names):
            raise ArgumentError(f"A Linear weighs {sorted(unknown)}, which the box lacks. It has {list(names)}.")
        if named := weighed & set(choices):
            raise ArgumentError(
                f"A Linear weighs the choice {sorted(named)}, whose options have no order. Leave it out."
            )
        constraints.append(constraint)
    return tuple(constraints)


def function_name(function: object) -> str:
    """A function's name for a record: the same in every process, without its module."""
    if isinstance(function, functools.partial):
        return function_name(cast("functools.partial[object]", function).func)
    owner = getattr(function, "__self__", None)
    name = str(getattr(function, "__name__", type(function).__name__))
    return name if owner is None else f"{type(owner).__name__}.{name}"


def _finite(what: str, value: object) -> float:
    try:
        number = float(cast(float, value))
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"{what[0].upper()}{what[1:]} must be a number, got {value!r}.") from None
    if not math.isfinite(number):
        raise ArgumentError(f"{what[0].upper()}{what[1:]} must be finite, got {value!r}.")
    return number
