"""The uniform grid of a fixed-step solve, and the cubic that gives the states between its nodes."""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffsim.errors import IntegrationError
from diffsim.fields.base import VectorField

__all__ = ["Grid"]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Equal steps from the first to the last time; the states at `nodes` give those at all times.

    Equal steps keep what symplectic and multistep methods promise; steps that end on every output would not.

    Attributes:
        start: First time.
        h: Signed step.
        nodes: Increasing step numbers whose states are needed, from 0 to the last.
        left: Position in `nodes` of the node at or before each time, shape [T].
        right: The same of the node at or after it, shape [T].
        fraction: Where between them, 0 to 1, shape [T].
        exact: Whether the times are the nodes.
    """

    start: float
    h: float
    nodes: tuple[int, ...]
    left: Tensor
    right: Tensor
    fraction: Tensor
    exact: bool

    @classmethod
    def over(cls, times: Tensor, step: float, max_steps: int, resolution: float) -> "Grid":
        """The coarsest grid with steps of at most `step`.

        Args:
            times: Monotone times, float64, shape [T].
            step: Largest step, to a relative 1e-6.
            max_steps: Largest number of steps.
            resolution: Relative rounding error of `times`, within which a time is a node.

        Raises:
            IntegrationError: More than `max_steps` steps.
        """
        grid = _grid(tuple(times.tolist()), step, max_steps, resolution)
        if times.device.type == "cpu":
            return grid
        places = (x.to(times.device) for x in (grid.left, grid.right, grid.fraction))
        return cls(grid.start, grid.h, grid.nodes, *places, exact=grid.exact)

    def time(self, node: float) -> float:
        """The time at a (fractional) step number."""
        return self.start + node * self.h

    def interpolate(self, field: VectorField, states: Tensor, rate: float | Tensor) -> Tensor:
        """The states at the times from those at the nodes, [nodes, ..., d] -> [T, ..., d].

        Args:
            field: Gives the derivatives at the nodes.
            states: States at the nodes.
            rate: The step, or the step of each trajectory, shape [..., 1].
        """
        if self.exact:
            return states
        between = self.fraction > 0
        if not between.any():
            return states[self.left]
        needed = sorted({*self.left[between].tolist(), *self.right[between].tolist()})
        slopes = {
            i: field(torch.tensor(self.time(self.nodes[i]), dtype=states.dtype, device=states.device), states[i]) * rate
            for i in needed
        }
        zero = torch.zeros_like(states[0])
        slope = torch.stack([slopes.get(i, zero) for i in range(len(states))])
        x = self.fraction.to(states).reshape(-1, *[1] * (states.ndim - 1))
        y, z, f, g = states[self.left], states[self.right], slope[self.left], slope[self.right]
        w = 1 - x
        return (1 + 2 * x) * w * w * y + x * w * w * f + x * x * (3 - 2 * x) * z - x * x * w * g


@functools.lru_cache(maxsize=64)
def _grid(times: tuple[float, ...], step: float, max_steps: int, resolution: float) -> Grid:
    start, end = times[0], times[-1]
    exact = abs(end - start) / step
    if exact > max_steps + 1:
        raise IntegrationError(
            f"step={step} needs {exact:.3g} steps from t = {start:.6g} to {end:.6g}, more than "
            f"max_steps={max_steps}. Pass a larger `step` or `max_steps`."
        )
    n = max(1, math.ceil(exact * (1 - 1e-6)))
    h = (end - start) / n
    # A time that is a node but for its own rounding counts as one, which saves the interpolation.
    rounding = min(2 * resolution * max(abs(start), abs(end)) / abs(h), 1e-3)
    position = (np.array(times) - start) / h
    nearest = position.round()
    position = np.where(np.abs(position - nearest) <= rounding, nearest, position)
    low = np.floor(position)
    nodes, places = np.unique(np.concatenate([low, np.ceil(position)]).astype(np.int64), return_inverse=True)
    left, right = (torch.from_numpy(x.copy()) for x in np.split(places.ravel(), 2))
    fraction = torch.from_numpy(position - low)
    return Grid(start, h, tuple(nodes.tolist()), left, right, fraction, len(nodes) == len(times) and not fraction.any())
