"""Random Fourier features of a stationary Gaussian-process prior, with periodic coordinates and ARD length scales."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import norm, qmc
from torch import Tensor, nn

from diffsim.errors import ArgumentError

__all__ = ["FourierFeatures", "Waves"]

_HARMONICS = 3.0  # standard deviation of the harmonics that are drawn


class FourierFeatures(nn.Module):
    """A draw of features: at any length scales, phi(z) . phi(z') is close to the squared-exponential kernel of them.

    The frequencies are a scrambled Sobol sample of the kernel's spectral density, so they change smoothly with
    the length scales. In a periodic coordinate they are the harmonics of the period, weighted by that density.

    Args:
        n_inputs: Number of coordinates m.
        n_features: Number of features F (even: a cosine and a sine for each frequency).
        periods: For each coordinate its period, or None.
        seed: Of the frequencies.

    Raises:
        ArgumentError: The counts are not positive, `n_features` is odd, or `periods` has another length.

    Source: Rahimi and Recht, 2007, "Random features for large-scale kernel machines", algorithm 1.
    """

    spectrum: Tensor
    harmonic: Tensor
    log_share: Tensor

    def __init__(
        self, n_inputs: int, n_features: int = 400, *, periods: Sequence[float | None] | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        if n_inputs < 1 or n_features < 2 or n_features % 2:
            raise ArgumentError(
                f"`n_inputs` must be positive and `n_features` positive and even, got {n_inputs} and {n_features}."
            )
        periods = [None] * n_inputs if periods is None else list(periods)
        if len(periods) != n_inputs or any(p is not None and not 0 < p < math.inf for p in periods):
            raise ArgumentError(f"`periods` must hold {n_inputs} positive numbers or None, got {periods}.")
        self.n_inputs = n_inputs
        self.n_features = n_features
        n_frequencies = n_features // 2
        size = 2 ** math.ceil(math.log2(n_frequencies))
        uniform = qmc.Sobol(n_inputs, scramble=True, rng=seed).random(size)[:n_frequencies]
        is_periodic = np.array([p is not None for p in periods])
        normal = norm.ppf(uniform.clip(1e-9, 1 - 1e-9))
        harmonic = np.round(_HARMONICS * normal) * is_periodic
        base = np.array([2 * math.pi / p if p is not None else 0.0 for p in periods])
        self.register_buffer("spectrum", torch.as_tensor(normal * ~is_periodic))
        self.register_buffer("harmonic", torch.as_tensor(harmonic * base))
        self.register_buffer("log_share", torch.as_tensor(-0.5 * (harmonic / _HARMONICS) ** 2).sum(-1))

    def at(self, lengthscale: Tensor) -> "Waves":
        """The features at given length scales, shape [m]; differentiable in them."""
        density = -0.5 * (self.harmonic * lengthscale).square().sum(-1)
        amplitudes = (0.5 * torch.log_softmax(density - self.log_share, dim=0)).exp()
        return Waves(self.spectrum / lengthscale + self.harmonic, amplitudes, lengthscale)


class Waves(nn.Module):
    """The features phi at given length scales: for each frequency a cosine and a sine.

    Args:
        frequencies: Angular frequencies, shape [F / 2, m].
        amplitudes: Of each pair, shape [F / 2]; their squares add up to one.
        lengthscale: The length scales that they stand for, shape [m].
    """

    frequencies: Tensor
    amplitudes: Tensor
    lengthscale: Tensor

    def __init__(self, frequencies: Tensor, amplitudes: Tensor, lengthscale: Tensor) -> None:
        super().__init__()
        self.register_buffer("frequencies", frequencies)
        self.register_buffer("amplitudes", amplitudes)
        self.register_buffer("lengthscale", lengthscale)

    @property
    def n_inputs(self) -> int:
        """Number of coordinates m."""
        return self.frequencies.shape[-1]

    def forward(self, z: Tensor) -> Tensor:
        """The features, [..., m] -> [..., F]."""
        return torch.cat(self._pair(z), dim=-1)

    def gradient(self, z: Tensor) -> Tensor:
        """The features' gradients in z, [..., m] -> [..., m, F]."""
        return self._slopes(*self._pair(z))

    def weighted_gradient(self, z: Tensor, weights: Tensor) -> Tensor:
        """The gradient in z of weights . phi(z), [..., m], [..., F] -> [..., m], without forming `gradient`."""
        cosine, sine = self._pair(z)
        of_cosine, of_sine = weights.chunk(2, dim=-1)
        return (of_sine * cosine - of_cosine * sine) @ self.frequencies

    def derivatives(self, z: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """`gradient` [..., m, F], and the Hessian in z of weights . phi(z), [..., m, m], in one pass."""
        cosine, sine = self._pair(z)
        of_cosine, of_sine = weights.chunk(2, dim=-1)
        curvature = -(of_cosine * cosine + of_sine * sine)
        return self._slopes(cosine, sine), (self.frequencies.T * curvature.unsqueeze(-2)) @ self.frequencies

    def _pair(self, z: Tensor) -> tuple[Tensor, Tensor]:
        angles = z @ self.frequencies.T
        return angles.cos() * self.amplitudes, angles.sin() * self.amplitudes

    def _slopes(self, cosine: Tensor, sine: Tensor) -> Tensor:
        frequencies = torch.cat([self.frequencies, self.frequencies]).T
        return torch.cat([-sine, cosine], dim=-1).unsqueeze(-2) * frequencies
