"""Constraints on the outcome: the contract, the answer at a constraint's edge, its chance to be feasible, failures."""

import pytest
import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.contracts import check_strategy
from studies.history import History
from studies.spaces.box import Box
from studies.spaces.pool import Pool
from studies.strategies.constrained import ConstrainedImprovement
from studies.study import Study

SQUARE = Box({"a": (-1.0, 2.0), "b": (0.0, 1.0)})


def cost(outcome):
    return outcome[:, 0]


def load(outcome):
    return outcome[:, 1] - 1.0


STRATEGY = ConstrainedImprovement(cost, [load], initial=6)


def bridge(theta, generator):
    """The cheapest is at (-1, 0), but the load exceeds 1 where a + b < .5: the answer's cost is .5."""
    a, b = theta.unbind(-1)
    return torch.stack([a + b + 0.3 * (a - 0.5).square() + 0.2 * b.square(), 1.5 - a - b], -1)


def feasible(theta):
    outcome = bridge(theta, None)
    return load(outcome) <= 0


def true_best():
    grid = SQUARE.from_unit(torch.cartesian_prod(*[torch.linspace(0, 1, 301).double()] * 2))
    return float(cost(bridge(grid[feasible(grid)], None)).min())


def test_contract():
    theta = SQUARE.sample(14, torch.Generator().manual_seed(0))
    outcome = bridge(theta[:8], None)
    failed = History.from_tensors(SQUARE, theta[:0], outcome[:0], failed=theta[11:])
    check_strategy(STRATEGY, SQUARE, [History(SQUARE), failed])
    check_strategy(STRATEGY, SQUARE, [History.from_tensors(SQUARE, theta[:8], outcome, theta[8:11], theta[11:])])


def test_the_best_feasible_point_is_found_and_said_to_be_feasible():
    study = Study(SQUARE, STRATEGY, seed=0)
    history = study.run(bridge, trials=18, progress=False)
    best = study.recommend()[None]
    assert feasible(best) and float(cost(bridge(best, None))) < true_best() + 0.05
    mean, deviation, probability = STRATEGY.estimate(history, torch.cat([best, torch.tensor([[-1.0, 0.0]])]))
    assert abs(float(mean[0] - cost(bridge(best, None)))) < 0.02 and deviation.shape == (2,)
    assert probability[0] > 0.94 and probability[1] < 0.1


def test_the_answer_avoids_a_lucky_infeasible_draw():
    def noisy(theta, generator):
        return bridge(theta, generator) + 0.1 * torch.randn(len(theta), 2, generator=generator, dtype=theta.dtype)

    for seed in range(2):
        theta = SQUARE.sobol(40, seed=seed)
        history = History.from_tensors(SQUARE, theta, noisy(theta, torch.Generator().manual_seed(seed)))
        best = STRATEGY.recommend(history)[None]
        assert feasible(best) and float(cost(bridge(best, None))) < true_best() + 0.15


def test_where_nothing_is_feasible_the_likeliest_point_is_the_answer():
    strategy = ConstrainedImprovement(cost, [lambda y: y[:, 1] + 3.0])  # the load is -1.5 at its least
    theta = SQUARE.sobol(12, seed=0)
    history = History.from_tensors(SQUARE, theta, bridge(theta, None))
    best = strategy.recommend(history)
    chance = strategy.estimate(history, torch.cat([best[None], theta, SQUARE.sobol(50, seed=1)]))[2]
    assert chance[0] < 0.95 and chance[0] >= chance.max() * 0.99


def test_units_of_the_outcome_change_nothing():
    """A load in 1e-12 of its unit: thresholds of the acquisition on an absolute scale would not see it."""
    unit = 2.0**-40
    theta = SQUARE.sobol(10, seed=0)
    history = History.from_tensors(SQUARE, theta, bridge(theta, None))
    small = ConstrainedImprovement(lambda y: unit * cost(y), [lambda y: unit * load(y)], initial=6)
    first, second = (one.propose(history, 2, torch.Generator().manual_seed(0)).theta for one in (STRATEGY, small))
    assert torch.allclose(first, second, atol=1e-3)
    assert torch.allclose(STRATEGY.recommend(history), small.recommend(history), atol=1e-3)
    mean, deviation, chance = STRATEGY.estimate(history, theta)
    estimate = small.estimate(history, theta)
    assert torch.allclose(estimate[0], unit * mean, rtol=1e-3) and torch.allclose(
        estimate[1], unit * deviation, rtol=0.1
    )
    assert torch.allclose(estimate[2], chance, atol=1e-3)


def test_a_pool_and_rows_that_are_not_finite():
    pool = Pool(SQUARE.sample(60, torch.Generator().manual_seed(0)), ["a", "b"])

    def partial(theta, generator):
        outcome = bridge(theta, generator)
        return torch.where(theta[:, :1] > 1.5, torch.nan, outcome)

    study = Study(pool, STRATEGY, seed=0)
    study.run(partial, trials=16, batch=4, progress=False)
    best = study.recommend()[None]
    allowed = feasible(pool.candidates)
    assert feasible(best) and pool.contains(best)
    assert float(cost(bridge(best, None))) <= float(cost(bridge(pool.candidates[allowed], None)).sort().values[3])


def test_settings_are_checked():
    with pytest.raises(ArgumentError, match="one function at least"):
        ConstrainedImprovement(cost)
    with pytest.raises(ArgumentTypeError, match="`constraints` must be a list"):
        ConstrainedImprovement(cost, load)
    with pytest.raises(ArgumentError, match="`history` must hold a complete trial"):
        STRATEGY.estimate(History(SQUARE), torch.zeros(1, 2))
    with pytest.raises(ArgumentTypeError, match="`constraints` must hold functions of the outcome, got None"):
        ConstrainedImprovement(cost, [None])
    wrong = ConstrainedImprovement(cost, [lambda y: y])
    with pytest.raises(ArgumentError, match=r"constraint\(outcome\) must have shape \[8\] or \[8, 1\], got \[8, 2\]"):
        wrong.recommend(History.from_tensors(SQUARE, SQUARE.sobol(8, seed=0), torch.zeros(8, 2)))
    with pytest.raises(ArgumentError, match="`probability`"):
        ConstrainedImprovement(cost, [load], probability=1.0)
    with pytest.raises(ArgumentError, match="`initial`"):
        ConstrainedImprovement(cost, [load], initial=0)
