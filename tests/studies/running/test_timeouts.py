"""Runs with a time limit: what hangs or kills its process costs its own trial, and nothing that was told is lost."""

import faulthandler
import functools
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from diffsim.errors import ArgumentError
from studies import child
from studies.child import Child, ChildDied
from studies.errors import StudyError
from studies.executors import futures, resolve
from studies.spaces.box import Box
from studies.strategies.sobol import Sobol
from studies.study import Study
from surrogates.problems.hump import Hump2

ROOT = Path(__file__).resolve().parents[3]
BOX = Box({"q": (-2, 2), "p": (-1, 1)})
RUN = {"trials": 10, "batch": 4}


def crash(how):
    faulthandler.disable()  # it would print where
    how()


WAYS = {
    "hangs": (lambda: time.sleep(60), r"^The simulator took longer than `timeout` = 0.5 s and was killed\.$"),
    "spins": (lambda: [None for _ in iter(int, 1)], "took longer than"),
    "raises": (lambda: 1 / 0, "(?s)Traceback.*ZeroDivisionError"),
    "aborts": (lambda: crash(os.abort), r"process died of it: it was killed by signal 6 \(SIGABRT\)\."),
    "faults": (lambda: crash(lambda: os.kill(os.getpid(), signal.SIGSEGV)), r"signal 11 \(SIGSEGV\)"),
    "exits": (lambda: os._exit(3), "it ended with code 3"),
    "nan": (lambda: math.nan, "1 of its 1 numbers are NaN or infinite"),
    "inf": (lambda: -math.inf, "1 of its 1 numbers are NaN or infinite"),
    "shape": (lambda: torch.ones(2), r"shape \[2\] where the study's first has \[\]"),
}


def noisy(theta, generator):
    return theta.sin() + torch.randn(theta.shape, generator=generator, dtype=torch.float64)


def slow(theta, generator):
    """Hangs in a quarter of the box."""
    if theta[0, 0] > 1:
        time.sleep(60)
    return noisy(theta, generator)


def assert_slow(history):
    """Of the trials of `slow`, those that hang are failed, and the others are as they would have been."""
    hangs = history.tried[:, 0] > 1
    assert [trial.state for trial in history.trials] == ["failed" if hang else "complete" for hang in hangs]
    assert 0 < hangs.sum() < 5
    assert torch.equal(history.outcome, Study(BOX, Sobol()).run(noisy, **RUN).outcome[~hangs])


@pytest.fixture(autouse=True)
def no_child_is_left():
    yield
    assert not futures._CHILDREN
    assert not [process for process in multiprocessing.active_children() if process.name.startswith("ForkProcess")]


@pytest.mark.parametrize("way", WAYS)
def test_what_goes_wrong_costs_its_own_trial(way, tmp_path):
    harm, message = WAYS[way]

    def simulator(theta, generator):  # a closure: it could not be pickled
        if theta[0, 0] > 1:
            harmed = harm()
            return torch.as_tensor(harmed).reshape(1, -1).squeeze(1) if way in ("nan", "inf") else harmed[None]
        return theta.sum(1)

    study = Study(BOX, Sobol(), tmp_path / "runs.db")
    history = study.run(simulator, timeout=0.5, trials=9, batch=3)
    hit = history.tried[:, 0] > 1
    assert [trial.state for trial in history.trials] == ["failed" if bad else "complete" for bad in hit]
    assert hit.sum() >= 2 and torch.equal(history.outcome, history.theta.sum(1))
    for trial in history.trials:
        with pytest.raises(AssertionError, match=message if trial.error else "None"):
            raise AssertionError(trial.error)
        assert trial.seconds is not None and trial.host is not None and trial.started > 1.7e9
    again = Study(BOX, Sobol(), tmp_path / "runs.db").run(simulator, timeout=0.5, trials=9, batch=3)
    assert len(again.trials) == 9  # what was told is not run again


def test_the_numbers_are_those_without_a_limit():
    assert torch.equal(
        Study(BOX, Sobol()).run(noisy, timeout=30, **RUN).outcome, Study(BOX, Sobol()).run(noisy, **RUN).outcome
    )
    limited, free = (Study(BOX, Sobol()).run(Hump2(), **RUN, **limit) for limit in ({"timeout": 30}, {}))
    assert torch.equal(limited.x, free.x) and torch.equal(limited.outcome, free.outcome)


def test_one_child_serves_many_trials():
    history = Study(BOX, Sobol()).run(noisy, timeout=30, **RUN)
    (host,) = {trial.host for trial in history.trials}
    assert host.partition(":")[2] != str(os.getpid())


def test_a_vectorized_round_fails_as_one():
    def simulator(theta, generator):
        if theta[0, 0] > 0:
            time.sleep(60)
        return theta

    history = Study(BOX, Sobol()).run(simulator, trials=16, batch=2, vectorized=True, timeout=0.3)
    hangs = history.tried[::2, 0] > 0
    assert [trial.state for trial in history.trials[::2]] == ["failed" if hang else "complete" for hang in hangs]
    assert [trial.state for trial in history.trials[1::2]] == [trial.state for trial in history.trials[::2]]


