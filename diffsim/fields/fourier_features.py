"""Random Fourier features of a stationary Gaussian-process prior, with periodic coordinates and ARD length scales."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import norm, qmc
from torch import Tensor, nn

from diffsim.errors import ArgumentError

__all__ = ["FourierFeatures"]

_HARMONICS = 3.0  # standard deviation of the harmonics that are drawn


class FourierFeatures(nn.Module):
    """Features phi(z) with phi(z) . phi(z') close to a squared-exponential kernel of unit variance.

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

    def frequencies(self, lengthscale: Tensor) -> Tensor:
        """Angular frequencies, [m] -> [F / 2, m]."""
        return self.spectrum / lengthscale + self.harmonic

    def amplitudes(self, lengthscale: Tensor) -> Tensor:
        """Amplitude of each frequency's pair of features, [m] -> [F / 2]; their squares add up to one."""
        density = -0.5 * (self.harmonic * lengthscale).square().sum(-1)
        logs = torch.log_softmax(density - self.log_share, dim=0)
        return (0.5 * logs).exp()

    def angles(self, z: Tensor, lengthscale: Tensor) -> Tensor:
        """Phases of the features, [..., m] -> [..., F / 2]."""
        return z @ self.frequencies(lengthscale).T

    def forward(self, z: Tensor, lengthscale: Tensor) -> Tensor:
        """The features, [..., m] -> [..., F]."""
        angles, amplitudes = self.angles(z, lengthscale), self.amplitudes(lengthscale)
        return torch.cat([angles.cos() * amplitudes, angles.sin() * amplitudes], dim=-1)

    def gradient(self, z: Tensor, lengthscale: Tensor) -> Tensor:
        """The features' gradients in z, [..., m] -> [..., m, F]."""
        frequencies, amplitudes = self.frequencies(lengthscale), self.amplitudes(lengthscale)
        angles = z @ frequencies.T
        slopes = torch.cat([-angles.sin() * amplitudes, angles.cos() * amplitudes], dim=-1)
        return slopes.unsqueeze(-2) * torch.cat([frequencies, frequencies]).T

    def weighted_gradient(self, z: Tensor, weights: Tensor, lengthscale: Tensor) -> Tensor:
        """The gradient in z of weights . phi(z), [..., m], [..., F] -> [..., m], without forming `gradient`."""
        angles, amplitudes = self.angles(z, lengthscale), self.amplitudes(lengthscale)
        cosine, sine = weights.chunk(2, dim=-1)
        return ((sine * angles.cos() - cosine * angles.sin()) * amplitudes) @ self.frequencies(lengthscale)

    def derivatives(self, z: Tensor, weights: Tensor, lengthscale: Tensor) -> tuple[Tensor, Tensor]:
        """`gradient` [..., m, F], and the Hessian in z of weights . phi(z), [..., m, m], in one pass."""
        frequencies, amplitudes = self.frequencies(lengthscale), self.amplitudes(lengthscale)
        angles = z @ frequencies.T
        sine, cosine = angles.sin() * amplitudes, angles.cos() * amplitudes
        gradient = torch.cat([-sine, cosine], dim=-1).unsqueeze(-2) * torch.cat([frequencies, frequencies]).T
        of_cosine, of_sine = weights.chunk(2, dim=-1)
        curvature = -(of_cosine * cosine + of_sine * sine)
        return gradient, (frequencies.T * curvature.unsqueeze(-2)) @ frequencies
