"""A storage in a database, as SQLite and PostgreSQL share it: what is asked of the tables, in which transactions."""

import contextlib
import hashlib
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from studies.errors import ConflictError, StorageError
from studies.storage.arrays import OutcomeFiles
from studies.storage.base import MAX_LEASES, Lease, Result, RoundRecord, StudyRecord, given_up
from studies.storage.rows import (
    as_result,
    as_round,
    as_study,
    is_large,
    result_values,
    round_values,
    study_values,
)
from studies.storage.tables import ENVIRONMENTS, LEASES, RESULTS, ROUNDS, STUDIES

__all__ = ["Database", "Row"]

T = TypeVar("T")
Row = dict[str, Any]

OF_STUDY, START, OF_TRIAL = sa.bindparam("of_study"), sa.bindparam("start"), sa.bindparam("of_trial")
NEW_ROUNDS = ROUNDS.select().where(ROUNDS.c.study == OF_STUDY, ROUNDS.c.number >= START).order_by(ROUNDS.c.number)
NEW_ROUND, NEW_LEASE = ROUNDS.insert(), LEASES.insert()
NEW_RESULTS = (
    RESULTS.select().where(RESULTS.c.study == OF_STUDY, RESULTS.c.position >= START).order_by(RESULTS.c.position)
)
LAST = RESULTS.alias()
ZERO, ONE = sa.literal_column("0", sa.Integer()), sa.literal_column("1", sa.Integer())
NEXT_POSITION = sa.select(sa.func.coalesce(sa.func.max(LAST.c.position) + ONE, ZERO)).where(LAST.c.study == OF_STUDY)
NEW_RESULT = RESULTS.insert().values(study=OF_STUDY, position=NEXT_POSITION.scalar_subquery())
END_LEASE = LEASES.delete().where(LEASES.c.study == OF_STUDY, LEASES.c.trial == OF_TRIAL)


