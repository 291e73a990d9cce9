"""Penalties: which values are taken for one, and that strategies do with them as with failures."""

import math

import pytest
import torch

from studies.history import History
from studies.spaces.box import Box
from studies.strategies.constrained import ConstrainedImprovement
from studies.strategies.local_descent import LocalDescent
from studies.strategies.noisy_improvement import NoisyExpectedImprovement
from studies.strategies.penalties import learnable, without_penalties
from studies.strategies.turbo import TuRBO
from studies.study import Study

BOX = Box({"a": (-2.0, 2.0), "b": (-2.0, 2.0)})
REST = [1.0, 2.0, 3.0, 4.0, 5.0]


def seen(values, theta=None):
    value = torch.tensor(values, dtype=torch.float64)
    theta = torch.arange(float(len(value)))[:, None] if theta is None else theta
    return without_penalties(value, theta).isfinite().tolist()


@pytest.mark.parametrize("penalties", [[60.0, 60.0], [1e8, 1e8], [1e8], [1e8, 1.2e8], [5e3]])
@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_what_lies_far_above_the_rest_is_a_penalty(penalties, unit):
    values = [unit * value for value in [*penalties, *REST]]
    assert seen(values) == [False] * len(penalties) + [True] * 5


def test_two_kinds_of_penalties_are_told():
    assert seen([1e8, *REST, 1e4, 1e8, 1e4]) == [False, *[True] * 5, False, False, False]


@pytest.mark.parametrize(
    "values",
    [
        [*REST, 40.0, 40.0],  # near the rest
        [*REST, 1e3],  # once, less than a thousand ranges away
        [*REST, 1e4, 1e5],  # far from each other
        [1.0, 1.0, 1.0, 0.0, 0.0],  # two values
        [1.0, 1.001, 3.0, 3.0],  # few values
        [-1e8, -1e8, *REST],  # the best, not the worst
        [0.0, 1e-7, 1e-6, 2e-6, 1e-2, 0.3, 0.8, 1.5],  # most at the optimum
        [],
    ],
)
def test_what_is_none(values):
    assert all(seen(values))


def test_repetitions_at_one_point_are_one():
    assert all(seen([*REST, 60.0, 60.0], torch.tensor([0.0, 1, 2, 3, 4, 5, 5])[:, None]))


def test_history_is_not_changed():
    theta = torch.rand(7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    history = History.from_tensors(BOX, theta, torch.tensor([*REST, 1e8, 1e8], dtype=torch.float64))
    assert learnable(None, history).isfinite().sum() == 5
    assert float(history.outcome.max()) == 1e8


STRATEGIES = [
    NoisyExpectedImprovement(),
    ConstrainedImprovement(constraints=(lambda y: y - 10,)),
    LocalDescent(start=(-1.5, -1.5)),
    TuRBO(),
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: type(strategy).__name__)
def test_a_strategy_learns_what_it_would_of_failures(strategy):
    """The optimum (.5, 0) has a wall beside it: a > .8."""

    def regret(wall):
        def simulator(theta, generator):
            value = (theta[:, 0] - 0.5).square() + theta[:, 1].square()
            return torch.where(theta[:, 0] > 0.8, wall, value)

        study = Study(BOX, strategy, seed=0)
        study.run(simulator, trials=100 if isinstance(strategy, LocalDescent) else 18)
        best = study.recommend()
        return float((best[0] - 0.5).square() + best[1].square())

    assert regret(1e8) < max(0.01, 2 * regret(math.nan))
