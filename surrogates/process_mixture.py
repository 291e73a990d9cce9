"""Gaussian processes of several settings, averaged: predictions with closed-form gradients, without autograd."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from surrogates.evidence import Array, Evidence, Kernel, kernel

__all__ = ["Prediction", "ProcessMixture"]

_NUGGET = 1e-6  # variance beside the noise of points under way, in units of the signal's
_LEAST = 1e-10  # of a prediction's variance, in units of the signal's


@dataclass(frozen=True, slots=True, eq=False)
class ProcessMixture:
    """k Gaussian processes of the same observations, equally likely, in s versions.

    Versions differ in outcomes that are made up: those of points under way.

    Args:
        x: Where it was observed, points under way last, shape [n, f].
        y: What was observed, in each version, shape [k, n, s].
        smooth: Which kernels are Gaussian; the others are Matern 5/2, shape [k].
        rates: Inverse squares of length scales, shape [k, f].
        signal: The functions' variances, shape [k].
        noise: Variances of one observation's noise, shape [k].
        mean: The functions' means, shape [k].
        inverse: Inverses of the observations' covariances, shape [k, n, n].
    """

    x: Array
    y: Array
    smooth: NDArray[np.bool_]
    rates: Array
    signal: Array
    noise: Array
    mean: Array
    inverse: Array

    @classmethod
    def of(cls, likely: Sequence[tuple[Evidence, Array]]) -> "ProcessMixture":
        """The processes of settings, each under its own evidence; at least one has a covariance that is positive."""
        made = [(evidence, settings, evidence.condition(settings)) for evidence, settings in likely]
        rows = [(evidence, settings, process) for evidence, settings, process in made if process is not None]
        return cls(
            rows[0][0].x,
            np.stack([evidence.y[:, None] for evidence, _, _ in rows]),
            np.array([evidence.kernel == "rbf" for evidence, _, _ in rows]),
            np.stack([np.exp(-2 * settings[:-2])[evidence.groups] for evidence, settings, _ in rows]),
            np.array([process.signal for _, _, process in rows]),
            np.array([np.exp(settings[-1]) for _, settings, _ in rows]),
            np.array([process.mean for _, _, process in rows]),
            np.stack([process.inverse for _, _, process in rows]),
        )

    def predict(self, x: Array) -> "Prediction":
        """Means and standard deviations of the functions at points, shape [b, f]."""
        value, slope = self._covariance(x, self.x)
        solved = value @ self.inverse
        variance = self.signal[:, None] - (value * solved).sum(-1)
        deviation = np.sqrt(np.maximum(variance, _LEAST * self.signal[:, None]))
        weights = self.inverse @ (self.y - self.mean[:, None, None])
        return Prediction(self, x, self.mean[:, None, None] + value @ weights, deviation, slope, solved, weights)

    def average(self, x: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the mixture at points, shape [b, f] -> [b] and [b]."""
        seen = self.predict(x)
        mean = seen.mean.mean((0, 2))
        variance = (seen.deviation**2).mean(0) + ((seen.mean - mean[:, None]) ** 2).mean((0, 2))
        return mean, np.sqrt(variance)

    def with_pending(self, x: Array, normal: Array) -> "ProcessMixture":
        """The processes that have also seen points under way, with outcomes drawn from what they believe of these.

        Args:
            x: The points, shape [r, f].
            normal: Standard normal numbers, shape [r, s]: a version of the outcomes in each column.
        """
        seen = self.predict(x)
        cross, own = self._covariance(x, self.x)[0], self._covariance(x, x)[0]
        spread = own - seen.solved @ cross.swapaxes(1, 2)
        spread += (self.noise + _NUGGET * self.signal)[:, None, None] * np.eye(len(x))
        inverse = np.linalg.inv(spread)
        side = inverse @ seen.solved
        corner = self.inverse + seen.solved.swapaxes(1, 2) @ side
        drawn = seen.mean + np.linalg.cholesky(spread) @ normal
        known = np.broadcast_to(self.y, (*self.y.shape[:2], normal.shape[1]))
        return replace(
            self,
            x=np.concatenate([self.x, x]),
            y=np.concatenate([known, drawn], 1),
            inverse=np.block([[corner, -side.swapaxes(1, 2)], [-side, inverse]]),
        )

    def _covariance(self, x: Array, other: Array) -> tuple[Array, Array]:
        """Covariances of the functions, [b, f] and [c, f] -> [k, b, c], and their slopes by the squared distance."""
        root = np.sqrt(self.rates)[:, None]
        here, there = x * root, other * root
        squared = (here**2).sum(-1)[:, :, None] + (there**2).sum(-1)[:, None] - 2 * here @ there.swapaxes(1, 2)
        squared = np.maximum(squared, 0)
        value, slope = np.empty_like(squared), np.empty_like(squared)
        kinds: list[tuple[Kernel, NDArray[np.bool_]]] = [("rbf", self.smooth), ("matern", ~self.smooth)]
        for kind, rows in kinds:
            if rows.any():
                value[rows], slope[rows] = kernel(squared[rows], kind)
        return value * self.signal[:, None, None], slope * self.signal[:, None, None]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What the processes of a mixture believe at b points.

    Args:
        mixture: The processes.
        x: The points, shape [b, f].
        mean: Means, shape [k, b, s].
        deviation: Standard deviations of the function, without noise, shape [k, b].
        slopes: Of the covariances with what was observed, by the squared distances, shape [k, b, n].
        solved: These covariances, times the observations' inverse covariance, shape [k, b, n].
        weights: That inverse, times the residuals, shape [k, n, s].
    """

    mixture: ProcessMixture
    x: Array
    mean: Array
    deviation: Array
    slopes: Array
    solved: Array
    weights: Array

    def gradient(self, on_mean: Array, on_deviation: Array | None = None) -> Array:
        """The gradient in x of a scalar, by its derivatives in the means [k, b, s] and deviations [k, b]; [b, f]."""
        pull = on_mean @ self.weights.swapaxes(1, 2)
        if on_deviation is not None:
            pull = pull - (on_deviation / self.deviation)[..., None] * self.solved
        pull = 2 * pull * self.slopes
        sums = self.x * pull.sum(-1)[..., None] - pull @ self.mixture.x
        return (sums * self.mixture.rates[:, None]).sum(0)
