"""The contract of a storage, kept by memory, SQLite and PostgreSQL, and broken ones that are told so."""

import itertools
from dataclasses import replace

import pytest

from diffsim.errors import ContractError
from studies.contracts import check_storage
from studies.storage.memory import MemoryStorage
from studies.storage.postgres import PostgreSQLStorage
from studies.storage.sqlite import SQLiteStorage


def test_memory_keeps_the_contract():
    check_storage(MemoryStorage)


def test_sqlite_keeps_the_contract(tmp_path):
    numbers = itertools.count()
    check_storage(lambda: SQLiteStorage(tmp_path / f"{next(numbers)}.db"))


def test_postgresql_keeps_the_contract(make_postgres):
    check_storage(lambda: PostgreSQLStorage(make_postgres()))


def test_postgresql_with_files_keeps_the_contract(make_postgres, tmp_path):
    check_storage(lambda: PostgreSQLStorage(make_postgres(), files=tmp_path))
    assert list(tmp_path.glob("*.npy")), "the large outcome is a file"


class Greedy(MemoryStorage):
    """Leases what another has."""

    def claim(self, name, worker, n, seconds):
        for lease in self.leases(name):
            self.renew(name, lease.worker, -1.0)
        return super().claim(name, worker, n, seconds)


class Endless(MemoryStorage):
    """Counts no leases, so that a trial that kills its workers goes on for ever."""

    def claim(self, name, worker, n, seconds):
        for lease in self.leases(name):
            if lease.seconds <= 0:
                self.release(name, lease.worker)
        return super().claim(name, worker, n, seconds)


class Absent(MemoryStorage):
    """Forgets what a trial ran in."""

    def add_results(self, name, results):
        super().add_results(name, [replace(result, environment=None) for result in results])


@pytest.mark.parametrize(
    ("storage", "message"),
    [(Greedy, "neither told nor leased"), (Endless, "does not count"), (Absent, "its environment")],
)
def test_a_broken_storage_is_told_which_rule(storage, message):
    with pytest.raises(ContractError, match=message):
        check_storage(storage)
