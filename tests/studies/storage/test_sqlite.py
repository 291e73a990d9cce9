"""Storages: URLs, files that are missing, foreign, torn or locked, and many processes on one file."""

import multiprocessing
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from diffsim.errors import ArgumentTypeError
from studies.errors import ConflictError, StorageError
from studies.spaces.box import Box
from studies.storage import sqlite
from studies.storage.memory import MemoryStorage
from studies.storage.resolve import open_storage
from studies.storage.sqlite import SQLiteStorage
from studies.strategies.sobol import Sobol
from studies.study import Study

BOX = Box({"q": (-2, 2), "p": (-1, 1)})


def square(theta, generator):
    return theta.square()


def test_what_a_user_may_pass(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_storage("memory"), MemoryStorage) and isinstance(open_storage(":memory:"), MemoryStorage)
    assert open_storage("sqlite:///runs.db").path == tmp_path / "runs.db"
    assert open_storage(f"sqlite:///{tmp_path}/other.db").path == tmp_path / "other.db"
    assert open_storage(Path("a b%20#?.db")).path.exists()
    storage = MemoryStorage()
    assert open_storage(storage) is storage


@pytest.mark.parametrize("url", ["mysql://host/db", "sqlite://", "sqlite:///", "runs.db", "", "sqlite:///a?mode=ro"])
def test_other_urls_are_refused(url):
    with pytest.raises(StorageError, match='must be "memory", or like "sqlite:///'):
        Study(BOX, Sobol(), url)


def test_the_name_of_a_file_is_told_as_a_url():
    with pytest.raises(StorageError, match=r'For a file, pass "sqlite:///runs\.db"'):
        Study(BOX, Sobol(), "runs.db")


@pytest.mark.parametrize("storage", [None, 3, MemoryStorage])
def test_other_objects_are_refused(storage):
    with pytest.raises(ArgumentTypeError, match="`storage` must be"):
        Study(BOX, Sobol(), storage)


def test_missing_folders_and_files_are_named(tmp_path):
    with pytest.raises(StorageError, match=r"its folder .*nowhere does not exist"):
        Study(BOX, Sobol(), tmp_path / "nowhere" / "runs.db")
    with pytest.raises(StorageError, match="it is a folder"):
        Study(BOX, Sobol(), tmp_path)
    with pytest.raises(StorageError, match="there is no such file"):
        SQLiteStorage(tmp_path / "none.db", create=False)
    assert not (tmp_path / "none.db").exists()


def test_foreign_files_are_refused_and_left_alone(tmp_path):
    text, other = tmp_path / "notes.txt", tmp_path / "other.db"
    text.write_text("not a database, but quite a long text about something else " * 50)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE trials (id INTEGER)")
    before = text.read_bytes(), other.read_bytes()
    with pytest.raises(StorageError, match="something else than an SQLite database"):
        SQLiteStorage(text)
    with pytest.raises(StorageError, match="not one of studies"):
        SQLiteStorage(other)
    assert (text.read_bytes(), other.read_bytes()) == before


def test_another_version_is_refused(tmp_path):
    storage = SQLiteStorage(tmp_path / "runs.db")
    with sqlite3.connect(storage.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match="layout 99, this version reads 3"):
        SQLiteStorage(storage.path)


def test_a_torn_file_is_named(tmp_path):
    path = tmp_path / "runs.db"
    Study(BOX, Sobol(), path).run(square, trials=30, batch=10)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    with pytest.raises(StorageError, match="The file is damaged"):
        Study(BOX, Sobol(), path).run(square, trials=40)
    path.write_bytes(data[:40])
    with pytest.raises(StorageError, match=r"damaged|something else than"):
        Study(BOX, Sobol(), path)


def test_a_damaged_array_is_named_and_nothing_is_unpickled(tmp_path):
    path = tmp_path / "runs.db"
    Study(BOX, Sobol(), path).run(square, trials=2)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE results SET outcome = substr(outcome, 1, 90) WHERE trial = 1")
    with pytest.raises(StorageError, match="damaged array"):
        Study(BOX, Sobol(), path).run(square, trials=3)


