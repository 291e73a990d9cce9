"""What a study knows of its storage: rounds and results as read so far, and the history that they make."""

import contextlib
import gc
import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from itertools import takewhile
from operator import index
from typing import Any

import numpy as np
import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.columns import Columns, merged
from studies.errors import ConflictError
from studies.history import History, Trial
from studies.spaces.base import Space
from studies.storage.base import Result, RoundRecord, Storage, conforming

__all__ = ["Ledger"]

_BLOCK = 32  # trials


class Ledger:
    """The rounds and results of one study; `read` fetches only what is new, so that a long study stays fast.

    Args:
        storage: Holds the study.
        name: The study's name in it.
    """

    def __init__(self, storage: Storage, name: str) -> None:
        self.rounds: list[RoundRecord] = []
        self.results: dict[int, Result] = {}
        self.first: Result | None = None  # of the complete ones, that of the first trial: what the others conform to
        self._storage, self._name = storage, name
        self._lock = threading.RLock()
        self._trials: list[Trial] = []
        self._untold: dict[int, None] = {}  # trial numbers in order
        self._info: list[Mapping[str, Any]] = []
        self._n_whole = 0  # how many of the first rounds are told whole
        self._n_closed = 0  # how many of those have columns
        self._columns: list[Columns] = []  # those of their trials
        self._history: History | None = None  # as last read

    @property
    def n_trials(self) -> int:
        """The number of trials asked."""
        return len(self._trials)

    def read(self) -> None:
        """Fetches what is new in the storage."""
        with self._lock, _uncollected():
            self._take(*self._storage.read(self._name, len(self.rounds), len(self.results)))

    def untold(self) -> list[int]:
        """The trials that are asked and not told, in order."""
        with self._lock:
            return list(self._untold)

    def asked(self, trials: int | Sequence[int]) -> list[int]:
        """Trials as a user names them, one or several, as numbers.

        Raises:
            ArgumentError: One was not asked, or is named twice.
            ArgumentTypeError: They are no integers.
        """
        try:
            numbers = [index(trial) for trial in (trials if isinstance(trials, Iterable) else [trials])]
        except TypeError:
            raise ArgumentTypeError(
                f"`trials` must be a round, a trial's number or several, got {trials!r}. Pass what `ask` returned."
            ) from None
        if unknown := [number for number in numbers if not 0 <= number < self.n_trials]:
            raise ArgumentError(
                f"`trials` holds {unknown}, which were not asked: there are {self.n_trials} trials. Ask first."
            )
        if len(set(numbers)) < len(numbers):
            raise ArgumentError(f"`trials` must differ, got {numbers}. Tell each trial once.")
        return numbers

    def round_of(self, trial: int) -> RoundRecord:
        """The round that a trial was asked in."""
        return self.rounds[self._trials[trial].round]

    def add_round(self, round: RoundRecord, worker: str | None = None, seconds: float = 0.0) -> None:
        """Appends a round, the next after those that were read; see `Storage.add_round`."""
        with self._lock:
            if worker is None:
                self._storage.add_round(self._name, round)
            else:
                self._storage.add_round(self._name, round, worker, seconds)
            self._take([round], [])

    def leased(self) -> set[int]:
        """The trials that workers have now."""
        return {lease.trial for lease in self._storage.leases(self._name) if lease.seconds > 0}

    def record(self, results: Sequence[Result]) -> None:
        """Appends the results of trials that nobody told meanwhile."""
        while left := [result for result in results if result.trial not in self.results]:
            with contextlib.suppress(ConflictError):
                self._storage.add_results(self._name, left)
            self.read()

    def history(self, space: Space) -> History:
        """The history that was read."""
        with self._lock:
            if self._history is None or self._history.space is not space:
                self._close()
                self._history = History(space, tuple(self._trials), tuple(self._info), tuple(self._columns))
            return self._history

    def _take(self, rounds: Sequence[RoundRecord], results: list[Result]) -> None:
        if rounds or results:
            self._history = None
        if rounds:
            theta = torch.tensor(np.concatenate([round.theta for round in rounds])).unbind()
            numbers = [(trial, round.number) for round in rounds for trial in round.trials]
            self._trials += [Trial(*pair, row) for pair, row in zip(numbers, theta, strict=True)]
            self._info += [round.info for round in rounds]
            self._untold.update((trial, None) for trial, _ in numbers)
        self.rounds += rounds
        self.results.update((result.trial, result) for result in results)
        for result in results:
            self._untold.pop(result.trial)
        complete = [result for result in results if result.outcome is not None]
        earliest = min(complete, key=lambda result: result.trial, default=None)
        if earliest and (self.first is None or earliest.trial < self.first.trial):
            self.first, results = earliest, list(self.results.values())
        for result in results:
            self._trials[result.trial] = _told(self._trials[result.trial], conforming(result, self.first))

    def _close(self) -> None:
        """Moves past the rounds that are told whole, many at a time: no later result changes what they hold."""
        told = (all(trial in self.results for trial in round.trials) for round in self.rounds[self._n_whole :])
        self._n_whole += sum(takewhile(bool, told))
        closed = self.rounds[self._n_closed : self._n_whole]
        if closed and closed[-1].trials.stop - closed[0].first >= _BLOCK:
            trials = self._trials[closed[0].first : closed[-1].trials.stop]
            self._columns = merged([*self._columns, Columns.of(trials, closed[0].theta.shape[1])])
            self._n_closed += len(closed)


@contextlib.contextmanager
def _uncollected() -> Generator[None]:
    """A block without garbage collection, which would look through all that a long study reads, again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _told(trial: Trial, result: Result) -> Trial:
    complete = result.outcome is not None
    return Trial(
        trial.number,
        trial.round,
        trial.theta,
        "complete" if complete else "failed",
        torch.tensor(result.outcome) if complete else None,
        result.error,
        result.started,
        result.seconds,
        result.host,
        None if result.x is None else torch.tensor(result.x),
        result.seed,
        result.environment,
    )
