"""Optuna's distributions and our boxes: each as the other, and values both ways."""

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor

from diffsim.errors import ArgumentError
from studies.interop.missing import needs
from studies.spaces.box import Box
from studies.spaces.parameters import Choice, Integer, Log, Parameter, Real

with needs("Optuna"):
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

__all__ = ["SearchSpace", "distributions_of", "options_of"]


class SearchSpace:
    """An Optuna search space as a box. A parameter that has one value only is no column of it.

    Steps become whole numbers that count them. A logarithmic integer is a `Log` that is rounded.

    Args:
        distributions: Optuna's distributions by name.
        box: The box of theirs, where it is known, as with `distributions_of(box)`.

    Example:
        >>> space = SearchSpace({"a": FloatDistribution(0.0, 1.0, step=0.25), "b": IntDistribution(3, 3)})
        >>> space.box
        Box({'a': Integer(low=0, high=4)})
        >>> space.params(space.box.from_dict({"a": 3}))
        {'a': 0.75, 'b': 3}
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution], box: Box | None = None) -> None:
        self.distributions = dict(distributions)
        free = {name: _parameter(spread) for name, spread in distributions.items() if not spread.single()}
        self.box = box or (Box(free) if free else None)

    def row(self, params: Mapping[str, Any]) -> Tensor | None:
        """The row of theta of Optuna's values, shape [d]; None where one is missing or lies outside."""
        names = self.box.names if self.box else ()
        if self.box is None or not set(names) <= set(params):
            return None
        try:
            return self.box.from_dict({name: _encode(self.distributions[name], params[name]) for name in names})
        except (ArgumentError, ValueError):
            return None

    def params(self, row: Tensor | None) -> dict[str, Any]:
        """Optuna's values of a row of theta, shape [d]; None where there is no box."""
        values = self.box.to_dict(row) if self.box and row is not None else {}
        return {
            name: _decode(spread, values[name]) if name in values else _only(spread)
            for name, spread in self.distributions.items()
        }


def distributions_of(box: Box) -> dict[str, BaseDistribution]:
    """The parameters of a box as Optuna's distributions, by name; its constraints have no counterpart there.

    Example:
        >>> distributions_of(Box({"rate": Log(0.1, 1.0)}))
        {'rate': FloatDistribution(high=1.0, log=True, low=0.1, step=None)}
    """
    return {name: _distribution(parameter) for name, parameter in zip(box.names, box.parameters, strict=True)}


def options_of(distribution: CategoricalDistribution) -> tuple[str, ...]:
    """The choices as the options of a `Choice`: themselves where they are strings, else what Python writes for them."""
    choices = distribution.choices
    if all(isinstance(choice, str) for choice in choices):
        return cast(tuple[str, ...], choices)
    written = tuple(map(repr, choices))
    return written if len(set(written)) == len(written) else tuple(f"{n}: {text}" for n, text in enumerate(written))


def _distribution(parameter: Parameter) -> BaseDistribution:
    match parameter:
        case Choice():
            return CategoricalDistribution(parameter.options)
        case Integer():
            return IntDistribution(parameter.low, parameter.high)
        case _:
            return FloatDistribution(parameter.low, parameter.high, log=isinstance(parameter, Log))


def _parameter(distribution: BaseDistribution) -> Parameter:
    match distribution:
        case CategoricalDistribution():
            return Choice(*options_of(distribution))
        case IntDistribution(log=True, low=low, high=high):
            return Log(low - 0.5, high + 0.5)
        case IntDistribution(step=1, low=low, high=high):
            return Integer(low, high)
        case IntDistribution(step=int(step), low=low, high=high):
            return Integer(0, (high - low) // step)
        case FloatDistribution(step=float(step), low=low, high=high):
            return Integer(0, round((high - low) / step))
        case FloatDistribution(log=log, low=low, high=high):
            return Log(low, high) if log else Real(low, high)
        case _:
            raise ArgumentError(f"The distribution must be one of Optuna's three kinds, got {distribution!r}.")


def _encode(distribution: BaseDistribution, value: Any) -> object:  # noqa: ANN401 - Optuna's values are of any type
    """What the box calls a value of Optuna's."""
    match distribution:
        case CategoricalDistribution():
            return options_of(distribution)[int(distribution.to_internal_repr(value))]
        case IntDistribution(step=step, low=low) if step != 1:
            return round((value - low) / step)
        case FloatDistribution(step=float(step), low=low):
            return round((value - low) / step)
        case _:
            return value


def _decode(distribution: BaseDistribution, value: float | int | str) -> Any:  # noqa: ANN401
    """What Optuna calls a value of the box."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return choices[options_of(distribution).index(str(value))]
        case IntDistribution(log=True, low=low, high=high):
            return min(max(round(float(value)), low), high)
        case IntDistribution(step=int(step), low=low) if step != 1:
            return low + step * int(value)
        case FloatDistribution(step=float(step), low=low, high=high):
            return min(low + step * float(value), high)
        case _:
            return value


def _only(distribution: BaseDistribution) -> Any:  # noqa: ANN401
    """The value of a distribution that has one only."""
    match distribution:
        case CategoricalDistribution(choices=choices):
            return choices[0]
        case IntDistribution(low=low) | FloatDistribution(low=low):
            return low
        case _:
            raise ArgumentError(f"The distribution must be one of Optuna's three kinds, got {distribution!r}.")
