"""Design spaces: where a strategy may place its trials. A box of named bounds, or a finite pool of candidates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError

__all__ = ["Box", "Pool", "Space"]


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

    def to_dict(self, row: Tensor) -> dict[str, float]:
        """One row of theta by name, shape [d]."""
        ...

    def describe(self) -> dict[str, Any]:
        """The space as a JSON mapping: what a storage keeps, and compares when a study is reopened."""
        ...


def _check_names(names: Sequence[object]) -> tuple[str, ...]:
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


def _check_theta(theta: Tensor, dim: int) -> Tensor:
    if theta.ndim != 2 or theta.shape[1] != dim:
        raise ArgumentError(f"`theta` must have shape [n, {dim}], got {list(theta.shape)}.")
    return theta


def _row_to_dict(names: tuple[str, ...], row: Tensor) -> dict[str, float]:
    if row.shape != (len(names),):
        raise ArgumentError(f"`row` must have shape [{len(names)}], got {list(row.shape)}. Pass one row of theta.")
    return dict(zip(names, cast(list[float], row.tolist()), strict=True))


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
        names = _check_names(list(bounds))
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
        inside = (_check_theta(theta, self.dim) >= low) & (theta <= high)
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
        return _row_to_dict(self.names, row)

    def describe(self) -> dict[str, Any]:
        """The box as a JSON mapping."""
        return {"kind": "Box", "names": self.names, "low": self.low, "high": self.high, "units": self.units}


class Pool:
    """A finite design space: m candidates, one a row.

    Args:
        candidates: Shape [m, d]; rows must be finite and differ.
        names: The parameters' names, d of them.

    Raises:
        ArgumentError: The shape is wrong, a candidate is not finite or repeated, or names are missing.

    Example:
        >>> pool = Pool(torch.tensor([[0.0], [1.0], [2.0]]), names=["length"])
        >>> pool.without(torch.tensor([[1.0]])).candidates.flatten().tolist()
        [0.0, 2.0]
    """

    def __init__(self, candidates: Tensor, names: Sequence[str]) -> None:
        self.names = _check_names(list(names))
        if candidates.ndim != 2 or candidates.shape[1] != len(self.names) or candidates.shape[0] == 0:
            raise ArgumentError(
                f"`candidates` must have shape [m, {len(self.names)}] with m > 0, got {list(candidates.shape)}. "
                "Pass one candidate a row, one name a column."
            )
        self.candidates = candidates.detach().to("cpu", torch.float64).clone()
        if not self.candidates.isfinite().all():
            raise ArgumentError("`candidates` must be finite, got NaN or infinite ones. Remove these rows.")
        if self.candidates.unique(dim=0).shape[0] < len(self):
            raise ArgumentError("`candidates` must differ, got repeated rows. Pass candidates.unique(dim=0).")

    def __len__(self) -> int:
        return self.candidates.shape[0]

    def __repr__(self) -> str:
        return f"Pool({len(self)} candidates, names={list(self.names)})"

    @property
    def dim(self) -> int:
        """The number of parameters, d."""
        return len(self.names)

    @property
    def bounds(self) -> Tensor:
        """Smallest and largest values among the candidates, float64, shape [2, d]."""
        return torch.stack([self.candidates.amin(0), self.candidates.amax(0)])

    def contains(self, theta: Tensor) -> Tensor:
        """Which rows are candidates, shape [n, d] -> [n], bool."""
        theta = _check_theta(theta, self.dim).to(self.candidates)
        return (theta[:, None] == self.candidates).all(-1).any(-1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Uniform draws without replacement, float64, shape [n, d]."""
        if n > len(self):
            raise ArgumentError(f"`n` must be at most {len(self)}, the candidates there are, got {n}.")
        return self.candidates[torch.randperm(len(self), generator=generator)[:n]]

    def without(self, theta: Tensor) -> "Pool":
        """The pool of the candidates that are not rows of theta, shape [n, d]."""
        theta = _check_theta(theta, self.dim).to(self.candidates)
        left = self.candidates[~(self.candidates[:, None] == theta).all(-1).any(-1)]
        if left.shape[0] == 0:
            raise ArgumentError(f"The pool is used up: all {len(self)} candidates have been tried. Pass a larger pool.")
        return Pool(left, self.names)

    def to_dict(self, row: Tensor) -> dict[str, float]:
        """One row of theta by name, shape [d]."""
        return _row_to_dict(self.names, row)

    def describe(self) -> dict[str, Any]:
        """The pool as a JSON mapping."""
        return {"kind": "Pool", "names": self.names, "candidates": self.candidates.tolist()}