def test_a_removed_file_is_not_made_anew(tmp_path):
    study = Study(BOX, Sobol(), tmp_path / "runs.db")
    study.storage.path.unlink()
    with pytest.raises(StorageError, match="exist and can be read"):
        study.ask()
    assert not study.storage.path.exists()


def test_a_file_held_by_another_process_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    study = Study(BOX, Sobol(), tmp_path / "runs.db")
    connection = sqlite3.connect(study.storage.path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="Another process has held it"):
        study.ask()
    connection.execute("ROLLBACK")
    connection.close()
    assert study.ask().number == 0


def test_a_full_disk_is_named_and_keeps_what_was_told(tmp_path, monkeypatch):
    study = Study(BOX, Sobol(), tmp_path / "runs.db")
    study.run(square, trials=2)
    connect = sqlite._connect

    def small(path, mode):
        connection = connect(path, mode)
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "_connect", small)
        with pytest.raises(StorageError, match="The disk is full"):
            Study(BOX, Sobol(), study.storage.path).run(square, trials=200)
    history = study.history
    assert len(history) >= 2
    study.run(square, trials=len(history.trials) + 1)
    assert len(study.history.pending) == 0


def test_large_outcomes_come_back_bit_for_bit(tmp_path):
    def simulator(theta, generator):
        return torch.randn(1, 1000, 8, generator=generator)

    path = tmp_path / "runs.db"
    told = Study(BOX, Sobol(), path).run(simulator, trials=3)
    read = Study(BOX, Sobol(), path).history
    assert read.outcome.shape == (3, 1000, 8) and read.outcome.dtype == torch.float32
    assert torch.equal(read.outcome, told.outcome) and torch.equal(read.theta, told.theta)


def work(path, worker, barrier):
    barrier.wait()
    study = Study(BOX, Sobol(), path)
    for _ in range(20):
        asked = study.ask()
        study.tell(asked, asked.theta + worker)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_four_processes_tell_twenty_trials_each(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    workers = [context.Process(target=work, args=(tmp_path / "runs.db", worker, barrier)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    history = Study(BOX, Sobol(), tmp_path / "runs.db").history
    assert len(history) == 80 and history.n_rounds == 80
    assert len(history.theta.unique(dim=0)) == 80, "no point is proposed twice"
    owner = (history.outcome - history.theta).mean(1).round()
    assert owner.long().bincount().tolist() == [20] * 4


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_two_runs_of_one_study_do_not_hurt(tmp_path):
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=run_all, args=(tmp_path / "runs.db",)) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0]
    history = Study(BOX, Sobol(), tmp_path / "runs.db").history
    assert len(history) >= 20 and len(history.pending) == 0
    assert torch.equal(history.outcome, history.theta.square())


def run_all(path):
    Study(BOX, Sobol(), path).run(square, trials=20, batch=3)


def test_a_trial_told_by_another_process_is_not_told_again(tmp_path):
    first = Study(BOX, Sobol(), tmp_path / "runs.db")
    second = Study(BOX, Sobol(), tmp_path / "runs.db")
    asked = first.ask()
    second.tell(asked.trials, [[1.0]])
    with pytest.raises(ConflictError, match="told already"):
        first.tell(asked, [[2.0]])
    assert first.history.outcome.tolist() == [[1.0]]


def test_storages_load_without_torch():
    program = "import sys, studies.cli, studies.storage.sqlite; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_write_waits_for_the_disk_when_a_second_has_passed(tmp_path, monkeypatch):
    storage, modes = SQLiteStorage(tmp_path / "runs.db"), []
    study, pace = Study(BOX, Sobol(), storage), storage._pace

    def noting(connection, known):
        pace(connection, known)
        modes.extend(connection.execute("PRAGMA synchronous").fetchone())

    monkeypatch.setattr(storage, "_pace", noting)
    for passed in (True, False, False, True, False):
        storage._synced = float("-inf" if passed else "inf")
        study.ask()
    assert modes == [2, 1, 1, 2, 1], "FULL, then NORMAL"
