"""Mixtures of normal distributions whose draws are differentiable, through their conditional distribution functions."""

import math

import torch
from torch import Tensor

from surrogates.generators.pushforward import Pushforward

__all__ = ["GaussianMixture"]

_HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)
_ITERATIONS = 100


class GaussianMixture(Pushforward):
    """A mixture of K normal distributions with diagonal covariances.

    Component i of a draw is the quantile, at the probability of its noise, of its distribution given the components
    before it: a continuous function of noise and parameters. First derivatives follow from the implicit function
    theorem; there are no second ones.

    Args:
        log_weight: Unnormalised logarithms of the weights, shape [..., K].
        loc: Means, shape [..., K, m].
        scale: Standard deviations, shape [..., K, m].

    Source: Figurnov, Mohamed and Mnih, 2018, arXiv 1805.08498, section 3; Graves, 2016, arXiv 1607.05690.

    Example:
        >>> mixture = GaussianMixture(torch.zeros(2), torch.tensor([[-1.0], [1.0]]), torch.ones(2, 1))
        >>> mixture.mean, mixture.variance
        (tensor([0.]), tensor([2.]))
    """

    def __init__(self, log_weight: Tensor, loc: Tensor, scale: Tensor) -> None:
        super().__init__(loc.shape[-1], loc.shape[:-2], loc.shape[-1], loc)
        self.log_weight = log_weight.log_softmax(-1)
        self.loc, self.scale = loc, scale

    @property
    def weight(self) -> Tensor:
        """The weights, shape [..., K]."""
        return self.log_weight.exp()

    @property
    def mean(self) -> Tensor:
        """Shape [..., m]."""
        return (self.weight[..., None] * self.loc).sum(-2)

    @property
    def variance(self) -> Tensor:
        """Shape [..., m]."""
        spread = (self.loc - self.mean[..., None, :]).square() + self.scale.square()
        return (self.weight[..., None] * spread).sum(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        distance = (value[..., None, :] - self.loc) / self.scale
        density = -0.5 * distance.square() - self.scale.log() - _HALF_LOG_2_PI
        return torch.logsumexp(self.log_weight + density.sum(-1), dim=-1)

    def push(self, noise: Tensor) -> Tensor:
        log_weight, draws = self.log_weight, list[Tensor]()
        for i in range(self.loc.shape[-1]):
            loc, scale, weight = self.loc[..., i], self.scale[..., i], log_weight.softmax(-1)
            with torch.no_grad():
                y = _quantile(weight.double(), loc.double(), scale.double(), noise[..., i].double()).to(loc)
            distance = (y[..., None] - loc) / scale
            density = (weight * _density(distance) / scale).sum(-1).detach()
            # The distribution function at a draw is that of its noise, whatever the parameters: 0 = dF + p dy.
            # In the lower tail and in the upper one, whichever is smaller: the other would be rounded to 1.
            sign = torch.where(noise[..., i] > 0, -1.0, 1.0).to(loc)
            tail = sign * (weight * torch.special.ndtr(sign[..., None] * distance)).sum(-1)
            y = y - (tail - tail.detach()) / density.clamp_min(torch.finfo(loc.dtype).tiny)
            draws.append(y)
            distance = (y[..., None] - loc) / scale
            log_weight = log_weight - 0.5 * distance.square() - scale.log()
        return torch.stack(draws, dim=-1)

    def rescaled(self, shift: Tensor, scale: Tensor) -> "GaussianMixture":
        loc = shift + scale * self.loc.to(shift)
        return GaussianMixture(self.log_weight.to(shift), loc, scale * self.scale.to(shift))


def _density(distance: Tensor) -> Tensor:
    return torch.exp(-0.5 * distance.square() - _HALF_LOG_2_PI)


def _quantile(weight: Tensor, loc: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
    """Quantiles of mixtures in one dimension, [..., K], at the probabilities of normal numbers, [s, ...] -> [s, ...].

    Newton's method inside a bracket: the quantile of a mixture lies between those of its components.
    """
    sign = torch.where(noise > 0, -1.0, 1.0).to(noise)  # mirrored into the lower tail, where probabilities are precise
    loc, noise = sign[..., None] * loc, -noise.abs()
    ends = loc + scale * noise[..., None]
    low, high = ends.amin(-1), ends.amax(-1)
    tolerance = 1e-14 * (loc.abs() + scale).amax(-1) + 1e-13 * scale.amin(-1)
    y, last = (weight * ends).sum(-1), high - low
    for _ in range(_ITERATIONS):
        distance = (y[..., None] - loc) / scale
        # On the scale of normal quantiles the distribution function is nearly linear.
        quantile = torch.special.ndtri((weight * torch.special.ndtr(distance)).sum(-1))
        error = quantile - noise
        low, high = torch.where(error <= 0, y, low), torch.where(error >= 0, y, high)
        step = error * _density(quantile) / (weight * _density(distance) / scale).sum(-1)
        done = (step.abs() <= tolerance) | (high - low <= tolerance)
        if bool(done.all()):
            break
        newton, middle = y - step, 0.5 * (low + high)
        good = (newton >= low) & (newton <= high) & (step.abs() <= 0.5 * last)
        following = torch.where(done, y, torch.where(good, newton, middle))
        y, last = following, (following - y).abs()
    return sign * y
