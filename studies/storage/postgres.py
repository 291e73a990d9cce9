"""A storage in a PostgreSQL database: for many machines, over connections that may break at any moment."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError as URLError
from sqlalchemy.exc import DBAPIError

from studies.errors import StorageError
from studies.storage.arrays import OutcomeFiles
from studies.storage.database import Database
from studies.storage.migrations.upgrade import create_tables, layout_of, upgrade
from studies.storage.tables import LAYOUT, STUDIES

__all__ = ["PostgreSQLStorage"]

T = TypeVar("T")

PATIENCE = 30.0  # s, for which a lost connection is tried again: a server may be restarting
CLOCK: sa.ColumnElement[float] = sa.literal_column("extract(epoch from clock_timestamp())", sa.Double())
MAKING = 0x73747564  # the number of the lock under which tables are made
# A dead machine or network is noticed within about a minute, not after hours.
ALIVE = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
MENDS = {
    "connection refused": "Check that the server runs, and the host and the port.",
    "could not translate host": "Check the host's name.",
    "failed to resolve host": "Check the host's name.",
    "timeout expired": "Check the host, the port and the network.",
    "authentication failed": "Check the user and the password; a password may stand in the file ~/.pgpass.",
    "no password supplied": "Put the password in the file ~/.pgpass or in the variable PGPASSWORD.",
    "does not exist": "Make it first, with createdb or createuser.",
    "too many clients": "Raise max_connections of the server, or start fewer workers.",
    "remaining connection slots": "Raise max_connections of the server, or start fewer workers.",
    "no space left": "The server's disk is full; make room and run again, what was told is kept.",
    "could not extend file": "The server's disk is full; make room and run again, what was told is kept.",
    "read-only transaction": "The server takes no writes; connect to the one that does.",
    "permission denied": "Ask for the right to make tables in this database, or make one of your own with createdb.",
    "invalid memory alloc": "The outcome is too large for a database; pass `files=`, a folder that all workers share.",
}


class PostgreSQLStorage(Database):
    """Studies in a PostgreSQL database of their own, for workers on any number of machines.

    A connection that breaks is made again for half a minute. Whether a transaction that was just being committed then
    holds is asked of the server, so that nothing is told twice.

    Args:
        url: Like "postgresql://user@host:5432/database". Keep the password in ~/.pgpass rather than here.
        create: False to open only a database that has studies.
        files: A folder that all workers and readers share, for outcomes of more than 64 KiB; None keeps them in the
            database.

    Raises:
        StorageError: psycopg is not installed, the URL is wrong, the database cannot be reached, or it holds tables of
            another program.
    """

    def __init__(self, url: str, create: bool = True, files: Path | None = None) -> None:
        try:
            parsed = sa.make_url(url)
            self.url = parsed.render_as_string(hide_password=True)
            engine = sa.create_engine(
                parsed.set(drivername="postgresql+psycopg"),
                connect_args={key: value for key, value in ALIVE.items() if key not in parsed.query},
                max_overflow=-1,
            )
        except (URLError, ValueError) as error:
            raise StorageError(f"{error} Pass a URL such as postgresql://user@host/database.") from error
        except ModuleNotFoundError as error:
            mend = "Install it: pip install 'diffsim-studies[postgres]'"
            raise StorageError(f"PostgreSQL needs the package psycopg. {mend}") from error
        if files is not None and not files.is_dir():
            raise StorageError(f"`files` must be a folder that exists, got {files}. Make it first.")
        super().__init__(self.url, engine, None if files is None else OutcomeFiles(files.absolute()))
        self._patience = 0.0  # a wrong URL is said at once
        self._run(lambda connection: self._prepare(connection, create), write=True)
        self._patience = PATIENCE

    def __repr__(self) -> str:
        return f"PostgreSQLStorage({self.url!r})"

    @property
    def _clock(self) -> sa.ColumnElement[float]:
        return CLOCK

    def _run(self, work: Callable[[sa.Connection], T], write: bool = False) -> T:
        deadline, pause = time.monotonic() + self._patience, 0.05
        with self._translated():
            while True:
                done: list[T] = []
                transaction: int | None = None
                try:
                    with self._engine.connect() as connection:
                        if not write:
                            connection = connection.execution_options(isolation_level="REPEATABLE READ")
                        with connection.begin():
                            if write:
                                transaction = connection.execute(sa.select(sa.func.txid_current())).scalar_one()
                            done.append(work(connection))
                    return done[0]
                except DBAPIError as error:
                    if done and transaction is not None and self._held(transaction, deadline):
                        return done[0]
                    if not _broken(error) or time.monotonic() > deadline:
                        raise
                    time.sleep(pause)
                    pause = min(2 * pause, 2.0)

    def _held(self, transaction: int, deadline: float) -> bool:
        """Whether a transaction whose connection broke was committed all the same."""
        status = sa.select(sa.func.txid_status(transaction))
        while True:
            try:
                with self._engine.connect() as connection:
                    if (state := connection.execute(status).scalar()) != "in progress":
                        return state == "committed"
            except DBAPIError as error:
                if not _broken(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def _prepare(self, connection: sa.Connection, create: bool) -> None:
        """Makes the tables in a database without any of ours, upgrades those of an older version."""
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MAKING)))
        tables = sa.inspect(connection).get_table_names()
        layout = layout_of(connection)
        if layout is None:
            if STUDIES.name in tables or "alembic_version" in tables:
                mend = "Make a database of its own with createdb."
                raise StorageError(f"{self._place} holds the tables of another program. {mend}")
            if not create:
                raise StorageError(f"{self._place} holds no studies. Check the name of the database.")
            create_tables(connection)
        elif layout > LAYOUT:
            mend = "Use the version that wrote it."
            raise StorageError(f"{self._place} has the layout {layout}, this version reads {LAYOUT}. {mend}")
        elif layout < LAYOUT:
            upgrade(connection, layout)

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except DBAPIError as error:
            text = " ".join(str(error.orig).split())
            mend = next((mend for words, mend in MENDS.items() if words in text.lower()), "Check the server's log.")
            raise StorageError(f"Cannot use {self._place}: {text}. {mend}") from error


def _broken(error: DBAPIError) -> bool:
    """Whether there is no connection (any more), for a reason that may pass."""
    text = str(error.orig).lower()
    lasting = ("authentication", "password", "does not exist", "resolve host", "translate host", "no pg_hba")
    return not any(words in text for words in lasting) and (error.connection_invalidated or error.statement is None)
