"""A PostgreSQL storage: connections cut at any moment, servers that refuse, and databases of other programs."""

import random
import sys
import threading
import time

import numpy as np
import psycopg
import pytest
import sqlalchemy as sa

from studies.errors import StorageError
from studies.spaces.box import Box
from studies.storage import postgres as module
from studies.storage.base import Result, RoundRecord, StudyRecord
from studies.storage.postgres import PostgreSQLStorage
from studies.storage.resolve import open_storage
from studies.strategies.sobol import Sobol
from studies.study import Study

BOX = Box({"q": (-2, 2)})
STUDY = StudyRecord("a", {}, "S()", 0, {}, "2026-01-01T00:00:00")


@pytest.fixture
def storage(postgres):
    made = PostgreSQLStorage(postgres)
    made.create(STUDY)
    made.add_round("a", RoundRecord(0, 0, np.zeros((4, 1)), {}, "S()"))
    return made


def cut(url, pid=None):
    """Ends the connections of a test, or one of them."""
    with psycopg.connect(url, autocommit=True) as connection:
        own = "application_name <> 'killer' AND pid <> pg_backend_pid() AND datname = current_database()"
        which = own if pid is None else f"pid = {pid}"
        connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {which}")


def trials(storage):
    return sorted(result.trial for result in storage.read("a")[1])


def test_urls_are_opened(postgres):
    made = open_storage(postgres)
    assert isinstance(made, PostgreSQLStorage) and open_storage(postgres, create=False).studies() == []
    assert Study(BOX, Sobol(), postgres).run(lambda theta, generator: theta, trials=3, executor="here").n_rounds == 3
    assert open_storage(postgres.replace("postgresql:", "postgres:")).studies()[0].name == "study"


def test_a_connection_cut_while_idle_is_made_again(storage, postgres):
    cut(postgres)
    storage.add_results("a", [Result(0, np.ones(1))])
    cut(postgres)
    assert trials(storage) == [0]


def test_a_connection_cut_inside_a_transaction_tells_once(storage, postgres, monkeypatch):
    tell, cuts = storage._tell, []

    def dying(connection, name, rows):
        tell(connection, name, rows)
        if not cuts:
            cuts.append(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar())
            cut(postgres, cuts[0])

    monkeypatch.setattr(storage, "_tell", dying)
    storage.add_results("a", [Result(0, np.ones(1)), Result(1, np.ones(1))])
    assert cuts and trials(storage) == [0, 1] and storage.claim("a", "w", 9, 60.0) == [2, 3]


@pytest.mark.parametrize("committed", [True, False], ids=["after", "before"])
def test_a_connection_cut_at_the_commit_tells_once(storage, postgres, monkeypatch, committed):
    commit, cuts = storage._engine.dialect.do_commit, []

    def dying(connection):
        if cuts:
            return commit(connection)
        cuts.append(connection.driver_connection.info.backend_pid)
        if committed:
            commit(connection)
        cut(postgres, cuts[0])
        connection.driver_connection.execute("SELECT 1")  # finds out that nobody answers

    monkeypatch.setattr(storage._engine.dialect, "do_commit", dying)
    storage.add_results("a", [Result(0, np.ones(1))])
    storage.add_round("a", RoundRecord(1, 4, np.zeros((1, 1)), {}, "S()"))
    assert cuts and trials(storage) == [0] and len(storage.read("a")[0]) == 2


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 20))])
def test_connections_cut_at_random_lose_and_double_nothing(postgres, seed):
    study = Study(BOX, Sobol(), postgres)
    draw, calls, n_cuts = random.Random(seed), threading.Semaphore(0), [0]

    def kill():
        for _ in range(60):
            calls.acquire()  # as often as the workers make calls, however fast the machine is
            if draw.random() < 0.4:
                time.sleep(draw.uniform(0.0, 0.02))
                cut(postgres)
                n_cuts[0] += 1

    def work():
        for _ in range(15):
            calls.release()
            asked = study.ask()
            calls.release()
            study.tell(asked, asked.theta)

    threads = [threading.Thread(target=target) for target in (kill, work, work)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rounds, results = open_storage(postgres).read("study")
    assert n_cuts[0] >= 15
    assert [round.number for round in rounds] == list(range(30))
    assert sorted(result.trial for result in results) == list(range(30)), "none lost, none doubled, none left pending"


def test_a_server_that_does_not_come_back_is_named(storage, monkeypatch):
    monkeypatch.setattr(storage, "_patience", 0.3)
    monkeypatch.setattr(storage._engine.dialect, "connect", lambda *_, **__: psycopg.connect("host=127.0.0.1 port=9"))
    storage.close()
    start = time.monotonic()
    with pytest.raises(StorageError, match=r"refused.*Check that the server runs"):
        storage.studies()
    assert time.monotonic() - start >= 0.3


def test_a_wrong_place_is_said_at_once(postgres_server):
    with pytest.raises(
        StorageError, match=r"Cannot use postgresql://u:\*\*\*@127.0.0.1:9/x.*refused.*server runs"
    ) as no:
        PostgreSQLStorage("postgresql://u:secret@127.0.0.1:9/x")
    assert "secret" not in str(no.value)
    with pytest.raises(StorageError, match=r'"nowhere" does not exist. Make it first'):
        PostgreSQLStorage(postgres_server.replace("/postgres", "/nowhere"))
    with pytest.raises(StorageError, match="Pass a URL such as"):
        PostgreSQLStorage("postgresql://host:port/x")
    with pytest.raises(StorageError, match=r"got 'mysql://u:\*\*\*@host/x'"):
        open_storage("mysql://u:secret@host/x")


def test_psycopg_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StorageError, match=r"pip install 'diffsim-studies\[postgres\]'"):
        PostgreSQLStorage("postgresql://host/x")


