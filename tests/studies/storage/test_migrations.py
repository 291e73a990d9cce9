"""Databases of older layouts: all that they hold is there after the upgrade, and both ways lead to the same tables."""

import shutil
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations

from studies.errors import StorageError
from studies.spaces.box import Box
from studies.storage.migrations.versions import layout_2
from studies.storage.postgres import PostgreSQLStorage
from studies.storage.sqlite import SQLiteStorage
from studies.storage.tables import METADATA, REVISION
from studies.strategies.sobol import Sobol
from studies.study import Study

OLD = Path(__file__).with_name("layout_2.db")  # made by the last version that wrote this layout


@pytest.fixture
def old(tmp_path):
    return Path(shutil.copy(OLD, tmp_path / "old.db"))


def differences(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return [found for found in compare_metadata(context, METADATA) if "alembic_version" not in str(found)]


def test_a_file_of_layout_2_keeps_all_it_holds(old):
    with sqlite3.connect(old) as before:
        told = before.execute("SELECT study, trial, error, started, seconds, host FROM results ORDER BY id").fetchall()
        blobs = before.execute("SELECT outcome, x FROM results ORDER BY id").fetchall()
        asked = before.execute("SELECT * FROM rounds ORDER BY study, number").fetchall()
        heads = before.execute("SELECT * FROM studies").fetchall()
    storage = SQLiteStorage(old)
    with sqlite3.connect(old) as after:
        assert after.execute("PRAGMA user_version").fetchone() == (3,)
        query = "SELECT study, trial, error, started, seconds, host FROM results ORDER BY study, position"
        assert after.execute(query).fetchall() == told
        assert after.execute("SELECT outcome, x FROM results ORDER BY study, position").fetchall() == blobs
        assert after.execute("SELECT * FROM rounds ORDER BY study, number").fetchall() == asked
        assert after.execute("SELECT * FROM studies").fetchall() == heads
        assert after.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert not after.execute("PRAGMA foreign_key_check").fetchall()
    assert [study.name for study in storage.studies()] == ["old", "asked"]
    rounds, results = storage.read("old")
    assert [len(round.theta) for round in rounds] == [2, 2, 2, 3] and len(results) == 6
    assert "the pump tore: ü" in results[3].error and results[3].x.shape == (2,) and results[3].seed is None
    assert [result.trial for result in storage.read("asked")[1]] == [1]


def test_what_was_pending_in_layout_2_can_be_leased(old):
    storage = SQLiteStorage(old)
    assert storage.claim("old", "worker", 9, 60.0) == [6, 7, 8]
    assert storage.claim("asked", "worker", 9, 60.0) == [0, 2]


def test_a_study_of_layout_2_goes_on(old):
    study = Study(Box({"q": (-2, 2), "p": (-1, 1)}), Sobol(), old, seed=7, name="old")
    study.tell(range(6, 9), study.history.pending, x=study.history.pending)
    assert len(study.history) == 7 and study.ask(1).trials == (9,)
    assert len({row for row in map(tuple, study.history.tried.tolist())}) == 10, (
        "the sequence goes on, none is repeated"
    )


def test_an_upgrade_that_fails_changes_nothing(old):
    with sqlite3.connect(old) as connection:
        connection.execute("UPDATE rounds SET theta = x'00' WHERE number = 1")
    before = old.read_bytes()
    with pytest.raises(StorageError, match="cannot be upgraded"):
        SQLiteStorage(old)
    assert old.read_bytes() == before


def test_both_ways_lead_to_the_same_tables_in_sqlite(old, tmp_path):
    new = SQLiteStorage(tmp_path / "new.db")
    assert differences(SQLiteStorage(old)._engine) == differences(new._engine) == []


def test_both_ways_lead_to_the_same_tables_in_postgresql(postgres, make_postgres):
    engine = sa.create_engine(postgres.replace("postgresql:", "postgresql+psycopg:"), poolclass=sa.NullPool)
    with engine.begin() as connection:
        layout_2.upgrade(Operations(MigrationContext.configure(connection)))
        REVISION.create(connection)
        connection.execute(REVISION.insert(), {"version_num": "studies_2"})
    upgraded, new = PostgreSQLStorage(postgres), PostgreSQLStorage(make_postgres())
    assert differences(upgraded._engine) == differences(new._engine) == []
    upgraded.create(Study(Box({"q": (0, 1)}), Sobol(), seed=2**62).storage.studies()[0])
    assert upgraded.studies()[0].seed == 2**62


@pytest.mark.parametrize("layout", [1, 99])
def test_layouts_that_are_not_known_are_named(layout, tmp_path):
    path = tmp_path / "runs.db"
    SQLiteStorage(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {layout}")
    with pytest.raises(StorageError, match=f"layout {layout}, this version reads 3"):
        SQLiteStorage(path)
