"""Adaptive explicit Runge-Kutta steps: of each trajectory for itself, or of all together."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsim.integrate.path import Path, Step
from diffsim.integrate.runge_kutta import combine, stages
from diffsim.integrate.tableaux import ADAPTIVE_TABLEAUX, AdaptiveTableau

__all__ = ["REASONS", "Stepper"]

REASONS = {1: "the step underflows", 2: "max_steps={max_steps} steps were not enough"}
_UNDERFLOW, _EXHAUSTED = 1, 2

Slope = Callable[[Tensor, Tensor], Tensor]
Stop = Callable[[Step], Tensor]


@dataclass(frozen=True, slots=True)
class Stepper:
    """An adaptive method with its tolerances.

    The error of a trajectory's step is the root mean square over its components in units of `atol + rtol |y|`. After
    a step the next one is longer by 0.9 error^(-1/order), at least a fifth and at most ten times; a failed one is
    taken again.

    Attributes:
        method: Its name.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        max_steps: Steps of a trajectory, failed ones included, after which it is given up.
        together: Whether all trajectories take the step that the worst of them needs.
        compact: Whether the slope takes any rows, so that finished trajectories cost nothing.

    Source: Hairer, Norsett and Wanner, 1993, Solving Ordinary Differential Equations I, section II.4.
    """

    method: str
    rtol: float
    atol: float
    max_steps: int
    together: bool
    compact: bool

    @property
    def tableau(self) -> AdaptiveTableau:
        """The method's coefficients."""
        return ADAPTIVE_TABLEAUX[self.method]

    @torch.no_grad()
    def run(
        self,
        f: Slope,
        y0: Tensor,
        begin: float = 0.0,
        end: float = 1.0,
        first: Tensor | None = None,
        stop: Stop | None = None,
    ) -> Path:
        """The steps from one unit time to another.

        Args:
            f: The slope in unit time, shapes [m], [m, d] -> [m, d].
            y0: Initial states, shape [n, d].
            begin: First unit time, at least 0.
            end: Last unit time, at most 1.
            first: First step of each trajectory, shape [n]; chosen if it is not given.
            stop: Tells of the trajectories of a step, shape [m], which ones are to go no further.
        """
        tableau, n = self.tableau, len(y0)
        rows = torch.arange(n, device=y0.device)
        s = torch.full((n,), begin, dtype=torch.float64, device=y0.device)
        y, k = y0, f(s, y0)
        h = self._first_step(f, s, y, k, end) if first is None else first.clone()
        moving = torch.ones(n, dtype=torch.bool, device=y0.device)
        reached, following = s.clone(), h.clone()
        failed = torch.zeros(n, dtype=torch.int64, device=y0.device)
        counts = failed.repeat(2, 1)
        steps: list[Step] = []
        while moving.any():
            if self.compact and not moving.all():
                rows, s, y, k, h = (x[moving] for x in (rows, s, y, k, h))
                moving = moving[moving]
            last = h >= (end - s) * (1 - 1e-10)
            length = torch.where(moving, torch.where(last, end - s, h), 0.0)
            slopes, after = stages(tableau, f, s, y, k, length)
            error = self._error(combine(tableau.error.tolist(), slopes), length, y, after)
            error = torch.where(moving, error, 0.0)
            failing = moving & ~(error <= 1)
            error = error.amax().expand_as(error) if self.together else error
            accepted = moving & (error <= 1)
            counts[:, rows] += torch.stack([accepted, moving & ~accepted]).long()
            if accepted.any():
                step = self._step(rows, s, length, y, torch.stack(slopes), accepted)
                steps.append(step)
                s = torch.where(accepted, torch.where(last, end, s + length), s)
                y = torch.where(accepted[:, None], after, y)
                k = torch.where(accepted[:, None], slopes[-1], k)
            best = (0.9 * error ** (-1 / tableau.order)).clamp(0.2, 10.0)
            longer = length * torch.where(accepted, best.clamp(min=1.0), best)
            # A step that was cut at the end says nothing against the one that was planned.
            h = torch.where(moving, torch.where(accepted & last, torch.maximum(h, longer), longer), h)
            code = torch.where(failing & (s + h <= s), _UNDERFLOW, 0)
            code = torch.where(moving & (s < end) & (counts[:, rows].sum(0) >= self.max_steps), _EXHAUSTED, code)
            failed[rows], reached[rows], following[rows] = code.maximum(failed[rows]), s, h
            moving = moving & (s < end) & (code == 0)
            if stop is not None and accepted.any():
                done = torch.zeros(n, dtype=torch.bool, device=y0.device)
                done[steps[-1].rows] = stop(steps[-1])
                moving = moving & ~done[rows]
        return Path(tableau, y0, begin, steps, reached, failed, counts, following)

    def _step(self, rows: Tensor, s: Tensor, h: Tensor, y: Tensor, k: Tensor, accepted: Tensor) -> Step:
        if self.compact:
            return Step(rows[accepted], s[accepted], h[accepted], y[accepted], k[:, accepted])
        return Step(rows, s, torch.where(accepted, h, 0.0), y, k)

    def _error(self, slope: Tensor, h: Tensor, y: Tensor, after: Tensor) -> Tensor:
        """The error of steps in units of the tolerance, float64, shape [m]; infinite out of the field's domain."""
        scale = self.atol + self.rtol * torch.maximum(y.abs(), after.abs())
        ratio = slope.double() * h[:, None] / scale
        return ratio.square().mean(-1).sqrt().nan_to_num(nan=math.inf)

    def _first_step(self, f: Slope, s: Tensor, y: Tensor, k: Tensor, end: float) -> Tensor:
        longest = end - float(s[0])
        scale = self.atol + self.rtol * y.abs()
        d0, d1 = (x.div(scale).double().square().mean(-1).sqrt() for x in (y, k))
        h = torch.where((d0 > 1e-5) & (d1 > 1e-5), 0.01 * d0 / d1, 1e-6 * longest).clamp(1e-14 * longest, longest)
        h = h.amin().expand_as(h) if self.together else h
        change = f(s + h, y + h.to(y.dtype)[:, None] * k) - k
        d2 = change.div(scale).double().square().mean(-1).sqrt() / h
        largest = torch.maximum(d1, d2)
        best = torch.where(largest > 1e-15, (0.01 / largest) ** (1 / self.tableau.order), longest)
        h = torch.where(torch.isfinite(d2), torch.minimum(100 * h, best).clamp(max=longest), 1e-3 * h)
        return h.amin().expand_as(h).clone() if self.together else h
