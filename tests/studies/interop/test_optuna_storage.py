"""Optuna's published storage suite against our storages, processes that share one, and one that is killed."""

import signal
import subprocess
import sys
import time

import optuna
import pytest
from optuna.testing.pytest_storages import StorageTestCase
from typer.testing import CliRunner

from studies.cli import app
from studies.dashboard.board import Board
from studies.errors import StudyError
from studies.interop.optuna_storage import OptunaJournal, OptunaStorage
from studies.spaces.box import Box
from studies.storage.memory import MemoryStorage
from studies.storage.resolve import open_storage
from studies.strategies.random import Random
from studies.study import Study


class TestMemory(StorageTestCase):
    """The whole suite, 59 cases."""

    @pytest.fixture
    def storage(self):
        return OptunaStorage("memory")

    @pytest.mark.xfail(strict=True, raises=TypeError, reason="A storage in memory cannot travel to another process.")
    def test_pickle_storage(self, storage):
        super().test_pickle_storage(storage)


class TestSQLite:
    """Those cases where the database matters: order, types and texts that come back, pickling, other handles."""

    test_create_new_trial_with_template_trial = StorageTestCase.test_create_new_trial_with_template_trial
    test_delete_study = StorageTestCase.test_delete_study
    test_pickle_storage = StorageTestCase.test_pickle_storage
    test_set_and_get_trial_user_attr_for_floats = StorageTestCase.test_set_and_get_trial_user_attr_for_floats
    test_set_trial_intermediate_value = StorageTestCase.test_set_trial_intermediate_value
    test_set_trial_param = StorageTestCase.test_set_trial_param

    @pytest.fixture
    def storage(self, tmp_path):
        return OptunaStorage(f"sqlite:///{tmp_path}/runs.db")


@pytest.mark.slow
class TestSQLiteWhole(StorageTestCase):
    @pytest.fixture
    def storage(self, tmp_path):
        return OptunaStorage(f"sqlite:///{tmp_path}/runs.db")


@pytest.mark.slow
class TestPostgreSQLWhole(StorageTestCase):
    @pytest.fixture
    def storage(self, make_postgres):
        return OptunaStorage(make_postgres())


WORK = """
import os, sys
import optuna
from studies.interop.optuna_storage import OptunaStorage

optuna.logging.set_verbosity(optuna.logging.WARNING)
sampler = optuna.samplers.RandomSampler(seed=os.getpid())
study = optuna.load_study(study_name="shared", storage=OptunaStorage(sys.argv[1]), sampler=sampler)
study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=int(sys.argv[2]))
"""


def _work(url, n_trials):
    return subprocess.Popen([sys.executable, "-c", WORK, url, str(n_trials)])


def _share(url, processes, n_trials):
    optuna.create_study(storage=OptunaStorage(url), study_name="shared")
    workers = [_work(url, n_trials) for _ in range(processes)]
    assert [worker.wait() for worker in workers] == [0] * processes
    found = optuna.load_study(study_name="shared", storage=OptunaStorage(url)).trials
    assert [trial.number for trial in found] == list(range(processes * n_trials))
    assert all(trial.state.name == "COMPLETE" and trial.value == trial.params["x"] for trial in found)
    assert len({trial.value for trial in found}) == processes * n_trials


def test_processes_that_share_a_study_lose_and_double_nothing(tmp_path):
    _share(f"sqlite:///{tmp_path}/runs.db", 2, 5)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # eight interpreters start
def test_optunas_own_server_test_of_8_processes_and_20_trials(tmp_path):
    _share(f"sqlite:///{tmp_path}/runs.db", 8, 20)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # eight interpreters start
def test_8_processes_and_20_trials_in_postgresql(make_postgres):
    _share(make_postgres(), 8, 20)


def test_a_process_that_is_killed_leaves_a_log_that_can_be_read_and_written(tmp_path):
    url = f"sqlite:///{tmp_path}/runs.db"
    optuna.create_study(storage=OptunaStorage(url), study_name="shared")
    worker = _work(url, 100_000)
    deadline = time.monotonic() + 200
    while len(_complete(url)) < 3:
        assert worker.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    before = _complete(url)
    assert all(trial.value == trial.params["x"] for trial in before)
    assert _work(url, 2).wait() == 0
    assert [trial.value for trial in _complete(url)][: len(before)] == [trial.value for trial in before]
    assert len(_complete(url)) == len(before) + 2


def _complete(url):
    study = optuna.load_study(study_name="shared", storage=OptunaStorage(url))
    return study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))


def test_the_log_lives_beside_our_studies():
    storage = MemoryStorage()
    study = Study(Box({"a": (0, 1)}), Random(), storage=storage, name="ours")
    theirs = optuna.create_study(storage=OptunaStorage(storage), study_name="theirs")
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    assert [record.name for record in storage.studies()] == ["ours", "optuna"]
    assert study.history.trials == ()
    assert [s.study_name for s in optuna.get_all_study_summaries(OptunaStorage(storage))] == ["theirs"]
    assert optuna.get_all_study_summaries(OptunaStorage(storage, name="other")) == []
    assert [record.is_log for record in storage.studies()] == [False, True, True]
    with pytest.raises(StudyError, match="not a log"):
        OptunaStorage(storage, name="ours")


def test_a_log_is_listed_as_one(tmp_path):
    url = f"sqlite:///{tmp_path}/runs.db"
    Study(Box({"a": (0, 1)}), Random(), storage=url, name="ours").ask(3)
    optuna.create_study(storage=OptunaStorage(url))
    shown = CliRunner(env={"COLUMNS": "120"}).invoke(app, ["list", f"{tmp_path}/runs.db"]).output
    assert "the log of a storage of Optuna" in shown
    assert "3 trials" in CliRunner().invoke(app, ["export", f"{tmp_path}/runs.db", f"{tmp_path}/runs.csv"]).output
    assert [row["name"] for row in Board(open_storage(url)).studies()] == ["ours"]


def test_two_handles_that_append_at_once_order_their_entries(tmp_path):
    one, two = (OptunaJournal(open_storage(f"sqlite:///{tmp_path}/runs.db")) for _ in range(2))
    for number in range(3):
        one.append_logs([{"from": "one", "number": number}])
        two.append_logs([{"from": "two", "number": number, "not a number": float("nan")}])
    assert [entry["from"] for entry in one.read_logs(0)] == ["one", "two"] * 3
    assert [entry["number"] for entry in two.read_logs(4)] == [2, 2]
