"""From what a user passes as `storage=` to a storage: in memory, in an SQLite file, or in PostgreSQL."""

import os
from pathlib import Path

from diffsim.errors import ArgumentTypeError
from studies.errors import StorageError
from studies.storage.base import Storage
from studies.storage.memory import MemoryStorage

__all__ = ["open_storage"]

SQLITE = "sqlite:///"
POSTGRESQL = ("postgresql://", "postgresql+psycopg://", "postgres://")


def open_storage(storage: str | os.PathLike[str] | Storage, create: bool = True) -> Storage:
    """A storage from what the user passed to `Study`.

    Args:
        storage: "memory"; an SQLite URL such as "sqlite:///runs.db" (four slashes for an absolute path); a PostgreSQL
            URL such as "postgresql://user@host/database"; the path of an SQLite file as a `pathlib.Path`; or a storage.
        create: False to open only what exists.

    Raises:
        ArgumentTypeError: It is none of these.
        StorageError: The URL names something else, or the file or database cannot be opened.
    """
    if isinstance(storage, Storage) and not isinstance(storage, type):
        return storage
    if storage in ("memory", ":memory:"):
        return MemoryStorage()
    if not isinstance(storage, str | os.PathLike):
        raise ArgumentTypeError(f'`storage` must be "memory", a database\'s URL, a path or a storage, got {storage!r}.')
    if isinstance(storage, str) and storage.startswith(POSTGRESQL):
        from studies.storage.postgres import PostgreSQLStorage

        return PostgreSQLStorage(storage.replace("postgres://", "postgresql://", 1), create)
    if isinstance(storage, str) and (not storage.startswith(SQLITE) or storage == SQLITE or "?" in storage):
        mend = "" if "://" in storage or not storage else f' For a file, pass "{SQLITE}{storage}".'
        raise StorageError(
            '`storage` must be "memory", or like "sqlite:///runs.db" or "postgresql://user@host/database", got '
            f"{_without_password(storage)!r}.{mend}"
        )
    from studies.storage.sqlite import SQLiteStorage

    return SQLiteStorage(Path(storage.removeprefix(SQLITE) if isinstance(storage, str) else storage), create)


def _without_password(url: str) -> str:
    head, at, place = url.rpartition("@")
    scheme, colons, user = head.partition("://")
    return f"{scheme}{colons}{user.partition(':')[0]}:***@{place}" if at and ":" in user else url
