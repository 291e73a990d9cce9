"""Losses cut into terms: what a mini-batch chooses from, prepared once before the first step of a fit."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeGuard, TypeVar

import torch
from torch import Tensor, nn

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields.base import VectorField
from diffsim.fields.discrete import DiscreteField, DiscreteGradientField, roll_out
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver
from diffsim.native.derivative import squared_error

__all__ = [
    "DerivativeTerms",
    "LossTerms",
    "PairTerms",
    "RunTerms",
    "WindowTerms",
    "check_free_rows",
    "depends_on_time",
]

_Group = TypeVar("_Group")


class LossTerms(ABC):
    """A loss over prepared data, a mean of equal terms.

    Attributes:
        n: Number of terms.
        parameters: What is fitted beside the field, such as free initial states.
    """

    n: int
    parameters: tuple[nn.Parameter, ...] = ()

    @abstractmethod
    def __call__(self, field: VectorField, index: Tensor | None = None) -> Tensor:
        """The mean over the terms of an index, shape [batch], or over all of them; a scalar."""


class RunTerms(LossTerms):
    """A user's own loss function; its terms are the runs."""

    def __init__(
        self, function: Callable[[VectorField, Trajectory, Solver], Tensor], data: Trajectory, solver: Solver
    ) -> None:
        self.n = data.n
        self._function, self._data, self._solver = function, data, solver

    def __call__(self, field: VectorField, index: Tensor | None = None) -> Tensor:
        data = self._data if index is None else self._data[index.to(self._data.device)]
        loss = self._function(field, data, self._solver)
        if not isinstance(loss, Tensor) or loss.numel() != 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            got = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(f"`loss` must return a scalar tensor, got {got}. Take the mean, as a tensor.")
        if not loss.requires_grad and bool(loss.isfinite()):
            raise ArgumentError("`loss` returned a constant: it must depend on the field's weights, with the graph.")
        return loss.reshape(())


@dataclass(frozen=True, slots=True)
class _Samples:
    """Samples at which the field can be evaluated together: t [], y and dy [s, n, d]."""

    t: Tensor
    y: Tensor
    dy: Tensor


class DerivativeTerms(LossTerms):
    """The squared error of the field's derivatives; its terms are the samples.

    Args:
        field: The field to be fitted; tells dtype, device and whether it depends on time.
        data: Runs with derivatives.
    """

    def __init__(self, field: VectorField, data: Trajectory) -> None:
        assert data.dy is not None
        self.n = len(data.t) * data.n
        self._n_runs = data.n
        like = _like(field, data)
        self._groups = [
            _Samples(t[0].to(like), data.y[rows].detach().to(like), data.dy[rows].detach().to(like))
            for t, rows in _stretches(data.t, 1, 1, timeless=not depends_on_time(field, data))
        ]

    def __call__(self, field: VectorField, index: Tensor | None = None) -> Tensor:
        if index is None:
            # The runs keep their dimension: constants of shape [n, k] broadcast with them.
            picked = [(g.t, g.y, g.dy) for g in self._groups]
        else:
            picked = [
                (g.t, g.y.flatten(0, 1)[i], g.dy.flatten(0, 1)[i])
                for g, i in _pick(self._groups, [g.y.shape[0] * self._n_runs for g in self._groups], index)
            ]
        errors = torch.stack([squared_error(field, t, y, dy) for t, y, dy in picked])
        return errors.sum() / sum(dy.numel() for _, _, dy in picked)


@dataclass(frozen=True, slots=True)
class _Windows:
    """Windows that can be solved together: t [L], y [L, w, n, d], first states [w, n, d]."""

    t: Tensor
    y: Tensor
    start: Tensor


class WindowTerms(LossTerms):
    """The squared error of solutions over windows of the runs; its terms are the windows.

    Args:
        field: The field to be fitted; tells dtype, device and whether it depends on time.
        data: Runs.
        solver: Solves the windows.
        length: Samples in a window.
        stride: Samples from the start of one window to the start of the next.
        free: Whether the first states are fitted too, starting from the samples; they then count in the error.
        noise: Standard deviation of the samples, shape [] or [d]: errors are measured in units of it.
        discrete: Whether the windows are rolled out by the steps of a `DiscreteField`, not by the solver.
        learn_noise: Whether the noise is fitted too, from the given on: the mean of error^2 / noise^2 + 2 log noise.
    """

    def __init__(
        self,
        field: VectorField,
        data: Trajectory,
        solver: Solver,
        length: int,
        stride: int,
        *,
        free: bool,
        noise: Tensor,
        discrete: bool = False,
        learn_noise: bool = False,
    ) -> None:
        like = _like(field, data)
        self._solver, self._free, self._discrete = solver, free, discrete
        self._learn_noise = learn_noise
        self._log_noise = nn.Parameter(noise.to(like).log(), requires_grad=learn_noise)
        self._groups: list[_Windows] = []
        for t, rows in _stretches(data.t, length, stride, timeless=not depends_on_time(field, data)):
            within = torch.arange(len(t), device=rows.device)[:, None]
            y = data.y[rows + within].detach().to(like)  # [L, w, n, d]
            start = nn.Parameter(y[0].clone()) if free else y[0]
            self._groups.append(_Windows(t.to(like.device), y, start))
        self._sizes = [g.y.shape[1] * g.y.shape[2] for g in self._groups]
        self.n = sum(self._sizes)
        self.parameters = tuple(g.start for g in self._groups if isinstance(g.start, nn.Parameter))
        if learn_noise:
            self.parameters += (self._log_noise,)

    def __call__(self, field: VectorField, index: Tensor | None = None) -> Tensor:
        if index is None:
            parts = [self._error(field, g.t, g.start, g.y) for g in self._groups]
        else:
            parts = [
                self._error(field, g.t, g.start.flatten(0, 1)[i], g.y.flatten(1, 2)[:, i])
                for g, i in _pick(self._groups, self._sizes, index)
            ]
        loss = torch.cat(parts).square().mean()
        return loss + 2 * self._log_noise.mean() if self._learn_noise else loss

    def _error(self, field: VectorField, t: Tensor, start: Tensor, y: Tensor) -> Tensor:
        # A fixed first state is its sample: no error there.
        first = 0 if self._free else 1
        run = roll_out(field, start, t) if self._is_discrete(field) else odeint(field, start, t, self._solver)
        return ((run[first:] - y[first:]) * (-self._log_noise).exp()).flatten()

    def _is_discrete(self, field: VectorField) -> TypeGuard[DiscreteField]:
        return self._discrete


