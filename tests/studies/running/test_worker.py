"""Workers that share a study through its storage: nothing lost, nothing run twice, the dead are replaced."""

import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass

import pytest
import torch

from diffsim.errors import ArgumentError
from studies.errors import StorageError, StudyError
from studies.history import Proposal
from studies.spaces.box import Box
from studies.storage.sqlite import SQLiteStorage
from studies.strategies.random import Random
from studies.strategies.sobol import Sobol
from studies.study import Study
from studies.worker import work

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
BOX = Box({"q": (-2, 2), "p": (-1, 1)})


def noisy(theta, generator):
    return theta + torch.randn(theta.shape, generator=generator, dtype=torch.float64)


def ended(child):
    return os.waitpid(child, 0)[1]


def assert_whole(storage, n, name="study"):
    """All of n trials are told, once each, with the numbers that they have in one process."""
    rounds, results = storage.read(name)
    assert sum(len(round.theta) for round in rounds) == n
    assert sorted(result.trial for result in results) == list(range(n))
    assert not storage.leases(name)


def test_one_worker_equals_a_run():
    study = Study(BOX, Sobol())
    assert work(study, noisy, trials=9) == 9
    run = Study(BOX, Sobol()).run(noisy, trials=9)
    assert torch.equal(study.history.theta, run.theta) and torch.equal(study.history.outcome, run.outcome)
    assert_whole(study.storage, 9)


def test_rounds_are_shared():
    study = Study(BOX, Sobol())
    assert work(study, noisy, rounds=3, batch=4, workers=2, asynchronous=False) == 12
    run = Study(BOX, Sobol()).run(noisy, rounds=3, batch=4)
    assert torch.equal(study.history.outcome, run.outcome) and study.history.n_rounds == 3


def test_a_strategy_with_rounds_is_asked_for_rounds():
    @dataclass(frozen=True)
    class Rounds(Random):
        def propose(self, history, n, generator):
            assert not len(history.pending)
            return Random.propose(self, history, n, generator)

        def batch(self, history):
            return 3

    study = Study(BOX, Rounds())
    assert work(study, noisy, trials=7, workers=2) == 7
    assert study.history.n_rounds == 3


def test_many_workers_share_one_file(tmp_path, fork):
    path = tmp_path / "runs.db"
    study = Study(BOX, Random(), path)
    calls = tmp_path / "calls"

    def simulator(theta, generator):
        with calls.open("a") as file:
            file.write(f"{theta[0, 0].item()!r}\n")
        time.sleep(0.01)
        return noisy(theta, generator)

    workers = [fork(lambda: work(Study(BOX, Random(), path), simulator, trials=60, executor="here")) for _ in range(4)]
    assert [ended(child) for child in workers] == [0] * 4
    assert_whole(study.storage, 60)
    assert set(Counter(calls.read_text().split()).values()) == {1}
    assert len({trial.host for trial in study.history.trials}) > 1


def test_a_dead_workers_trials_are_taken_over(tmp_path, fork):
    path = tmp_path / "runs.db"

    def hang(theta, generator):
        (tmp_path / "taken").touch()
        time.sleep(600)

    child = fork(lambda: work(Study(BOX, Sobol(), path), hang, trials=5, lease=1, executor="here"))
    while not (tmp_path / "taken").exists():
        time.sleep(0.02)
    study = Study(BOX, Sobol(), path)
    time.sleep(1.5)
    (lease,) = study.storage.leases("study")
    assert lease.seconds > 0 and lease.count == 1  # it is renewed while the worker lives
    os.kill(child, signal.SIGKILL)
    ended(child)
    assert work(study, noisy, trials=5, lease=5) == 5
    assert torch.equal(study.history.outcome, Study(BOX, Sobol()).run(noisy, trials=5).outcome)


def test_a_trial_that_kills_its_workers_is_given_up(tmp_path, fork):
    path = tmp_path / "runs.db"

    def deadly(theta, generator):
        if theta[0, 0] > 1.5:
            os.kill(os.getpid(), signal.SIGKILL)
        return theta

    deaths = 0
    while ended(fork(lambda: work(Study(BOX, Sobol(), path), deadly, trials=12, lease=0.3, executor="here"))):
        deaths += 1
    history = Study(BOX, Sobol(), path).history
    hits = [trial for trial in history.trials if trial.theta[0] > 1.5]
    assert hits and deaths == 3 * len(hits)
    assert [trial.state for trial in hits] == ["failed"] * len(hits) and len(history) == 12 - len(hits)
    assert all("The trial was given up: taken 3 times" in trial.error for trial in hits)


