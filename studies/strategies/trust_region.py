"""The trust region of a local descent: where it samples, how much, and how measurements move, grow and shrink it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from studies.history import History

__all__ = ["Evidence", "Region", "judge", "reject"]

LARGEST = 0.5  # half-width, in units of the box: all of it
GROW, SHRINK, OVERSHOT, REJECTED = 1.5, 0.7, 0.6, 0.5
SIGNIFICANT = 2.0  # standard errors
BOUNDARY = 0.8  # of the longest step: further ones ended at the boundary
REACH = 2.5  # rows up to so many half-widths from the centre are fitted


@dataclass(frozen=True, slots=True)
class Region:
    """A cube of the unit cube, what is to be simulated in it, and where it came from.

    Attributes:
        center: In units of the box, d numbers.
        radius: Half-width, in units of the box.
        size: Number of simulations.
        repeats: Simulations of each theta.
        seed: Of the points and of the models fitted after them.
        previous: The centre before, if there was one.
        previous_radius: The half-width there.
        gain: What the model predicted for the step to this centre; negative is better.
        error: Its standard error.
        step: The step's length, as a share of the largest allowed.
        descent: How many times the descent has started anew.
        blind: How many rounds in a row nothing was seen.
        decision: What was decided, and why.
        rung: The surrogate that led here.
        scores: Held-out mean squared error of each surrogate, as a share of the variance.
        wait: The user's surrogates sit out until there are so many simulations.
        best: The answer of the descents before this one.
        best_value: Its mean objective.
    """

    center: tuple[float, ...]
    radius: float
    size: int
    repeats: int
    seed: int
    previous: tuple[float, ...] | None = None
    previous_radius: float = 0.0
    gain: float = 0.0
    error: float = 0.0
    step: float = 0.0
    descent: int = 0
    blind: int = 0
    decision: str = "start"
    rung: str = ""
    scores: Mapping[str, float] | None = None
    wait: int = 0
    best: tuple[float, ...] | None = None
    best_value: float | None = None

    @property
    def note(self) -> dict[str, Any]:
        """The region as JSON, for `Proposal.info`."""
        return asdict(self)

    @classmethod
    def all(cls, history: History, name: str) -> list[tuple[int, "Region"]]:
        """The regions that were noted under a name, each with the round that it began in."""
        return [(number, cls.read(info[name])) for number, info in enumerate(history.info) if name in info]

    @classmethod
    def read(cls, note: Mapping[str, Any]) -> "Region":
        """A region from its note."""
        values = dict(note)
        values["center"] = tuple(values["center"])
        for name in ("previous", "best"):
            values[name] = None if values[name] is None else tuple(values[name])
        return cls(**values)

    @property
    def middle(self) -> Tensor:
        """The centre, shape [d]."""
        return torch.tensor(self.center, dtype=torch.float64)

    @property
    def ball(self) -> float:
        """The longest step: the typical distance of its samples from the centre where d > 3."""
        return self.radius * max(1.0, (len(self.center) / 3) ** 0.5)

    def points(self, skip: int, n: int) -> Tensor:
        """Points `skip` to `skip + n` of its space-filling sequence, each `repeats` times, shape [n, d]."""
        engine = torch.quasirandom.SobolEngine(len(self.center), scramble=True, seed=self.seed % 2**31)
        low, high = (self.middle - self.radius).clamp(0, 1), (self.middle + self.radius).clamp(0, 1)
        first, last = skip // self.repeats, (skip + n - 1) // self.repeats
        engine.fast_forward(first)
        unit = engine.draw(last - first + 1, dtype=torch.float64).repeat_interleave(self.repeats, 0)
        unit = unit[skip - first * self.repeats :][:n]
        return low + (high - low) * unit

    def near(self, unit: Tensor) -> Tensor:
        """Which rows [n, d] its models are fitted to: those about this centre and the one before, shape [n], bool."""
        distance = (unit - self.middle).abs().amax(1) / self.radius
        if self.previous is not None:
            before = torch.tensor(self.previous, dtype=torch.float64)
            distance = distance.minimum((unit - before).abs().amax(1) / max(self.radius, self.previous_radius))
        return distance <= REACH


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a round's simulations say of the step before it.

    Attributes:
        change: How the objective differs between this centre and the one before, by all rows.
        change_error: Its standard error.
        trend: t-value of the slope of the round's outcomes in what a model without them predicted.
        surprise: Mean outcome of the round less what that model predicted.
        surprise_error: Its standard error.
    """

    change: float
    change_error: float
    trend: float
    surprise: float
    surprise_error: float


def reject(region: Region, why: str) -> Region:
    """The centre before, with a smaller region."""
    center, radius = region.previous or region.center, REJECTED * max(region.radius, region.previous_radius)
    return replace(region, center=center, radius=radius, blind=0, decision=f"rejected: {why}")


def judge(region: Region, evidence: Evidence) -> Region:
    """The region after the measurements: accepted or rejected, grown or shrunk.

    A step is taken back where it made things significantly worse. The region shrinks where the round came out
    significantly worse than predicted, never for noise; it grows where the step went to its boundary as predicted, and
    where nothing is seen above the noise, which asks for more samples as well. Of two centres between which nothing is
    seen, the better one by all rows is kept.
    """
    size, floor = region.size, max(region.size // 2, 1)
    if evidence.change > SIGNIFICANT * evidence.change_error and region.previous is not None:
        return reject(region, "worse than before")
    if evidence.surprise > SIGNIFICANT * evidence.surprise_error:
        return replace(region, radius=OVERSHOT * region.radius, blind=0, decision="shrunk: worse than predicted")
    if evidence.trend < SIGNIFICANT and evidence.change >= -SIGNIFICANT * evidence.change_error:
        return _blind(region, evidence)
    size = floor if evidence.trend > 2 * SIGNIFICANT else size
    gained = region.gain + evidence.surprise < -SIGNIFICANT * evidence.surprise_error
    if region.step > BOUNDARY and gained:
        grown = min(GROW * region.radius, LARGEST)
        decision = "grown: the boundary reached, and a gain measured"
        return replace(region, radius=grown, size=size, blind=0, decision=decision)
    return replace(region, size=size, blind=0, decision="kept")


def _blind(region: Region, evidence: Evidence) -> Region:
    """The region after a round in which nothing was seen: wider, or with more samples, about the better centre."""
    at_boundary, center, back = region.step > BOUNDARY, region.center, ""
    if evidence.change > 0 and region.previous is not None:
        center, back = region.previous, ", from the centre before"
    region = replace(region, center=center, blind=region.blind + 1, size=region.size * (1 if at_boundary else 2))
    if not at_boundary and region.blind == 1:
        return replace(region, decision=f"more samples: nothing seen{back}")
    return replace(region, radius=min(GROW * region.radius, LARGEST), decision=f"grown: nothing seen{back}")
