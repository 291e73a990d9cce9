"""Bayesian optimisation of a simulator that knows its gradient: expected improvement, and descents of the model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from studies.gradients import smooth_box, split_outcome, to_unit_gradient, value_of
from studies.history import History, Proposal
from studies.objective import Objective
from studies.spaces.box import Box
from studies.strategies.search import descend, search_minimum
from studies.strategies.settings import check_asked, check_count, start_point
from studies.strategies.sobol import Sobol
from studies.strategies.success import Success
from surrogates.gradient_process import GradientProcess, Kernel, gradient_process

__all__ = ["GradientImprovement"]
_CANDIDATES, _NEAR = 256, 32
_SPREAD = 0.1  # of the candidates near the best point, in widths of the box
_MOST = 800  # numbers that the model learns from: beyond, only the best points keep their gradients
_SURE = 2.0  # standard deviations of a gain that is believed
_HOPE = 2.0  # standard deviations by which another basin may be deeper than the model's mean
_GAIN, _WORTH = 1e-5, 1e-3  # of the values' spread: the least gain of a descent, and of what is looked for elsewhere
_LEAST = 0.02  # of the values' spread: less is not to be gained at the bottom of another basin
_BASINS, _BASIN = 8, 0.7  # how many other basins are looked at, and how far apart they are, in length scales
_APART = 0.02  # widths of the box from a failed trial


@dataclass(frozen=True, slots=True)
class GradientImprovement:
    """Bayesian optimisation of a simulator whose outcome is its value and gradient; see `with_gradient`.

    A Gaussian process learns from both. Where it is sure of the way down from the best point, the next trial is the
    bottom of its basin. When that is reached, trials go by turns to where the expected improvement is largest and
    downhill from other points, to basins whose depth is not known. Noise of values and of gradients is estimated.

    Args:
        kernel: "rbf" for smooth functions, "matern" for rougher ones.
        start: The first point; the centre of the box by default.
        initial: Trials, those of a Sobol sequence, before the model decides.

    Raises:
        ArgumentError: The count is too small, the start lies outside the box, or outcomes are not of shape [n, 1 + d].
        ArgumentTypeError: The space is no box of real parameters without constraints.

    Source: Wu et al., 2017, arXiv 1703.04389; Ament et al., 2023, arXiv 2310.20708, for the logarithm.
    """

    kernel: Kernel = "rbf"
    start: Sequence[float] | None = None
    initial: int = 4

    def __post_init__(self) -> None:
        if self.kernel not in ("rbf", "matern"):
            raise ArgumentError(f"`kernel` must be 'rbf' or 'matern', got {self.kernel!r}.")
        check_count("initial", self.initial)

    @property
    def objective(self) -> Objective:
        """What is minimised: the outcome's first column."""
        return value_of

    def propose(self, history: History, n: int, generator: torch.Generator) -> Proposal:
        box, start = smooth_box(history.space, self), start_point(history.space, self.start)
        if len(history.tried) < self.initial or not len(split_outcome(history)[0]):
            proposal = Sobol().propose(history, n, generator)
            first = torch.empty(0, box.dim) if len(history.tried) else start[None]
            return Proposal(torch.cat([first, proposal.theta])[:n].double(), proposal.info)
        note: dict[str, Any] = next((info["gradient"] for info in reversed(history.info) if "gradient" in info), {})
        model = self._model(history, torch.tensor(note["fit"]).double() if note else None)
        search = _Search(box.dim, generator, box.to_unit(history.failed))
        taken = torch.cat([box.to_unit(history.pending), search.failed])
        phases, rows = list[str](note.get("phases", [])), list[Tensor]()
        for _ in range(n):
            look = phases[-1:] == ["improve"]  # by turns
            unit, phase = search.next(model.believe(taken) if len(taken) else model, look)
            taken = torch.cat([taken, unit[None]])
            rows.append(unit)
            phases.append(phase)
        info = {"fit": model.hyperparameters.tolist(), "phases": phases[-n:]}
        return Proposal(box.from_unit(torch.stack(rows)), {"gradient": info})

    def recommend(self, history: History) -> Tensor:
        """The point with the lowest model mean, or the bottom of its basin where the model is sure of it, shape [d]."""
        box = smooth_box(history.space, self)
        if not len(split_outcome(history)[0]):
            return start_point(box, self.start)
        model = self._model(history)
        failed = box.to_unit(history.failed)
        success = Success.learn(box.to_unit(history.theta), failed)
        search = _Search(box.dim, torch.Generator().manual_seed(0), failed, success)
        best, _ = search.best(model)
        bottom = search.bottom(model, best)
        return box.from_unit(best if bottom is None else bottom)

    def estimate(self, history: History, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The model's mean value and its standard deviation.

        Args:
            history: The trials that it learns from, one complete at least.
            theta: Where, shape [n, d]; `recommend(history)[None]`, say.

        Returns:
            Mean and standard deviation, float64, each of shape [n].

        Raises:
            ArgumentError: Theta has the wrong shape, or there is nothing to learn from.
            ArgumentTypeError: Theta is no tensor.
        """
        box = smooth_box(history.space, self)
        theta = check_asked(theta, box, len(history))
        with torch.no_grad():
            return self._model(history).posterior(box.to_unit(theta))

    def _model(self, history: History, fit: Tensor | None = None) -> GradientProcess:
        """The process in the unit cube."""
        box = smooth_box(history.space, self)
        value, gradient = split_outcome(history)
        gradient = to_unit_gradient(box, history.theta, gradient)
        n, d = gradient.shape
        if n * (1 + d) > _MOST:
            order = value.argsort(stable=True)
            gradient = gradient.index_fill(0, order[max((_MOST - n) // d, 1) :], torch.nan)
        return gradient_process(
            box.to_unit(history.theta), value, gradient, bounds=_cube(d).bounds, kernel=self.kernel, start=fit
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """The choice of a point by a model in the unit cube.

    Args:
        dim: The number of parameters, d.
        generator: Random numbers.
        failed: Where trials failed, shape [f, d].
        success: Where they tend to, which the answer keeps away from; a search may look there.
    """

    dim: int
    generator: torch.Generator
    failed: Tensor
    success: Success | None = None

    def next(self, model: GradientProcess, look: bool) -> tuple[Tensor, Literal["descend", "look", "improve"]]:
        """A point, and why."""
        best, least = self.best(model)
        if (bottom := self.bottom(model, best)) is not None:
            return bottom, "descend"
        if look and (found := self.other_basin(model)) is not None:
            return found, "look"
        target = least - _WORTH * model.scale
        seed = int(torch.randint(2**31, (), generator=self.generator))
        near = best + _SPREAD * torch.randn(_NEAR, self.dim, dtype=torch.float64, generator=self.generator)
        candidates = torch.cat([_cube(self.dim).sobol(_CANDIDATES, seed), near.clamp(0, 1)])
        with torch.no_grad():
            mean, deviation = model.posterior(candidates)
        gain = deviation.log() + _log_improvement((target - mean) / deviation)
        return candidates[gain.argmax()], "improve"

    def best(self, model: GradientProcess) -> tuple[Tensor, float]:
        """The observed point with the lowest mean, and this mean."""
        with torch.no_grad():
            mean, _ = model.posterior(model.unit)
        return model.unit[mean.argmin()], float(mean.min())

    def bottom(self, model: GradientProcess, begin: Tensor) -> Tensor | None:
        """The bottom of the mean's basin around a point; None where there is no gain that the model is sure of.

        Where trials failed, or tend to, a part of the way there.
        """
        bottom = self._descend(model, begin)
        steps = (begin + share * (bottom - begin) for share in (1.0, 0.5, 0.25, 0.125))
        step = next((step for step in steps if self._is_free(step)), None)
        return step if step is not None and self._is_sure(model, begin, step) else None

    def other_basin(self, model: GradientProcess) -> Tensor | None:
        """The lowest confidence bound that is reached downhill from observed points.

        Where it is not lower than the points around, that basin is known; None where all are.
        """
        with torch.no_grad():
            mean, _ = model.posterior(model.unit)
        places: list[int] = []
        for place in mean.argsort(stable=True).tolist():
            away = ((model.unit[places] - model.unit[place]) / model.length).square().sum(1)
            if len(places) < _BASINS and not bool((away < _BASIN**2).any()):
                places.append(place)

        def bound(at: Tensor) -> Tensor:
            mean, deviation = model.posterior(at)
            return mean - _HOPE * deviation

        ends, bounds = descend(bound, model.unit[places], _cube(self.dim))
        for end, bound_there in sorted(zip(ends, bounds.tolist(), strict=True), key=lambda pair: pair[1]):
            around = ((model.unit - end) / model.length).square().sum(1) < 1
            known = float(mean[around].min()) if bool(around.any()) else math.inf
            if known - bound_there > _LEAST * model.scale and self._is_free(end):
                return end
        return None

    def _descend(self, model: GradientProcess, begin: Tensor) -> Tensor:
        return search_minimum(lambda at: model.posterior(at)[0], begin[None], _cube(self.dim), restarts=1)[0]

    def _is_sure(self, model: GradientProcess, begin: Tensor, end: Tensor) -> bool:
        with torch.no_grad():
            mean, covariance = model.joint(torch.stack([begin, end]))
        gain = float(mean[0] - mean[1])
        deviation = float((covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]).clamp_min(0).sqrt())
        return gain > max(_GAIN * model.scale, _SURE * deviation)

    def _is_free(self, at: Tensor) -> bool:
        allowed = self.success is None or bool(self.success.allows(at))
        return allowed and not bool(((self.failed - at).norm(dim=1) < _APART).any())


def _cube(dim: int) -> Box:
    return Box({str(place): (0.0, 1.0) for place in range(dim)})


def _log_improvement(z: Tensor) -> Tensor:
    """The logarithm of the expected improvement of a standard normal over -z: of pdf(z) + z cdf(z), at any z."""
    near = z.clamp_min(-1.0)
    plain = (torch.exp(-near.square() / 2) / (2 * torch.pi) ** 0.5 + near * torch.special.ndtr(near)).log()
    far = z.clamp(-1e4, -1.0)
    ratio = torch.log1p(far * (torch.pi / 2) ** 0.5 * torch.special.erfcx(-far / 2**0.5))
    ratio = torch.where(z > -1e4, ratio, -2 * z.clamp_max(-1.0).neg().log())
    tail = -z.square() / 2 - 0.5 * torch.log(torch.tensor(2 * torch.pi, dtype=z.dtype)) + ratio
    return torch.where(z > -1, plain, tail)
