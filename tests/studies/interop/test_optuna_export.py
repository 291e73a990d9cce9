"""Studies in an Optuna storage: what is there, a second export, and a real optuna-dashboard that shows them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import optuna
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from diffsim.errors import ArgumentError
from studies.errors import StorageError, StudyError
from studies.interop.optuna_export import export_optuna
from studies.interop.optuna_storage import OptunaStorage
from studies.spaces.box import Box
from studies.spaces.parameters import Choice, Integer, Log
from studies.spaces.pool import Pool
from studies.storage.memory import MemoryStorage
from studies.strategies.random import Random
from studies.study import Study

PUMP = {"length": (0.1, 2.0), "rate": Log(1e-4, 1.0), "blades": Integer(2, 8), "material": Choice("steel", "brass")}


def fails_when_short(theta, generator):
    if theta[0, 0] < 0.5:
        raise RuntimeError("too <short> & thin")
    return theta[:, :1]


@pytest.fixture(scope="module")
def pump(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    study = Study(Box(PUMP), Random(), storage=f"sqlite:///{folder}/runs.db", name="pump", seed=1)
    study.run(fails_when_short, trials=8)
    study.ask(2)
    return folder, study, export_optuna(f"sqlite:///{folder}/runs.db", "pump", f"sqlite:///{folder}/optuna.db")


def test_every_trial_is_there_under_its_number(pump):
    folder, study, _ = pump
    there = optuna.load_study(study_name="pump", storage=f"sqlite:///{folder}/optuna.db").trials
    states = {"complete": TrialState.COMPLETE, "failed": TrialState.FAIL, "pending": TrialState.RUNNING}
    assert [trial.state for trial in there] == [states[trial.state] for trial in study.history.trials]
    assert {trial.state for trial in there} == set(states.values())
    for ours, theirs in zip(study.history.trials, there, strict=True):
        assert theirs.params == study.space.to_dict(ours.theta)
        assert theirs.user_attrs["round"] == ours.round
        assert theirs.values == (None if ours.outcome is None else ours.outcome.tolist())


def test_parameters_keep_their_kinds(pump):
    assert pump[2].trials[0].distributions == {
        "length": FloatDistribution(0.1, 2.0),
        "rate": FloatDistribution(1e-4, 1.0, log=True),
        "blades": IntDistribution(2, 8),
        "material": CategoricalDistribution(("steel", "brass")),
    }


def test_a_failure_shows_its_traceback(pump):
    failed = [trial for trial in pump[2].trials if trial.state == TrialState.FAIL]
    for trial in failed:
        assert "Traceback" in trial.user_attrs["error"] and "too <short> & thin" in trial.user_attrs["error"]


def test_times_and_the_study_are_noted(pump):
    _, study, exported = pump
    assert exported.user_attrs["strategy"] == "Random()" and exported.user_attrs["space"]["names"] == list(PUMP)
    for ours, theirs in zip(study.history.trials, exported.trials, strict=True):
        if ours.state != "pending":
            assert theirs.datetime_start.timestamp() == pytest.approx(ours.started, abs=1e-3)
            assert theirs.duration.total_seconds() == pytest.approx(ours.seconds, abs=1e-3)
            assert theirs.user_attrs["host"] == ours.host


def test_a_second_export_adds_what_is_new():
    storage, target = MemoryStorage(), optuna.storages.InMemoryStorage()
    study = Study(Box({"a": (0, 1)}), Random(), storage=storage)
    first, second = study.ask(2), study.ask(1)
    study.tell(first.trials[0], [[3.0]])
    assert [t.state.name for t in export_optuna(storage, "study", target).trials] == ["COMPLETE", "RUNNING", "RUNNING"]
    study.tell(first.trials[1], [[4.0]])
    study.fail(second, "the mesh is torn")
    study.ask(1)
    trials = export_optuna(storage, "study", target).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE", "FAIL", "RUNNING"]
    assert [trial.values for trial in trials] == [[3.0], [4.0], None, None]
    assert "the mesh is torn" in trials[2].user_attrs["error"]
    assert [trial.params for trial in export_optuna(storage, "study", target).trials] == [t.params for t in trials]


def test_outcomes_need_an_objective_that_makes_numbers_of_them():
    storage = MemoryStorage()
    study = Study(Box({"a": (0, 1)}), Random(), storage=storage)
    study.tell(study.ask(2), torch.tensor([[1.0, 2.0], [3.0, torch.inf - 1]])[:, [0, 0]])
    with pytest.raises(ArgumentError, match="objective"):
        export_optuna(storage, "study", optuna.storages.InMemoryStorage())
    with pytest.raises(ArgumentError, match=r"shape \[2\] or \[2, m\]"):
        export_optuna(storage, "study", optuna.storages.InMemoryStorage(), objective=lambda y: y.sum())
    one = export_optuna(storage, "study", optuna.storages.InMemoryStorage(), objective=lambda y: y.sum(-1))
    assert [trial.value for trial in one.trials] == [2.0, 6.0]
    two = export_optuna(storage, "study", optuna.storages.InMemoryStorage(), objective=lambda y: y)
    assert [trial.values for trial in two.trials] == [[1.0, 1.0], [3.0, 3.0]]


def test_an_objective_that_is_not_finite_is_a_failure_with_its_outcome():
    storage = MemoryStorage()
    study = Study(Box({"a": (0, 1)}), Random(), storage=storage)
    study.tell(study.ask(2), [[-1.0], [4.0]])
    trials = export_optuna(storage, "study", optuna.storages.InMemoryStorage(), objective=torch.sqrt).trials
    assert [trial.state.name for trial in trials] == ["FAIL", "COMPLETE"]
    assert trials[0].user_attrs["outcome"] == [-1.0] and "not finite" in trials[0].user_attrs["error"]


def test_objectives_known_after_a_first_export_of_pending_trials():
    storage, target = MemoryStorage(), optuna.storages.InMemoryStorage()
    study = Study(Box({"a": (0, 1)}), Random(), storage=storage)
    round = study.ask(2)
    export_optuna(storage, "study", target)
    study.tell(round, [[1.0, 2.0], [3.0, 4.0]])
    exported = export_optuna(storage, "study", target, objective=lambda y: y)
    assert [trial.values for trial in exported.trials] == [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(StudyError, match="2 objectives"):
        export_optuna(storage, "study", target, objective=lambda y: y[:, 0])


def test_a_pool_and_a_study_without_trials():
    storage, target = MemoryStorage(), optuna.storages.InMemoryStorage()
    study = Study(Pool(torch.tensor([[0.0, 5.0], [1.0, 5.0], [2.0, 6.0]]), ["a", "b"]), Random(), storage=storage)
    assert export_optuna(storage, "study", target).trials == []
    study.run(lambda theta, generator: theta[:, :1], trials=3)
    exported = export_optuna(storage, "study", target)
    assert sorted(trial.params["a"] for trial in exported.trials) == [0.0, 1.0, 2.0]


def test_another_study_of_that_name_is_left_alone():
    storage, target = MemoryStorage(), optuna.storages.InMemoryStorage()
    Study(Box({"a": (0, 1)}), Random(), storage=storage).ask(1)
    optuna.create_study(storage=target, study_name="study").add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(StudyError, match="another study"):
        export_optuna(storage, "study", target)
    with pytest.raises(StorageError, match="no study 'other'"):
        export_optuna(storage, "other", target)


def test_a_study_exported_into_the_log_of_our_own_storage():
    storage = MemoryStorage()
    Study(Box(PUMP), Random(), storage=storage).run(lambda theta, generator: theta[:, :1], trials=3)
    exported = export_optuna(storage, "study", OptunaStorage(storage))
    assert [trial.state.name for trial in exported.trials] == ["COMPLETE"] * 3


def test_optuna_dashboard_shows_the_study(pump):
    folder, study, _ = pump
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [os.path.join(os.path.dirname(sys.executable), "optuna-dashboard"), f"sqlite:///{folder}/optuna.db"]
    server = subprocess.Popen(
        [*program, "--host", "127.0.0.1", "--port", str(port), "--server", "wsgiref"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        page, shown = _get(port, "/dashboard", server), json.loads(_get(port, "/api/studies", server))
        assert "<title>Optuna Dashboard" in page
        [summary] = shown["study_summaries"]
        assert summary["study_name"] == "pump"
        detail = json.loads(_get(port, f"/api/studies/{summary['study_id']}", server))
        states = [trial["state"] for trial in detail["trials"]]
        assert len(states) == 10 and set(states) == {"Complete", "Fail", "Running"}
        errors = [note["value"] for trial in detail["trials"] for note in trial["user_attrs"] if note["key"] == "error"]
        assert any("too <short> & thin" in error for error in errors)
        assert len(errors) == len(study.history.failed)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(10)


def _get(port, path, server):
    deadline = time.monotonic() + 240
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
                return answer.read().decode()
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, "the dashboard does not answer"
            time.sleep(0.2)
