"""Runs of a system: states sampled at common times, as a value that splits, windows, converts and saves itself."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffsim.data.dataset import dataset_to_fields, fields_to_dataset, read_netcdf, write_netcdf
from diffsim.data.derivatives import DerivativeMethod, estimate_derivatives
from diffsim.data.times import evenly_spaced, same_times
from diffsim.errors import ArgumentError, ArgumentTypeError

if TYPE_CHECKING:
    import xarray

__all__ = ["Trajectory"]


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """Runs sampled at common times.

    Attributes:
        t: Times, shape [T], strictly increasing or strictly decreasing.
        y: States, shape [T, n, d]: time, run, state component.
        dy: Time derivatives of the states where they are known, shape [T, n, d].
        names: Names of the d state components; empty if not given.
        units: Units of the d state components; empty if not given.
        time_unit: Unit of `t`; empty if not given.

    Raises:
        ArgumentError: Shapes that do not fit, no runs, times out of order, values that are not finite.
        ArgumentTypeError: Something other than floating-point tensors.

    Example:
        >>> t = torch.linspace(0, 1, 11)
        >>> runs = Trajectory(t, torch.randn(11, 5, 2, generator=torch.Generator().manual_seed(0)))
        >>> train, test = runs.split(0.8)
        >>> train.n, test.n, train.windows(4).y.shape
        (4, 1, torch.Size([4, 32, 2]))
    """

    t: Tensor
    y: Tensor
    dy: Tensor | None = None
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    time_unit: str = ""

    def __post_init__(self) -> None:
        _check_float("t", self.t)
        _check_float("y", self.y)
        if self.t.ndim != 1 or len(self.t) == 0:
            raise ArgumentError(f"`t` must have shape [T] with T >= 1, got {list(self.t.shape)}.")
        if self.y.ndim != 3:
            mend = " Pass y[:, None] for one run." if self.y.ndim == 2 else ""
            raise ArgumentError(f"`y` must have shape [T, n, d], got {list(self.y.shape)}.{mend}")
        if len(self.y) != len(self.t):
            mend = " Pass y.transpose(0, 1): time comes first." if self.y.shape[1] == len(self.t) else ""
            raise ArgumentError(f"`y` has {len(self.y)} samples for {len(self.t)} times `t`.{mend}")
        if self.y.shape[1] == 0 or self.y.shape[2] == 0:
            raise ArgumentError(f"`y` must hold at least one run and one component, got {list(self.y.shape)}.")
        if self.t.device != self.y.device:
            raise ArgumentError(f"`t` is on {self.t.device}, `y` on {self.y.device}. Move them to one device.")
        _check_finite("t", self.t)
        _check_finite("y", self.y)
        step = self.t.detach().diff()
        if not (bool((step > 0).all()) or bool((step < 0).all())):
            raise ArgumentError("`t` must be strictly increasing or strictly decreasing. Sort it and drop repeats.")
        if self.dy is not None:
            _check_float("dy", self.dy)
            if self.dy.shape != self.y.shape:
                raise ArgumentError(f"`dy` must have the shape {list(self.y.shape)} of `y`, got {list(self.dy.shape)}.")
            _check_finite("dy", self.dy)
        for name, value in (("names", self.names), ("units", self.units)):
            if value and len(value) != self.d:
                raise ArgumentError(f"`{name}` must have one entry for each of the {self.d} components, got {value}.")

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> "Trajectory":
        """The runs of an index: a number (a trajectory of one run), a slice, numbers or a mask."""
        if isinstance(index, int | Integral) or (isinstance(index, Tensor) and index.ndim == 0):
            number = int(index)
            if not -self.n <= number < self.n:
                raise IndexError(f"Run {number} of {self.n}.")
            return self._with(slice(None), [number % self.n])
        return self._with(slice(None), index)

    @property
    def n(self) -> int:
        """Number of runs."""
        return self.y.shape[1]

    @property
    def d(self) -> int:
        """Number of state components."""
        return self.y.shape[2]

    @property
    def y0(self) -> Tensor:
        """First states, shape [n, d]."""
        return self.y[0]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the states."""
        return self.y.dtype

    @property
    def device(self) -> torch.device:
        """The device of the states."""
        return self.y.device

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Trajectory":
        """The same runs in another dtype, or on another device."""
        dy = None if self.dy is None else self.dy.to(device=device, dtype=dtype)
        t, y = self.t.to(device=device, dtype=dtype), self.y.to(device=device, dtype=dtype)
        return replace(self, t=t, y=y, dy=dy)

    def detach(self) -> "Trajectory":
        """The same runs, cut from the graph that made them."""
        dy = None if self.dy is None else self.dy.detach()
        return replace(self, t=self.t.detach(), y=self.y.detach(), dy=dy)

    def split(self, fraction: float, seed: int | None = None) -> tuple["Trajectory", "Trajectory"]:
        """Two parts, by run.

        Args:
            fraction: The share of the runs in the first part, rounded to whole runs.
            seed: Shuffles the runs first; without it the first part holds the first runs.

        Raises:
            ArgumentError: A part would be empty.
        """
        cut = _cut(fraction, self.n, "runs", "Use `split_time` to split one run by time." if self.n == 1 else "")
        if seed is None:
            return self[:cut], self[cut:]
        order = torch.randperm(self.n, generator=torch.Generator().manual_seed(seed))
        return self[order[:cut]], self[order[cut:]]

    def split_time(self, fraction: float) -> tuple["Trajectory", "Trajectory"]:
        """Two parts, by time: the first `fraction` of the samples of every run, and the rest.

        Raises:
            ArgumentError: A part would be empty.
        """
        cut = _cut(fraction, len(self.t), "times", "")
        return self._with(slice(None, cut)), self._with(slice(cut, None))

    def windows(self, length: int, stride: int = 1) -> "Trajectory":
        """All stretches of `length` consecutive samples, as runs of their own; those of the first run come first.

        The times of the result start at zero, so a window no longer knows when it happened: for fields that do
        not depend on time.

        Args:
            length: Samples in a window.
            stride: Samples from the start of one window to the start of the next.

        Raises:
            ArgumentError: The runs are too short, or the times are not evenly spaced.
        """
        if stride < 1 or length < 1:
            raise ArgumentError(f"`length` and `stride` must be at least 1, got {length} and {stride}.")
        if length > len(self.t):
            raise ArgumentError(f"`length` must be at most the {len(self.t)} samples of a run, got {length}.")
        if not evenly_spaced(self.t):
            raise ArgumentError("`windows` needs evenly spaced times `t`. Cut the runs where the spacing changes.")

        def cut(x: Tensor) -> Tensor:  # [T, n, d] -> [length, n_windows, d]
            return x.unfold(0, length, stride).permute(3, 1, 0, 2).flatten(1, 2)

        dy = None if self.dy is None else cut(self.dy)
        return replace(self, t=self.t[:length] - self.t[0], y=cut(self.y), dy=dy)

    def noise(
        self, std: float | Sequence[float] | Tensor, seed: int | torch.Generator, *, first: bool = True
    ) -> "Trajectory":
        """The same runs with normal noise on the states; `dy` stays as it is.

        Args:
            std: Standard deviation in the units of the states, one for all components or one for each.
            seed: A seed, or the generator to draw from.
            first: Whether the first sample gets noise too; not where the laboratory sets the initial state.

        Raises:
            ArgumentError: A negative standard deviation, or the wrong number of them.
        """
        scale = torch.as_tensor(std, dtype=self.dtype, device=self.device)
        if scale.ndim > 1 or (scale.ndim == 1 and len(scale) != self.d) or not bool((scale >= 0).all()):
            raise ArgumentError(f"`std` must be one number >= 0, or one for each of {self.d} components, got {std}.")
        generator = seed if isinstance(seed, torch.Generator) else torch.Generator(self.device).manual_seed(seed)
        draw = torch.randn(self.y.shape, generator=generator, dtype=self.dtype, device=generator.device)
        shift = scale * draw.to(self.device)
        if not first:
            shift[0] = 0
        return replace(self, y=self.y + shift)

    def derivatives(self, method: DerivativeMethod = "central") -> "Trajectory":
        """The same runs with `dy` estimated from their samples, see `estimate_derivatives`.

        With ``forward`` the last sample, which has no estimate, is left out.
        """
        dy = estimate_derivatives(self.t, self.y, method)
        return replace(self, t=self.t[: len(dy)], y=self.y[: len(dy)], dy=dy)

    @staticmethod
    def cat(parts: Sequence["Trajectory"]) -> "Trajectory":
        """The runs of all parts, in order; `dy` is kept if every part has it.

        Raises:
            ArgumentError: No parts, or parts of different times, components or dtype.
        """
        if not parts:
            raise ArgumentError("`parts` must hold at least one trajectory, got none.")
        head = parts[0]
        for i, part in enumerate(parts):
            if not same_times(part.t, head.t):
                raise ArgumentError(f"`parts` must share their times `t`; those of part {i} differ from part 0.")
            if part.names and head.names and tuple(part.names) != tuple(head.names):
                raise ArgumentError(
                    f"`parts` must share their components; those of part {i} are {part.names}, of part 0 {head.names}."
                )
            if part.d != head.d or part.dtype != head.dtype:
                raise ArgumentError(
                    f"`parts` must share dimension and dtype; part {i} has {part.d} components of {part.dtype}, "
                    f"part 0 has {head.d} of {head.dtype}. Use `to(dtype=...)`."
                )
        dy = [part.dy for part in parts if part.dy is not None]
        joined = torch.cat(dy, dim=1) if len(dy) == len(parts) else None
        return replace(head, y=torch.cat([part.y for part in parts], dim=1), dy=joined)

    def to_xarray(self) -> "xarray.Dataset":
        """A dataset with dimensions `time`, `run`, `state`, variable `y` (and `dy`) and units as attributes."""
        return fields_to_dataset(self.t, self.y, self.dy, self.names, self.units, self.time_unit)

    @classmethod
    def from_xarray(cls, dataset: "xarray.Dataset") -> "Trajectory":
        """The inverse of `to_xarray`.

        Raises:
            ArgumentError: A variable or dimension is missing.
        """
        return cls(**dataset_to_fields(dataset))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a netCDF file, whole or not at all."""
        write_netcdf(self.to_xarray(), path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Trajectory":
        """Read a file that `save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ArgumentError: It is not such a file.
        """
        return cls.from_xarray(read_netcdf(path))

    def _with(self, rows: slice, runs: slice | Sequence[int] | Tensor = slice(None)) -> "Trajectory":
        dy = None if self.dy is None else self.dy[rows][:, runs]
        return replace(self, t=self.t[rows], y=self.y[rows][:, runs], dy=dy)


def _check_float(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise ArgumentTypeError(f"`{name}` must be a tensor, got {type(value).__name__}. Pass torch.as_tensor({name}).")
    if not value.is_floating_point():
        raise ArgumentTypeError(f"`{name}` must be a floating-point tensor, got {value.dtype}. Pass {name}.double().")


def _check_finite(name: str, value: Tensor) -> None:
    finite = value.detach().isfinite()
    if not bool(finite.all()):
        first = (~finite).nonzero()[0].tolist()
        raise ArgumentError(
            f"`{name}` must be finite, got {float(value[tuple(first)])} at {first}. Leave that sample out."
        )


def _cut(fraction: float, total: int, what: str, mend: str) -> int:
    if not 0 < fraction < 1:
        raise ArgumentError(f"`fraction` must lie between 0 and 1, got {fraction}.")
    cut = round(fraction * total)
    if cut in (0, total):
        raise ArgumentError(f"`fraction` {fraction} of {total} {what} leaves a part empty. {mend}".rstrip())
    return cut
