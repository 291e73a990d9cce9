"""Explicit Runge-Kutta steps: the stages, and the fixed-step methods on a grid."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffsim.fields.base import VectorField
from diffsim.integrate.grid import Grid
from diffsim.integrate.tableaux import FIXED_TABLEAUX, AdaptiveTableau

__all__ = ["RungeKutta", "combine", "interpolate", "stages", "step"]


def combine(weights: Sequence[float], k: Sequence[Tensor]) -> Tensor:
    """The sum of slopes with weights, at least one of which is not 0."""
    total: Tensor | None = None
    for weight, slope in zip(weights, k, strict=True):
        if weight:
            total = weight * slope if total is None else torch.add(total, slope, alpha=weight)
    assert total is not None
    return total


def stages(
    method: AdaptiveTableau,
    f: Callable[[Tensor, Tensor], Tensor],
    s: Tensor,
    y: Tensor,
    first: Tensor | None,
    h: Tensor,
    *,
    last: bool = True,
) -> tuple[list[Tensor], Tensor]:
    """The slopes of a step and the state after it, shapes [m, d].

    Args:
        method: Its last stage is the first one of the next step.
        f: The slope, shapes [m], [m, d] -> [m, d].
        s: Times, shape [m].
        y: States.
        first: The slope there, if it is known.
        h: Steps, float64, shape [m].
        last: Whether the slope after the step is needed.
    """
    rate = h.to(y.dtype)[:, None]
    k = [f(s, y) if first is None else first]
    rows, c = method.a.tolist(), method.c.tolist()
    state = y
    for i in range(1, len(rows)):
        state = y + rate * combine(rows[i][:i], k)
        if last or i < len(rows) - 1:
            k.append(f(s + c[i] * h, state))
    return k, state


def interpolate(method: AdaptiveTableau, y: Tensor, h: Tensor, k: Tensor, x: Tensor) -> Tensor:
    """States within steps, shape [q, d].

    Args:
        method: Its dense output is used.
        y: States before the steps, shape [q, d].
        h: Steps, shape [q].
        k: Their slopes, shape [stages, q, d].
        x: Shares of the steps, shape [q].
    """
    powers = torch.stack([x, x**2, x**3, x**4])
    weights = torch.as_tensor(method.dense, device=x.device) @ powers * h
    return y + (weights.to(y.dtype)[..., None] * k).sum(0)


Coefficients = tuple[tuple[float, ...], ...]


def step(
    field: VectorField,
    a: Coefficients,
    b: tuple[float, ...],
    times: Sequence[Tensor] | Tensor,
    y: Tensor,
    rate: float | Tensor,
) -> Tensor:
    """The state after a step, shape [..., d]; the stages are at `times`, and `rate` is the step."""
    k: list[Tensor] = []
    for i, row in enumerate(a):
        k.append(field(times[i], y + rate * combine(row[:i], k) if i else y))
    return y + rate * combine(b, k)


class RungeKutta:
    """Steps of torchdiffeq's explicit fixed-step methods, at the same times and by the same coefficients.

    Args:
        field: The vector field.
        method: Its name.
        grid: The steps.
        rate: The step, or the step of each trajectory, shape [..., 1].
        step: Takes a step; `step` of this module, or a compiled form of it.
    """

    def __init__(
        self, field: VectorField, method: str, grid: Grid, rate: float | Tensor, step: Callable[..., Tensor] = step
    ) -> None:
        self.field = field
        tableau = FIXED_TABLEAUX[method]
        self._a: Coefficients = tuple(map(tuple, tableau.a.tolist()))
        self._b, self._c = tuple(tableau.b.tolist()), tableau.c.tolist()
        self._grid = grid
        self._rate = rate
        self._step = step

    def advance(self, y: Tensor, first: int, last: int) -> Tensor:
        """The state at step number `last` from that at `first`."""
        for n in range(first, last):
            times = torch.tensor([self._grid.time(n + c) for c in self._c], dtype=y.dtype, device=y.device)
            y = self._step(self.field, self._a, self._b, times, y, self._rate)
        return y
