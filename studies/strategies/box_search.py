"""The maximum of a smooth function over a box of any kind: candidates, climbs, and steps between whole numbers."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from studies.spaces.box import Box
from surrogates.evidence import Array

__all__ = ["Score", "around", "feature_groups", "search_box"]

Score = Callable[[Array], tuple[Array, Array]]
"""Maps features of points, shape [b, f], to values, shape [b], and gradients, shape [b, f]."""

_ROUNDS = 4
_PARTS, _CLOSE = 16, 1e-9  # of the way back from a point that is not allowed


def search_box(
    box: Box, score: Score, candidates: Sequence[Tensor], climbs: int, iterations: int
) -> tuple[Tensor, Array]:
    """Points with large scores: candidates, and what is climbed to from the best of them.

    Real parameters are climbed in by L-BFGS-B (SLSQP under constraints) with the others fixed; whole ones are then
    changed one at a time, and the real ones climbed in again, as long as that is better.

    Args:
        box: The box.
        score: What is maximised.
        candidates: Groups of allowed points, shapes [m, d].
        climbs: From how many of each group it climbs.
        iterations: Most steps of a climb.

    Returns:
        Allowed points, shape [m', d], the best first, and their scores.
    """
    tops = [group[_order(score(features(box, group))[0])[:climbs]] for group in candidates if len(group)]
    best = torch.cat(tops)
    for _ in range(_ROUNDS):
        best = _climb(box, score, best, iterations)
        stepped = best if box.is_continuous else _step(box, score, best)
        if torch.equal(stepped, best):
            break
        best = stepped
    points = torch.cat([best, *candidates])
    values = score(features(box, points))[0]
    order = _order(values)
    return points[order], values[order]


def features(box: Box, theta: Tensor) -> Array:
    """The coordinates in which distances are measured, shape [b, d] -> [b, f]."""
    return box.features(theta).numpy()


def feature_groups(box: Box) -> NDArray[np.intp]:
    """The parameter that each feature belongs to, shape [f]."""
    return np.repeat(np.arange(box.dim), [len(box.choices.get(name, "1")) for name in box.names])


def around(box: Box, centres: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Allowed points near some, shape [k, d] -> [at most n k, d]: at distances of .001 to .2 of the sides."""
    unit = box.to_unit(centres).repeat_interleave(n, 0)
    width = 10 ** (-3 + 2.3 * torch.rand(len(unit), 1, dtype=torch.float64, generator=generator))
    moved = unit + width * torch.randn(unit.shape, dtype=torch.float64, generator=generator)
    if not box.is_continuous:  # a step that is less than half an option wide would change nothing
        whole = torch.tensor([kind in ("integer", "choice") for kind in box.kinds])
        other = torch.rand(unit.shape, dtype=torch.float64, generator=generator)
        jump = torch.rand(unit.shape, generator=generator) < 1 / box.dim
        moved = torch.where(whole & jump, other, torch.where(whole, unit, moved))
    theta = box.from_unit(moved.clamp(0, 1))
    return theta[box.contains(theta)]


def _climb(box: Box, score: Score, starts: Tensor, iterations: int) -> Tensor:
    """The ends of climbs in the real parameters, no worse than their starts, shape [r, d]."""
    free = [column for column, kind in enumerate(box.kinds) if kind in ("real", "log")]
    if not free:
        return starts
    groups = feature_groups(box)
    columns = [int(np.flatnonzero(groups == column)[0]) for column in free]
    x = features(box, starts)
    if box.constraints:
        ends = [_climb_within(box, score, starts[[row]], x[[row]], free, columns, iterations) for row in range(len(x))]
        return torch.cat(ends)

    def loss(flat: Array) -> tuple[float, Array]:
        moved = x.copy()
        moved[:, columns] = flat.reshape(len(x), -1)
        values, gradients = score(moved)
        return -float(values.sum()), -gradients[:, columns].ravel()

    begin = x[:, columns].ravel()
    options = {"maxiter": iterations}
    found: Any = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=[(0, 1)] * begin.size, options=options)
    unit = box.to_unit(starts)
    unit[:, free] = torch.from_numpy(found.x.reshape(len(x), -1)).clamp(0, 1)
    return _better(box, score, starts, box.from_unit(unit))


def _climb_within(
    box: Box, score: Score, start: Tensor, x: Array, free: list[int], columns: list[int], iterations: int
) -> Tensor:
    """The end of one climb under the box's constraints, shape [1, d]."""
    unit = box.to_unit(start)

    def place(flat: Tensor) -> Tensor:
        moved = unit.clone()
        moved[0, free] = flat
        return moved

    def loss(flat: Array) -> tuple[float, Array]:
        moved = x.copy()
        moved[0, columns] = flat
        values, gradients = score(moved)
        return -float(values[0]), -gradients[0, columns]

    def slack(flat: Array) -> Array:
        with torch.no_grad():
            return box.slack(box.from_unit(place(torch.from_numpy(flat))))[0].nan_to_num(-1.0).numpy()

    def slopes(flat: Array) -> Array:
        def at(row: Tensor) -> Tensor:
            return box.slack(box.from_unit(place(row)))[0]

        jacobian: Any = torch.autograd.functional.jacobian(at, torch.from_numpy(flat))
        return jacobian.nan_to_num().numpy()

    found: Any = minimize(
        loss,
        x[0, columns],
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * len(columns),
        constraints=[{"type": "ineq", "fun": slack, "jac": slopes}],
        options={"maxiter": iterations},
    )
    end = place(torch.from_numpy(np.asarray(found.x)).nan_to_num(0.5).clamp(0, 1))
    low, width = 0.0, 1.0
    while width > _CLOSE:  # back to the last allowed point of the way
        shares = low + width * torch.linspace(0, 1, _PARTS + 1, dtype=torch.float64)[1:]
        good = box.contains(box.from_unit(unit.lerp(end, shares[:, None])))
        passed = int(good.double().cumprod(0).sum())
        if passed == _PARTS:
            low += width
            break
        width /= _PARTS
        low += passed * width
    return _better(box, score, start, box.from_unit(unit.lerp(end, low)))


def _step(box: Box, score: Score, starts: Tensor) -> Tensor:
    """Each start after the best change of one whole parameter, or itself, shape [r, d]."""
    low, high = box.bounds
    ends: list[Tensor] = []
    for start in starts:
        moves = [start]
        for column, kind in enumerate(box.kinds):
            if kind not in ("integer", "choice"):
                continue
            values = torch.arange(float(low[column]), float(high[column]) + 1, dtype=torch.float64)
            if kind == "integer":
                values = values[(values - start[column]).abs().argsort(stable=True)[:9]]
            for value in values[values != start[column]]:
                moves.append(start.clone())
                moves[-1][column] = value
        tried = torch.stack(moves)
        tried = tried[box.contains(tried)]
        ends.append(tried[int(np.argmax(score(features(box, tried))[0]))])
    return torch.stack(ends)


def _better(box: Box, score: Score, starts: Tensor, ends: Tensor) -> Tensor:
    """For each row the one with the larger score, shape [r, d]."""
    gain = score(features(box, ends))[0] - score(features(box, starts))[0]
    return torch.where(torch.from_numpy(gain > 0)[:, None], ends, starts)


def _order(values: Array) -> NDArray[np.intp]:
    """The order from the largest value to the smallest; those that are not finite last."""
    return np.argsort(-np.where(np.isfinite(values), values, -np.inf), kind="stable")
