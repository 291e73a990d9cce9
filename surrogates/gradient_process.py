"""A Gaussian process of a function's values and gradients together: kernels with derivative blocks, and their fit."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from diffsim.errors import ArgumentError

__all__ = ["GradientProcess", "Kernel", "gradient_process"]

Kernel = Literal["rbf", "matern"]
_JITTER, _LEVEL = (
    1e-9,
    1e-8,
)  # least variance of the noise, and the one that is thought likely, in units of the signal's
_SHORTEST, _LONGEST = 0.02, 20.0  # length scales, in widths of the box


@dataclass(frozen=True, slots=True, eq=False)
class GradientProcess:
    """A Gaussian process conditioned on values and gradients.

    Make one by `gradient_process`, which fits it. All that follows is in standard units: parameters in widths of the
    bounds, values in `scale` around `shift`.

    Args:
        kernel: The kernel.
        bounds: Bounds of the parameters, shape [2, d].
        shift: The values' zero.
        scale: The values' unit.
        length: Length scales, shape [d].
        noise: Variances of the noise of values and of gradients, in units of the signal's variance, shape [2].
        unit: Where it was observed, shape [n, d].
        observed: Values and gradients, shape [n, 1 + d]; entries that are NaN were not observed.
        signal: The signal's variance.
        mean: The constant mean.
        root: Cholesky factor of the observations' covariance, shape [r, r] for r numbers observed.
        weights: The inverse of that covariance, times the observations, shape [r].
    """

    kernel: Kernel
    bounds: Tensor
    shift: float
    scale: float
    length: Tensor
    noise: Tensor
    unit: Tensor
    observed: Tensor
    signal: float
    mean: float
    root: Tensor
    weights: Tensor

    def posterior(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the function, differentiable in theta, shape [m, d] -> [m] and [m]."""
        mean, solved = self._predict(theta)
        variance = self.signal * (1 - solved.square().sum(0)).clamp_min(1e-14)
        return self.shift + self.scale * mean, self.scale * variance.sqrt()

    def joint(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the function at several points, shape [m, d] -> [m] and [m, m]."""
        mean, solved = self._predict(theta)
        at = self._to_unit(theta) / self.length
        prior = _profile((at[:, None] - at).square().sum(-1), self.kernel)[0]
        covariance = self.signal * (prior - solved.mT @ solved)
        return self.shift + self.scale * mean, self.scale**2 * covariance

    def slope(self, theta: Tensor) -> Tensor:
        """The gradient of the mean, shape [m, d] -> [m, d]."""
        theta = theta.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            mean = self._predict(theta)[0].sum()
        return self.scale * torch.autograd.grad(mean, theta)[0]

    @property
    def hyperparameters(self) -> Tensor:
        """Logarithms of the length scales and of the noise, shape [d + 2]: where the fit to more data may start."""
        return torch.cat([self.length, self.noise]).log()

    def believe(self, theta: Tensor) -> "GradientProcess":
        """The process that has also seen its own mean, values and gradients, at points that are under way, [r, d].

        Its mean stays; its uncertainty is what it will be when these come back.
        """
        with torch.no_grad():
            value = self._predict(theta)[0]
        gradient = self.slope(theta) / self.scale * (self.bounds[1] - self.bounds[0])
        observed = torch.cat([self.observed, torch.cat([value[:, None], gradient], 1)])
        unit = torch.cat([self.unit, self._to_unit(theta)])
        root, residual, mean = _solve(self.kernel, self.length, self.noise, unit, observed)
        return replace(
            self, unit=unit, observed=observed, root=root, mean=float(mean), weights=_weights(root, residual)
        )

    def _predict(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """In standard units: the mean, [m], and the covariance with what was observed, whitened, [r, m]."""
        cross = _values_with_all(self._to_unit(theta) / self.length, self.unit / self.length, self.kernel)
        cross = (cross / self._units()).flatten(-2)[:, self.observed.isfinite().flatten()]
        mean = self.mean + cross @ self.weights
        return mean, torch.linalg.solve_triangular(self.root, cross.mT, upper=False)

    def _units(self) -> Tensor:
        """What a column of `observed` is divided by, for parameters in units of the length scales, shape [1 + d]."""
        return torch.cat([torch.ones_like(self.length[:1]), self.length])

    def _to_unit(self, theta: Tensor) -> Tensor:
        low, high = self.bounds
        return (theta - low) / (high - low)


def gradient_process(
    theta: Tensor,
    value: Tensor,
    gradient: Tensor,
    *,
    bounds: Tensor,
    kernel: Kernel = "rbf",
    start: Tensor | None = None,
) -> GradientProcess:
    """A Gaussian process of values and gradients, fitted by marginal likelihood, float64 throughout.

    Length scales, one a parameter, and the noise of values and of gradients are fitted; the signal's variance and the
    mean are profiled out.

    Args:
        theta: Parameters, shape [n, d].
        value: Values, shape [n].
        gradient: Gradients in theta, shape [n, d]; NaN where one is not known.
        bounds: Bounds of the parameters, shape [2, d].
        kernel: "rbf", or "matern" (5/2), for rougher functions.
        start: Where the fit starts: the `hyperparameters` of an earlier one.

    Returns:
        The fitted process.

    Raises:
        ArgumentError: Shapes do not agree, there are no data, or values are not finite.

    Source: Rasmussen and Williams, 2006, section 9.4; Wu et al., 2017, arXiv 1703.04389; prior of the length scales of
    Hvarfner, Hellsten and Nardi, 2024, arXiv 2402.02229.

    Example:
        >>> theta = torch.linspace(0, 3, 5).double()[:, None]
        >>> bounds = torch.tensor([[0.0], [3.0]]).double()
        >>> process = gradient_process(theta, theta.sin()[:, 0], theta.cos(), bounds=bounds)
        >>> mean, deviation = process.posterior(torch.tensor([[1.0]]).double())
        >>> bool((mean - 0.8415).abs() < 1e-3)
        True
    """
    theta, value, gradient, bounds = (part.detach().double() for part in (theta, value, gradient, bounds))
    n, d = theta.shape if theta.ndim == 2 else (0, 0)
    if n == 0 or value.shape != (n,) or gradient.shape != (n, d) or bounds.shape != (2, d):
        raise ArgumentError(
            "`theta`, `value`, `gradient` and `bounds` must have shapes [n, d], [n], [n, d] and [2, d] with n > 0, got "
            f"{list(theta.shape)}, {list(value.shape)}, {list(gradient.shape)} and {list(bounds.shape)}."
        )
    if not bool(theta.isfinite().all() and value.isfinite().all()) or bool(gradient.isinf().any()):
        raise ArgumentError("`theta` and `value` must be finite, and gradients finite or NaN. Leave failed trials out.")
    unit = (theta - bounds[0]) / (bounds[1] - bounds[0])
    slopes = gradient * (bounds[1] - bounds[0])
    shift, scale = float(value.mean()), float(value.std(correction=0))
    if scale <= 1e-12 * float(value.abs().max()):  # one value, or all equal: the slopes tell the scale
        scale = float(slopes.nan_to_num().square().sum(1).mean().sqrt()) or 1.0
    observed = torch.cat([(value[:, None] - shift) / scale, slopes / scale], 1)
    found = _fit(unit, observed, kernel, start)
    length, noise = found[:d].exp(), found[d:].exp()
    root, residual, mean = _solve(kernel, length, noise, unit, observed)
    weights, signal = _weights(root, residual), float(_signal(residual))
    return GradientProcess(
        kernel, bounds, shift, scale, length, noise, unit, observed, signal, float(mean), root, weights
    )


def _fit(unit: Tensor, observed: Tensor, kernel: Kernel, start: Tensor | None) -> Tensor:
    """The logarithms of the length scales and of the noise that maximise the posterior, shape [d + 2]."""
    d = unit.shape[1]
    prior_mean = torch.cat([torch.full((d,), 2**0.5 + math.log(d) / 2), torch.full((2,), math.log(_LEVEL))]).double()
    prior_spread = torch.cat([torch.full((d,), 3**0.5), torch.full((2,), 5.0)]).double()
    limits = [(math.log(_SHORTEST), math.log(_LONGEST))] * d + [(math.log(_JITTER), 0.0), (math.log(_JITTER), 4.0)]
    begin = torch.cat([torch.full((d,), math.log(0.3 * d**0.5)), prior_mean[d:]]) if start is None else start.double()

    def misfit(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        point = torch.from_numpy(flat.copy()).requires_grad_(True)
        with torch.enable_grad():
            length, noise = point[:d].exp(), point[d:].exp()
            covariance, keep = _covariance(kernel, length, noise, unit, observed)
        with torch.no_grad():
            root, residual, _ = _whiten(covariance.detach(), observed.flatten()[keep], keep % (d + 1) == 0)
            weights = _weights(root, residual)[:, None]
            signal = _signal(residual)
            upstream = 0.5 * (torch.cholesky_inverse(root) - weights @ weights.mT / signal)
            away = (point - prior_mean) / prior_spread
            value = 0.5 * len(keep) * signal.log() + root.diagonal().log().sum() + 0.5 * away.square().sum()
        slope = torch.autograd.grad(covariance, point, upstream)[0] + away / prior_spread
        return float(value), slope.detach().numpy()

    low, high = np.asarray(limits).T
    first = begin.numpy().clip(low, high)
    result: Any = minimize(misfit, first, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": 60})
    return torch.from_numpy(np.asarray(result.x))


def _solve(
    kernel: Kernel, length: Tensor, noise: Tensor, unit: Tensor, observed: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The covariance's root [r, r], the residual that it whitens [r], and the mean."""
    with torch.no_grad():
        covariance, keep = _covariance(kernel, length, noise, unit, observed)
        return _whiten(covariance, observed.flatten()[keep], keep % observed.shape[1] == 0)


def _whiten(covariance: Tensor, numbers: Tensor, is_value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The root, the whitened numbers less their generalised least-squares mean, and this mean."""
    jitter = 0.0
    root, failed = torch.linalg.cholesky_ex(covariance)
    while int(failed):
        jitter = 100 * jitter or _JITTER
        root, failed = torch.linalg.cholesky_ex(covariance + jitter * covariance.diagonal().diag())
    both = torch.linalg.solve_triangular(root, torch.stack([numbers, is_value.double()], 1), upper=False)
    mean = (both[:, 0] @ both[:, 1]) / both[:, 1].square().sum()
    return root, both[:, 0] - mean * both[:, 1], mean


def _weights(root: Tensor, residual: Tensor) -> Tensor:
    """The covariance's inverse times the numbers less their mean, from the whitened residual, shape [r]."""
    return torch.linalg.solve_triangular(root.mT, residual[:, None], upper=True)[:, 0]


def _signal(residual: Tensor) -> Tensor:
    return (residual.square().sum() + 1e-3) / len(residual)


def _covariance(kernel: Kernel, length: Tensor, noise: Tensor, unit: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Of what was observed, in units of the signal's variance, shape [r, r], and its places in `observed`, [r]."""
    n, d = unit.shape
    keep = observed.flatten().isfinite().nonzero()[:, 0]
    scaled = unit / length
    difference = scaled[:, None] - scaled
    value, first, second = _profile(difference.square().sum(-1), kernel)
    towards = -2 * first[..., None] * difference  # of a value at the row and a slope at the column
    outer = difference[..., None] * difference[..., None, :]
    slopes = -4 * second[..., None, None] * outer - 2 * first[..., None, None] * torch.eye(d, dtype=unit.dtype)
    top = torch.cat([value[..., None], towards], -1)
    bottom = torch.cat([-towards[..., None], slopes], -1)
    units = torch.cat([torch.ones_like(length[:1]), length])
    blocks = torch.cat([top[..., None, :], bottom], -2) / (units[:, None] * units)
    whole = blocks.transpose(1, 2).reshape(n * (d + 1), n * (d + 1))
    if len(keep) < len(whole):
        whole = whole[keep][:, keep]
    level = torch.cat([noise[:1], noise[1:].expand(d)]) + _JITTER / units.square()
    return whole + level.repeat(n)[keep].diag(), keep


def _values_with_all(at: Tensor, scaled: Tensor, kernel: Kernel) -> Tensor:
    """Covariances of values at [m, d] with values and slopes at [n, d], in scaled parameters, shape [m, n, 1 + d]."""
    difference = at[:, None] - scaled
    value, first, _ = _profile(difference.square().sum(-1), kernel)
    return torch.cat([value[..., None], -2 * first[..., None] * difference], -1)


def _profile(square: Tensor, kernel: Kernel) -> tuple[Tensor, Tensor, Tensor]:
    """The kernel as a function of the squared distance, and its first two derivatives in it."""
    if kernel == "rbf":
        value = (-square / 2).exp()
        return value, -value / 2, value / 4
    distance = (5 * square + 1e-20).sqrt()  # smooth where points coincide
    decay = (-distance).exp()
    return (1 + distance + 5 * square / 3) * decay, -5 / 6 * (1 + distance) * decay, 25 / 12 * decay
