"""The minimum of a differentiable function of theta over a space: candidates, and descents from the best of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from studies.spaces.base import Space
from studies.spaces.box import Box
from studies.spaces.pool import Pool

__all__ = ["cover", "descend", "search_minimum"]

_CHUNK = 256


def cover(space: Space, n: int, seed: int) -> Tensor:
    """At most n points spread over a space, float64, shape [n, d]."""
    if isinstance(space, Box):
        return space.sobol(n, seed)
    n = min(n, len(space)) if isinstance(space, Pool) else n
    return space.sample(n, torch.Generator().manual_seed(seed))


def search_minimum(
    function: Callable[[Tensor], Tensor],
    candidates: Tensor,
    space: Space,
    restarts: int = 4,
    iterations: int = 50,
) -> tuple[Tensor, float]:
    """The smallest value of a function over candidates, and over a box whatever L-BFGS-B reaches from the best of them.

    Args:
        function: Maps theta, shape [n, d], to values, shape [n]; a row's value depends on this row only.
        candidates: Points of the space, shape [m, d].
        space: The space; only a box of real parameters without constraints is searched between the candidates.
        restarts: How many of the best candidates are descended from, all at once.
        iterations: Most steps of the descent.

    Returns:
        Where, float64, shape [d], and the value there.
    """
    with torch.no_grad():
        values = torch.cat([function(part) for part in candidates.split(_CHUNK)])
    values = torch.where(values.isfinite(), values, torch.inf)
    order = values.argsort(stable=True)
    best, least = candidates[order[0]], float(values[order[0]])
    if not (isinstance(space, Box) and space.is_continuous and not space.constraints):
        return best, least
    reached, values = descend(function, candidates[order[:restarts]], space, iterations)
    place = int(values.argmin())
    return (reached[place], float(values[place])) if float(values[place]) < least else (best, least)


def descend(
    function: Callable[[Tensor], Tensor], starts: Tensor, box: Box, iterations: int = 50
) -> tuple[Tensor, Tensor]:
    """Where L-BFGS-B goes from points of a box of real parameters, all at once, and the values there.

    Args:
        function: Maps theta, shape [n, d], to values, shape [n], as in `search_minimum`.
        starts: Shape [k, d].
        box: The box.
        iterations: Most steps.

    Returns:
        Points, shape [k, d], and values, shape [k], infinite where they are not finite.
    """
    unit = box.to_unit(starts)

    def value_and_slope(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        at = torch.from_numpy(flat.copy()).reshape(unit.shape).requires_grad_(True)
        with torch.enable_grad():
            total = function(box.from_unit(at)).sum()
        slope = torch.autograd.grad(total, at)[0]
        return float(total.detach()), slope.nan_to_num().flatten().numpy()

    def scaled(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, slope = value_and_slope(flat)
        return (value - level) / steepest, slope / steepest

    first, bounds = unit.flatten().numpy(), [(0.0, 1.0)] * unit.numel()
    level, slope = value_and_slope(first)  # the search's tolerances are absolute: its function gets a level and a unit
    steepest = float(np.abs(slope).max()) or 1.0
    found: Any = minimize(scaled, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": iterations})
    with torch.no_grad():
        reached = box.from_unit(torch.from_numpy(np.asarray(found.x)).reshape(unit.shape))
        values = function(reached)
    return reached, torch.where(values.isfinite(), values, torch.inf)
