"""Energy shells: initial conditions of one energy, or of a band of energies, in a box."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.spaces.base import check_theta
from studies.spaces.box import Box
from studies.spaces.constraints import function_name
from studies.spaces.uniform import take, uniform_blocks, violation

__all__ = ["EnergyShell"]

_TOLERANCE = 1e-6  # what counts as on the shell, as a share of the distance to the box's nearest extreme energy
_THIN = 0.05  # half-width of the band that is drawn from, as the same share
_NEWTON, _LONGEST = 60, 0.1  # steps, in widths of the box: near an equilibrium a whole one would overshoot


@dataclass(frozen=True, slots=True, init=False, repr=False)
class EnergyShell:
    """The points of a box that have one energy, or energies in a band.

    Draws are uniform in phase-space volume, as in the microcanonical ensemble: those on a single energy are drawn from
    a thin band about it and moved onto it along the energy's gradient.

    Args:
        energy: Maps theta, shape [n, d], to energies [n], differentiable: `Pendulum().energy`, say.
        value: The energy, or the lowest and the highest one.
        box: Bounds of the initial conditions: real parameters without constraints.

    Raises:
        ArgumentError: No point of the box has such an energy; the box has other parameters or constraints; the energy
            has the wrong shape.
        ArgumentTypeError: The energy is no function, the value no number or pair, or the box none.

    Example:
        >>> from studies.spaces.box import Box
        >>> shell = EnergyShell(lambda y: y.square().sum(-1) / 2, 0.5, Box({"q": (-2, 2), "p": (-2, 2)}))
        >>> shell.sample(3, torch.Generator().manual_seed(0)).norm(dim=1)
        tensor([1.0000, 1.0000, 1.0000], dtype=torch.float64)
        >>> shell.round(torch.tensor([[2.0, 0.0]])).round(decimals=6)
        tensor([[1., 0.]], dtype=torch.float64)
    """

    energy: Callable[[Tensor], Tensor]
    value: float | tuple[float, float]
    box: Box
    tolerance: float

    def __init__(self, energy: Callable[[Tensor], Tensor], value: float | tuple[float, float], box: Box) -> None:
        if isinstance(energy, type) or not callable(energy):
            raise ArgumentTypeError(f"`energy` must be a function, got {energy!r}. Pass `Pendulum().energy`, say.")
        if not isinstance(box, Box):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(f"`box` must be a Box, got {box!r}. Pass Box({{'q': (-2, 2), 'p': (-2, 2)}}).")
        if set(box.kinds) != {"real"} or box.constraints:
            raise ArgumentError(f"`box` must have real parameters and no constraints, got {box!r}. Pass a plain one.")
        object.__setattr__(self, "energy", energy)
        object.__setattr__(self, "box", box)
        object.__setattr__(self, "value", _energies(value))
        low, high = self._limits
        lowest, highest = self._extreme(1), self._extreme(-1)
        if not (lowest < high and low < highest):
            raise ArgumentError(
                f"`value` must lie between the energies of the box, {lowest:.6g} and {highest:.6g}, got {value}. "
                "Choose another one, or widen the box."
            )
        room = min(high - lowest, highest - low, high - low or torch.inf)
        object.__setattr__(self, "tolerance", _TOLERANCE * room)

    def __repr__(self) -> str:
        return f"EnergyShell({function_name(self.energy)}, {self.value}, {self.box!r})"

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, in the order of the columns of theta."""
        return self.box.names

    @property
    def dim(self) -> int:
        """The number of parameters, d; the dimension of a shell of one energy is one less."""
        return self.box.dim

    @property
    def bounds(self) -> Tensor:
        """Bounds of the box, float64, shape [2, d]."""
        return self.box.bounds

    def contains(self, theta: Tensor) -> Tensor:
        """Which rows lie in the box and have such an energy, shape [n, d] -> [n], bool."""
        inside = self.box.contains(theta)
        return inside & (self._excess(theta.detach().double()) <= (self.tolerance if self._is_thin else 0.0))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws that are uniform in phase-space volume, float64, shape [n, d]."""
        return take(self._blocks(generator), n)

    def round(self, theta: Tensor) -> Tensor:
        """Rows moved onto the shell along the energy's gradient, shape [n, d] -> [n, d]; rows on it stay.

        A row from which that leads out of the box, or nowhere, becomes the nearest of 256 draws.
        """
        theta = self.box.round(theta)
        moved = torch.where(self.contains(theta)[:, None], theta, self._land(theta))
        lost = ~self.contains(moved)
        if lost.any():
            draws = self.sample(256, torch.Generator().manual_seed(0))
            nearest = torch.cdist(self.box.to_unit(theta[lost]), self.box.to_unit(draws)).argmin(1)
            moved[lost] = draws[nearest]
        return moved

    def to_dict(self, row: Tensor) -> dict[str, float | int | str]:
        """One row of theta by name, shape [d]."""
        return self.box.to_dict(row)

    def describe(self) -> dict[str, Any]:
        """The shell as a JSON mapping: the energy by its name alone."""
        return {**self.box.describe(), "kind": "EnergyShell", "energy": function_name(self.energy), "value": self.value}

    @property
    def _limits(self) -> tuple[float, float]:
        return self.value if isinstance(self.value, tuple) else (self.value, self.value)

    @property
    def _is_thin(self) -> bool:
        return not isinstance(self.value, tuple)

    def _energies(self, theta: Tensor) -> Tensor:
        values = cast(object, self.energy(check_theta(theta, self.dim)))
        if not isinstance(values, Tensor) or values.shape != theta.shape[:1]:
            got = list(values.shape) if isinstance(values, Tensor) else repr(values)
            raise ArgumentError(f"`energy` must map {list(theta.shape)} to [{len(theta)}], got {got}.")
        return values.double()

    def _excess(self, theta: Tensor) -> Tensor:
        """How far energies lie outside the limits, [n, d] -> [n]."""
        low, high = self._limits
        with torch.no_grad():
            energies = self._energies(theta)
        return torch.maximum(low - energies, energies - high).clamp_min(0).nan_to_num(torch.inf)

    def _blocks(self, generator: torch.Generator) -> Iterator[Tensor]:
        low, high = self._limits
        half = _THIN / _TOLERANCE * self.tolerance if self._is_thin else 0.0

        def slack(unit: Tensor) -> Tensor:
            energies = self._energies(self.box.from_unit(unit))
            return torch.stack([energies - low + half, high + half - energies], dim=1)

        for unit in uniform_blocks(violation(slack, self.dim), self.dim, generator):
            theta = self.box.from_unit(unit)
            theta = self._land(theta) if self._is_thin else theta
            yield theta[self.contains(theta)]

    def _land(self, theta: Tensor) -> Tensor:
        """Newton's method along the gradient, in widths of the box and within it, shape [n, d] -> [n, d]."""
        low, high = self._limits
        inner = (low, high) if self._is_thin else (low + self.tolerance, high - self.tolerance)
        width = self.bounds[1] - self.bounds[0]
        for _ in range(_NEWTON):
            energies, slope = self._slope(theta)
            miss = energies.clamp(*inner) - energies
            if float(miss.abs().nan_to_num().max()) <= 1e-4 * self.tolerance:
                break
            slope = slope * width
            step = miss[:, None] * slope
            stuck = ((theta <= self.bounds[0]) & (step < 0)) | ((theta >= self.bounds[1]) & (step > 0))
            slope = slope.masked_fill(stuck, 0.0)
            step = miss[:, None] * slope / slope.square().sum(1, keepdim=True)
            step = step.nan_to_num(0, 0, 0)
            step = step * (_LONGEST / step.norm(dim=1, keepdim=True)).clamp_max(1)
            theta = (theta + width * step).clamp(*self.bounds)
        return theta

    def _slope(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Energies [n] and their gradient [n, d]."""
        with torch.enable_grad():
            theta = theta.detach().clone().requires_grad_()
            energies = self._energies(theta)
            (slope,) = torch.autograd.grad(energies.sum(), theta)
        return energies.detach(), slope

    def _extreme(self, sign: int) -> float:
        """The lowest energy in the box (sign 1), or the highest one (-1), as a local search finds it."""
        box = self.box

        def value_and_slope(unit: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            energies, slope = self._slope(box.from_unit(torch.from_numpy(unit.copy())[None]))
            return sign * float(energies[0]), sign * (slope[0] * (box.bounds[1] - box.bounds[0])).numpy()

        probes = torch.quasirandom.SobolEngine(self.dim, scramble=True, seed=0).draw(1024, dtype=torch.float64)
        energies = sign * self._slope(box.from_unit(probes))[0].nan_to_num(torch.inf)
        best = [float(energies.min())]
        for start in probes[energies.argsort()[:3]]:
            found: Any = minimize(
                value_and_slope, start.numpy(), jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * self.dim
            )
            best.append(float(found.fun))
        return sign * float(np.nanmin(best))


def _energies(value: object) -> float | tuple[float, float]:
    pair = cast("tuple[object, ...]", value) if isinstance(value, tuple | list) else (value,)
    try:
        numbers = [float(cast(float, number)) for number in pair]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (1, 2):
        raise ArgumentTypeError(f"`value` must be an energy, or the lowest and the highest one, got {value!r}.")
    if not np.isfinite(numbers).all() or (len(numbers) == 2 and numbers[0] >= numbers[1]):
        raise ArgumentError(f"`value` must be finite, and a pair must rise, got {value!r}.")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])
