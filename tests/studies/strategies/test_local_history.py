"""Local descent and trials that it did not ask for: where it starts, and answers for another objective."""

import pytest
import torch

from studies.history import History
from studies.spaces.box import Box
from studies.strategies.local_descent import LocalDescent
from studies.study import Study

BOX = Box({"a": (-2.0, 2.0), "b": (-2.0, 2.0)})
BEST = torch.tensor([1.2, -0.8], dtype=torch.float64)


def past(n):
    theta = BOX.sample(n, torch.Generator().manual_seed(0))
    noise = 0.3 * torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return History.from_tensors(BOX, theta, (theta - BEST).square().sum(1) + noise)


def test_it_starts_from_the_best_of_past_trials_and_answers_with_it():
    history, strategy = past(60), LocalDescent()
    assert float((strategy.recommend(history) - BEST).norm()) < 0.6
    info = strategy.propose(history, 4, torch.Generator().manual_seed(0)).info["local"]
    assert BOX.from_unit(torch.tensor(info["center"], dtype=torch.float64)).tolist() == pytest.approx(
        strategy.recommend(history).tolist()
    )


def test_a_given_start_is_kept_and_few_past_trials_are_not_enough():
    assert LocalDescent(start=(0.5, 0.5)).recommend(past(60)).tolist() == [0.5, 0.5]
    assert LocalDescent().recommend(past(5)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("seed", range(4))
def test_another_objective_is_answered_from_the_outcome(seed):
    """Of the outcome (a, b) + noise: the square of a distance is far harder to learn than the outcome."""

    def simulator(theta, generator):
        return theta + 0.3 * torch.randn(theta.shape, dtype=theta.dtype, generator=generator)

    study = Study(BOX, LocalDescent(objective=lambda y: y.square().sum(-1)), seed=seed)
    study.run(simulator, trials=150)
    goal = torch.tensor([0.3, -0.2], dtype=torch.float64)
    found = study.recommend(objective=lambda y: (y - goal).square().sum(-1))
    assert float((found - goal).square().sum()) < 0.03
