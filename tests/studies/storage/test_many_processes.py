"""Eight processes on one study: nothing is lost and nothing is told twice, in SQLite and in PostgreSQL."""

import multiprocessing
import os

import pytest
import torch

from studies.errors import ConflictError
from studies.spaces.box import Box
from studies.storage.resolve import open_storage
from studies.strategies.random import Random
from studies.study import Study

BOX = Box({"q": (-2, 2), "p": (-1, 1)})


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    return f"sqlite:///{tmp_path}/runs.db" if request.param == "sqlite" else request.getfixturevalue("postgres")


def in_processes(n, target, *arguments):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(n)
    workers = [context.Process(target=target, args=(*arguments, worker, barrier)) for worker in range(n)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * n


def ask_and_tell(url, trials, worker, barrier):
    barrier.wait()
    study = Study(BOX, Random(), url)
    for _ in range(trials):
        asked = study.ask()
        study.tell(asked, asked.theta + 10 * worker)


def check_asked_and_told(url, n, trials):
    in_processes(n, ask_and_tell, url, trials)
    history = Study(BOX, Random(), url).history
    assert len(history) == len(history.trials) == history.n_rounds == n * trials
    assert len(history.theta.unique(dim=0)) == n * trials, "no point is proposed twice"
    owner = ((history.outcome - history.theta) / 10).mean(1).round().long()
    assert owner.bincount().tolist() == [trials] * n, "what each told is there, once"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_four_processes_ask_and_tell_ten_trials_each(url):
    check_asked_and_told(url, 4, 10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_eight_processes_ask_and_tell_fifty_trials_each(url):
    check_asked_and_told(url, 8, 50)


def claim_and_tell(url, worker, barrier):
    storage = open_storage(url)
    name = f"{os.getpid()}"
    barrier.wait()
    while claimed := storage.claim("study", name, 3, 60.0):
        study = Study(BOX, Random(), storage)
        try:
            study.tell(claimed, torch.full((len(claimed), 1), float(worker)))
        except ConflictError:
            os._exit(1)  # another had the same trial


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_eight_processes_claim_each_trial_once(url):
    study = Study(BOX, Random(), url)
    study.ask(100)
    in_processes(8, claim_and_tell, url)
    history = study.history
    assert len(history) == 100 and not study.storage.leases("study")
    assert len(history.outcome.unique()) > 1, "more than one worker had some"
