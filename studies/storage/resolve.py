"""From what a user passes as `storage=` to a storage: in memory, or an SQLite file."""

import os
from pathlib import Path

from diffsim.errors import ArgumentTypeError
from studies.errors import StorageError
from studies.storage.base import Storage
from studies.storage.memory import MemoryStorage

__all__ = ["open_storage"]


def open_storage(storage: str | os.PathLike[str] | Storage) -> Storage:
    """A storage from what the user passed to `Study`.

    Args:
        storage: "memory", an SQLite URL such as "sqlite:///runs.db" (four slashes for an absolute path), the path of
            an SQLite file as a `pathlib.Path`, or a storage.

    Raises:
        ArgumentTypeError: It is none of these.
        StorageError: The URL names something else, or the file cannot be opened.
    """
    if isinstance(storage, Storage) and not isinstance(storage, type):
        return storage
    if storage in ("memory", ":memory:"):
        return MemoryStorage()
    if not isinstance(storage, str | os.PathLike):
        raise ArgumentTypeError(f'`storage` must be "memory", an SQLite URL, a path or a storage, got {storage!r}.')
    prefix = "sqlite:///"
    if isinstance(storage, str) and (not storage.startswith(prefix) or storage == prefix or "?" in storage):
        raise StorageError(f'`storage` must be "memory" or like "sqlite:///runs.db", got {storage!r}.')
    from studies.storage.sqlite import SQLiteStorage

    return SQLiteStorage(Path(storage.removeprefix(prefix) if isinstance(storage, str) else storage))
