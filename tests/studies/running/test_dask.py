"""A dask cluster on this machine, whose workers are killed: the same numbers, and nothing is lost."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from diffsim.errors import ArgumentError
from studies.errors import StudyError
from studies.spaces.box import Box
from studies.strategies.random import Random
from studies.strategies.sobol import Sobol
from studies.study import Study
from studies.worker import work

distributed = pytest.importorskip("distributed", reason="the extra [dask] is not installed")
BOX = Box({"q": (-2, 2), "p": (-1, 1)})


def noisy(theta, generator):
    return theta + torch.randn(theta.shape, generator=generator, dtype=torch.float64)


class Deadly:
    """Kills its worker: the first time that it is called, or wherever q is large."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, theta, generator):
        once = self.folder / "once"
        if theta[0, 0] > 1.5:
            os.kill(os.getpid(), signal.SIGKILL)
        if not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
        return noisy(theta, generator)


@pytest.fixture(scope="module")
def client():
    from dask import config

    with (
        config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_workers_that_are_killed_cost_their_own_trials(client, tmp_path):
    study = Study(BOX, Sobol(), tmp_path / "runs.db")
    history = study.run(Deadly(tmp_path), trials=6, batch=6, executor=client)
    deaths = history.tried[:, 0] > 1.5
    assert deaths.sum() == 1
    assert [trial.state for trial in history.trials] == ["failed" if dead else "complete" for dead in deaths]
    assert torch.equal(history.outcome, Study(BOX, Sobol()).run(noisy, trials=6, batch=6).outcome[~deaths])
    error = next(trial.error for trial in history.trials if trial.error)
    assert "lost the trial twice" in error and "KilledWorker" in error
    hosts = {trial.host for trial in history.trials if trial.host}
    assert len(hosts) > 1 and not any(host.endswith(f":{os.getpid()}") for host in hosts)


def test_a_cluster_is_kept_busy(client):
    history = Study(BOX, Random()).run(noisy, trials=8, executor=client, asynchronous=True)
    assert len(history) == 8 and history.n_rounds == 8
    outcome = Study(BOX, Random()).run(noisy, trials=8, executor="here").outcome
    assert torch.equal(history.outcome, outcome)  # Random does not look at what is pending


def test_a_worker_of_a_study_may_send_its_trials_to_a_cluster(client, tmp_path):
    study = Study(BOX, Sobol(), tmp_path / "runs.db")
    assert work(study, noisy, trials=6, executor=client) == 6
    assert torch.equal(study.history.outcome, Study(BOX, Sobol()).run(noisy, trials=6).outcome)


def test_daemons_may_have_no_children(client):
    with pytest.raises(StudyError, match="daemon"):
        Study(BOX, Sobol()).run(noisy, trials=1, executor=client, timeout=5)


def test_a_class_is_no_cluster():
    with pytest.raises((ArgumentError, TypeError), match="`executor` must be"):
        Study(BOX, Sobol()).run(noisy, trials=1, executor=distributed)
