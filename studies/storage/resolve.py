"""From what a user passes as `storage=` to a storage: in memory, or an SQLite file."""

import os
from pathlib import Path

from studies.errors import StorageError
from studies.storage.base import Storage
from studies.storage.memory import MemoryStorage

__all__ = ["open_storage"]


def open_storage(storage: "str | os.PathLike[str] | Storage") -> Storage:
    """A storage from what the user passed to `Study`.

    Args:
        storage: "memory", an SQLite URL such as "sqlite:///runs.db" (four slashes for an absolute path), the path of
            an SQLite file as a `pathlib.Path`, or a storage.

    Raises:
        StorageError: The URL names something else, or the file cannot be opened.
    """
    if isinstance(storage, str) and storage in ("memory", ":memory:"):
        return MemoryStorage()
    if not isinstance(storage, str | os.PathLike):
        return storage
    from studies.storage.sqlite import SQLiteStorage

    if isinstance(storage, os.PathLike):
        return SQLiteStorage(Path(storage))
    prefix = "sqlite:///"
    if not storage.startswith(prefix) or not storage.removeprefix(prefix):
        raise StorageError(f'`storage` must be "memory" or like "sqlite:///runs.db", got {storage!r}.')
    return SQLiteStorage(Path(storage.removeprefix(prefix)))
