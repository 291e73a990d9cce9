"""The model of noisy expected improvement: a mixture of Gaussian processes of mean objectives over a box."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from studies.spaces.box import Box
from studies.strategies.box_search import feature_groups, features, search_box
from studies.strategies.expected_improvement import LogImprovement
from studies.strategies.means import Means
from studies.strategies.success import Success, likely
from surrogates.evidence import Array, Evidence
from surrogates.likely_settings import likely_settings
from surrogates.process_mixture import ProcessMixture

__all__ = ["ImprovementModel"]

_SETTINGS = 8
_MANY = 200  # points, from which the most likely settings alone are used
_CLIMBED = 4
_VERSIONS = 2  # of the outcomes of points under way
_ITERATIONS = 60


@dataclass(frozen=True, slots=True, eq=False)
class ImprovementModel:
    """What is believed of an objective, from its means.

    Args:
        box: Where.
        theta: Of the means, shape [p, d].
        shift: The means' mean.
        scale: Their standard deviation.
        mixture: The processes of (mean - shift) / scale.
        noise: The standard deviation of such a mean's noise, as each process has it, shape [k].
    """

    box: Box
    theta: Tensor
    shift: float
    scale: float
    mixture: ProcessMixture
    noise: Array

    @classmethod
    def fit(cls, means: Means, box: Box, generator: torch.Generator) -> "ImprovementModel":
        """The model of means, of one point at least."""
        y = means.mean.numpy()
        shift, scale = float(y.mean()), float(y.std()) or 1.0
        known = np.zeros(len(y)) if means.error is None else (means.error.numpy() / scale) ** 2
        evidence = Evidence(
            features(box, means.theta),
            (y - shift) / scale,
            feature_groups(box),
            share=1 / means.count.numpy() if means.error is None else np.zeros(len(y)),
            known=known,
            freedom=float((means.count - 1).sum()) if means.error is None else 0.0,
            squares=means.squares / scale**2 if means.error is None else 0.0,
            kernel="rbf",
        )
        settings = _SETTINGS if len(y) < _MANY else 1
        normal = _normal(settings, box.dim + 2, generator)
        mixture = ProcessMixture.of([(evidence, row) for row in likely_settings(evidence, normal)])
        noise = np.sqrt(mixture.noise * evidence.share.mean() + known.mean())
        return cls(box, means.theta, shift, scale, mixture, noise)

    def improvement(self, pending: Tensor, generator: torch.Generator) -> LogImprovement:
        """The expected improvement on the least mean at the points, once those under way, [r, d], have come back.

        Every other time only what is better by more than the noise counts. Near the best point a little can be gained
        for as long as noise hides it, and a search that always takes that stays in the basin that it found first.
        """
        mixture = self.mixture
        if len(pending):
            versions = _VERSIONS if len(mixture.signal) > 1 else _VERSIONS * _SETTINGS
            mixture = mixture.with_pending(features(self.box, pending), _normal(len(pending), versions, generator))
        least = mixture.predict(mixture.x).mean.min(1)
        return LogImprovement(mixture, least if len(mixture.x) % 2 else least - self.noise[:, None])

    def moments(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the objective, shape [n, d] -> [n] and [n]."""
        mean, deviation = self.mixture.average(features(self.box, theta))
        return torch.from_numpy(self.shift + self.scale * mean), torch.from_numpy(self.scale * deviation)

    def best(self, success: Success | None = None) -> Tensor:
        """Where the mean plus a standard deviation is least, of descents from the best points tried, shape [d].

        Beyond the border of failures it is not, unless a trial succeeded there.
        """
        points, score = search_box(self.box, likely(self._surely, success), [self.theta], _CLIMBED, _ITERATIONS)
        if success is not None:
            tried = (points[:, None] == self.theta).all(-1).any(-1)
            points = points[tried | success.allows(self.box.features(points))]
            score = self._surely(features(self.box, points))[0]
        return points[int(score.argmax())]

    def _surely(self, x: Array) -> tuple[Array, Array]:
        seen = self.mixture.predict(x)
        k = len(seen.mean)
        value = seen.mean[..., 0].mean(0) + seen.deviation.mean(0)
        slope = seen.gradient(np.full_like(seen.mean, 1 / k), np.full_like(seen.deviation, 1 / k))
        return -value, -slope


def _normal(rows: int, columns: int, generator: torch.Generator) -> Array:
    """Standard normal numbers that cover their range evenly, shape [rows, columns]."""
    seed = int(torch.randint(2**31, (), generator=generator))
    if columns > torch.quasirandom.SobolEngine.MAXDIM:
        return torch.randn(rows, columns, dtype=torch.float64, generator=generator).numpy()
    draws = torch.quasirandom.SobolEngine(columns, scramble=True, seed=seed).draw(rows, dtype=torch.float64)
    return torch.special.ndtri(draws.clamp(1e-4, 1 - 1e-4)).numpy()
