"""Rounds of the strategy's own size."""

from dataclasses import dataclass

import pytest
import torch

from diffsim.errors import ArgumentError
from studies.errors import StudyError
from studies.spaces.box import Box
from studies.strategies.base import Batched
from studies.strategies.random import Random
from studies.study import Study

BOX = Box({"q": (-2, 2)})


@dataclass(frozen=True)
class Growing(Random):
    """Each round is one larger than the last."""

    first: int = 1

    def batch(self, history):
        return self.first + history.n_rounds


@dataclass(frozen=True)
class Fixed(Random):
    size: object = 0

    def batch(self, history):
        return self.size


def sizes(history):
    return torch.tensor([trial.round for trial in history.trials]).bincount().tolist()


def square(theta, generator):
    return theta.square()


def test_the_strategy_says_how_many():
    assert isinstance(Growing(), Batched) and not isinstance(Random(), Batched)
    assert sizes(Study(BOX, Growing()).run(square, trials=12)) == [1, 2, 3, 4, 2]
    assert sizes(Study(BOX, Growing(4)).run(square, rounds=3)) == [4, 5, 6]
    assert sizes(Study(BOX, Random()).run(square, trials=3)) == [1, 1, 1]


def test_the_user_overrules_it():
    assert sizes(Study(BOX, Growing()).run(square, trials=7, batch=3)) == [3, 3, 1]
    assert sizes(Study(BOX, Growing()).run(square, rounds=2, batch=3)) == [3, 3]


def test_it_sees_the_history_of_a_resumed_study(tmp_path):
    Study(BOX, Growing(), tmp_path / "runs.db").run(square, rounds=2)
    assert sizes(Study(BOX, Growing(), tmp_path / "runs.db").run(square, rounds=4)) == [1, 2, 3, 4]


def test_vectorized_rounds_have_its_size():
    rows = []

    def simulator(theta, generator):
        rows.append(len(theta))
        return theta

    Study(BOX, Growing(2)).run(simulator, trials=10, vectorized=True, executor="here")
    assert rows == [2, 3, 4, 1]


@pytest.mark.parametrize("size", [0, -1, 2.0, True, None])
def test_a_bad_size_is_named(size):
    with pytest.raises(StudyError, match=r"`batch` must return a positive integer, got"):
        Study(BOX, Fixed(size)).run(square, trials=2)


@pytest.mark.parametrize("budget", [{"trials": 0}, {"rounds": 0}, {"trials": -3}])
def test_a_budget_of_nothing_is_refused(budget):
    with pytest.raises(ArgumentError, match="must be an integer of at least 1, got"):
        Study(BOX, Growing()).run(square, **budget)
    with pytest.raises(ArgumentError, match="`batch` must be an integer of at least 1, got 0"):
        Study(BOX, Growing()).run(square, trials=1, batch=0)


def test_progress_knows_the_total(capsys):
    Study(BOX, Growing(), name="valley").run(square, trials=12, progress=True)
    Study(BOX, Growing(3), name="hill").run(square, rounds=1, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("valley: 12 of 12 trials") for line in lines)
    assert lines[-1].startswith("hill: 3 of 3 trials")
