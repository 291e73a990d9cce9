"""The process slots where trials run by default: the same numbers as here, and a crash costs one trial."""

import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from studies import child
from studies.errors import StudyError
from studies.executors import resolve
from studies.history import Proposal
from studies.spaces.box import Box
from studies.storage.memory import MemoryStorage
from studies.strategies.sobol import Sobol
from studies.study import Study
from surrogates.problems.hump import Hump2

ROOT = Path(__file__).resolve().parents[3]
BOX = Box({"q": (-2, 2), "p": (-1, 1)})


def noisy(theta, generator):
    if (theta > 0.4).all():
        raise ValueError("the beam is off")
    return theta.sin() + torch.randn(theta.shape, generator=generator, dtype=torch.float64) + torch.rand(1)


def matrices(theta, generator):
    """Uses torch's threads: their number shows in the last bits."""
    a = torch.randn(300, 300, generator=generator) * theta[0, 0]
    return (a @ a.T).softmax(1).log().sum()[None] + torch.randn(100_000, generator=generator).sum()


def pids(history):
    return [int(trial.host.partition(":")[2]) for trial in history.trials]


def runs(pid):
    """Whether a process runs: one whose threads all ended and that awaits its parent does not."""
    try:
        stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
        return runs(pid) if Path(f"/proc/{pid}").exists() else False
    return any(stat.rpartition(")")[2].split()[0] != "Z" for stat in stats)


def wait_for(condition, seconds=100):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_equal(history, other):
    assert [trial.state for trial in history.trials] == [trial.state for trial in other.trials]
    assert torch.equal(history.tried, other.tried) and torch.equal(history.outcome, other.outcome)


@pytest.mark.parametrize("options", [{}, {"workers": 3}, {"workers": 2, "vectorized": True, "timeout": 60}])
@pytest.mark.parametrize("simulator", [noisy, Hump2()])
def test_the_numbers_are_those_of_this_process(simulator, options):
    run = {"trials": 10, "batch": 4, "vectorized": options.get("vectorized", False)}
    here = Study(BOX, Sobol()).run(simulator, executor="here", **run)
    history = Study(BOX, Sobol()).run(simulator, **(run | options))
    assert_equal(history, here)
    assert set(pids(here)) == {os.getpid()} and os.getpid() not in pids(history)
    assert len(set(pids(history))) <= options.get("workers", 1)


def test_threads_of_torch_survive_the_fork():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        here = Study(BOX, Sobol()).run(matrices, trials=4, executor="here")  # this process owns a pool now
        assert_equal(Study(BOX, Sobol()).run(matrices, trials=4, timeout=60), here)
        threads = Study(BOX, Sobol()).run(lambda theta, generator: [torch.get_num_threads()], trials=1, workers=2)
        assert threads.outcome.tolist() == [1]
    finally:
        torch.set_num_threads(before)


def test_what_a_simulator_changes_stays_in_its_process():
    calls = []
    history = Study(BOX, Sobol()).run(lambda theta, generator: [float(len(calls)), calls.append(1)][:1], trials=4)
    assert history.outcome.tolist() == [0, 1, 2, 3] and not calls
    Study(BOX, Sobol()).run(lambda theta, generator: calls.append(1) or theta, trials=4, executor="here")
    assert len(calls) == 4


@pytest.mark.parametrize("workers", [1, 3])
def test_a_crash_costs_its_trial_and_no_other_is_called_twice(tmp_path, workers):
    calls = tmp_path / "calls"

    def simulator(theta, generator):
        with calls.open("a") as file:
            file.write(f"{theta[0, 0].item()}\n")
        if theta[0, 0] > 1.5:
            os.kill(os.getpid(), signal.SIGKILL)
        return theta

    history = Study(BOX, Sobol()).run(simulator, trials=120, batch=60, workers=workers, max_failures=120)
    assert [trial.state for trial in history.trials] == [
        "failed" if trial.theta[0] > 1.5 else "complete" for trial in history.trials
    ]
    assert 10 < len(history.failed) < 20
    assert all("process died of it: it was killed by signal 9" in t.error for t in history.trials if t.error)
    assert Counter(calls.read_text().split()) == Counter(str(row[0].item()) for row in history.tried)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks processes up in /proc")
def test_a_process_that_dies_idle_costs_nothing():
    history = Study(BOX, Killing()).run(noisy, trials=4)
    assert len(history) == 4 and len(set(pids(history))) == 4


