"""Boxes: design spaces of named bounds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.spaces.base import check_names, check_theta, row_to_dict

__all__ = ["Box"]


def _check_bounds(name: str, pair: object) -> tuple[float, float]:
    mend = f"Pass {{{name!r}: (low, high)}} with low < high."
    try:
        low, high = (float(value) for value in cast(Sequence[float], pair))
    except (TypeError, ValueError):
        raise ArgumentTypeError(f"The bounds of {name!r} must be two numbers, got {pair!r}. {mend}") from None
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ArgumentError(f"The bounds of {name!r} must be finite, got {pair!r}. {mend}")
    if low >= high:
        problem = "are reversed" if low > high else "are equal: the box has no width there"
        raise ArgumentError(f"The bounds of {name!r} {problem}, got {pair!r}. {mend}")
    return low, high


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Box:
    """A box: one named interval a parameter.

    Args:
        bounds: Lower and upper bound of each parameter, by name; the order is that of the columns of theta.
        units: Units by parameter name, for tables and plots.

    Raises:
        ArgumentError: Bounds are reversed, equal or not finite; a name is empty; a unit names no parameter.
        ArgumentTypeError: A name is not a string, or bounds are not two numbers.

    Example:
        >>> box = Box({"q": (-2, 2), "p": (-1, 1)}, units={"q": "rad"})
        >>> box
        Box({'q': (-2.0, 2.0), 'p': (-1.0, 1.0)}, units={'q': 'rad'})
        >>> box.contains(torch.tensor([[0.0, 0.5], [3.0, 0.0]]))
        tensor([ True, False])
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    unit: tuple[str, ...]

    def __init__(self, bounds: Mapping[str, tuple[float, float]], units: Mapping[str, str] | None = None) -> None:
        if not isinstance(bounds, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(f"`bounds` must be a mapping, got {bounds!r}. Pass Box({{'q': (-2, 2)}}).")
        names = check_names(list(bounds))
        pairs = [_check_bounds(name, bounds[name]) for name in names]
        units = units or {}
        if unknown := set(units) - set(names):
            raise ArgumentError(f"`units` names {sorted(unknown)}, which the box lacks. It has {list(names)}.")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "low", tuple(low for low, _ in pairs))
        object.__setattr__(self, "high", tuple(high for _, high in pairs))
        object.__setattr__(self, "unit", tuple(str(units.get(name, "")) for name in names))

    def __repr__(self) -> str:
        bounds = {name: (low, high) for name, low, high in zip(self.names, self.low, self.high, strict=True)}
        return f"Box({bounds}{f', units={self.units}' if self.units else ''})"

    @property
    def units(self) -> dict[str, str]:
        """Units by parameter name, where given."""
        return {name: unit for name, unit in zip(self.names, self.unit, strict=True) if unit}

    @property
    def dim(self) -> int:
        """The number of parameters, d."""
        return len(self.names)

    @property
    def bounds(self) -> Tensor:
        """Lower and upper bounds, float64, shape [2, d]."""
        return torch.tensor([self.low, self.high], dtype=torch.float64)

    def contains(self, theta: Tensor) -> Tensor:
        """Which rows lie in the box, faces included, shape [n, d] -> [n], bool."""
        low, high = self.bounds.to(theta.device)
        inside = (check_theta(theta, self.dim) >= low) & (theta <= high)
        return inside.all(dim=1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Uniform draws, float64, shape [n, d]."""
        return self.from_unit(torch.rand(n, self.dim, dtype=torch.float64, generator=generator))

    def sobol(self, n: int, seed: int, skip: int = 0) -> Tensor:
        """Points `skip` to `skip + n` of a scrambled Sobol sequence, float64, shape [n, d]."""
        engine = torch.quasirandom.SobolEngine(self.dim, scramble=True, seed=seed)
        engine.fast_forward(skip)
        return self.from_unit(engine.draw(n, dtype=torch.float64))

    def from_unit(self, unit: Tensor) -> Tensor:
        """Points of the unit cube moved into the box, shape [n, d] -> [n, d]."""
        low, high = self.bounds
        # A weighted mean, where low + (high - low) * unit overflows for the widest boxes; the clamp mends rounding.
        return (low * (1 - unit) + high * unit).clamp(low, high)

    def to_dict(self, row: Tensor) -> dict[str, float]:
        """One row of theta by name, shape [d]."""
        return row_to_dict(self.names, row)

    def describe(self) -> dict[str, Any]:
        """The box as a JSON mapping."""
        return {"kind": "Box", "names": self.names, "low": self.low, "high": self.high, "units": self.units}
