"""Asynchronous runs, which keep every worker busy and show what is running, and rules that end a run."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import torch

from diffsim.errors import ArgumentError
from studies.history import Proposal
from studies.spaces.box import Box
from studies.storage.memory import MemoryStorage
from studies.strategies.random import Random
from studies.strategies.sobol import Sobol
from studies.study import Study

BOX = Box({"q": (-2, 2), "p": (-1, 1)})


@dataclass(frozen=True)
class Noting:
    """Notes how many trials it was asked for, and how many were pending and complete."""

    def propose(self, history, n, generator):
        theta = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        return Proposal(theta, {"n": n, "pending": len(history.pending), "complete": len(history)})


def square(theta, generator):
    return theta.square().sum(1)


def test_no_worker_waits_for_the_slowest():
    slow = Study(BOX, Noting()).run(lambda theta, generator: [generator.initial_seed() % 2**31], trials=1)
    first = slow.outcome.item()

    def simulator(theta, generator):
        time.sleep(3 if generator.initial_seed() % 2**31 == first else 0.02)
        return theta

    history = Study(BOX, Noting()).run(simulator, trials=12, workers=3, asynchronous=True)
    assert len(history) == 12 and history.n_rounds == 12
    assert all(note["n"] == 1 for note in history.info)
    assert [note["pending"] for note in history.info[:3]] == [0, 1, 2]
    assert all(1 <= note["pending"] <= 2 for note in history.info[3:])  # of others, the slow one among them
    told = [trial.started + trial.seconds for trial in history.trials]
    assert max(told) == told[0]


@pytest.mark.parametrize("executor", ["here", None, ThreadPoolExecutor])
def test_one_worker_asks_one_after_the_other(executor):
    workers = {} if executor == "here" else {"workers": 1}
    one = Study(BOX, Sobol()).run(square, trials=6, asynchronous=True, executor=executor, **workers)
    assert torch.equal(one.outcome, Study(BOX, Sobol()).run(square, trials=6).outcome)


def test_an_executor_must_say_its_workers():
    with pytest.raises(ArgumentError, match=r"`workers` must be given: .*Pass workers=4"):
        Study(BOX, Sobol()).run(square, trials=6, asynchronous=True, executor=ThreadPoolExecutor)


def test_threads_are_kept_busy():
    history = Study(BOX, Noting()).run(square, trials=9, asynchronous=True, executor=ThreadPoolExecutor, workers=4)
    assert len(history) == 9 and max(note["pending"] for note in history.info) == 3


def test_batches_are_asked_as_they_are_wanted():
    history = Study(BOX, Noting()).run(square, rounds=4, batch=3, workers=2, asynchronous=True)
    assert len(history) == 12 and [note["n"] for note in history.info] == [3] * 4


def test_what_was_pending_is_run_first():
    study = Study(BOX, Noting())
    study.ask(2)
    history = study.run(square, trials=5, workers=2, asynchronous=True)
    assert len(history) == 5 and history.info[1]["complete"] >= 1


def test_trials_of_others_are_left_to_them():
    study = Study(BOX, Noting())
    asked = study.ask(2, lease=1.5)
    started = time.monotonic()
    history = study.run(square, trials=4)
    assert time.monotonic() - started > 1 and len(history) == 4  # the lease ran out, and they were taken over
    asked = study.ask(1, lease=60)

    class Answering(Noting):
        def propose(self, history, n, generator):
            study.tell(asked, [7.0])
            return super().propose(history, n, generator)

    other = Study(BOX, Noting(), study.storage)
    other.strategy = other._asker.strategy = Answering()
    assert other.run(square, trials=6, asynchronous=True).outcome[4] == 7
    with pytest.raises(ArgumentError, match="`lease` must be a positive number of seconds, got 0"):
        study.ask(lease=0)


# Rules that end a run


@dataclass(frozen=True)
class Enough:
    """Stops at so many complete trials."""

    n: int

    def reason(self, history, strategy):
        assert isinstance(strategy, Random | Noting)
        torch.rand(1)  # a rule may draw globally
        return f"{len(history)} are enough" if len(history) >= self.n else None


@pytest.mark.parametrize("options", [{}, {"executor": "here"}, {"workers": 2, "asynchronous": True}])
def test_a_rule_ends_the_run_and_says_why(options, capsys):
    storage = MemoryStorage()
    study = Study(BOX, Random(), storage)
    before = torch.get_rng_state()
    history = study.run(square, trials=50, stop=[Enough(100), Enough(7), Enough(3)], progress=True, **options)
    told = 3 if not options.get("asynchronous") else len(history)
    assert len(history) == told <= 4 and not len(history.pending)
    assert study.stopped in ("3 are enough", "4 are enough") and f"stopped: {study.stopped}" in capsys.readouterr().err
    assert torch.equal(torch.get_rng_state(), before)
    again = Study(BOX, Random(), storage)
    assert again.stopped is None
    assert len(again.run(square, trials=50, stop=[Enough(3)])) == told and again.stopped  # nothing more is run
    assert len(again.run(square, trials=6)) == 6 and again.stopped is None


def test_a_rule_is_asked_after_each_round():
    study = Study(BOX, Noting())
    history = study.run(square, rounds=9, batch=4, stop=[Enough(5)])
    assert len(history) == 8 and study.stopped == "8 are enough"