@dataclass(frozen=True)
class Killing:
    """Kills the idle process that ran the last trial, as a kernel that runs out of memory may."""

    def propose(self, history, n, generator):
        if history.trials:
            os.kill(pid := pids(history)[-1], signal.SIGKILL)
            wait_for(lambda: not runs(pid))
        return Proposal(torch.zeros(n, 2))


def test_failed_calls_are_made_again(tmp_path):
    def flaky(theta, generator):
        """Fails twice at each theta: by an error, then by its death."""
        file = tmp_path / f"{theta[0, 0].item()}"
        tries = len(file.read_text()) if file.exists() else 0
        file.write_text("x" * (tries + 1))
        if tries == 0:
            raise OSError("no licence")
        if tries == 1:
            os._exit(1)
        return theta + torch.randn(1, 2, generator=generator)

    history = Study(BOX, Sobol()).run(flaky, trials=6, batch=3, workers=2, retries=2)
    assert len(history) == 6
    assert_equal(history, Study(BOX, Sobol()).run(flaky, trials=6, batch=3, executor="here"))
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(StudyError, match=r"(?s)All of 2 tries failed, the last with:\n.*ended with code 1"):
        Study(BOX, Sobol()).run(flaky, trials=1, retries=1)


class Counting(MemoryStorage):
    """Counts how often results are written."""

    writes = 0

    def add_results(self, name, results):
        self.writes += 1
        super().add_results(name, results)


@pytest.mark.parametrize("executor", [None, "here"])
def test_results_of_short_calls_are_written_together(executor):
    storage = Counting()
    history = Study(BOX, Sobol(), storage).run(lambda theta, generator: theta, trials=400, batch=200, executor=executor)
    assert len(history) == 400 and storage.writes < 100


def test_results_are_written_while_others_are_awaited():
    storage = MemoryStorage()

    def simulator(theta, generator):
        if theta[0, 0] > 0:
            time.sleep(60)
        return theta

    told = []

    def alarm(signum, frame):
        told.append(len(storage.read("study")[1]))
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, 2)
    try:
        with pytest.raises(KeyboardInterrupt):
            Study(BOX, Sobol(), storage).run(simulator, trials=4, batch=4, workers=4)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert told == [2]


def test_where_there_is_no_fork_trials_run_here(monkeypatch):
    monkeypatch.setattr(resolve, "start_method", lambda: "spawn")
    history = Study(BOX, Sobol()).run(lambda theta, generator: theta, trials=2)
    assert set(pids(history)) == {os.getpid()}


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux to end what Python cannot")
def test_a_process_that_python_cannot_interrupt_ends_with_the_study(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import ctypes, os, pathlib
        from studies import Box, Sobol, Study

        def simulator(theta, generator):
            pathlib.Path("pid").write_text(str(os.getpid()))
            ctypes.PyDLL(None).sleep(600)  # compiled code that holds the interpreter

        Study(Box({"q": (-2, 2)}), Sobol()).run(simulator, trials=2, batch=2, workers=2)
        """)
    )
    study = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    pid = tmp_path / "pid"
    wait_for(lambda: pid.exists() and pid.read_text())
    assert runs(pid.read_text())
    study.kill()
    study.wait()
    wait_for(lambda: not runs(pid.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="children are forked on Linux only")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_whose_parent_dies_before_it_watches_ends(tmp_path, fork, monkeypatch):
    pid, holder, watch = tmp_path / "pid", tmp_path / "holder", child._end_with_parent

    def late():
        parent = os.getppid()
        pid.write_text(str(os.getpid()))
        while os.getppid() == parent:
            time.sleep(0.01)
        watch()

    def study():
        slot = child.Child(lambda seconds: ctypes.PyDLL(None).sleep(seconds))  # holds the interpreter
        slot.send([600])
        holder.write_text(str(fork(lambda: time.sleep(600))))  # holds all that is open here, as a later child does
        wait_for(lambda: pid.exists() and pid.read_text())
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(child, "_end_with_parent", late)
    try:
        os.waitpid(fork(study), 0)
        wait_for(lambda: not runs(pid.read_text()))
    finally:
        os.kill(int(holder.read_text()), signal.SIGKILL)


def test_what_a_simulator_prints_is_shown(tmp_path):
    program = """
    from studies import Box, Sobol, Study
    Study(Box({"q": (-2, 2)}), Sobol()).run(lambda theta, generator: print("at work") or theta, trials=2)
    print("done")
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.split("\n") == ["at work", "at work", "done", ""] and not shown.stderr
