"""A storage in an SQLite file: safe for many processes of one machine, and for processes killed at any moment."""

import functools
import os
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.exc import DBAPIError, IntegrityError

from studies.errors import StorageError
from studies.storage.arrays import OutcomeFiles
from studies.storage.database import Database, Row
from studies.storage.migrations.upgrade import create_tables, upgrade
from studies.storage.tables import LAYOUT

__all__ = ["SQLiteStorage"]

T = TypeVar("T")

BUSY_SECONDS = 30
SYNC_SECONDS = 1.0
APPLICATION_ID = 0x73747564  # "stud": tells our files from those of other programs
CLOCK: sa.ColumnElement[float] = sa.literal_column("(julianday('now') - 2440587.5) * 86400.0", sa.Double())
MENDS = {
    "locked": f"Another process has held it for {BUSY_SECONDS} s; end that process.",
    "full": "The disk is full; make room and run again, what was told is kept.",
    "no space": "The disk is full; make room and run again, what was told is kept.",
    "permission denied": "The file or its folder cannot be written; change its permissions.",
    "read-only file system": "The file or its folder cannot be written; change its permissions.",
    "readonly": "The file or its folder cannot be written; change its permissions.",
    "unable to open": "Check that the file and its folder exist and can be read and written.",
    "no such file": "Check that the file and its folder exist and can be read and written.",
    "not a database": "The file is something else than an SQLite database; name another.",
    "malformed": "The file is damaged; restore a copy, or save what can be read with: sqlite3 FILE .recover",
    "disk i/o": "The disk or network folder failed; SQLite needs a local disk.",
}


class SQLiteStorage(Database):
    """Studies in an SQLite file, with a write-ahead log; it must lie on a local disk, not on a network folder.

    Outcomes of more than 64 KiB lie in the folder FILE.files beside it: copy or move both together, when no process has
    the file open. What was told outlives the death of any process at once. Writing waits for the disk once a second at
    most: a failure of the power can lose what was told since, up to the last burst of a run. A file of an older version
    is upgraded when it is opened.

    Args:
        path: The file; it is made if it is missing.
        create: False to open only a file that exists; it is then read even where it cannot be written.

    Raises:
        StorageError: The file cannot be opened or written, or is no file of studies.
    """

    def __init__(self, path: Path, create: bool = True) -> None:
        self.path = path.absolute()
        if not self.path.parent.is_dir():
            raise StorageError(f"Cannot open {path}: its folder {self.path.parent} does not exist. Make it first.")
        if self.path.is_dir():
            raise StorageError(f"Cannot open {path}: it is a folder. Name a file, such as {path / 'runs.db'}.")
        if not create and not self.path.exists():
            raise StorageError(f"Cannot open {path}: there is no such file. Check its name.")
        engine = sa.create_engine(
            "sqlite://",
            creator=functools.partial(_connect, self.path, _mode(self.path, create)),
            poolclass=sa.QueuePool,
            max_overflow=-1,
            pool_reset_on_return=None,  # each transaction ends by itself
        )
        super().__init__(str(self.path), engine, OutcomeFiles(self.path.with_name(f"{self.path.name}.files")))
        self._file: tuple[int, int] | None = None  # which file the connections have open
        self._synced = -SYNC_SECONDS
        with self._translated():
            if create:
                self.path.touch()
        self._prepare(create)

    def __repr__(self) -> str:
        return f"SQLiteStorage({str(self.path)!r})"

    @property
    def _clock(self) -> sa.ColumnElement[float]:
        return CLOCK

    def _run(self, work: Callable[[sa.Connection], T], write: bool = False) -> T:
        with self._translated():
            self._follow()
            with self._engine.connect() as connection, connection.begin():
                driver = connection.connection.driver_connection
                assert isinstance(driver, sqlite3.Connection)
                if write:
                    self._pace(driver, connection.info)
                # A transaction that reads first and writes later can fail at its first write; taking the lock cannot.
                driver.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                return work(connection)

    def _execute(self, connection: sa.Connection, statement: sa.Select[Any] | sa.UpdateBase, *rows: Row) -> list[Any]:
        # By the driver: SQLAlchemy takes five times as long as SQLite for a statement of one row.
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        if not rows:
            return []
        text = _text(statement, tuple(rows[0]))
        if isinstance(statement, sa.Select):
            return driver.execute(text, rows[0]).fetchall()
        try:
            driver.executemany(text, rows)
        except sqlite3.IntegrityError as error:
            raise IntegrityError(text, rows, error) from error
        return []

    def _follow(self) -> None:
        """Leaves a file that was removed or replaced: what is written to it would be lost."""
        status = self.path.stat()
        file = status.st_dev, status.st_ino
        if file != self._file:
            self._engine.dispose()
            self._studies.clear()
            self._environments.clear()
            self._texts.clear()
            self._file = file

    def _pace(self, connection: sqlite3.Connection, known: dict[str, str]) -> None:
        """Waits for the disk at most once a second: a commit that does so makes all earlier ones outlive the power."""
        due = time.monotonic() - self._synced >= SYNC_SECONDS
        mode = "FULL" if due else "NORMAL"
        if known.get("synchronous") != mode:
            connection.execute(f"PRAGMA synchronous = {mode}")
            known["synchronous"] = mode
        if due:
            self._synced = time.monotonic()

    def _prepare(self, create: bool) -> None:
        """Makes the tables in an empty file, upgrades those of an older version, and refuses other files."""

        def check(connection: sa.Connection, change: bool) -> bool:
            """Whether the layout is the present one."""
            empty = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one() == 0
            if empty and create:
                if change:
                    create_tables(connection)
                    _mark(connection)
                return change
            if connection.exec_driver_sql("PRAGMA application_id").scalar_one() != APPLICATION_ID:
                raise StorageError(f"{self.path} is an SQLite file, but not one of studies. Name another file.")
            layout = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if layout == LAYOUT:
                return True
            if layout != 2:
                mend = "Use the version that wrote it."
                raise StorageError(f"{self.path} has the layout {layout}, this version reads {LAYOUT}. {mend}")
            if change:
                upgrade(connection, layout)
                _mark(connection)
            return change

        if not self._run(lambda connection: check(connection, False)):
            self._run(lambda connection: check(connection, True), write=True)
        if create:
            with self._translated(), closing(_connect(self.path, "mode=rw")) as connection:
                _use_log(connection)

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (DBAPIError, sqlite3.Error, OSError) as error:
            text = str(error.orig) if isinstance(error, DBAPIError) else str(error)
            mend = next((mend for words, mend in MENDS.items() if words in text.lower()), "Check the file.")
            raise StorageError(f"Cannot use {self.path}: {text}. {mend}") from error


@functools.lru_cache(64)
def _text(statement: sa.Select[Any] | sa.UpdateBase, names: tuple[str, ...]) -> str:
    """A statement as SQLite knows it, with parameters of these names."""
    dialect = sqlite_dialect(paramstyle="named")
    return str(statement.compile(dialect=dialect, column_keys=names, for_executemany=True))


def _mode(path: Path, create: bool) -> str:
    if create or (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        return "mode=rw"  # a file that was removed meanwhile is not made anew
    log = path.with_name(f"{path.name}-wal")
    return "mode=ro" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{quote(str(path))}?{mode}"
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _mark(connection: sa.Connection) -> None:
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.exec_driver_sql(f"PRAGMA user_version = {LAYOUT}")  # older versions of this program ask for it


def _use_log(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:  # this one statement does not wait for its turn by itself
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
