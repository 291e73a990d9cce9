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

__all__ = ["cover", "search_minimum"]

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
        space: The space; only a box is searched between the candidates.
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
    if not isinstance(space, Box):
        return best, least
    low, high = space.bounds
    width = high - low
    starts = ((candidates[order[:restarts]] - low) / width).clamp(0, 1)

    def value_and_slope(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        unit = torch.from_numpy(flat.copy()).reshape(starts.shape).requires_grad_(True)
        with torch.enable_grad():
            total = function(low + width * unit).sum()
        slope = torch.autograd.grad(total, unit)[0]
        return float(total.detach()), slope.nan_to_num().flatten().numpy()

    bounds = [(0.0, 1.0)] * starts.numel()
    options = {"maxiter": iterations}
    found: Any = minimize(
        value_and_slope, starts.flatten().numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    reached = (low + width * torch.from_numpy(np.asarray(found.x)).reshape(starts.shape)).clamp(low, high)
    reached = reached[space.contains(reached)]
    if len(reached):
        with torch.no_grad():
            values = function(reached)
        values = torch.where(values.isfinite(), values, torch.inf)
        if float(values.min()) < least:
            return reached[values.argmin()], float(values.min())
    return best, least
