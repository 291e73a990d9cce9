"""Descent on a space that is no plain box: steps down the slope, each moved back to a point that is allowed."""

from collections.abc import Callable

import torch
from torch import Tensor

from studies.spaces.base import Rounded
from studies.spaces.box import Box

__all__ = ["descend_projected"]

_FIRST, _GROW, _SHRINK = 0.1, 2.0, 0.4  # length of a step, in widths of the bounds, and how gains and losses change it


def descend_projected(
    function: Callable[[Tensor], Tensor], starts: Tensor, space: Rounded, iterations: int = 20
) -> tuple[Tensor, Tensor]:
    """Where steps down the slope of a function lead on a space; parameters that are whole numbers stay.

    Each row keeps a step if it is a gain. What is reached is never worse than the start.

    Args:
        function: Maps theta, shape [n, d], to values, shape [n]; a row's value depends on this row only.
        starts: Points of the space, shape [k, d].
        space: A box with constraints, an energy shell, a manifold.
        iterations: Number of steps.

    Returns:
        Points of the space, shape [k, d], and the values there, shape [k]; infinite where they are not finite.

    Source: Bertsekas, 1976, IEEE Transactions on Automatic Control 21 (projected gradients).
    """
    low, high = space.bounds
    width = high - low

    def to_unit(theta: Tensor) -> Tensor:
        return space.to_unit(theta) if isinstance(space, Box) else (theta - low) / width

    def from_unit(unit: Tensor) -> Tensor:
        return space.from_unit(unit) if isinstance(space, Box) else low + width * unit

    def value_and_slope(theta: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            unit = to_unit(theta).requires_grad_()
            values = function(from_unit(unit))
            (slope,) = torch.autograd.grad(values.sum(), unit)
        return torch.where(values.isfinite(), values, torch.inf).detach(), slope.nan_to_num(0, 0, 0)

    theta = starts.clone()
    best, slope = value_and_slope(theta)
    step = torch.full_like(best, _FIRST)
    for _ in range(iterations):
        way = slope / slope.norm(dim=1, keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)
        tried = space.round(from_unit((to_unit(theta) - step[:, None] * way).clamp(0, 1)))
        values, slopes = value_and_slope(tried)
        gain = values < best
        theta, slope = torch.where(gain[:, None], tried, theta), torch.where(gain[:, None], slopes, slope)
        best, step = torch.where(gain, values, best), step * torch.where(gain, _GROW, _SHRINK)
    return theta, best
