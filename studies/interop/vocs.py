"""VOCS, the gest-api's description of a problem, as a box of ours: points as rows of theta, outputs as outcomes."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.interop.missing import needs
from studies.spaces.box import Box
from studies.spaces.parameters import Choice, Integer, Parameter, Real

with needs("gest-api"):
    from gest_api.vocs import (
        VOCS,
        BaseConstraint,
        BaseVariable,
        BoundsConstraint,
        ContextualVariable,
        ContinuousVariable,
        DiscreteVariable,
        GreaterThanConstraint,
        LessThanConstraint,
        MaximizeObjective,
    )

__all__ = ["Problem"]


@dataclass(frozen=True, slots=True)
class _Axis:
    """One variable: our parameter, None where it has one value only; and its values by index, where it is discrete."""

    parameter: Parameter | None
    values: tuple[Any, ...] = ()


class Problem:
    """The variables of a VOCS as a box, and its outputs as the columns of an outcome.

    Continuous variables are real; discrete ones are integers where they are consecutive, else steps in the order of
    their values where these are numbers, else choices. The outcome has the objectives, negated where they are
    maximised, and then the constraints: each is a column that is not positive where it holds, and BOUNDS are two.
    Observables are left to the host.

    Args:
        vocs: The problem.

    Raises:
        ArgumentError: It has no variables that vary or no objectives, a variable is contextual, unbounded or an array.
        ArgumentTypeError: It is no VOCS.

    Example:
        >>> problem = Problem(VOCS(variables={"a": [0, 1], "b": {2, 8}}, objectives={"f": "MAXIMIZE"}))
        >>> problem.box
        Box({'a': (0.0, 1.0), 'b': Integer(low=0, high=1)})
        >>> problem.outcome({"f": 3.0})
        [-3.0]
    """

    def __init__(self, vocs: VOCS) -> None:
        if not isinstance(vocs, VOCS):
            raise ArgumentTypeError(f"`vocs` must be a VOCS of gest_api.vocs, got {vocs!r}.")
        if not vocs.objectives:
            raise ArgumentError("`vocs` must have an objective, got none. Pass objectives={'f': 'MINIMIZE'}, say.")
        self.vocs = vocs
        self._axes = {name: _axis(name, variable) for name, variable in vocs.variables.items()}
        free = {name: axis.parameter for name, axis in self._axes.items() if axis.parameter is not None}
        if not free:
            raise ArgumentError("`vocs` must have a variable with more than one value, got none.")
        self.box = Box(free)

    def point(self, row: Tensor) -> dict[str, Any]:
        """The variables and constants of a row of theta, shape [d], by name."""
        values = self.box.to_dict(row)
        point: dict[str, Any] = {}
        for name, axis in self._axes.items():
            if axis.parameter is None:
                point[name] = axis.values[0]
            elif isinstance(axis.parameter, Choice):
                point[name] = axis.values[axis.parameter.options.index(str(values[name]))]
            else:
                point[name] = axis.values[int(values[name])] if axis.values else values[name]
        return point | {name: constant.value for name, constant in self.vocs.constants.items()}

    def row(self, point: Mapping[str, Any]) -> Tensor:
        """The row of theta of a point, shape [d].

        Raises:
            ArgumentError: A variable is missing, or its value is outside its bounds.
        """
        if missing := [name for name in self.box.names if name not in point]:
            raise ArgumentError(f"A result must have all variables, got {list(point)} without {missing}.")
        return self.box.from_dict({name: self._encode(name, _plain(point[name])) for name in self.box.names})

    def outcome(self, outputs: Mapping[str, Any]) -> list[float]:
        """The columns of an outcome: NaN where an output is missing or no number."""
        row: list[float] = []
        for name, objective in self.vocs.objectives.items():
            value = _number(outputs.get(name))
            row.append(-value if isinstance(objective, MaximizeObjective) else value)
        for name, constraint in self.vocs.constraints.items():
            row += _slack(constraint, _number(outputs.get(name)))
        return row

    def _encode(self, name: str, value: object) -> object:
        axis = self._axes[name]
        if not axis.values:
            return value
        if value not in axis.values:
            raise ArgumentError(f"The value of {name!r} must be one of {list(axis.values)}, got {value!r}.")
        index = axis.values.index(value)
        return axis.parameter.options[index] if isinstance(axis.parameter, Choice) else index


def _axis(name: str, variable: BaseVariable) -> _Axis:
    if isinstance(variable, ContextualVariable):
        raise ArgumentError(
            f"The variable {name!r} is contextual: observed, not chosen. Leave it out, or pass it as an observable."
        )
    if isinstance(variable.dtype, tuple):
        raise ArgumentError(f"The variable {name!r} is an array, got {variable.dtype!r}. Pass one variable a number.")
    if isinstance(variable, ContinuousVariable):
        low, high = variable.domain
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ArgumentError(f"The domain of {name!r} must be finite, got {variable.domain}.")
        return _Axis(Real(low, high))
    if isinstance(variable, DiscreteVariable):
        values = _ordered(variable.values)
        if len(values) == 1:
            return _Axis(None, values)
        if not all(isinstance(value, int | float) for value in values):
            return _Axis(Choice(*map(repr, values)), values)
        whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
        if whole and values[-1] - values[0] == len(values) - 1:
            return _Axis(Integer(values[0], values[-1]))
        return _Axis(Integer(0, len(values) - 1), values)
    raise ArgumentError(f"The variable {name!r} must be continuous or discrete, got {variable!r}.")


def _ordered(values: Iterable[Any]) -> tuple[Any, ...]:
    """The values of a set in an order that is the same in every process."""
    values = list(values)
    numbers = all(isinstance(value, int | float) for value in values)
    return tuple(sorted(values) if numbers else sorted(values, key=repr))


def _slack(constraint: BaseConstraint, value: float) -> list[float]:
    match constraint:
        case LessThanConstraint(value=most):
            return [value - most]
        case GreaterThanConstraint(value=least):
            return [least - value]
        case BoundsConstraint(range=(low, high)):
            return [low - value, value - high]
        case _:
            raise ArgumentError(f"The constraint must be LESS_THAN, GREATER_THAN or BOUNDS, got {constraint!r}.")


def _plain(value: Any) -> Any:  # noqa: ANN401
    """A value of numpy's as one of Python's."""
    return value.item() if hasattr(value, "item") else value


def _number(value: Any) -> float:  # noqa: ANN401
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
