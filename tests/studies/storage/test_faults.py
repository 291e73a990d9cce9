"""Faults of an SQLite storage: torn and missing outcome files, full disks, folders that are read only, kills, forks."""

import hashlib
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from studies.errors import ConflictError, StorageError
from studies.spaces.box import Box
from studies.storage.arrays import OutcomeFiles
from studies.storage.base import Result, RoundRecord, StudyRecord
from studies.storage.sqlite import SQLiteStorage
from studies.strategies.sobol import Sobol
from studies.study import Study

BOX = Box({"q": (-2, 2)})
STUDY = StudyRecord("a", {}, "S()", 0, {}, "2026-01-01T00:00:00")


def orbit(theta, generator):
    return theta * torch.arange(20_000.0, dtype=torch.float64)  # 160 kB


def new(path, n=4):
    storage = SQLiteStorage(path)
    storage.create(STUDY)
    storage.add_round("a", RoundRecord(0, 0, np.zeros((n, 1)), {}, "S()"))
    return storage


def files(path):
    folder = path.with_name(f"{path.name}.files")
    return sorted(folder.iterdir()) if folder.exists() else []


@pytest.fixture
def told(tmp_path):
    path = tmp_path / "runs.db"
    Study(BOX, Sobol(), path).run(orbit, trials=3, executor="here")
    return path


def test_large_outcomes_are_files_with_a_checksum_and_small_ones_are_not(told):
    with sqlite3.connect(told) as connection:
        rows = connection.execute("SELECT outcome, file, sha256 FROM results").fetchall()
    assert [path.name for path in files(told)] == sorted(file for _, file, _ in rows)
    for outcome, file, sha256 in rows:
        data = (told.with_name("runs.db.files") / file).read_bytes()
        assert outcome is None and hashlib.sha256(data).hexdigest() == sha256
    storage = new(told)
    storage.add_results("a", [Result(0, np.ones(8192)), Result(1, np.ones(8193))])
    assert len(files(told)) == 4, "64 KiB are kept inside"


