"""The evidence of a Gaussian process's settings, with its gradient, in closed form: float64, without autograd."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

__all__ = ["Array", "Conditioned", "Evidence", "Kernel", "kernel"]

Array = NDArray[np.float64]
Kernel = Literal["rbf", "matern"]

_lapack: Any = linalg.lapack
_JITTER = 1e-8  # variance added to the covariance, in units of the signal's
_LENGTHS = (math.log(0.02), math.log(60.0))
_SIGNAL = (-6.0, 8.0)
_NOISE = (math.log(1e-8), math.log(3.0))
_NOISE_PRIOR = (-4.0, 1.0)  # above this mean alone: less noise is as likely
_SIGNAL_PRIOR = 0.5
_LENGTH_PRIOR = (math.sqrt(2) - 3, math.sqrt(3))  # where a log-normal of these is densest, the square off the mean


@dataclass(frozen=True, slots=True, eq=False)
class Conditioned:
    """A Gaussian process of given settings, conditioned on its observations.

    Args:
        covariance: Of the function at the observed points, without noise, shape [n, n].
        inverse: Of the covariance with noise, shape [n, n].
        weights: That inverse times the residuals, shape [n].
        mean: The constant mean, the best one for these settings.
        signal: The function's variance.
        noise: The observations' variances, shape [n].
    """

    covariance: Array
    inverse: Array
    weights: Array
    mean: float
    signal: float
    noise: Array


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The log posterior density of a Gaussian process's settings: the evidence of its observations, and a prior.

    Settings are logarithms, shape [p + 2]: p length scales, the signal's variance, the noise's. The constant mean is
    integrated out. The prior of the length scales grows with the dimension. Its mode is that of the lengths, not of
    their logarithms: a parameter of which little is known matters until the data say that it does not.

    Args:
        x: Where it was observed, shape [n, f]; sides of about 1.
        y: Means of what was observed, shape [n]; about standard.
        groups: Which length scale a column of x has, whole numbers from 0 to p - 1, shape [f].
        share: What share of the noise's variance a mean has, shape [n]: one over its repetitions.
        known: Variances that are known beside, shape [n].
        freedom: Repetitions beyond the first of each mean.
        squares: Their sum of squares within the means.
        kernel: "matern" is Matern 5/2.

    Source: Rasmussen and Williams, 2006, section 5.4; priors after Hvarfner, Hellsten and Nardi, 2024,
    arXiv 2402.02229.
    """

    x: Array
    y: Array
    groups: NDArray[np.intp]
    share: Array
    known: Array
    freedom: float = 0.0
    squares: float = 0.0
    kernel: Kernel = "matern"

    @property
    def n_lengths(self) -> int:
        """The number of length scales, p."""
        return int(self.groups.max()) + 1

    @property
    def bounds(self) -> Array:
        """Lower and upper bounds of settings, shape [2, p + 2]."""
        return np.array([*[_LENGTHS] * self.n_lengths, _SIGNAL, _NOISE]).T

    def starts(self) -> list[Array]:
        """Two settings to fit from: a smooth function without noise, and a rough one with noise."""
        p = self.n_lengths
        smooth = _LENGTH_PRIOR[0] + 0.5 * math.log(p) - 1
        return [np.array([smooth] * p + [0.0, -8.0]), np.array([-1.0] * p + [0.0, -2.0])]

    def __call__(self, settings: Array) -> tuple[float, Array]:
        """Minus the log posterior density, up to a constant, and its gradient, shape [p + 2]."""
        p, (signal, noise) = self.n_lengths, np.exp(settings[-2:])
        rates = np.exp(-2 * settings[:p])[self.groups]
        shape, slope = kernel(self._distances(rates), self.kernel)
        covariance = signal * shape
        factor, inverse = _invert(covariance, self._noise(signal, noise))
        if inverse is None:
            return math.inf, np.zeros_like(settings)
        ones = inverse.sum(1)
        total = float(ones.sum())
        residual = self.y - float(ones @ self.y) / total
        weights = inverse @ residual
        value = 0.5 * residual @ weights + np.log(factor.diagonal()).sum() + 0.5 * math.log(total)
        value += 0.5 * (self.freedom * settings[-1] + self.squares / noise)
        outer = inverse - np.outer(weights, weights) - np.outer(ones, ones) / total
        gradient = np.empty_like(settings)
        pull = outer * slope * signal  # sum of pull * (x_i - x_j)^2 for each column of x, by one product
        spread = 2 * (pull.sum(1) @ self.x**2 - (self.x * (pull @ self.x)).sum(0))
        gradient[:p] = -np.bincount(self.groups, spread * rates, p)
        diagonal = outer.diagonal()
        gradient[-2] = 0.5 * (np.vdot(outer, covariance) + _JITTER * signal * diagonal.sum())
        gradient[-1] = 0.5 * (noise * diagonal @ self.share + self.freedom - self.squares / noise)
        middle = np.array([_LENGTH_PRIOR[0] + 0.5 * math.log(p)] * p + [0.0, _NOISE_PRIOR[0]])
        width = np.array([_LENGTH_PRIOR[1]] * p + [_SIGNAL_PRIOR, _NOISE_PRIOR[1]])
        off = (settings - middle) / width
        off[-1] = max(off[-1], 0.0)
        return float(value + 0.5 * off @ off), gradient + off / width

    def condition(self, settings: Array) -> Conditioned | None:
        """The process of these settings; None where its covariance is not positive in floating point."""
        signal, noise = np.exp(settings[-2:])
        rates = np.exp(-2 * settings[: self.n_lengths])[self.groups]
        covariance = signal * kernel(self._distances(rates), self.kernel)[0]
        variances = self._noise(signal, noise)
        _, inverse = _invert(covariance, variances)
        if inverse is None:
            return None
        ones = inverse.sum(1)
        mean = float(ones @ self.y) / float(ones.sum())
        return Conditioned(covariance, inverse, inverse @ (self.y - mean), mean, float(signal), variances)

    def _distances(self, rates: Array) -> Array:
        scaled = self.x * np.sqrt(rates)
        norms = (scaled**2).sum(1)
        squared = np.maximum(norms[:, None] + norms - 2 * scaled @ scaled.T, 0)
        np.fill_diagonal(squared, 0)
        return squared

    def _noise(self, signal: float, noise: float) -> Array:
        return self.known + noise * self.share + _JITTER * signal


def kernel(squared: Array, kind: Kernel) -> tuple[Array, Array]:
    """A kernel of variance 1 and its derivative, by the squared distance in length scales, any shape."""
    if kind == "rbf":
        value = np.exp(-0.5 * squared)
        return value, -0.5 * value
    root = np.sqrt(5 * squared)
    decay = np.exp(-root)
    return (1 + root + 5 / 3 * squared) * decay, -5 / 6 * (1 + root) * decay


def _invert(covariance: Array, noise: Array) -> tuple[Array, Array | None]:
    """The Cholesky factor and the inverse of a covariance with noise on its diagonal; None where there is none."""
    whole = covariance.copy()
    whole[np.diag_indices_from(whole)] += noise
    factor, info = _lapack.dpotrf(whole, lower=1)
    if info:
        return factor, None
    inverse, _ = _lapack.dpotri(factor, lower=1)
    lower = np.tril(inverse)
    return factor, lower + np.tril(lower, -1).T
