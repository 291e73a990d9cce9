"""The nearest point of a box that its constraints allow."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

if TYPE_CHECKING:
    from studies.spaces.box import Box

__all__ = ["nearest_allowed"]

_STARTS = 2
_MARGIN = 1e-9  # of a constraint's typical size, so that rounding does not break it


def nearest_allowed(box: "Box", row: Tensor, anchors: Tensor) -> Tensor:
    """The nearest allowed point to a row within the bounds, as far as a local search finds it, shape [d].

    Args:
        box: The box.
        row: Shape [d]; whole where theta is whole.
        anchors: Points that are allowed, shape [k, d]; the search begins at the nearest of them.

    Returns:
        A point that is allowed, no further from the row than the nearest anchor.
    """
    goal = box.features(row)
    order = (box.features(anchors) - goal).square().sum(1).argsort(stable=True)
    with torch.no_grad():
        typical = box.slack(anchors).abs().median(dim=0).values
    typical = torch.where(typical > 0, typical, 1.0)
    starts = [row, *(_approach(box, anchor, row) for anchor in anchors[order[:_STARTS]])]
    found = torch.stack([*starts, *(_slide(box, start, row, typical) for start in starts)])
    found = found[box.contains(found)]
    return found[(box.features(found) - goal).square().sum(1).argmin()]


def _approach(box: "Box", point: Tensor, row: Tensor) -> Tensor:
    """An allowed point moved towards a row in its whole parameters, one at a time, as long as that is allowed."""
    whole = [column for column, kind in enumerate(box.kinds) if kind in ("integer", "choice")]
    while True:
        moves: list[Tensor] = []
        for column in whole:
            step = float(row[column] - point[column])
            halvings = 1 if box.kinds[column] == "choice" else 53
            for jump in {float(np.trunc(step / 2**k)) for k in range(halvings)} - {0.0}:
                moves.append(point.clone())
                moves[-1][column] += jump
        tried = torch.stack([point, *moves])
        tried = tried[box.contains(tried)]
        best = (box.features(tried) - box.features(row)).square().sum(1).argmin()
        if bool((tried[best] == point).all()):
            return point
        point = tried[best]


def _slide(box: "Box", start: Tensor, row: Tensor, typical: Tensor) -> Tensor:
    """The nearest point to a row whose whole parameters are those of a start, by sequential quadratic programming."""
    free = [column for column, kind in enumerate(box.kinds) if kind in ("real", "log")]
    if not free:
        return start
    fixed, goal = box.to_unit(start), box.to_unit(row)[free].numpy()

    def slack(flat: NDArray[np.float64], slopes: bool) -> NDArray[np.float64]:
        moved = torch.from_numpy(flat.copy()).requires_grad_()
        unit = fixed.clone()
        unit[free] = moved
        values = (box.slack(box.from_unit(unit[None]))[0] / typical - _MARGIN).nan_to_num(-1.0)
        if not slopes:
            return values.detach().numpy()
        if not values.requires_grad:
            return np.zeros((len(values), len(flat)))
        rows = [torch.autograd.grad(value, moved, retain_graph=True)[0].nan_to_num() for value in values]
        return torch.stack(rows).numpy()

    limits: Any = {"type": "ineq", "fun": lambda x: slack(x, False), "jac": lambda x: slack(x, True)}
    found: Any = minimize(
        lambda x: (float(((x - goal) ** 2).sum()), 2 * (x - goal)),
        fixed[free].numpy(),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, 1.0)] * len(free),
        constraints=[limits],
        options={"ftol": 1e-12, "maxiter": 50},
    )
    end = fixed.clone()
    end[free] = torch.from_numpy(np.asarray(found.x)).clamp(0, 1).nan_to_num(0.5)
    if bool(box.contains(start[None])):
        end = _last_allowed(box, fixed, end)
    return box.from_unit(end)


def _last_allowed(box: "Box", start: Tensor, end: Tensor) -> Tensor:
    """The end of a segment of the unit cube, or the last point before it that bisection finds allowed, shape [d]."""
    low, high, at = 0.0, 1.0, 1.0
    for _ in range(50):
        if bool(box.contains(box.from_unit(start.lerp(end, at))[None])):
            low = at
        else:
            high = at
        at = (low + high) / 2
    return start.lerp(end, low)