def test_a_database_of_another_program_is_left_alone(postgres):
    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE TABLE studies (study_id integer)")
    with pytest.raises(StorageError, match=r"tables of another program\. Make a database of its own"):
        PostgreSQLStorage(postgres)


def test_a_database_without_studies_is_not_made_by_a_reader(postgres):
    with pytest.raises(StorageError, match="holds no studies"):
        PostgreSQLStorage(postgres, create=False)
    with psycopg.connect(postgres) as connection:
        assert connection.execute("SELECT to_regclass('studies')").fetchone() == (None,)


def test_a_later_layout_is_refused(storage, postgres):
    with psycopg.connect(postgres) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'studies_99'")
    with pytest.raises(StorageError, match="layout 99, this version reads 3"):
        PostgreSQLStorage(postgres)


def test_a_server_that_takes_no_writes_can_be_read(storage):
    def read_only(connection, record):
        connection.execute("SET default_transaction_read_only = on")
        connection.commit()

    storage.close()
    sa.event.listen(storage._engine, "connect", read_only)
    with pytest.raises(StorageError, match="takes no writes"):
        storage.add_results("a", [Result(0, np.ones(1))])
    assert len(storage.read("a")[0]) == 1


def test_text_that_postgresql_cannot_hold_is_kept_readable(storage):
    storage.add_results("a", [Result(0, error="Traceback: \x00 \u2603", environment='{"study": "S(\\u0000)"}')])
    result = storage.read("a")[1][0]
    assert result.error == "Traceback: \\x00 \u2603" and result.environment == '{"study": "S(\\u0000)"}'


def test_the_clock_of_a_worker_decides_nothing(storage, postgres, monkeypatch):
    assert storage.claim("a", "right", 9, 60.0) == [0, 1, 2, 3]
    for skew in (-7200.0, 7200.0):
        monkeypatch.setattr(time, "time", lambda skew=skew, now=time.time: now() + skew)
        other = PostgreSQLStorage(postgres)
        assert other.claim("a", "wrong", 9, 60.0) == [] and storage.renew("a", "right", 60.0) == [0, 1, 2, 3]


def test_large_outcomes_go_to_a_folder_that_is_given(postgres, tmp_path):
    made = PostgreSQLStorage(postgres, files=tmp_path)
    made.create(STUDY)
    made.add_round("a", RoundRecord(0, 0, np.zeros((2, 1)), {}, "S()"))
    made.add_results("a", [Result(0, np.arange(10_000.0)), Result(1, np.arange(3.0))])
    assert len(list(tmp_path.iterdir())) == 1 and made.read("a")[1][0].outcome[-1] == 9999
    with pytest.warns(UserWarning, match="without its folder"):
        assert PostgreSQLStorage(postgres).read("a")[1][0].error
    with pytest.raises(StorageError, match="must be a folder that exists"):
        PostgreSQLStorage(postgres, files=tmp_path / "none")


def test_only_a_lost_connection_is_tried_again(storage, monkeypatch):
    calls = []

    def work(connection):
        calls.append(1)
        connection.exec_driver_sql("SELECT nothing FROM nowhere")

    with pytest.raises(StorageError, match="does not exist"):
        storage._run(work, write=True)
    assert len(calls) == 1 and module.PATIENCE >= 30
