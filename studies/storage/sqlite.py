"""A storage in an SQLite file: safe for many processes of one machine, and for processes killed at any moment."""

import io
import json
import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, IntegrityError

from studies.errors import ConflictError, StorageError
from studies.storage.base import Result, RoundRecord, StudyRecord

__all__ = ["SQLiteStorage"]

BUSY_SECONDS = 30
APPLICATION_ID = 0x73747564  # "stud": tells our files from those of other programs
SCHEMA_VERSION = 2

METADATA = sa.MetaData()
STUDIES = sa.Table(
    "studies",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("space", sa.String, nullable=False),
    sa.Column("strategy", sa.String, nullable=False),
    sa.Column("seed", sa.Integer, nullable=False),
    sa.Column("versions", sa.String, nullable=False),
    sa.Column("created", sa.String, nullable=False),
)
ROUNDS = sa.Table(
    "rounds",
    METADATA,
    sa.Column("study", sa.ForeignKey("studies.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("first", sa.Integer, nullable=False),
    sa.Column("theta", sa.LargeBinary, nullable=False),
    sa.Column("info", sa.String, nullable=False),
    sa.Column("strategy", sa.String, nullable=False),
    sa.UniqueConstraint("study", "first"),
)
RESULTS = sa.Table(
    "results",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),  # the order in which they were told
    sa.Column("study", sa.ForeignKey("studies.id"), nullable=False),
    sa.Column("trial", sa.Integer, nullable=False),
    sa.Column("outcome", sa.LargeBinary),
    sa.Column("error", sa.String),
    sa.Column("started", sa.Float),
    sa.Column("seconds", sa.Float),
    sa.Column("host", sa.String),
    sa.Column("x", sa.LargeBinary),
    sa.UniqueConstraint("study", "trial"),
)
MENDS = {
    "locked": f"Another process has held it for {BUSY_SECONDS} s; end that process.",
    "full": "The disk is full; make room and run again, what was told is kept.",
    "permission denied": "The file or its folder cannot be written; change its permissions.",
    "readonly": "The file or its folder cannot be written; change its permissions.",
    "unable to open": "Check that the file and its folder exist and can be read and written.",
    "not a database": "The file is something else than an SQLite database; name another.",
    "malformed": "The file is damaged; restore a copy, or save what can be read with: sqlite3 FILE .recover",
    "disk i/o": "The disk or network folder failed; SQLite needs a local disk.",
}


class SQLiteStorage:
    """Studies in an SQLite file, with a write-ahead log; it must lie on a local disk, not on a network folder.

    Args:
        path: The file; it is made if it is missing.
        create: False to open only a file that exists.

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
        # A connection an operation: none is carried over a fork, none is left open when a process is killed.
        self._engine = sa.create_engine("sqlite://", creator=self._connect, poolclass=sa.NullPool)
        event.listen(self._engine, "begin", _begin)
        with self._translated():
            if create:
                self.path.touch()
            self._prepare(create)

    def __repr__(self) -> str:
        return f"SQLiteStorage({str(self.path)!r})"

    def create(self, study: StudyRecord) -> StudyRecord:
        with self._transaction(write=True) as connection:
            connection.execute(
                STUDIES.insert().prefix_with("OR IGNORE"),
                {
                    "name": study.name,
                    "space": json.dumps(study.space),
                    "strategy": study.strategy,
                    "seed": study.seed,
                    "versions": json.dumps(study.versions),
                    "created": study.created,
                },
            )
            row = connection.execute(STUDIES.select().where(STUDIES.c.name == study.name)).one()
        return _study(row)

    def studies(self) -> list[StudyRecord]:
        with self._transaction() as connection:
            return [_study(row) for row in connection.execute(STUDIES.select().order_by(STUDIES.c.id))]

    def add_round(self, name: str, round: RoundRecord) -> None:
        with self._transaction(write=True) as connection:
            study = self._id(connection, name)
            values = {
                "study": study,
                "number": round.number,
                "first": round.first,
                "theta": _to_bytes(round.theta),
                "info": json.dumps(round.info),
                "strategy": round.strategy,
            }
            _insert(connection, ROUNDS, [values], f"Round {round.number} of study {name!r} was asked already.")

    def add_results(self, name: str, results: Sequence[Result]) -> None:
        if not results:
            return
        with self._transaction(write=True) as connection:
            study = self._id(connection, name)
            values = [
                {
                    "study": study,
                    "trial": result.trial,
                    "outcome": None if result.outcome is None else _to_bytes(result.outcome),
                    "error": result.error,
                    "started": result.started,
                    "seconds": result.seconds,
                    "host": result.host,
                    "x": None if result.x is None else _to_bytes(result.x),
                }
                for result in results
            ]
            trials = [result.trial for result in results]
            _insert(connection, RESULTS, values, f"One of the trials {trials} of study {name!r} was told already.")

    def read(self, name: str, n_rounds: int = 0, n_results: int = 0) -> tuple[list[RoundRecord], list[Result]]:
        with self._transaction() as connection:
            study = self._id(connection, name)
            rounds = ROUNDS.select().where(ROUNDS.c.study == study, ROUNDS.c.number >= n_rounds)
            results = RESULTS.select().where(RESULTS.c.study == study).order_by(RESULTS.c.id).offset(n_results)
            return (
                [
                    RoundRecord(row.number, row.first, self._array(row.theta), json.loads(row.info), row.strategy)
                    for row in connection.execute(rounds.order_by(ROUNDS.c.number))
                ],
                [
                    Result(
                        row.trial,
                        self._array(row.outcome),
                        row.error,
                        row.started,
                        row.seconds,
                        row.host,
                        self._array(row.x),
                    )
                    for row in connection.execute(results)
                ],
            )

    def _connect(self) -> sqlite3.Connection:
        uri = f"file:{quote(str(self.path))}?mode=rw"  # a file that was removed meanwhile is not made anew
        return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)

    def _prepare(self, create: bool) -> None:
        """Makes the tables in an empty file, and refuses files of other programs and versions."""
        with self._transaction(write=create) as connection:
            empty = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one() == 0
            if empty and create:
                METADATA.create_all(connection)
                connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
            application = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
            schema = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if application != APPLICATION_ID:
            raise StorageError(f"{self.path} is an SQLite file, but not one of studies. Name another file.")
        if schema != SCHEMA_VERSION:
            mend = "Use the version that wrote it."
            raise StorageError(f"{self.path} has the layout {schema}, this version reads {SCHEMA_VERSION}. {mend}")
        deadline = time.monotonic() + BUSY_SECONDS
        with closing(self._connect()) as connection:
            while create and connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                try:
                    connection.execute("PRAGMA journal_mode = WAL")
                except sqlite3.OperationalError:  # this one statement does not wait for its turn by itself
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)

    @contextmanager
    def _transaction(self, write: bool = False) -> Generator[sa.Connection]:
        with self._translated(), self._engine.connect().execution_options(write=write) as connection:
            with connection.begin():
                yield connection

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except (DBAPIError, sqlite3.Error, OSError) as error:
            text = str(error.orig) if isinstance(error, DBAPIError) else str(error)
            mend = next((mend for words, mend in MENDS.items() if words in text.lower()), "Check the file.")
            raise StorageError(f"Cannot use {self.path}: {text}. {mend}") from error

    def _id(self, connection: sa.Connection, name: str) -> int:
        study = connection.execute(sa.select(STUDIES.c.id).where(STUDIES.c.name == name)).scalar()
        if study is None:
            names = sorted(connection.execute(sa.select(STUDIES.c.name)).scalars())
            raise StorageError(f"There is no study {name!r} in {self.path}. There are {names}.")
        return study

    def _array(self, data: bytes | None) -> Any:  # noqa: ANN401
        try:
            return None if data is None else np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise StorageError(f"{self.path} holds a damaged array ({error}). Restore a copy of the file.") from error


def _begin(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later can fail at its first write; taking the lock at once cannot.
    write = connection.get_execution_options().get("write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _insert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]], conflict: str) -> None:
    try:
        connection.execute(table.insert(), rows)
    except IntegrityError as error:
        raise ConflictError(conflict) from error


def _study(row: sa.Row[Any]) -> StudyRecord:
    return StudyRecord(row.name, json.loads(row.space), row.strategy, row.seed, json.loads(row.versions), row.created)


def _to_bytes(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
