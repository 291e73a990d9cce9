"""Boxes: design spaces of named parameters, each with its bounds and kind, and of constraints on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.spaces.base import check_names, check_theta
from studies.spaces.constraints import Constraint, check_constraints
from studies.spaces.nearest import nearest_allowed
from studies.spaces.parameters import Choice, Kind, Parameter, Real, as_parameter
from studies.spaces.uniform import take, uniform_blocks, violation

__all__ = ["Box"]

_PROBES = 4096  # points of a Sobol sequence; where 1 in 256 of them is allowed, the sequence is sifted
_FEWEST = _PROBES // 256


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Box:
    """A box: one named interval a parameter, and constraints on them, if any.

    Theta is float64 throughout: integers are whole numbers in it, and a choice is its option's index. `to_dict` decodes
    a row, `from_dict` makes one.

    Args:
        bounds: The parameters by name: `(low, high)`, `Log`, `Integer` or `Choice`; their order is that of the columns
            of theta.
        units: Units by parameter name, for tables and plots.
        constraints: What must hold beside the bounds, `Linear` or `Nonlinear`.

    Raises:
        ArgumentError: Bounds are reversed, equal or not finite; a name is empty; a unit or a constraint names no
            parameter, or a constraint weighs a choice; a constraint's function returns the wrong shape.
        ArgumentTypeError: A name is not a string, bounds are not two numbers, or a constraint is none.

    Example:
        >>> box = Box({"q": (-2, 2), "p": (-1, 1)}, units={"q": "rad"})
        >>> box
        Box({'q': (-2.0, 2.0), 'p': (-1.0, 1.0)}, units={'q': 'rad'})
        >>> box.contains(torch.tensor([[0.0, 0.5], [3.0, 0.0]]))
        tensor([ True, False])
        >>> from studies import Choice, Integer, Log
        >>> pump = Box({"rate": Log(1e-4, 1.0), "blades": Integer(2, 8), "material": Choice("steel", "brass")})
        >>> pump.to_dict(pump.round(torch.tensor([[0.5, 3.7, 0.2]]))[0])
        {'rate': 0.5, 'blades': 4, 'material': 'steel'}
    """

    names: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    unit: tuple[str, ...]
    constraints: tuple[Constraint, ...]

    def __init__(
        self,
        bounds: Mapping[str, tuple[float, float] | Parameter],
        units: Mapping[str, str] | None = None,
        constraints: Sequence[Constraint] = (),
    ) -> None:
        if not isinstance(bounds, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(f"`bounds` must be a mapping, got {bounds!r}. Pass Box({{'q': (-2, 2)}}).")
        names = check_names(list(bounds))
        units = units or {}
        if unknown := set(units) - set(names):
            raise ArgumentError(f"`units` names {sorted(unknown)}, which the box lacks. It has {list(names)}.")
        parameters = tuple(as_parameter(name, bounds[name]) for name in names)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "low", tuple(float(parameter.low) for parameter in parameters))
        object.__setattr__(self, "high", tuple(float(parameter.high) for parameter in parameters))
        object.__setattr__(self, "unit", tuple(str(units.get(name, "")) for name in names))
        object.__setattr__(self, "constraints", check_constraints(constraints, names, self.choices))
        self.slack(self.from_unit(torch.full((2, self.dim), 0.5, dtype=torch.float64)))

    def __repr__(self) -> str:
        bounds = {
            name: (parameter.low, parameter.high) if isinstance(parameter, Real) else parameter
            for name, parameter in zip(self.names, self.parameters, strict=True)
        }
        units = f", units={self.units}" if self.units else ""
        return f"Box({bounds}{units}{f', constraints={list(self.constraints)}' if self.constraints else ''})"

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

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The parameters' kinds: "real", "log", "integer" or "choice"."""
        return tuple(parameter.kind for parameter in self.parameters)

    @property
    def is_continuous(self) -> bool:
        """Whether all parameters are real or logarithmic; there may be constraints on them."""
        return not self._whole

    @property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """The options of each choice by its name."""
        pairs = zip(self.names, self.parameters, strict=True)
        return {name: parameter.options for name, parameter in pairs if isinstance(parameter, Choice)}

    def contains(self, theta: Tensor) -> Tensor:
        """Which rows are allowed, faces included, shape [n, d] -> [n], bool."""
        low, high = self.bounds.to(theta.device)
        inside = ((check_theta(theta, self.dim) >= low) & (theta <= high)).all(dim=1)
        if whole := self._whole:
            inside = inside & (theta[:, whole] == theta[:, whole].round()).all(dim=1)
        if self.constraints and bool(inside.any()):
            inside[inside.clone()] = (self.slack(theta[inside].double()) >= 0).all(dim=1)
        return inside

    def slack(self, theta: Tensor) -> Tensor:
        """How well each constraint holds, shape [n, d] -> [n, c], differentiable: negative where it is broken.

        A Linear with both limits has two columns.
        """
        columns = [constraint.slack(theta, self.names) for constraint in self.constraints]
        return torch.cat([theta.new_zeros(*theta.shape[:-1], 0), *columns], dim=-1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Uniform draws, float64, shape [n, d]: uniform in `to_unit`, so that a Log is drawn log-uniformly.

        Raises:
            ArgumentError: No point that satisfies the constraints was found.
        """
        if not self.constraints:
            return self.from_unit(torch.rand(n, self.dim, dtype=torch.float64, generator=generator))
        return self.from_unit(take(uniform_blocks(self._violation, self.dim, generator), n))

    def sobol(self, n: int, seed: int, skip: int = 0) -> Tensor:
        """Points `skip` to `skip + n` of a scrambled Sobol sequence, float64, shape [n, d].

        Under constraints they are those of the sequence that are allowed; where hardly any are, uniform draws.

        Raises:
            ArgumentError: No point that satisfies the constraints was found.
        """
        engine = torch.quasirandom.SobolEngine(self.dim, scramble=True, seed=seed)
        if not self.constraints:
            engine.fast_forward(skip)
            return self.from_unit(engine.draw(n, dtype=torch.float64))
        theta = self.from_unit(engine.draw(_PROBES, dtype=torch.float64))
        found = [theta[self.contains(theta)]]
        if len(found[0]) < _FEWEST:
            blocks = uniform_blocks(self._violation, self.dim, torch.Generator().manual_seed(seed))
            return self.from_unit(take(blocks, n, skip))
        while sum(map(len, found)) < skip + n:
            theta = self.from_unit(engine.draw(_PROBES, dtype=torch.float64))
            found.append(theta[self.contains(theta)])
        return torch.cat(found)[skip : skip + n]

    def from_unit(self, unit: Tensor) -> Tensor:
        """Points of the unit cube moved into the box, shape [..., d] -> [..., d]: the inverse of `to_unit`, rounded."""
        low, high = self._scaled_bounds.to(unit.device)
        # A weighted mean, where low + (high - low) * unit overflows for the widest boxes.
        return self.from_scale(low * (1 - unit) + high * unit)

    def to_unit(self, theta: Tensor) -> Tensor:
        """Points of the box in the unit cube, shape [..., d] -> [..., d]: logarithms of a Log.

        Each integer, and each option of a choice, has an equal share of its side, and lies in the middle of it.
        """
        low, high = self._scaled_bounds.to(theta.device)
        half = torch.where((high - low).isinf(), 0.5, 1.0)  # the widest boxes' widths overflow
        return (self.to_scale(theta) * half - low * half) / (high * half - low * half)

    def to_scale(self, theta: Tensor) -> Tensor:
        """Theta with the natural logarithm of each Log, shape [..., d] -> [..., d]: where steps and widths are even."""
        logs = self._columns("log")
        if not logs:
            return theta
        scaled = theta.clone()
        scaled[..., logs] = theta[..., logs].log()
        return scaled

    def from_scale(self, scaled: Tensor) -> Tensor:
        """The inverse of `to_scale`, clamped to the bounds, and rounded where theta is whole, shape [..., d]."""
        theta = scaled.clone()
        if logs := self._columns("log"):
            theta[..., logs] = scaled[..., logs].exp()
        if whole := self._whole:
            theta[..., whole] = (scaled[..., whole] + 0.5).floor()
        low, high = self.bounds.to(scaled.device)
        return theta.clamp(low, high)

    def round(self, theta: Tensor) -> Tensor:
        """Rows moved to the nearest point that is allowed, shape [n, d] -> [n, d], float64, detached.

        Rows that are allowed stay. Under constraints the nearest point is searched for; it is allowed in any case.

        Raises:
            ArgumentError: Theta is not finite, or no point that satisfies the constraints was found.
        """
        theta = check_theta(theta, self.dim).detach().to("cpu", torch.float64)
        if not theta.isfinite().all():
            raise ArgumentError(f"`theta` must be finite, got {theta.tolist()}.")
        low, high = self.bounds
        theta = theta.clamp(low, high)
        theta[:, self._whole] = (theta[:, self._whole] + 0.5).floor().clamp(low[self._whole], high[self._whole])
        broken = ~self.contains(theta)
        if broken.any():
            anchors = self.sample(256, torch.Generator().manual_seed(0))
            rows = [nearest_allowed(self, row, anchors) for row in theta[broken]]
            theta[broken] = torch.stack(rows)
        return theta

    def features(self, theta: Tensor) -> Tensor:
        """Coordinates with sensible distances, shape [..., d] -> [..., f]: two options of a choice are 1 apart.

        They are those of `to_unit`, and for a choice one for each option.
        """
        unit = self.to_unit(theta)
        columns: list[Tensor] = []
        for column, parameter in enumerate(self.parameters):
            if isinstance(parameter, Choice):
                options = torch.arange(len(parameter.options), device=theta.device)
                columns.append((theta[..., column, None] == options) * 0.5**0.5)
            else:
                columns.append(unit[..., column, None])
        return torch.cat(columns, dim=-1)

    def to_dict(self, row: Tensor) -> dict[str, float | int | str]:
        """One row of theta by name, shape [d]: floats, integers, and the names of options."""
        if row.shape != (self.dim,):
            raise ArgumentError(f"`row` must have shape [{self.dim}], got {list(row.shape)}. Pass one row of theta.")
        values: list[float] = row.tolist()
        triples = zip(self.names, self.parameters, values, strict=True)
        return {name: parameter.decode(value) for name, parameter, value in triples}

    def from_dict(self, values: Mapping[str, object]) -> Tensor:
        """The row of theta of named values, float64, shape [d]: the inverse of `to_dict`.

        Raises:
            ArgumentError: A name is missing or unknown, or a value lies outside its bounds.
        """
        if set(values) != set(self.names):
            raise ArgumentError(f"`values` must name {list(self.names)}, got {list(values)}.")
        pairs = zip(self.names, self.parameters, strict=True)
        return torch.tensor([parameter.encode(values[name], name) for name, parameter in pairs], dtype=torch.float64)

    def describe(self) -> dict[str, Any]:
        """The box as a JSON mapping; kinds, options and constraints are there where they say more than the bounds."""
        plain = {"kind": "Box", "names": self.names, "low": self.low, "high": self.high, "units": self.units}
        kinds = {} if set(self.kinds) == {"real"} else {"kinds": self.kinds}
        choices = {"choices": self.choices} if self.choices else {}
        limits = {"constraints": [limit.describe() for limit in self.constraints]} if self.constraints else {}
        return {**plain, **kinds, **choices, **limits}

    @property
    def _whole(self) -> list[int]:
        return self._columns("integer", "choice")

    def _columns(self, *kinds: Kind) -> list[int]:
        return [column for column, kind in enumerate(self.kinds) if kind in kinds]

    @property
    def _scaled_bounds(self) -> Tensor:
        """The bounds in `to_scale`, half a step wider where theta is whole, shape [2, d]."""
        bounds = self.to_scale(self.bounds)
        if whole := self._whole:
            bounds[:, whole] += torch.tensor([[-0.5], [0.5]], dtype=torch.float64)
        return bounds

    @property
    def _violation(self) -> Callable[[Tensor], Tensor]:
        """How far points of the unit cube are from satisfying the constraints, [n, d] -> [n]."""
        return violation(lambda unit: self.slack(self.from_unit(unit)), self.dim)
