"""Executors: the same numbers with each, and what happens when one loses its workers."""

import functools
import multiprocessing
import os
import signal
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest
import torch

from diffsim.errors import ArgumentError
from studies.errors import StudyError
from studies.spaces.box import Box
from studies.strategies.sobol import Sobol
from studies.study import Study

BOX = Box({"q": (-2, 2), "p": (-1, 1)})
RUN = {"trials": 10, "batch": 4}


def noisy(theta, generator):
    """Random and, near a corner, a failure."""
    if (theta > 0.4).all():
        raise ValueError("the beam is off")
    return theta.sin() + torch.randn(1, 2, generator=generator, dtype=torch.float64)


def deadly(theta, generator):
    """Kills its process in half of the box."""
    if theta[0, 0] > 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return theta.sin()


spawned = functools.partial(ProcessPoolExecutor, 2, mp_context=multiprocessing.get_context("spawn"))
forked = functools.partial(ProcessPoolExecutor, 2, mp_context=multiprocessing.get_context("fork"))


def assert_equal(history, other):
    assert torch.equal(history.theta, other.theta) and torch.equal(history.outcome, other.outcome)
    assert torch.equal(history.failed, other.failed)


@pytest.fixture(scope="module")
def here():
    history = Study(BOX, Sobol()).run(noisy, **RUN)
    assert len(history) > 5 and len(history.failed) > 0
    return history


def test_threads(here):
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        assert_equal(Study(BOX, Sobol()).run(noisy, executor=pool, **RUN), here)
    assert torch.equal(torch.get_rng_state(), before)


def test_processes(here):
    with spawned() as pool:
        history = Study(BOX, Sobol()).run(noisy, executor=pool, **RUN)
    assert_equal(history, here)
    assert len({trial.host for trial in history.trials} - {trial.host for trial in here.trials}) > 0
    assert "the beam is off" in next(trial.error for trial in history.trials if trial.state == "failed")


def test_dask(here):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert_equal(Study(BOX, Sobol()).run(noisy, executor=client.get_executor(), **RUN), here)


def test_vectorized_on_an_executor():
    here = Study(BOX, Sobol()).run(draw, vectorized=True, **RUN)
    with ThreadPoolExecutor(2) as pool:
        assert_equal(Study(BOX, Sobol()).run(draw, vectorized=True, executor=pool, **RUN), here)


def draw(theta, generator):
    return torch.randn(theta.shape, generator=generator)


def test_a_simulator_that_cannot_travel_is_named_before_anything_runs():
    study = Study(BOX, Sobol())
    with forked() as pool, pytest.raises(ArgumentError, match="`simulator` cannot be sent to another process"):
        study.run(lambda theta, generator: theta, executor=pool, **RUN)
    with pytest.raises(ArgumentError, match="`simulator` cannot be sent to another process"):
        study.run(lambda theta, generator: theta, executor=forked, **RUN)
    assert study.history.n_rounds == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_killed_workers_cost_their_own_trials():
    history = Study(BOX, Sobol()).run(deadly, executor=forked, **RUN)
    deaths = history.tried[:, 0] > 1
    assert [trial.state for trial in history.trials] == ["failed" if dead else "complete" for dead in deaths]
    assert 0 < deaths.sum() < 5
    error = next(trial.error for trial in history.trials if trial.error)
    assert "lost the trial twice" in error and "BrokenProcessPool" in error


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_broken_pool_that_is_not_ours_stops_the_study_and_keeps_the_rest():
    study = Study(BOX, Sobol())
    with forked() as pool, pytest.raises(StudyError, match=r"(?s)takes no more work.*left pending.*makes one"):
        study.run(deadly, executor=pool, **RUN)
    assert len(study.history.pending) > 0
    assert_equal(study.run(torch_sin, **RUN), Study(BOX, Sobol()).run(torch_sin, **RUN))


def torch_sin(theta, generator):
    return theta.sin()


def test_a_pool_that_was_shut_down_is_named():
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(StudyError, match=r"takes no more work .*after shutdown"):
        Study(BOX, Sobol()).run(noisy, executor=pool, **RUN)


class Lossy(Executor):
    """Loses every third task, as a cluster does."""

    def __init__(self):
        self.submitted = 0

    def submit(self, fn, /, *arguments, **options):
        self.submitted += 1
        future = Future()
        if self.submitted % 3 == 0:
            future.set_exception(ConnectionError("node lost"))
        else:
            future.set_result(fn(*arguments))
        return future


def test_lost_trials_are_tried_again(here):
    executor = Lossy()
    assert_equal(Study(BOX, Sobol()).run(noisy, executor=executor, **RUN), here)
    assert executor.submitted > 10


def test_an_interrupt_leaves_what_was_told():
    study = Study(BOX, Sobol())

    class Interrupting(Lossy):
        def submit(self, fn, /, *arguments, **options):
            future = super().submit(fn, *arguments)
            if self.submitted == 6:
                future = Future()
                future.set_exception(KeyboardInterrupt())
            return future

    with pytest.raises(KeyboardInterrupt):
        study.run(torch_sin, executor=Interrupting(), **RUN)
    assert len(study.history) >= 4 and len(study.history.pending) > 0
    assert_equal(study.run(torch_sin, **RUN), Study(BOX, Sobol()).run(torch_sin, **RUN))
