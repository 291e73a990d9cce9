"""Runs and workers that are killed at every named point, at random times: nothing told is lost, nothing is doubled."""

import functools
import os
import random
import signal
import time
from dataclasses import dataclass

import pytest
import torch

from studies.history import Proposal
from studies.spaces.box import Box
from studies.storage import database
from studies.storage.sqlite import SQLiteStorage
from studies.study import Study
from studies.worker import work

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
BOX = Box({"q": (-2, 2), "p": (-1, 1)})
TRIALS = 8
LEASE = 0.5
POINTS = ["after claim", "during evaluation", "after the file", "during the commit", "after tell"]
slow = pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])


@pytest.fixture(autouse=True)
def no_trial_is_given_up(monkeypatch):
    """By chance the same trial may be lost three times, and is then failed: another test's matter."""
    monkeypatch.setattr(database, "MAX_LEASES", 1000)


@dataclass(frozen=True)
class Walk:
    """Steps away from the best trial: depends on all that was told."""

    def propose(self, history, n, generator):
        step = history.info[-1]["step"] * 0.9 if history.info else 1.0
        centre = torch.zeros(2) if not len(history) else history.theta[history.outcome[:, 0].argmin()]
        theta = centre + step * torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return Proposal(theta.clamp(*history.space.bounds), {"step": step})


def large(theta, generator):
    """Outcomes of 80 kB, which are kept in files."""
    noise = torch.randn(1, 10_000, generator=generator, dtype=torch.float64)
    return theta.square().sum(1, keepdim=True) + 0.1 * noise


class Fatal(SQLiteStorage):
    """Kills its process when a point is reached for the n-th time."""

    def __init__(self, path, point, n):
        super().__init__(path)
        self.point, self.n = point, n

    def reach(self, point):
        if point == self.point:
            self.n -= 1
            if self.n == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def claim(self, name, worker, n, seconds):
        claimed = super().claim(name, worker, n, seconds)
        if claimed:
            self.reach("after claim")
        return claimed

    def add_round(self, name, round, worker=None, seconds=0.0):
        super().add_round(name, round, worker, seconds)
        self.reach("after ask")

    def _tell(self, connection, name, rows):
        self.reach("after the file")
        super()._tell(connection, name, rows)
        self.reach("during the commit")

    def add_results(self, name, results):
        super().add_results(name, results)
        self.reach("after tell")


def simulator_of(point, n):
    """A simulator that kills the process that waits for it, in its n-th call."""
    calls = iter(range(1, 1000))

    def simulator(theta, generator):
        if next(calls) == n and point == "during evaluation":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        return large(theta, generator)

    return simulator


def run(storage, simulator):
    Study(BOX, Walk(), storage).run(simulator, trials=TRIALS, batch=2)


def labour(storage, simulator):
    work(Study(BOX, Walk(), storage), simulator, trials=TRIALS, batch=2, asynchronous=False, lease=LEASE)


def fatal(task, path, point, n):
    task(Fatal(path, point, n), simulator_of(point, n))


def told(path):
    results = SQLiteStorage(path).read("study")[1]
    return {result.trial: None if result.outcome is None else result.outcome.tobytes() for result in results}


@functools.cache
def unbroken():
    history = Study(BOX, Walk()).run(large, trials=TRIALS, batch=2, executor="here")
    return {trial.number: trial.outcome.numpy().tobytes() for trial in history.trials}


def assert_whole(path):
    storage = SQLiteStorage(path)
    rounds, results = storage.read("study")
    assert [trial for round in rounds for trial in round.trials] == list(range(TRIALS))
    assert sorted(result.trial for result in results) == list(range(TRIALS))
    assert told(path) == unbroken()
    assert not storage.leases("study")


@pytest.mark.parametrize("times", [2, slow])
@pytest.mark.parametrize("point", ["after ask", *POINTS[1:]])
def test_a_study_that_is_killed_at_a_point_goes_on(tmp_path, fork, point, times):
    for seed in range(times):
        path, numbers, kept, kills = tmp_path / f"{seed}.db", random.Random(seed), {}, 0
        Study(BOX, Walk(), path)
        while True:
            task = functools.partial(fatal, run, path, point, numbers.randint(1, 3))
            status = os.waitpid(fork(task), 0)[1]
            now = told(path)
            assert {trial: now.get(trial) for trial in kept} == kept  # what was told is kept
            kept = now
            if status == 0:
                break
            assert status == signal.SIGKILL
            kills += 1
            assert kills < 50
        assert_whole(path)


@pytest.mark.parametrize("times", [2, slow])
@pytest.mark.parametrize("point", POINTS)
def test_workers_that_are_killed_at_a_point_are_replaced(tmp_path, fork, point, times):
    for seed in range(times):
        path, numbers, kept, kills = tmp_path / f"{seed}.db", random.Random(seed), {}, 0
        Study(BOX, Walk(), path)
        workers = set()
        while True:
            while len(workers) < 2:
                n = numbers.randint(2, 4)  # each tells a trial at least, so that none is given up
                workers.add(fork(functools.partial(fatal, labour, path, point, n)))
            child, status = os.wait()
            workers.remove(child)
            now = told(path)
            assert {trial: now.get(trial) for trial in kept} == kept
            kept = now
            if status == 0:
                break
            assert status == signal.SIGKILL
            kills += 1
            assert kills < 50
        for child in workers:
            os.waitpid(child, 0)
        assert_whole(path)


@pytest.mark.parametrize("times", [2, slow])
@pytest.mark.parametrize("task", [run, labour])
def test_killed_at_any_moment(tmp_path, fork, task, times):
    for seed in range(times):
        path, numbers, kills = tmp_path / f"{seed}.db", random.Random(seed), 0
        Study(BOX, Walk(), path)
        patience = 0.1
        while len(kept := told(path)) < TRIALS:
            child = fork(functools.partial(task, path, large))
            time.sleep(numbers.uniform(0, patience))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            assert {trial: told(path).get(trial) for trial in kept} == kept
            kills += 1
            patience *= 1.1
            time.sleep(LEASE if task is labour else 0)
        assert_whole(path)


def test_two_schedulers_of_one_study_agree(tmp_path, fork):
    path = tmp_path / "runs.db"
    Study(BOX, Walk(), path)
    schedulers = [fork(lambda: run(path, large)) for _ in range(3)]
    assert [os.waitpid(child, 0)[1] for child in schedulers] == [0] * 3
    assert_whole(path)
