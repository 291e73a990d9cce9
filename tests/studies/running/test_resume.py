"""A study killed between any two trials and resumed equals an unbroken one, bit for bit."""

import itertools
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from studies.history import Proposal
from studies.spaces.box import Box
from studies.storage.sqlite import SQLiteStorage
from studies.study import Study

ROOT = Path(__file__).resolve().parents[3]
BOX = Box({"q": (-2, 2), "p": (-1, 1)})
RUN = {"trials": 11, "batch": 3}


@dataclass(frozen=True)
class Walk:
    """Steps away from the best trial, with its step in its notes: depends on all that a study keeps."""

    def propose(self, history, n, generator):
        step = history.info[-1]["step"] * 0.9 if history.info else 1.0
        centre = torch.zeros(2) if not len(history) else history.theta[history.outcome[:, 0].argmin()]
        theta = centre + step * torch.randn(n, 2, generator=generator, dtype=torch.float64) + 0.01 * torch.rand(1)
        return Proposal(theta.clamp(*history.space.bounds), {"step": step})


def simulator(theta, generator):
    """Noisy, draws globally too, and fails now and then."""
    noise = torch.randn(1, 3, generator=generator, dtype=torch.float64) + torch.rand(1) + np.random.rand()
    if noise[0, 0] > 1:
        raise ValueError("too noisy")
    return theta.square().sum(1, keepdim=True) + 0.1 * noise


def assert_equal(history, other):
    assert history.info == other.info
    for ours, theirs in zip(history.trials, other.trials, strict=True):
        assert (ours.number, ours.round, ours.state) == (theirs.number, theirs.round, theirs.state)
        assert torch.equal(ours.theta, theirs.theta)
        assert (ours.outcome is None) == (theirs.outcome is None)
        assert ours.outcome is None or torch.equal(ours.outcome, theirs.outcome)


@pytest.fixture(scope="module")
def unbroken():
    history = Study(BOX, Walk(), seed=4).run(simulator, **RUN)
    assert len(history.failed) > 0 and len(history) > 0
    return history


class Deadly(SQLiteStorage):
    """Kills its process at a write, before or after it is done."""

    def __init__(self, path, writes, after):
        super().__init__(path)
        self.writes, self.after = writes, after

    def _count(self, write, *arguments):
        self.writes -= 1
        if self.writes == 0 and not self.after:
            os.kill(os.getpid(), signal.SIGKILL)
        write(*arguments)
        if self.writes == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def add_round(self, name, round, worker=None, seconds=0.0):
        self._count(super().add_round, name, round, worker, seconds)

    def add_results(self, name, results):
        self._count(super().add_results, name, results)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_random_writes_until_done(tmp_path, unbroken, fork, after):
    path, writes = tmp_path / "runs.db", random.Random(0)
    kills = 0
    while True:
        storage = Deadly(path, writes.randint(2, 4), after)
        child = fork(lambda storage=storage: Study(BOX, Walk(), storage, seed=4).run(simulator, **RUN))
        status = os.waitpid(child, 0)[1]
        if status == 0:
            break
        assert status == signal.SIGKILL
        kills += 1
    assert kills >= 2  # results that come together are written together
    assert_equal(Study(BOX, Walk(), path, seed=4).history, unbroken)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_killed_once_at_each_write(tmp_path, unbroken, fork):
    write = 0
    for write in itertools.count(1):
        storage = Deadly(tmp_path / f"{write}.db", write, after=False)
        child = fork(lambda storage=storage: Study(BOX, Walk(), storage, seed=4).run(simulator, **RUN))
        status = os.waitpid(child, 0)[1]
        if status == 0:
            break
        assert status == signal.SIGKILL
        if write % 3 == 0:  # a third of them is resumed, to save time
            history = Study(BOX, Walk(), storage.path, seed=4).run(simulator, **RUN)
            assert_equal(history, unbroken)
    assert write > 2 * unbroken.n_rounds  # each round is written, and its results at least once


def test_a_script_killed_at_any_moment(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import sys, time, torch
        from studies import Box, Random, Study

        def simulator(theta, generator):
            time.sleep(0.05)
            return theta + torch.randn(1, 2, generator=generator, dtype=torch.float64)

        Study(Box({"q": (-2, 2), "p": (-1, 1)}), Random(), sys.argv[1]).run(simulator, trials=40, batch=4)
        """)
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start(path):
        return subprocess.Popen([sys.executable, str(script), f"sqlite:///{path}"], env=environment)

    broken, whole = start(tmp_path / "broken.db"), start(tmp_path / "whole.db")
    reader = None
    while reader is None or len(reader.read("study")[1]) < 10:
        time.sleep(0.02)
        if reader is None and (tmp_path / "broken.db").exists():
            reader = SQLiteStorage(tmp_path / "broken.db")
            reader = reader if reader.studies() else None
    broken.kill()
    broken.wait()
    n_told = len(reader.read("study")[1])
    assert 10 <= n_told < 40
    assert start(tmp_path / "broken.db").wait() == 0 and whole.wait() == 0

    def read(path):
        rounds, results = SQLiteStorage(path).read("study")
        outcomes = {result.trial: result.outcome.tobytes() for result in results}
        return [round.theta.tobytes() for round in rounds], outcomes

    assert len(read(tmp_path / "whole.db")[1]) == 40
    assert read(tmp_path / "broken.db") == read(tmp_path / "whole.db")
