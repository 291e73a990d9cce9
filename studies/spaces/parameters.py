"""Kinds of parameters of a box: real, logarithmic, integer and categorical ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

from diffsim.errors import ArgumentError, ArgumentTypeError

__all__ = ["Choice", "Integer", "Kind", "Log", "Parameter", "Real", "as_parameter"]

Kind = Literal["real", "log", "integer", "choice"]
_LARGEST = 2**52  # integers up to here are exact in float64, and so are their halves


@dataclass(frozen=True, slots=True)
class _Number:
    """A parameter whose values are numbers between two bounds."""

    low: float
    high: float

    def decode(self, value: float) -> float:
        """The value that a number in theta stands for."""
        return value

    def encode(self, value: object, name: str) -> float:
        """The number in theta that stands for a value of the parameter of a name."""
        number = _as_number(value, f"The value of {name!r} must be a number, got {value!r}.")
        if not self.low <= number <= self.high:
            raise ArgumentError(f"The value of {name!r} must lie from {self.low} to {self.high}, got {value!r}.")
        return number


@dataclass(frozen=True, slots=True)
class Real(_Number):
    """A real parameter; in a box the pair `(low, high)` is short for it.

    Raises:
        ArgumentError: The bounds are reversed, equal or not finite.
        ArgumentTypeError: They are no numbers.
    """

    kind: ClassVar[Kind] = "real"

    def __post_init__(self) -> None:
        _set_bounds(self, "a Real", "Pass Real(low, high) with low < high.")


@dataclass(frozen=True, slots=True)
class Log(_Number):
    """A positive parameter on a logarithmic scale: equal ratios count the same in draws, covers and models.

    Raises:
        ArgumentError: Not 0 < low < high, or the bounds are not finite, or so close that their logarithms agree.
        ArgumentTypeError: They are no numbers.

    Example:
        >>> import torch
        >>> from studies.spaces.box import Box
        >>> Box({"rate": Log(1e-4, 1.0)}).from_unit(torch.tensor([[0.5]]).double())
        tensor([[0.0100]], dtype=torch.float64)
    """

    kind: ClassVar[Kind] = "log"

    def __post_init__(self) -> None:
        _set_bounds(self, "a Log", "Pass Log(low, high) with 0 < low < high.")
        given = (self.low, self.high)
        if self.low <= 0:
            raise ArgumentError(f"The bounds of a Log must be positive, got {given}. Raise the lower one.")
        if math.log(self.low) == math.log(self.high):
            raise ArgumentError(f"The bounds of a Log must differ in their logarithms, got {given}. Pass (low, high).")


@dataclass(frozen=True, slots=True)
class Integer(_Number):
    """A whole number from `low` to `high`, both included; theta holds it as such.

    Raises:
        ArgumentError: The bounds are reversed or equal, or larger than 2**52.
        ArgumentTypeError: They are no integers.
    """

    low: int
    high: int
    kind: ClassVar[Kind] = "integer"

    def __post_init__(self) -> None:
        given: tuple[object, object] = (self.low, self.high)
        if any(isinstance(bound, bool) or not isinstance(bound, int) for bound in given):
            raise ArgumentTypeError(f"The bounds of an Integer must be integers, got {given}. Pass Integer(2, 8), say.")
        if self.low >= self.high:
            raise ArgumentError(f"The bounds of an Integer must rise, got {given}. Pass Integer(2, 8), say.")
        if max(abs(self.low), abs(self.high)) > _LARGEST:
            raise ArgumentError(f"The bounds of an Integer must be at most 2**52, got {given}. Pass a smaller range.")

    def decode(self, value: float) -> int:
        """The integer that a number in theta stands for."""
        return round(value)

    def encode(self, value: object, name: str) -> float:
        """The number in theta that stands for a value of the parameter of a name."""
        number = _Number.encode(self, value, name)
        if number != round(number):
            raise ArgumentError(f"The value of {name!r} must be a whole number, got {value!r}.")
        return number


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Choice:
    """One of several named options without an order; theta holds its index, 0 for the first.

    Raises:
        ArgumentError: There are fewer than two options, or one is repeated.
        ArgumentTypeError: An option is not a string.

    Example:
        >>> import torch
        >>> from studies.spaces.box import Box
        >>> Box({"material": Choice("steel", "brass")}).to_dict(torch.tensor([1.0]))
        {'material': 'brass'}
    """

    options: tuple[str, ...]
    kind: ClassVar[Kind] = "choice"

    def __init__(self, *options: str) -> None:
        if any(not isinstance(option, str) for option in options):
            raise ArgumentTypeError(f"The options of a Choice must be strings, got {list(options)}. Name them.")
        if len(options) < 2 or len(set(options)) < len(options):
            raise ArgumentError(f"A Choice needs two options or more, all different, got {list(options)}.")
        object.__setattr__(self, "options", options)

    def __repr__(self) -> str:
        return f"Choice({', '.join(map(repr, self.options))})"

    @property
    def low(self) -> int:
        """The first option's index, 0."""
        return 0

    @property
    def high(self) -> int:
        """The last option's index."""
        return len(self.options) - 1

    def decode(self, value: float) -> str:
        """The option that a number in theta stands for."""
        return self.options[round(value)]

    def encode(self, value: object, name: str) -> float:
        """The index of an option of the parameter of a name."""
        if value not in self.options:
            raise ArgumentError(f"The value of {name!r} must be one of {list(self.options)}, got {value!r}.")
        return float(self.options.index(cast(str, value)))


Parameter = Real | Log | Integer | Choice


def as_parameter(name: str, given: object) -> Parameter:
    """A parameter as given to a box: one of the kinds, or a pair of bounds."""
    if isinstance(given, Real | Log | Integer | Choice):
        return given
    mend = f"Pass {{{name!r}: (low, high)}} with low < high."
    try:
        low, high = (float(value) for value in cast(Sequence[float], given))
    except (TypeError, ValueError):
        raise ArgumentTypeError(
            f"The bounds of {name!r} must be two numbers, or a Log, Integer or Choice, got {given!r}. {mend}"
        ) from None
    _check_bounds(low, high, repr(name), mend)
    return Real(low, high)


def _set_bounds(parameter: Real | Log, what: str, mend: str) -> None:
    given = (parameter.low, parameter.high)
    low, high = (
        _as_number(bound, f"The bounds of {what} must be two numbers, got {given!r}. {mend}") for bound in given
    )
    _check_bounds(low, high, what, mend)
    object.__setattr__(parameter, "low", low)
    object.__setattr__(parameter, "high", high)


def _check_bounds(low: float, high: float, what: str, mend: str) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ArgumentError(f"The bounds of {what} must be finite, got {(low, high)}. {mend}")
    if low >= high:
        problem = "are reversed" if low > high else "are equal: the box has no width there"
        raise ArgumentError(f"The bounds of {what} {problem}, got {(low, high)}. {mend}")


def _as_number(value: object, problem: str) -> float:
    try:
        return float(cast(float, value))
    except (TypeError, ValueError):
        raise ArgumentTypeError(problem) from None