def test_threads_have_a_child_each():
    history = Study(BOX, Sobol()).run(slow, timeout=0.5, executor=lambda: ThreadPoolExecutor(3), **RUN)
    assert_slow(history)
    assert len({trial.host for trial in history.trials}) > 1
    with ThreadPoolExecutor(2) as pool:
        assert_slow(Study(BOX, Sobol()).run(slow, timeout=0.5, executor=pool, **RUN))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_processes_have_a_child_each():
    forked = functools.partial(ProcessPoolExecutor, 2, mp_context=multiprocessing.get_context("fork"))
    assert_slow(Study(BOX, Sobol()).run(slow, timeout=0.5, executor=forked, **RUN))


def test_a_study_that_only_hangs_stops():
    study = Study(BOX, Sobol())
    with pytest.raises(StudyError, match=r"(?s)first 2 trials failed.*took longer than `timeout` = 0.2 s"):
        study.run(lambda theta, generator: time.sleep(60), timeout=0.2, trials=5, max_failures=2)
    assert len(study.history.failed) == 2


def test_an_interrupt_kills_the_child():
    def interrupt(signum, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    study = Study(BOX, Sobol())
    try:
        with pytest.raises(KeyboardInterrupt):
            study.run(slow, timeout=60, **RUN)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(study.history.pending) > 0
    assert_slow(study.run(slow, timeout=0.5, **RUN))


def exists(pid):
    """Whether a process runs: one that ended and awaits its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_programs_that_a_simulator_started_are_killed_with_it(tmp_path):
    def simulator(theta, generator):
        if theta[0, 0] > 1:
            with subprocess.Popen(["sleep", "60"]) as program:
                (tmp_path / "pid").write_text(str(program.pid))
        return theta

    history = Study(BOX, Sobol()).run(simulator, timeout=0.5, trials=6)
    assert len(history.failed) > 0
    wait_for(lambda: not exists((tmp_path / "pid").read_text()))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_a_script_without_a_guard_and_a_killed_one(tmp_path):
    """A simulator of __main__ needs nothing of its script; and what hangs ends with the study that is killed."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import os, pathlib, sys, time
        from studies import Box, Sobol, Study

        def simulator(theta, generator):
            if theta[0, 0] > 1:
                pathlib.Path("pid").write_text(str(os.getpid()))
                time.sleep(600)
            return theta

        for timeout in (0.5, 600):
            history = Study(Box({"q": (-2, 2)}), Sobol()).run(simulator, trials=8, timeout=timeout)
            print(len(history), len(history.failed), pathlib.Path("pid").read_text(), flush=True)
        """)
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    study = subprocess.Popen(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    complete, failed, killed = study.stdout.readline().split()
    assert (complete, failed) == ("6", "2") and not exists(killed)
    wait_for(lambda: (pid := (tmp_path / "pid").read_text()) and pid != killed)
    pid = (tmp_path / "pid").read_text()
    assert exists(pid)
    study.kill()
    study.communicate()
    wait_for(lambda: not exists(pid))


def test_where_children_are_spawned_the_simulator_must_travel(monkeypatch):
    monkeypatch.setattr(child, "start_method", lambda: "spawn")
    monkeypatch.setattr(resolve, "start_method", lambda: "spawn")
    study = Study(BOX, Sobol())
    with pytest.raises(ArgumentError, match="`simulator` cannot be sent to another process"):
        study.run(lambda theta, generator: theta, timeout=5, **RUN)
    assert study.history.n_rounds == 0
    assert torch.equal(study.run(noisy, timeout=30, **RUN).outcome, Study(BOX, Sobol()).run(noisy, **RUN).outcome)


@pytest.mark.parametrize("timeout", [0, -1.0, math.inf, math.nan, True, "5"])
def test_bad_limits_are_refused(timeout):
    with pytest.raises(ArgumentError, match="`timeout` must be a positive number of seconds"):
        Study(BOX, Sobol()).run(noisy, trials=1, timeout=timeout)


# The child by itself


def test_a_child_answers_until_it_is_killed():
    served = Child(lambda number: number + 1)
    assert [served.ask(number, 10) for number in range(3)] == [1, 2, 3]
    assert served.alive and served.pid != os.getpid()
    served.kill()
    assert not served.alive


def test_a_child_that_does_not_start_says_so(monkeypatch):
    monkeypatch.setattr(child, "_serve", lambda function, pipe, threads: os._exit(1))
    with pytest.raises(StudyError, match=r"did not start: it ended with code 1\. In a script"):
        Child(abs).ask(1, 10)
    study = Study(BOX, Sobol())
    with pytest.raises(StudyError, match=r"did not start: .*it ended with code 1\. In a script"):
        study.run(noisy, trials=1)
    assert len(study.history.pending) == 1


def test_a_child_that_dies_says_how():
    with pytest.raises(ChildDied, match="it ended with code 7"):
        Child(os._exit).ask(7, 10)


def test_a_daemon_may_have_no_child(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    with pytest.raises(StudyError, match=r"`timeout` and `workers` need child processes.*distributed.worker.daemon"):
        Study(BOX, Sobol()).run(noisy, trials=1, timeout=1)
