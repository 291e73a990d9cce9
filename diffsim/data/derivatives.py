"""Estimates of time derivatives from samples, on even and uneven time grids."""

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline, make_smoothing_spline
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError

__all__ = ["DerivativeMethod", "estimate_derivatives"]

DerivativeMethod = Literal["central", "spline", "smoothing", "forward"]

_STENCIL = 5

_Array = NDArray[np.float64]


def estimate_derivatives(t: Tensor, y: Tensor, method: DerivativeMethod = "central") -> Tensor:
    """Time derivatives of sampled runs; the work is done in float64, the result has the dtype of `y`.

    - ``central``: finite differences on the five nearest samples, of order four on any grid and up to its ends;
      differentiable in `y`.
    - ``spline``: the derivative of the interpolating spline of degree five.
    - ``smoothing``: the derivative of a cubic smoothing spline, its stiffness by generalised cross-validation;
      the one for noisy samples.
    - ``forward``: (y[k+1] - y[k]) / (t[k+1] - t[k]), of order one; no estimate for the last sample.

    Args:
        t: Times, shape [T], strictly monotone.
        y: Samples, shape [T, ...].
        method: As above.

    Returns:
        dy/dt, shape [T, ...]; with ``forward`` [T - 1, ...].

    Raises:
        ArgumentError: An unknown method, too few samples for it, shapes that do not fit, times out of order, or
            values that are not finite.
        ArgumentTypeError: Something other than floating-point tensors.

    Source: Fornberg, 1988, Mathematics of Computation 51, 699 (weights on uneven grids).
    """
    if method not in get_args(DerivativeMethod):
        raise ArgumentError(f"`method` must be one of {', '.join(get_args(DerivativeMethod))}, got {method!r}.")
    for name, value in (("t", t), ("y", y)):
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise ArgumentTypeError(f"`{name}` must be a floating-point tensor. Pass torch.as_tensor({name}).double().")
        if not bool(value.detach().isfinite().all()):
            raise ArgumentError(f"`{name}` must be finite. Leave the samples out that are not.")
    if t.ndim != 1 or y.ndim == 0 or len(y) != len(t):
        raise ArgumentError(f"`t` must have shape [T] and `y` [T, ...], got {list(t.shape)} and {list(y.shape)}.")
    needed = {"central": 2, "spline": 2, "smoothing": _STENCIL, "forward": 2}[method]
    if len(t) < needed:
        raise ArgumentError(
            f"`method` {method!r} needs at least {needed} times, got {len(t)}. Sample the runs more often."
        )
    way = t.detach().diff()
    if not (bool((way > 0).all()) or bool((way < 0).all())):
        raise ArgumentError("`t` must be strictly increasing or strictly decreasing. Sort it and drop repeats.")
    if method == "forward":
        step = t.double().diff().reshape(-1, *[1] * (y.ndim - 1))
        return (y.double().diff(dim=0) / step).to(y.dtype)
    if method == "central":
        return _central(t, y)
    return _spline(t, y, smooth=method == "smoothing")


def _central(t: Tensor, y: Tensor) -> Tensor:
    n_times, width = len(t), min(_STENCIL, len(t))
    row = torch.arange(n_times, device=t.device)
    first = (row - width // 2).clamp(0, n_times - width)
    index = first[:, None] + torch.arange(width, device=t.device)  # [T, width]
    offset = t.double()[index] - t.double()[:, None]
    scale = offset.abs().amax(-1, keepdim=True)
    # The weights reproduce the derivative at zero of every power below `width`.
    power = torch.arange(width, device=t.device)
    vandermonde = (offset / scale)[:, None, :] ** power[:, None]
    target = (power == 1).double().expand(n_times, width)
    weight = torch.linalg.solve(vandermonde, target) / scale
    return torch.einsum("tw,tw...->t...", weight, y.double()[index]).to(y.dtype)


def _spline(t: Tensor, y: Tensor, *, smooth: bool) -> Tensor:
    forward = bool(t[-1] >= t[0])
    time = t.detach().cpu().double().numpy()
    sample = y.detach().cpu().double().reshape(len(y), -1).numpy()
    if not forward:
        time, sample = time[::-1], sample[::-1]
    if smooth:
        columns = [_smooth_slope(time, column) for column in sample.T]
        slope = np.stack(columns, axis=-1)
    else:
        degree = next(k for k in (5, 3, 1) if len(time) > k)
        slope = make_interp_spline(time, sample, k=degree).derivative()(time)
    if not forward:
        slope = slope[::-1]
    return torch.as_tensor(np.ascontiguousarray(slope)).reshape(y.shape).to(y)


def _smooth_slope(t: _Array, y: _Array) -> _Array:
    # SciPy searches the stiffness between 0 and T in units of time^3: in seconds or days it would find another one.
    unit = _correlation_time(t, y)
    return make_smoothing_spline(t / unit, y).derivative()(t / unit) / unit


def _correlation_time(t: _Array, y: _Array) -> float:
    """About the shortest lag at which the mean squared change reaches the variance."""
    lags = np.unique(np.geomspace(1, len(t) - 1, 50).astype(int)).tolist()
    lag = next((k for k in lags if np.square(y[k:] - y[:-k]).mean() >= y.var()), len(t) - 1)
    return float(t[-1] - t[0]) * lag / (len(t) - 1)
