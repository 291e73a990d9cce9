"""The logarithm of the expected improvement under a mixture of Gaussian processes, with its gradient."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import erfcx, ndtr

from surrogates.evidence import Array
from surrogates.process_mixture import ProcessMixture

__all__ = ["LogImprovement", "log_improvement"]

_FAR = -300.0  # below, the first terms of the asymptotic series are exact


@dataclass(frozen=True, slots=True, eq=False)
class LogImprovement:
    """How far below the least mean a function is expected to fall, averaged over a mixture; the logarithm of that.

    Args:
        mixture: The processes, k of them in s versions.
        least: What is to be improved on, shape [k, s].

    Source: Ament et al., 2023, arXiv 2310.20708 (the logarithm); Letham et al., 2019, arXiv 1706.07094 (noise).
    """

    mixture: ProcessMixture
    least: Array

    def __call__(self, x: Array) -> tuple[Array, Array]:
        """Values and gradients at points, shape [b, f] -> [b] and [b, f]."""
        seen = self.mixture.predict(x)
        deviation = seen.deviation[..., None]
        z = (self.least[:, None] - seen.mean) / deviation
        single, ratio = log_improvement(z)
        single = single + np.log(deviation)
        most = single.max((0, 2))
        share = np.exp(single - most[:, None])
        total = share.sum((0, 2))
        share /= total[:, None]
        on_mean, on_deviation = -share * ratio / deviation, (share * (1 - ratio * z) / deviation).sum(-1)
        return most + np.log(total / z[:, 0].size), seen.gradient(on_mean, on_deviation)


def log_improvement(z: Array) -> tuple[Array, Array]:
    """log(pdf(z) + z cdf(z)) of a standard normal and its derivative, exact at any z, any shape."""
    near = z > -1
    high, low = np.where(near, z, 0.0), np.where(near, -1.0, z)
    density, below = np.exp(-0.5 * high**2) / math.sqrt(2 * math.pi), ndtr(high)
    plain = density + high * below
    tail = math.sqrt(math.pi / 2) * erfcx(-low / math.sqrt(2))  # cdf / pdf
    rest = np.where(low > _FAR, 1 + low * tail, 1 / low**2)
    value = np.where(near, np.log(plain), -0.5 * low**2 - 0.5 * math.log(2 * math.pi) + np.log(rest))
    return value, np.where(near, below / plain, np.where(low > _FAR, tail / rest, -low))