class PairTerms(LossTerms):
    """The squared error of the discrete gradient between neighbouring samples; its terms are the pairs of samples.

    Args:
        field: The field to be fitted; tells dtype and device.
        data: Runs.
    """

    def __init__(self, field: VectorField, data: Trajectory) -> None:
        like = _like(field, data)
        y = data.y.detach().to(like)
        step = data.t.diff().to(like)[:, None].expand(-1, data.n)
        self._before, self._after = y[:-1].flatten(0, 1), y[1:].flatten(0, 1)
        self._rate = (self._after - self._before) / step.flatten()[:, None]
        self.n = len(self._rate)

    def __call__(self, field: VectorField, index: Tensor | None = None) -> Tensor:
        assert isinstance(field, DiscreteGradientField)
        x, y, rate = (a if index is None else a[index] for a in (self._before, self._after, self._rate))
        return (field.rate(x, y) - rate).square().mean()


def depends_on_time(field: VectorField, data: Trajectory) -> bool:
    """Whether the field's derivative depends on time: through the graph, or by its values at times of the data.

    Raises:
        ArgumentError: The field cannot be evaluated on the states, or does not return their shape.
    """
    like = _like(field, data)
    times, y0 = data.t.to(like), data.y0.detach().to(like)
    t = times[0].clone().requires_grad_(True)
    with torch.enable_grad():
        try:
            dy = field(t, y0)
        except RuntimeError as error:
            raise ArgumentError(
                f"`field` could not be evaluated on the states of `data`, shape {list(y0.shape)}: {error}. "
                "Give it the dimension of the data."
            ) from error
        slope = torch.autograd.grad(dy.sum(), t, allow_unused=True)[0] if dy.requires_grad else None
    if dy.shape != y0.shape:
        raise ArgumentError(
            f"`field` must map states [..., {data.d}] to derivatives of the same shape; "
            f"it maps {list(y0.shape)} to {list(dy.shape)}."
        )
    if slope is not None:
        return True
    probes = times[torch.linspace(0, len(times) - 1, min(len(times), 64), device=times.device).long()]
    with torch.no_grad():
        first = field(times[0], y0)
        return any(not torch.equal(field(probe, y0), first) for probe in probes[1:])


@torch.no_grad()
def check_free_rows(field: VectorField, data: Trajectory, mend: str) -> None:
    """Refuses to take some of the runs to a field that tells runs by their rows.

    Args:
        field: One that takes all runs.
        data: Runs.
        mend: What takes some of them, and what to do instead.

    Raises:
        ArgumentError: The field takes all runs, and not some.
    """
    like = _like(field, data)
    t, y0 = data.t[0].to(like), data.y0.detach().to(like)
    if _takes(field, t, y0) and not _takes(field, t, y0[: (data.n + 1) // 2]):
        raise ArgumentError(f"`field` has constants with a row for each run, and {mend}")


def _takes(field: VectorField, t: Tensor, y: Tensor) -> bool:
    try:
        return field(t, y).shape == y.shape
    except (RuntimeError, ValueError):
        return False


def _like(field: VectorField, data: Trajectory) -> Tensor:
    """The data take the dtype and the device of the field's first weight."""
    return next((p.detach() for p in field.parameters() if p.requires_grad), data.y.detach())


def _stretches(t: Tensor, length: int, stride: int, *, timeless: bool) -> list[tuple[Tensor, Tensor]]:
    """Stretches of samples, grouped by what one solve can cover: the times of a stretch, and the rows of its starts.

    Stretches of a group have the same times, or, for a field that does not depend on time, the same spacings:
    then there are few groups even if the times have gaps. A shorter last stretch takes the samples left over.
    """
    starts = torch.arange(0, len(t) - length + 1, stride, device=t.device)
    times = t[starts[:, None] + torch.arange(length, device=t.device)]
    if timeless:
        times = times - times[:, :1]
    # Spacings that differ by rounding only are the same.
    grain = 1e-3 * t.diff().abs().min() if len(t) > 1 else torch.ones_like(t[0])
    _, group = torch.unique((times / grain).round(), dim=0, return_inverse=True)
    stretches = [(times[group == g][0], starts[group == g]) for g in range(int(group.max()) + 1)]
    rest = int(starts[-1]) + stride
    if int(starts[-1]) + length < len(t) and len(t) - rest >= 2:
        tail = t[rest:]
        stretches.append((tail - tail[0] if timeless else tail, torch.tensor([rest], device=t.device)))
    return stretches


def _pick(groups: Sequence[_Group], sizes: Sequence[int], index: Tensor) -> list[tuple[_Group, Tensor]]:
    """The groups that an index over all their members touches, each with the indices of its own members."""
    picked: list[tuple[_Group, Tensor]] = []
    first = 0
    for group, size in zip(groups, sizes, strict=True):
        own = index if len(groups) == 1 else index[(index >= first) & (index < first + size)]
        if len(own):
            picked.append((group, own - first))
        first += size
    return picked
