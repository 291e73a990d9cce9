"""Optuna studies in a storage of ours: the log from which Optuna's journal storage replays its mutable objects."""

import json
import os
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from studies.errors import ConflictError, StudyError
from studies.interop.missing import needs
from studies.storage.base import LOG, RoundRecord, Storage, StudyRecord
from studies.storage.resolve import open_storage

with needs("Optuna"):
    from optuna.storages.journal import BaseJournalBackend, JournalStorage

__all__ = ["OptunaJournal", "OptunaStorage"]

_SPACE = {"kind": LOG, "names": ["entry"]}


class OptunaJournal(BaseJournalBackend):
    """A log of JSON entries in a storage of ours.

    Each entry is a round of one trial that is never told. Its number orders the entries: of two processes that append
    at once, one conflicts and appends later. No snapshots are kept, since Optuna would unpickle them.

    Args:
        storage: A URL such as "sqlite:///runs.db", or a storage.
        name: The log's name among the studies of the storage.

    Raises:
        StorageError: The storage cannot be opened.
        StudyError: The storage holds a study of ours under this name.

    Example:
        >>> log = OptunaJournal("memory")
        >>> log.append_logs([{"op_code": 1}, {"op_code": 2}])
        >>> log.read_logs(1)
        [{'op_code': 2}]
    """

    def __init__(self, storage: str | os.PathLike[str] | Storage, name: str = "optuna") -> None:
        self._given, self._name = storage, name
        self._storage = open_storage(storage)
        self._n_read = 0
        created = datetime.now(UTC).isoformat(timespec="seconds")
        record = StudyRecord(name, _SPACE, "Optuna", 0, {"optuna": version("optuna")}, created)
        if (stored := self._storage.create(record)).space != _SPACE:
            raise StudyError(f"{name!r} is a study with the space {stored.space}, not a log. Pass another name.")

    def __reduce__(self) -> tuple[type["OptunaJournal"], tuple[object, str]]:
        # A process that gets it opens the storage anew; what lives in memory cannot travel, and says so.
        return OptunaJournal, (self._storage if self._given == "memory" else self._given, self._name)

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """The entries from this number on."""
        rounds, _ = self._storage.read(self._name, log_number_from)
        self._n_read = log_number_from + len(rounds)
        return [json.loads(round.info["entry"]) for round in rounds]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends entries, each whole or not at all."""
        # A text, since Optuna's entries may hold NaN and infinity, which JSON columns of databases refuse.
        for entry in [json.dumps(log) for log in logs]:
            while True:
                number = self._n_read
                round = RoundRecord(number, number, np.full((1, 1), float(number)), {"entry": entry}, "Optuna")
                try:
                    self._storage.add_round(self._name, round)
                except ConflictError:
                    self.read_logs(number)  # another process appended meanwhile
                else:
                    self._n_read = number + 1
                    break


class OptunaStorage(JournalStorage):
    """An Optuna storage in a storage of ours: pass it to `optuna.create_study(storage=...)`.

    Optuna's objects change: parameters come one by one, attributes are overwritten, studies are deleted. Our storages
    only append. So each change is one entry of a log, and Optuna's own journal storage replays it. Any number of
    processes may write, and a process that is killed leaves no torn entry.

    Args:
        storage: A URL such as "sqlite:///runs.db", or a storage.
        name: The log's name among the studies of the storage.

    Raises:
        ImportError: Optuna is missing.
        StorageError: The storage cannot be opened.
        StudyError: The storage holds a study of ours under this name.
    """

    def __init__(self, storage: str | os.PathLike[str] | Storage, name: str = "optuna") -> None:
        super().__init__(OptunaJournal(storage, name))
