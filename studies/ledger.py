"""What a study knows of its storage: rounds and results as read so far, and the history that they make."""

import threading
from collections.abc import Iterator

import torch
from torch import Tensor

from studies.history import History, Trial
from studies.space import Space
from studies.storage.base import Result, RoundRecord, Storage, settled

__all__ = ["Ledger"]


class Ledger:
    """The rounds and results of one study; `read` fetches only what is new, so that a long study stays fast.

    Args:
        storage: Holds the study.
        name: The study's name in it.
    """

    def __init__(self, storage: Storage, name: str) -> None:
        self.rounds: list[RoundRecord] = []
        self.results: dict[int, Result] = {}
        self._storage, self._name = storage, name
        self._lock = threading.Lock()
        self._closed: list[Trial] = []  # those of the first rounds, as far as they are told whole
        self._n_closed = 0

    @property
    def n_trials(self) -> int:
        """The number of trials asked."""
        return self.rounds[-1].trials.stop if self.rounds else 0

    def read(self) -> None:
        """Fetches what is new in the storage."""
        with self._lock:
            rounds, results = self._storage.read(self._name, len(self.rounds), len(self.results))
            self.rounds += rounds
            self.results.update((result.trial, result) for result in results)

    def untold(self) -> tuple[RoundRecord, list[int]] | None:
        """The first round with trials that are not told, and these trials."""
        for round in self.rounds[self._n_closed :]:
            if left := [number for number in round.trials if number not in self.results]:
                return round, left
        return None

    def history(self, space: Space) -> History:
        """The history that was read."""
        with self._lock:
            trials = [*self._closed, *self._open_trials()]
            for round in self.rounds[self._n_closed :]:
                if any(number not in self.results for number in round.trials):
                    break
                self._closed += trials[round.first : round.trials.stop]
                self._n_closed += 1
            return History(space, tuple(trials), tuple(round.info for round in self.rounds))

    def _open_trials(self) -> Iterator[Trial]:
        rounds = self.rounds[self._n_closed :]
        results = (self.results[number] for round in rounds for number in round.trials if number in self.results)
        shape = next((tuple(trial.outcome.shape) for trial in self._closed if trial.outcome is not None), None)
        told = settled(results, shape)
        for round in rounds:
            for number, theta in zip(round.trials, round.theta, strict=True):
                yield _trial(round.number, number, torch.tensor(theta), told.get(number))


def _trial(round: int, number: int, theta: Tensor, result: Result | None) -> Trial:
    if result is None:
        return Trial(number, round, theta)
    when = (result.started, result.seconds, result.host)
    if result.outcome is None:
        return Trial(number, round, theta, "failed", None, result.error, *when)
    return Trial(number, round, theta, "complete", torch.tensor(result.outcome), None, *when)