@pytest.mark.parametrize("fault", ["torn", "flipped", "missing", "empty"])
def test_a_damaged_outcome_file_costs_its_trial_only(told, fault):
    before = Study(BOX, Sobol(), told).history.outcome
    victim = next(path for path in files(told) if "-1-" in path.name)
    data = bytearray(victim.read_bytes())
    match fault:
        case "torn":
            victim.write_bytes(data[: len(data) // 2])
        case "flipped":
            data[5000] ^= 1
            victim.write_bytes(data)
        case "missing":
            victim.unlink()
        case "empty":
            victim.write_bytes(b"")
    with pytest.warns(UserWarning, match=rf"Trial 1 counts as failed.*{victim.name}"):
        history = Study(BOX, Sobol(), told).history
    assert [trial.state for trial in history.trials] == ["complete", "failed", "complete"]
    assert victim.name in history.trials[1].error and torch.equal(history.outcome, before[[0, 2]])
    victim.write_bytes(bytes(before[1].numpy().tobytes()))  # not the file that was written
    with pytest.warns(UserWarning, match="checksum differs"):
        assert len(Study(BOX, Sobol(), told).run(orbit, trials=4, executor="here")) == 3


def test_nothing_outside_the_folder_is_read_and_nothing_is_unpickled(told, tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    evil = tmp_path / "evil.npy"
    np.save(evil, np.array([Evil()], dtype=object), allow_pickle=True)
    inside = shutil.copy(evil, told.with_name("runs.db.files"))
    sha256 = hashlib.sha256(evil.read_bytes()).hexdigest()
    with sqlite3.connect(told) as connection:
        connection.execute("UPDATE results SET file = '../evil.npy', sha256 = ? WHERE trial = 0", [sha256])
        connection.execute("UPDATE results SET file = 'evil.npy', sha256 = ? WHERE trial = 1", [sha256])
    assert Path(inside).exists()
    with pytest.warns(UserWarning, match="leads out of the folder"), pytest.warns(UserWarning, match="Python objects"):
        assert len(Study(BOX, Sobol(), told).history) == 1
    with sqlite3.connect(told) as connection:
        connection.execute("UPDATE results SET outcome = ?, file = NULL WHERE trial = 0", [evil.read_bytes()])
    with pytest.raises(StorageError, match="Python objects"):
        SQLiteStorage(told).read("study")
    assert not (tmp_path / "executed").exists()


def test_a_conflict_leaves_no_file_behind(tmp_path):
    storage = new(tmp_path / "runs.db")
    storage.add_results("a", [Result(0, np.zeros(10_000))])
    kept = files(storage.path)
    with pytest.raises(ConflictError):
        storage.add_results("a", [Result(1, np.ones(10_000)), Result(0, np.ones(10_000))])
    assert files(storage.path) == kept and len(storage.read("a")[1]) == 1


def test_a_full_disk_while_an_outcome_is_written_leaves_nothing_behind(tmp_path, monkeypatch):
    storage = new(tmp_path / "runs.db")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"outcome of trial 1.*No space left.*what was told is kept"):
            storage.add_results("a", [Result(0, np.ones(3)), Result(1, np.ones(10_000))])
    assert not files(storage.path) and not storage.read("a")[1]
    storage.add_results("a", [Result(0, np.ones(3)), Result(1, np.ones(10_000))])
    assert len(storage.read("a")[1]) == 2


@pytest.fixture
def small_disk():
    folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)
    folder.rmdir()


@pytest.mark.parametrize("size", [20_000, 4_000], ids=["in files", "inside"])
def test_a_disk_that_fills_up_stops_the_study_and_keeps_what_was_told(small_disk, size):
    path, ballast = small_disk / "runs.db", small_disk / "ballast"
    ballast.write_bytes(bytes(1_500_000))

    def simulator(theta, generator):
        return theta * torch.arange(1.0, 1 + size, dtype=torch.float64)

    with pytest.raises(StorageError, match=r"(disk is full|No space left)"):
        Study(BOX, Sobol(), path).run(simulator, trials=100, executor="here")
    reader = SQLiteStorage(path, create=False)
    told = [result.trial for result in reader.read("study")[1]]
    assert told == list(range(len(told))) and len(told) >= 1
    reader.close()
    ballast.unlink()
    history = Study(BOX, Sobol(), path).run(simulator, trials=len(told) + 3, executor="here")
    assert len(history) == len(told) + 3
    assert torch.equal(history.outcome, history.theta * torch.arange(1.0, 1 + size, dtype=torch.float64))


def read_only(path, answers):
    if os.getuid() == 0:
        os.setuid(65534)  # nobody: root may write anywhere
    answers.send([len(records) for records in SQLiteStorage(path, create=False).read("study")])
    for attempt in (path, path.with_name("new.db")):
        try:
            SQLiteStorage(attempt).create(STUDY)
        except StorageError as error:
            answers.send(str(error))
    answers.send("end")
    os._exit(0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_folder_that_is_read_only_can_be_read_and_is_named(told):
    shared = Path(tempfile.mkdtemp(prefix="read-only-"))
    try:
        shutil.copy(told, shared / "runs.db")
        shutil.copytree(told.with_name("runs.db.files"), shared / "runs.db.files")
        for path in (*(shared / "runs.db.files").iterdir(), shared / "runs.db"):
            path.chmod(0o444)
        for path in (shared / "runs.db.files", shared):
            path.chmod(0o555)
        context = multiprocessing.get_context("fork")
        answers, there = context.Pipe(duplex=False)
        child = context.Process(target=read_only, args=(shared / "runs.db", there))
        child.start()
        there.close()
        lines = list(iter(answers.recv, "end"))
        child.join()
        assert lines[0] == [3, 3] and len(lines) == 3
        assert all("cannot be written; change its permissions" in line for line in lines[1:])
    finally:
        shared.chmod(0o755)
        (shared / "runs.db.files").chmod(0o755)
        shutil.rmtree(shared)


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from studies.storage.base import Result
from studies.storage.sqlite import SQLiteStorage
storage = SQLiteStorage(Path(sys.argv[1]))
if sys.argv[2] == "before":
    storage._tell = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
else:
    tell = storage._tell
    def dying(*arguments):
        tell(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    storage._tell = dying
storage.add_results("a", [Result(0, np.ones(10_000))])
"""


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_kill_between_the_file_and_the_commit_loses_no_more_than_the_trial(tmp_path, when):
    storage = new(tmp_path / "runs.db")
    done = subprocess.run([sys.executable, "-c", KILLED, str(storage.path), when])
    assert done.returncode == -signal.SIGKILL
    assert len(files(storage.path)) == 1 and storage.read("a")[1] == []
    assert storage.claim("a", "next", 1, 60.0) == [0]
    storage.add_results("a", [Result(0, np.zeros(10_000))])
    assert storage.read("a")[1][0].outcome.sum() == 0


def tell_in_child(storage, trial):
    storage.add_results("a", [Result(trial, np.ones(1))])
    os._exit(0 if len(storage.read("a")[0]) == 1 else 1)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_storage_goes_on_in_a_forked_child(tmp_path):
    storage = new(tmp_path / "runs.db")
    storage.add_results("a", [Result(0, np.ones(1))])
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=tell_in_child, args=(storage, trial)) for trial in (1, 2)]
    for child in children:
        child.start()
    storage.add_results("a", [Result(3, np.ones(1))])
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    assert sorted(result.trial for result in storage.read("a")[1]) == [0, 1, 2, 3]
    storage.close()
    with sqlite3.connect(storage.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_clock_of_a_worker_decides_nothing(tmp_path, monkeypatch):
    storage = new(tmp_path / "runs.db", n=1)
    assert storage.claim("a", "right", 1, 60.0) == [0]
    for skew in (-7200.0, 7200.0):
        monkeypatch.setattr(time, "time", lambda skew=skew, now=time.time: now() + skew)
        assert storage.claim("a", "wrong", 1, 60.0) == [] and storage.renew("a", "right", 60.0) == [0]


def test_the_disk_is_waited_for_once_a_second_and_then_for_all(tmp_path):
    storage = new(tmp_path / "runs.db", n=40)
    storage._synced = -10.0

    def mode():
        return storage._run(lambda c: c.exec_driver_sql("PRAGMA synchronous").scalar(), write=True)

    assert [mode(), mode()] == [2, 1], "FULL, then NORMAL"
    storage._synced = -10.0
    assert mode() == 2


def test_files_are_whole_or_absent(tmp_path, monkeypatch):
    folder = OutcomeFiles(tmp_path / "files")
    seen = []
    replace = os.replace

    def looking(source, target):
        seen.append((Path(source).name, Path(target).exists()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", looking)
    array = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    name, sha256 = folder.write("1-2", array)
    assert seen == [(f"{name}.part", False)] and [path.name for path in folder.folder.iterdir()] == [name]
    assert np.array_equal(folder.read(name, sha256), array) and np.array_equal(np.load(folder.folder / name), array)
