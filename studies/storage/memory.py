"""A storage that lives as long as its process: the default of a study."""

import threading
from collections.abc import Sequence
from typing import TypeVar

from studies.errors import ConflictError, StorageError
from studies.storage.base import Result, RoundRecord, StudyRecord

__all__ = ["MemoryStorage"]

T = TypeVar("T")


class MemoryStorage:
    """Studies in lists, safe for threads. Two studies of one process may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._studies: dict[str, StudyRecord] = {}
        self._rounds: dict[str, list[RoundRecord]] = {}
        self._results: dict[str, list[Result]] = {}
        self._told: dict[str, set[int]] = {}

    def __repr__(self) -> str:
        return "MemoryStorage()"

    def create(self, study: StudyRecord) -> StudyRecord:
        with self._lock:
            self._rounds.setdefault(study.name, [])
            self._results.setdefault(study.name, [])
            self._told.setdefault(study.name, set())
            return self._studies.setdefault(study.name, study)

    def studies(self) -> list[StudyRecord]:
        with self._lock:
            return list(self._studies.values())

    def add_round(self, name: str, round: RoundRecord) -> None:
        with self._lock:
            rounds = self._of(self._rounds, name)
            if round.number != len(rounds) or (rounds and round.first != rounds[-1].trials.stop):
                raise ConflictError(f"Round {round.number} of study {name!r} was asked already. Read the rounds again.")
            rounds.append(round)

    def add_results(self, name: str, results: Sequence[Result]) -> None:
        with self._lock:
            told = self._of(self._told, name)
            new = {result.trial for result in results}
            if told & new or len(new) < len(results):
                trials = sorted(result.trial for result in results)
                raise ConflictError(f"One of the trials {trials} of study {name!r} was told already. Tell each once.")
            told |= new
            self._results[name] += results

    def read(self, name: str, n_rounds: int = 0, n_results: int = 0) -> tuple[list[RoundRecord], list[Result]]:
        with self._lock:
            return self._of(self._rounds, name)[n_rounds:], self._of(self._results, name)[n_results:]

    @staticmethod
    def _of(records: dict[str, T], name: str) -> T:
        if name not in records:
            raise StorageError(f"There is no study {name!r}. There are {sorted(records)}.")
        return records[name]