class Database(ABC):
    """Studies in a database, safe for threads and processes; connections are kept, and are not shared over a fork.

    Args:
        place: How messages name the database.
        engine: Its engine.
        files: Where outcomes of more than 64 KiB are kept; None keeps all in the database.
    """

    def __init__(self, place: str, engine: sa.Engine, files: OutcomeFiles | None) -> None:
        self._place, self._engine, self._files = place, engine, files
        self._studies: dict[str, int] = {}  # ids by name
        self._environments: dict[str, int] = {}  # ids by text
        self._texts: dict[int, str] = {}  # texts of environments by id
        _ENGINES.add(engine)
        weakref.finalize(self, engine.dispose)

    @property
    @abstractmethod
    def _clock(self) -> sa.ColumnElement[float]:
        """The database's own time, in seconds."""

    @abstractmethod
    def _run(self, work: Callable[[sa.Connection], T], write: bool = False) -> T:
        """Does some work in one transaction, whole or not at all; what it reads is one consistent view.

        Raises:
            StorageError: The database cannot be read or written.
        """

    def close(self) -> None:
        """Closes the connections; they are opened again when they are needed."""
        self._engine.dispose()

    def create(self, study: StudyRecord) -> StudyRecord:
        stored = STUDIES.select().where(STUDIES.c.name == study.name)

        def add(connection: sa.Connection) -> StudyRecord:
            if not (row := connection.execute(stored).first()):
                conflict = f"The study {study.name!r} was made meanwhile."
                self._insert(connection, STUDIES.insert(), [study_values(study)], conflict)
                row = connection.execute(stored).one()
            return as_study(row)

        try:
            return self._run(add, write=True)
        except ConflictError:
            return self._run(lambda connection: as_study(connection.execute(stored).one()))

    def studies(self) -> list[StudyRecord]:
        stored = STUDIES.select().order_by(STUDIES.c.id)
        return self._run(lambda connection: [as_study(row) for row in connection.execute(stored)])

    def add_round(self, name: str, round: RoundRecord, worker: str | None = None, seconds: float = 0.0) -> None:
        values = round_values(round)
        conflict = f"Round {round.number} of study {name!r} was asked already. Read the rounds again."

        def add(connection: sa.Connection) -> None:
            study = self._id(connection, name, lock=True)
            self._insert(connection, NEW_ROUND, [{"study": study, **values}], conflict)
            until = 0.0 if worker is None else self._now(connection) + seconds
            lease = {"study": study, "worker": worker, "until": until, "granted": int(worker is not None)}
            self._execute(connection, NEW_LEASE, *({**lease, "trial": trial} for trial in round.trials))

        self._run(add, write=True)

    def add_results(self, name: str, results: Sequence[Result]) -> None:
        if not results:
            return
        rows: list[dict[str, Any]] = []
        try:
            stem = ""
            if any(is_large(result, self._files) for result in results):
                stem = f"{self._run(lambda connection: self._id(connection, name))}-"
            for result in results:
                environment = None if result.environment is None else self._environment(result.environment)
                rows.append(self._values(result, environment, f"{stem}{result.trial}"))
            self._run(lambda connection: self._tell(connection, name, rows), write=True)
        except BaseException:
            self._clean([row["file"] for row in rows if row["file"]])
            raise

    def read(self, name: str, n_rounds: int = 0, n_results: int = 0) -> tuple[list[RoundRecord], list[Result]]:
        def load(connection: sa.Connection) -> tuple[list[Any], list[Any]]:
            study = self._id(connection, name)
            rounds = self._execute(connection, NEW_ROUNDS, {"of_study": study, "start": n_rounds})
            results = self._execute(connection, NEW_RESULTS, {"of_study": study, "start": n_results})
            if {row[-1] for row in results} - {None, *self._texts}:
                self._texts = {row.id: row.text for row in connection.execute(ENVIRONMENTS.select())}
            return rounds, results

        rounds, results = self._run(load)
        return (
            [as_round(row, self._place) for row in rounds],
            [as_result(row, self._texts, self._files, self._place) for row in results],
        )

    def claim(self, name: str, worker: str, n: int, seconds: float) -> list[int]:
        def take(connection: sa.Connection) -> list[int]:
            study, now = self._id(connection, name, lock=True), self._now(connection)
            free = LEASES.select().where(LEASES.c.study == study, LEASES.c.until <= now)
            lost = [
                Lease(row.trial, row.worker, row.until - now, row.granted)
                for row in connection.execute(free.where(LEASES.c.worker.is_not(None), LEASES.c.granted >= MAX_LEASES))
            ]
            if lost:
                told = [Result(lease.trial, error=given_up(lease)) for lease in lost]
                self._tell(connection, name, [self._values(result, None, "") for result in told])
            trials = [row.trial for row in connection.execute(free.order_by(LEASES.c.trial).limit(n))]
            if trials:
                taken = LEASES.update().where(LEASES.c.study == study, LEASES.c.trial.in_(trials))
                connection.execute(taken.values(worker=worker, until=now + seconds, granted=LEASES.c.granted + 1))
            return trials

        return self._run(take, write=True)

    def renew(self, name: str, worker: str, seconds: float) -> list[int]:
        return self._change(name, worker, lambda now: {"until": now + seconds})

    def release(self, name: str, worker: str) -> list[int]:
        return self._change(name, worker, lambda now: {"worker": None, "until": 0.0, "granted": LEASES.c.granted - 1})

    def leases(self, name: str) -> list[Lease]:
        def load(connection: sa.Connection) -> list[Lease]:
            study, now = self._id(connection, name), self._now(connection)
            held = LEASES.select().where(LEASES.c.study == study, LEASES.c.worker.is_not(None))
            rows = connection.execute(held.order_by(LEASES.c.trial))
            return [Lease(row.trial, row.worker, row.until - now, row.granted) for row in rows]

        return self._run(load)

    def _change(self, name: str, worker: str, values: Callable[[float], dict[str, Any]]) -> list[int]:
        """Changes the leases of a worker; returns their trials."""

        def change(connection: sa.Connection) -> list[int]:
            held = (LEASES.c.study == self._id(connection, name, lock=True)) & (LEASES.c.worker == worker)
            trials = list(connection.execute(sa.select(LEASES.c.trial).where(held).order_by(LEASES.c.trial)).scalars())
            if trials:
                connection.execute(LEASES.update().where(held).values(values(self._now(connection))))
            return trials

        return self._run(change, write=True)

    def _tell(self, connection: sa.Connection, name: str, rows: Sequence[dict[str, Any]]) -> None:
        study = self._id(connection, name, lock=True)
        trials = [row["trial"] for row in rows]
        conflict = f"One of the trials {trials} of study {name!r} was told already. Tell each once."
        self._insert(connection, NEW_RESULT, [{"of_study": study, **row} for row in rows], conflict)
        self._execute(connection, END_LEASE, *({"of_study": study, "of_trial": trial} for trial in trials))

    def _id(self, connection: sa.Connection, name: str, lock: bool = False) -> int:
        """A study's id; with a lock, its writers follow one another, as in SQLite those of all studies do anyway."""
        if name in self._studies and not (lock and connection.dialect.name == "postgresql"):
            return self._studies[name]
        found = sa.select(STUDIES.c.id).where(STUDIES.c.name == name)
        study = connection.execute(found.with_for_update(key_share=True) if lock else found).scalar()
        if study is None:
            names = sorted(connection.execute(sa.select(STUDIES.c.name)).scalars())
            raise StorageError(f"There is no study {name!r} in {self._place}. There are {names}.")
        self._studies[name] = study
        return study

    def _now(self, connection: sa.Connection) -> float:
        return float(connection.execute(sa.select(self._clock)).scalar_one())

    def _environment(self, text: str) -> int:
        """The id of an environment, which is added if it is new."""
        if text in self._environments:
            return self._environments[text]
        digest = hashlib.sha256(text.encode()).hexdigest()
        known = sa.select(ENVIRONMENTS.c.id).where(ENVIRONMENTS.c.sha256 == digest)

        def add(connection: sa.Connection) -> int:
            if (number := connection.execute(known).scalar()) is None:
                added = [{"sha256": digest, "text": text}]
                self._insert(connection, ENVIRONMENTS.insert(), added, "It was added meanwhile.")
                number = connection.execute(known).scalar_one()
            return number

        try:
            number = self._run(add, write=True)
        except ConflictError:
            number = self._run(lambda connection: connection.execute(known).scalar_one())
        self._environments[text] = number
        return number

    def _values(self, result: Result, environment: int | None, stem: str) -> dict[str, Any]:
        try:
            return result_values(result, environment, self._files, stem)
        except OSError as error:
            what = f"Cannot write the outcome of trial {result.trial} of {self._place}: {error}."
            raise StorageError(f"{what} Make room or mend the folder and run again; what was told is kept.") from error

    def _insert(self, connection: sa.Connection, statement: sa.Insert, rows: Sequence[Row], conflict: str) -> None:
        try:
            self._execute(connection, statement, *rows)
        except IntegrityError as error:
            raise ConflictError(conflict) from error

    def _execute(self, connection: sa.Connection, statement: sa.Select[Any] | sa.UpdateBase, *rows: Row) -> list[Any]:
        """Runs a statement that every trial needs, once for each row of parameters; returns what a query found.

        Raises:
            IntegrityError: A row is there already; SQLAlchemy's, whatever runs the statement.
        """
        if isinstance(statement, sa.Select):
            return list(connection.execute(statement, rows[0]))
        connection.execute(statement, rows)
        return []

    def _clean(self, written: list[str]) -> None:
        """Removes files that no result refers to; where the database does not say so they stay."""
        if not (self._files and written):
            return
        with contextlib.suppress(StorageError):
            named = sa.select(RESULTS.c.file).where(RESULTS.c.file.in_(written))
            used = self._run(lambda connection: set(connection.execute(named).scalars()))
            for file in set(written) - used:
                self._files.remove(file)


# A connection belongs to the process that opened it. A child that closed its copies would end the parent's sessions, so
# it keeps them, unused, for as long as it lives.
_ENGINES: weakref.WeakSet[sa.Engine] = weakref.WeakSet()
_INHERITED: list[sa.Pool] = []


def _forget() -> None:
    for engine in _ENGINES:
        _INHERITED.append(engine.pool)
        engine.dispose(close=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
