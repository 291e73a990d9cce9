"""Where simulations succeed, learned from where trials did and where they failed."""

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_ndtr
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx

from studies.history import History
from studies.objective import Objective
from studies.spaces.base import Space
from studies.spaces.box import Box
from studies.strategies.box_search import Score, feature_groups
from studies.strategies.penalties import learnable
from surrogates.evidence import Array, Evidence
from surrogates.likely_settings import likely_settings
from surrogates.process_mixture import ProcessMixture
from surrogates.threads import one_thread

__all__ = ["Success", "coordinates", "good_and_bad", "likely", "parted"]

_MOST = 150  # of each kind that are learned from: the last ones
_CHANCE = 0.25  # variance of a label: some trials fail by accident
_BLUR = 0.1  # of the labels' distance from the border, 1: no trial makes its surroundings certain


@dataclass(frozen=True, slots=True, eq=False)
class Success:
    """A Gaussian process of labels: 1 where a trial succeeded, -1 where it failed.

    Failures that happen anywhere are noise to it; those of a region make a border, beyond which trials succeed less
    than half as often as where they do best. Where no trial was, it tends to what is usual.

    Args:
        labels: The process of the labels, one of one version.
        border: Its value where trials succeed half as often as where they do best.

    Source: Rasmussen and Williams, 2006, section 6.5 (least-squares classification); Gelbart, Snoek and Adams, 2014,
    arXiv 1403.5607 (an acquisition times the chance to be allowed).
    """

    labels: ProcessMixture
    border: float

    @classmethod
    def of(cls, space: Space, good: Tensor, bad: Tensor) -> "Success | None":
        """Learned in the coordinates of a space from where trials succeeded, [n, d], and failed, [m, d]."""
        groups = feature_groups(space) if isinstance(space, Box) else None
        return cls.learn(coordinates(space, good), coordinates(space, bad), groups)

    @classmethod
    def learn(cls, good: Tensor, bad: Tensor, groups: NDArray[np.intp] | None = None) -> "Success | None":
        """Learned from coordinates, shapes [n, f] and [m, f]; None where one of them is empty.

        Args:
            good: Where trials succeeded.
            bad: Where they failed.
            groups: The parameter that each coordinate belongs to, shape [f]; one each by default.
        """
        if not len(good) or not len(bad):
            return None
        x = torch.cat([good[-_MOST:], bad[-_MOST:]])
        label = np.ones(len(x))
        label[len(good[-_MOST:]) :] = -1
        groups = np.arange(x.shape[1]) if groups is None else groups
        evidence = Evidence(x.numpy(), label, groups, share=np.ones(len(x)), known=np.full(len(x), _CHANCE))
        with one_thread():
            likeliest = likely_settings(evidence, np.zeros((1, evidence.n_lengths + 2)))
            labels = ProcessMixture.of([(evidence, settings) for settings in likeliest])
        return cls(labels, (min(float(labels.predict(labels.x).mean.max()), 1.0) - 1) / 2)

    def log_chance(self, x: Tensor) -> Tensor:
        """The logarithm of the chance that x lies on the good side of the border, shape [..., f] -> [...]."""
        return cast(Tensor, _LogChance.apply(x, self))

    def score(self, x: Array) -> tuple[Array, Array]:
        """That logarithm and its gradient, shape [b, f] -> [b] and [b, f]."""
        seen = self.labels.predict(x)
        spread = np.sqrt(seen.deviation**2 + _BLUR**2)
        z = (seen.mean[..., 0] - self.border) / spread
        value = log_ndtr(z)
        pull = np.exp(-0.5 * z**2 - value) / math.sqrt(2 * math.pi) / spread
        return value[0], seen.gradient(pull[..., None], -pull * z * seen.deviation / spread)

    def allows(self, x: Tensor) -> Tensor:
        """What is likely to lie on the good side of the border, shape [..., f] -> [...], bool."""
        with torch.no_grad():
            return self.log_chance(x).exp() >= 0.5


class _Context(FunctionCtx):
    saved_tensors: tuple[Tensor]


class _LogChance(Function):
    @staticmethod
    def forward(ctx: _Context, x: Tensor, success: Success) -> Tensor:
        value, slope = success.score(x.detach().reshape(-1, x.shape[-1]).numpy())
        ctx.save_for_backward(torch.from_numpy(slope).reshape(x.shape))
        return torch.from_numpy(value).reshape(x.shape[:-1])

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return gradients[0][..., None] * slope, None


def likely(score: Score, success: Success | None) -> Score:
    """A score of points, a logarithm, plus that of the chance to lie where trials succeed."""
    if success is None:
        return score

    def both(x: Array) -> tuple[Array, Array]:
        (value, slope), (chance, rise) = score(x), success.score(x)
        return value + chance, slope + rise

    return both


def good_and_bad(history: History, objective: Objective | None) -> tuple[Tensor, Tensor]:
    """Parameters of the trials with a finite objective, and of those without or that failed, [n, d] and [m, d]."""
    return parted(learnable(objective, history).isfinite(), history)


def parted(finite: Tensor, history: History) -> tuple[Tensor, Tensor]:
    """The same, from which complete trials have a finite objective, shape [n], bool."""
    return history.theta[finite], torch.cat([history.failed, history.theta[~finite]])


def coordinates(space: Space, theta: Tensor) -> Tensor:
    """Coordinates in units of the space, shape [..., d] -> [..., f]; a box's own features."""
    if isinstance(space, Box):
        return space.features(theta)
    low, high = space.bounds
    width = high - low
    return (theta - low) / torch.where(width > 0, width, torch.ones_like(width))
