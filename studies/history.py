"""What a strategy sees and returns: the history of a study, its trials, and a proposal. Values, never the study."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError
from studies.columns import Columns, join
from studies.spaces.base import Space

if TYPE_CHECKING:
    import pandas
    import xarray

__all__ = ["History", "Proposal", "Trial"]


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """What a strategy proposes for one round.

    Args:
        theta: The trials to run, shape [n, d], inside the space.
        info: Notes of the strategy to its later self, a JSON mapping; it comes back in `History.info`.
    """

    theta: Tensor
    info: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One row of a study: where the simulator was run and what came of it.

    Args:
        number: The trial's number in the study, from 0.
        round: The number of the round that it was proposed in.
        theta: Parameters, float64, shape [d].
        state: Whether it is still to be told, was told, or failed.
        outcome: What the simulator returned, without the leading dimension, where the trial is complete.
        error: Why it failed, with the traceback.
        started: When the simulator was called, seconds since the epoch.
        seconds: How long the simulator took.
        host: Which machine and process ran it.
        x: The simulator's random inputs, float64, shape [k], where it shows them and was run.
        seed: The seed of the simulator's generator.
        environment: What it ran in, a JSON text; see `studies.record.environment`.
    """

    number: int
    round: int
    theta: Tensor
    state: Literal["pending", "complete", "failed"] = "pending"
    outcome: Tensor | None = None
    error: str | None = None
    started: float | None = None
    seconds: float | None = None
    host: str | None = None
    x: Tensor | None = None
    seed: int | None = None
    environment: str | None = None


@dataclass(frozen=True, eq=False)
class History:
    """An immutable view of a study: its space, its trials in the order of their numbers, and its rounds' notes.

    Args:
        space: The design space.
        trials: All trials, whatever their state.
        info: The proposals' notes, one mapping a round.
        known: The columns of the first trials, in blocks, where they are known already: a long study stays fast.
    """

    space: Space
    trials: tuple[Trial, ...] = ()
    info: tuple[Mapping[str, Any], ...] = ()
    known: tuple[Columns, ...] = field(default=(), repr=False)

    @classmethod
    def from_tensors(
        cls,
        space: Space,
        theta: Tensor,
        outcome: Tensor,
        pending: Tensor | None = None,
        failed: Tensor | None = None,
        x: Tensor | None = None,
    ) -> "History":
        """A history of one round, from tensors: for tests, and for data from elsewhere.

        Args:
            space: The design space.
            theta: Parameters of complete trials, shape [n, d].
            outcome: Their outcomes, shape [n, ...].
            pending: Parameters of trials that are still running, shape [r, d].
            failed: Parameters of trials that failed, shape [f, d].
            x: Inputs of the complete trials, shape [n, k].
        """
        if theta.ndim != 2 or theta.shape[1] != space.dim:
            raise ArgumentError(f"`theta` must have shape [n, {space.dim}], got {list(theta.shape)}.")
        if outcome.ndim == 0 or len(outcome) != len(theta):
            raise ArgumentError(f"`outcome` must have shape [{len(theta)}, ...], got {list(outcome.shape)}.")
        if x is not None and (x.ndim != 2 or len(x) != len(theta)):
            raise ArgumentError(f"`x` must have shape [{len(theta)}, k], got {list(x.shape)}.")
        inputs = [None] * len(theta) if x is None else x.double()
        trials = [
            *(Trial(0, 0, t, "complete", y, x=z) for t, y, z in zip(theta.double(), outcome, inputs, strict=True)),
            *(Trial(0, 0, row, "failed", error="given as failed") for row in _rows(failed)),
            *(Trial(0, 0, row) for row in _rows(pending)),
        ]
        return cls(space, tuple(replace(trial, number=number) for number, trial in enumerate(trials)), ({},))

    def __len__(self) -> int:
        """The number of complete trials, n."""
        return int(self._columns.complete.sum())

    @property
    def n_rounds(self) -> int:
        """The number of rounds proposed."""
        return len(self.info)

    @cached_property
    def theta(self) -> Tensor:
        """Parameters of the complete trials, float64, shape [n, d]."""
        return self._columns.theta[self._columns.complete]

    @cached_property
    def outcome(self) -> Tensor:
        """Outcomes of the complete trials, shape [n, ...]; shape [0] before the first."""
        outcome = self._columns.outcome
        return torch.empty(0, dtype=torch.float64) if outcome is None else outcome

    @property
    def x(self) -> Tensor | None:
        """Inputs of the complete trials, float64, shape [n, k]; None where the simulator shows none."""
        return self._columns.x

    @cached_property
    def round(self) -> Tensor:
        """The round of each complete trial, int64, shape [n]."""
        return self._columns.round[self._columns.complete]

    @cached_property
    def pending(self) -> Tensor:
        """Parameters of the trials asked and not yet told, float64, shape [r, d]."""
        return self._columns.theta[~(self._columns.complete | self._columns.failed)]

    @cached_property
    def failed(self) -> Tensor:
        """Parameters of the trials that failed, float64, shape [f, d]."""
        return self._columns.theta[self._columns.failed]

    @property
    def tried(self) -> Tensor:
        """Parameters of all trials, whatever their state, float64, shape [n + r + f, d]."""
        return self._columns.theta

    @cached_property
    def _columns(self) -> Columns:
        rest = self.trials[sum(map(len, self.known)) :]
        return join([*self.known, Columns.of(rest, self.space.dim)])

    def runs(self, t: Tensor) -> Trajectory:
        """The outcomes [n, T, d] as a trajectory.

        Args:
            t: The output times of the simulator, shape [T].

        Raises:
            ArgumentError: The outcomes are not runs over these times.
        """
        if self.outcome.ndim != 3 or self.outcome.shape[1] != len(t):
            raise ArgumentError(
                f"`t` must have as many times as the outcomes [n, T, d], got {list(t.shape)} for outcomes of shape "
                f"{list(self.outcome.shape)}. Pass the simulator's output times."
            )
        return Trajectory(t, self.outcome.transpose(0, 1))

    def to_pandas(self) -> "pandas.DataFrame":
        """All trials as a table, one row each; see `studies.export.to_pandas`."""
        from studies.export import to_pandas

        return to_pandas(self)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes that table as CSV."""
        from studies.export import to_csv

        to_csv(self, path)

    def to_xarray(self) -> "xarray.Dataset":
        """All trials as a dataset: theta by parameter, state, round, error, outcome and x (NaN where there is none)."""
        from studies.export import to_xarray

        return to_xarray(self)

    def to_zarr(self, path: str | os.PathLike[str]) -> None:
        """Writes that dataset as a zarr store, which `xarray.open_zarr` reads; needs the extra `zarr`."""
        from studies.export import to_zarr

        to_zarr(self, path)


def _rows(theta: Tensor | None) -> list[Tensor]:
    return [] if theta is None else list(theta.double())
