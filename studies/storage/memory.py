"""A storage that lives as long as its process: the default of a study."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from studies.errors import ConflictError, StorageError
from studies.storage.base import MAX_LEASES, Lease, Result, RoundRecord, StudyRecord, given_up

__all__ = ["MemoryStorage"]


@dataclass(slots=True)
class _Open:
    """A trial that is not told: who has it, until when, and how many leases it has had."""

    worker: str | None = None
    until: float = 0.0
    count: int = 0


@dataclass(slots=True)
class _Kept:
    """All of one study."""

    record: StudyRecord
    rounds: list[RoundRecord] = field(default_factory=list[RoundRecord])
    results: list[Result] = field(default_factory=list[Result])
    told: set[int] = field(default_factory=set[int])
    open: dict[int, _Open] = field(default_factory=dict[int, _Open])  # by trial, oldest first


class MemoryStorage:
    """Studies in lists, safe for threads. Two studies of one process may share it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._studies: dict[str, _Kept] = {}

    def __repr__(self) -> str:
        return "MemoryStorage()"

    def create(self, study: StudyRecord) -> StudyRecord:
        with self._lock:
            return self._studies.setdefault(study.name, _Kept(study)).record

    def studies(self) -> list[StudyRecord]:
        with self._lock:
            return [study.record for study in self._studies.values()]

    def add_round(self, name: str, round: RoundRecord, worker: str | None = None, seconds: float = 0.0) -> None:
        with self._lock:
            study = self._study(name)
            rounds = study.rounds
            if round.number != len(rounds) or (rounds and round.first != rounds[-1].trials.stop):
                raise ConflictError(f"Round {round.number} of study {name!r} was asked already. Read the rounds again.")
            rounds.append(round)
            until, count = (0.0, 0) if worker is None else (time.monotonic() + seconds, 1)
            study.open.update((trial, _Open(worker, until, count)) for trial in round.trials)

    def add_results(self, name: str, results: Sequence[Result]) -> None:
        with self._lock:
            study = self._study(name)
            new = {result.trial for result in results}
            if study.told & new or len(new) < len(results):
                trials = sorted(result.trial for result in results)
                raise ConflictError(f"One of the trials {trials} of study {name!r} was told already. Tell each once.")
            study.told |= new
            study.results += results
            for trial in new:
                study.open.pop(trial, None)

    def read(self, name: str, n_rounds: int = 0, n_results: int = 0) -> tuple[list[RoundRecord], list[Result]]:
        with self._lock:
            study = self._study(name)
            return study.rounds[n_rounds:], study.results[n_results:]

    def claim(self, name: str, worker: str, n: int, seconds: float) -> list[int]:
        with self._lock:
            study, now = self._study(name), time.monotonic()
            free = [trial for trial, lease in study.open.items() if lease.until <= now]
            lost = [
                Lease(trial, lease.worker, lease.until - now, lease.count)
                for trial in free
                if (lease := study.open[trial]).worker is not None and lease.count >= MAX_LEASES
            ]
            self.add_results(name, [Result(lease.trial, error=given_up(lease)) for lease in lost])
            taken = [trial for trial in free if trial in study.open][:n]
            for trial in taken:
                study.open[trial] = _Open(worker, now + seconds, study.open[trial].count + 1)
            return taken

    def renew(self, name: str, worker: str, seconds: float) -> list[int]:
        with self._lock:
            held = self._held(name, worker)
            for lease in held.values():
                lease.until = time.monotonic() + seconds
            return list(held)

    def release(self, name: str, worker: str) -> list[int]:
        with self._lock:
            held = self._held(name, worker)
            for lease in held.values():
                lease.worker, lease.until, lease.count = None, 0.0, lease.count - 1
            return list(held)

    def leases(self, name: str) -> list[Lease]:
        with self._lock:
            now = time.monotonic()
            return [
                Lease(trial, lease.worker, lease.until - now, lease.count)
                for trial, lease in self._study(name).open.items()
                if lease.worker is not None
            ]

    def _study(self, name: str) -> _Kept:
        if name not in self._studies:
            raise StorageError(f"There is no study {name!r}. There are {sorted(self._studies)}.")
        return self._studies[name]

    def _held(self, name: str, worker: str) -> dict[int, _Open]:
        return {trial: lease for trial, lease in self._study(name).open.items() if lease.worker == worker}