def test_a_worker_helps_with_what_others_ask(tmp_path):
    study = Study(BOX, Random(), tmp_path / "runs.db", name="helped", seed=3)
    study.ask(4)
    with pytest.raises(StorageError, match=r"no study 'study'.*There are \['helped'\]"):
        work(tmp_path / "runs.db", noisy)
    assert work(f"sqlite:///{tmp_path}/runs.db", noisy, name="helped", patience=0.2) == 4
    assert torch.equal(study.history.outcome, Study(BOX, Random(), seed=3).run(noisy, rounds=1, batch=4).outcome)
    study.ask(2)
    assert work(study.storage, noisy, name="helped", trials=6) == 2
    assert study.history.n_rounds == 2


def test_asked_trials_are_left_alone_until_their_lease_ends():
    study = Study(BOX, Random())
    asked = study.ask(2, lease=1)
    started = time.monotonic()
    assert work(study.storage, noisy, trials=2) == 2
    assert time.monotonic() - started > 0.5
    asked = study.ask(1, lease=100)
    assert work(study, noisy, trials=3, patience=0.3) == 0
    study.tell(asked, [[1.0, 2.0]])
    assert work(study, noisy, trials=3) == 0


def test_a_worker_that_leaves_gives_its_trials_back():
    study = Study(BOX, Random())

    def interrupted(theta, generator):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(study, interrupted, trials=3, executor="here", lease=1000)
    assert len(study.history.pending) == 1 and not study.storage.leases("study")
    assert work(study, noisy, trials=3) == 3


def test_a_rule_ends_the_work(capsys):
    @dataclass(frozen=True)
    class Enough:
        def reason(self, history, strategy):
            return "enough" if len(history) >= 3 else None

    study = Study(BOX, Random())
    assert work(study, noisy, trials=30, stop=[Enough()], progress=True) == 3
    assert "study: stopped: enough" in capsys.readouterr().err


def test_a_worker_whose_trials_all_fail_stops():
    with pytest.raises(StudyError, match=r"(?s)first 2 trials failed.*ZeroDivisionError"):
        work(Study(BOX, Random()), lambda theta, generator: 1 / 0, trials=30, max_failures=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Give `trials` or `rounds`"),
        ({"trials": 1, "rounds": 1}, "Give `trials` or `rounds`"),
        ({"trials": 1, "lease": 0}, "`lease` must be a positive number of seconds, got 0"),
        ({"trials": 1, "patience": -1}, "`patience` must be a positive number of seconds"),
        ({"trials": 0}, "`trials` must be an integer of at least 1"),
    ],
)
def test_bad_work_is_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        work(Study(BOX, Random()), noisy, **arguments)


def test_rules_need_a_study():
    study = Study(BOX, Random())

    class Rule:
        def reason(self, history, strategy):
            return None

    with pytest.raises(ArgumentError, match="`stop` needs a study"):
        work(study.storage, noisy, stop=[Rule()])


# Two that ask at the same time


@dataclass(frozen=True)
class Slow:
    """Takes a while to propose, and notes how many rounds it knew."""

    def propose(self, history, n, generator):
        time.sleep(random.Random(os.getpid()).uniform(0.01, 0.05))
        return Proposal(torch.rand(n, 2, generator=generator, dtype=torch.float64), {"known": history.n_rounds})


def test_a_goal_is_never_passed(tmp_path, fork):
    path = tmp_path / "runs.db"
    Study(BOX, Slow(), path)
    workers = [fork(lambda: work(Study(BOX, Slow(), path), noisy, trials=11, executor="here")) for _ in range(4)]
    assert [ended(child) for child in workers] == [0] * 4
    storage = SQLiteStorage(path)
    assert_whole(storage, 11)
    assert [round.info["known"] for round in storage.read("study")[0]] == list(range(11))
