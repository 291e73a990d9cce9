"""Energies of functions on a ring, sum_i density(u[i], right difference, left difference): learned densities."""

import numpy as np
import torch
from torch import Tensor, nn

from diffsim import DiscreteGradientField, mlp
from diffsim.fields.evidence import maximise_evidence
from diffsim.fields.fourier_features import FourierFeatures, Waves

__all__ = ["DensityNet", "GaussianDensity"]

_NODES = 3
_WIDE = 10.0  # prior length scale in units of the data's spread: a density is nearly a polynomial


class _Neighbourhood(nn.Module):
    """Value, right and left difference at each point, centred and scaled by their spread in the data."""

    centre: Tensor
    spread: Tensor

    def __init__(self, u: Tensor) -> None:
        super().__init__()
        z = self._raw(u).flatten(0, -2)
        self.register_buffer("centre", z.mean(0))
        self.register_buffer("spread", z.std(0))

    @staticmethod
    def _raw(u: Tensor) -> Tensor:
        return torch.stack([u, u.roll(-1, -1) - u, u - u.roll(1, -1)], dim=-1)

    def forward(self, u: Tensor) -> Tensor:
        """[..., n] -> [..., n, 3]."""
        return (self._raw(u) - self.centre) / self.spread

    def pull_back(self, gradient: Tensor) -> Tensor:
        """Derivatives of sums over the points in their inputs [p, n, 3, F] to derivatives in u, [p, n, F]."""
        value, right, left = (gradient / self.spread[:, None]).unbind(-2)
        return value - right + left + right.roll(1, 1) - left.roll(-1, 1)


class DensityNet(nn.Module):
    """A quadratic and a network of the scaled neighbourhood, summed over the points; `scale` sets its size."""

    def __init__(self, u: Tensor, width: int, seed: int) -> None:
        super().__init__()
        self.around = _Neighbourhood(u)
        self.net = mlp(3, 1, (width,), seed=seed, dtype=torch.float64)
        self.quadratic = nn.Parameter(torch.zeros(3, 3, dtype=torch.float64))
        self.scale = 1.0

    def forward(self, u: Tensor) -> Tensor:
        z = self.around(u)
        return self.scale * (self.net(z)[..., 0] + ((z @ self.quadratic) * z).sum(-1)).sum(-1)


class GaussianDensity(nn.Module):
    """A Gaussian-process density as random features: discrete gradients are linear in its weights, the fit is exact.

    Args:
        u: States that set the scale of the inputs, shape [..., n].
        n_features: Number of features.
        seed: Of the features.
    """

    weights: Tensor

    def __init__(self, u: Tensor, n_features: int, seed: int) -> None:
        super().__init__()
        self.around = _Neighbourhood(u)
        self.features = FourierFeatures(3, n_features, seed=seed)
        self.waves = self.features.at(torch.full((3,), _WIDE, dtype=torch.float64))
        self.register_buffer("weights", torch.zeros(n_features, dtype=torch.float64))

    def forward(self, u: Tensor) -> Tensor:
        return (self.waves(self.around(u)) @ self.weights).sum(-1)

    def fit(self, field: DiscreteGradientField, before: Tensor, after: Tensor, dt: float) -> float:
        """Fit a field of this energy to pairs of states [p, n]; the mean squared error of their rates."""
        matrix, target = field.matrix(before[0]), (after - before) / dt

        def design(waves: Waves, part: slice) -> Tensor:
            rows = torch.zeros(())
            nodes, weights = np.polynomial.legendre.leggauss(_NODES)
            for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
                z = self.around(before[part] + float(node) * (after[part] - before[part]))
                rows = rows + float(weight) * self.around.pull_back(waves.gradient(z))
            return (matrix @ rows).flatten(0, 1)

        few = slice(0, 12)
        wide = self.waves.lengthscale
        found = maximise_evidence(lambda s: design(self.features.at(s), few), target[few].flatten(), wide, steps=20)
        self.waves = self.features.at(found.lengthscale)
        rows = torch.cat([design(self.waves, slice(i, i + 50)) for i in range(0, len(before), 50)])
        # Rounding, not noise, limits exact data: the prior enters as rows, without normal equations.
        prior = float(found.noise / found.signal) * torch.eye(rows.shape[1], dtype=rows.dtype)
        given = torch.cat([target.flatten(), torch.zeros(len(prior), dtype=rows.dtype)])
        self.weights = torch.linalg.lstsq(torch.cat([rows, prior]), given[:, None], driver="gelsd").solution[:, 0]
        return float((rows @ self.weights - target.flatten()).square().mean())
