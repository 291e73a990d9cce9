"""Uniform draws from a part of the unit cube that is known by a function alone, however small it is."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from diffsim.errors import ArgumentError

__all__ = ["take", "uniform_blocks", "violation"]

_DRAWS = 2048  # a block, and the population that walks
_SHARE = 1 / 256  # of the cube: larger parts are drawn from by rejection
_KEPT = 0.25  # of the population survives when the part is narrowed
_LEVELS, _STUCK = 200, 8
_SHRINKS = 50
_BARREN = 200  # empty blocks, after which there is nothing to hope for
_NONE = "No point was found that satisfies the constraints. Widen the bounds, or drop a constraint."


def uniform_blocks(violation: Callable[[Tensor], Tensor], dim: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Blocks of uniform points of the unit cube where a violation is 0, for ever.

    A large part is drawn from by rejection. Towards a small one a population of points is narrowed down: again and
    again the quarter with the least violation is kept, copied, and walked on by hit-and-run within what it has reached;
    inside, each further block comes from further steps.

    Args:
        violation: Maps points [n, d] to [n]: 0 in the part, positive and rising away from it, outside.
        dim: The number of coordinates, d.
        generator: Of the random numbers.

    Yields:
        Points, float64, shape [k, d].

    Raises:
        ArgumentError: No point was found.

    Source: Au and Beck, 2001, Probabilistic Engineering Mechanics 16 (subset simulation); Smith, 1984, Operations
        Research 32 (hit-and-run); Neal, 2003, Annals of Statistics 31 (shrinking brackets).
    """
    walk = _Walk(violation, generator)
    points = walk.draw(_DRAWS, dim)
    values = walk.violation(points)
    if float((values <= 0).double().mean()) >= _SHARE:
        while True:
            yield points[values <= 0]
            points = walk.draw(_DRAWS, dim)
            values = walk.violation(points)
    points = _narrow(walk, points, values)
    points = walk.steps(points, 0.0, 10 + 2 * dim)
    while True:
        yield points
        points = walk.steps(points, 0.0, 5 + dim)


def take(blocks: Iterator[Tensor], n: int, skip: int = 0) -> Tensor:
    """Rows `skip` to `skip + n` of blocks joined, shape [n, d].

    Raises:
        ArgumentError: Many blocks are empty.
    """
    taken: list[Tensor] = []
    while not taken or sum(map(len, taken)) < skip + n:
        taken.append(next(blocks))
        if len(taken) > _BARREN and not any(map(len, taken)):
            raise ArgumentError(_NONE)
    return torch.cat(taken)[skip : skip + n]


def violation(slack: Callable[[Tensor], Tensor], dim: int) -> Callable[[Tensor], Tensor]:
    """How far points of the unit cube are from where all slacks are at least 0, each in units of its typical size.

    Args:
        slack: Maps points [n, d] to [n, c].
        dim: The number of coordinates, d.

    Returns:
        A function [n, d] -> [n]: 0 where all slacks are at least 0; NaN where one is.
    """
    with torch.no_grad():
        probes = torch.quasirandom.SobolEngine(dim, scramble=True, seed=0).draw(256, dtype=torch.float64)
        typical = slack(probes).abs().nanmedian(dim=0).values
    typical = torch.where((typical > 0) & typical.isfinite(), typical, 1.0)
    return lambda unit: (-slack(unit) / typical).clamp_min(0).amax(1)


def _narrow(walk: "_Walk", points: Tensor, values: Tensor) -> Tensor:
    """A population of points without violation, grown from one that has some."""
    least, stuck = float(values.min()), 0
    for _ in range(_LEVELS):
        finite = values.isfinite()
        if not finite.any():
            break
        order = values.argsort(stable=True)
        level = max(float(values[order[int(_KEPT * int(finite.sum()))]]), 0.0)
        alive = points[values <= level]
        points = alive[torch.randint(len(alive), (len(points),), generator=walk.generator)]
        if level == 0:
            return points
        points = walk.steps(points, level, 5)
        values = walk.violation(points)
        now = float(values.min())
        least, stuck = (now, 0) if now < 0.999 * least else (least, stuck + 1)
        if stuck > _STUCK:
            break
    raise ArgumentError(_NONE)


class _Walk:
    """A population of points that moves about at random where a violation is at most a level."""

    def __init__(self, violation: Callable[[Tensor], Tensor], generator: torch.Generator) -> None:
        self._violation, self.generator = violation, generator

    def draw(self, n: int, dim: int) -> Tensor:
        return torch.rand(n, dim, dtype=torch.float64, generator=self.generator)

    def violation(self, points: Tensor) -> Tensor:
        with torch.no_grad():
            return self._violation(points).nan_to_num(torch.inf)

    def steps(self, points: Tensor, level: float, n: int) -> Tensor:
        """The points after n steps of hit-and-run, shape [k, d]: each uniform on a line through the point before."""
        for _ in range(n):
            points = self._step(points, level)
        return points

    def _step(self, points: Tensor, level: float) -> Tensor:
        way = self._ways(points)
        ends = torch.stack([-points / way, (1 - points) / way])  # where the line leaves the cube in each coordinate
        ends = torch.where(way == 0, torch.tensor([-torch.inf, torch.inf], dtype=points.dtype)[:, None, None], ends)
        low, high = ends.amin(0).amax(1), ends.amax(0).amin(1)
        points, rows = points.clone(), torch.arange(len(points))
        for _ in range(_SHRINKS):
            low, high = low.clamp_max(0), high.clamp_min(0)
            at = low + (high - low) * torch.rand(len(rows), dtype=points.dtype, generator=self.generator)
            tried = (points[rows] + at[:, None] * way).clamp(0, 1)
            good = self.violation(tried) <= level
            points[rows[good]] = tried[good]
            if good.all():
                break
            low, high = torch.where(at < 0, at, low)[~good], torch.where(at < 0, high, at)[~good]
            rows, way = rows[~good], way[~good]
        return points

    def _ways(self, points: Tensor) -> Tensor:
        """Directions, half of them from one point of the population to another: these know its shape."""
        n, dim = points.shape
        way = torch.randn(n, dim, dtype=points.dtype, generator=self.generator)
        one, other = torch.randint(n, (2, n), generator=self.generator)
        between = points[one] - points[other]
        shaped = (torch.rand(n, generator=self.generator) < 0.5) & (between.abs().amax(1) > 0)
        way = torch.where(shaped[:, None], between, way)
        return way / way.norm(dim=1, keepdim=True)
