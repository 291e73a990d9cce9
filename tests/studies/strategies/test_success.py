"""Where trials fail: the learned border, its gradient, failures at random, and strategies that keep to their side."""

import math

import pytest
import torch

from studies.history import History
from studies.spaces.box import Box
from studies.spaces.parameters import Choice
from studies.spaces.pool import Pool
from studies.strategies.constrained import ConstrainedImprovement
from studies.strategies.local_descent import LocalDescent
from studies.strategies.noisy_improvement import NoisyExpectedImprovement
from studies.strategies.success import Success, coordinates, good_and_bad
from studies.study import Study

BOX = Box({"a": (-2.0, 2.0), "b": (-2.0, 2.0)})


def points(n, d, seed=0):
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("d", [1, 2, 6])
def test_a_border_is_learned(d):
    x, fresh = points(80, d), points(1000, d, seed=1)
    success = Success.learn(x[x[:, 0] < 0.6], x[x[:, 0] >= 0.6])
    assert success is not None
    right = success.allows(fresh) == (fresh[:, 0] < 0.6)
    assert float(right.double().mean()) > 0.93


def test_the_chance_has_the_gradient_of_its_differences():
    x = points(25, 3)
    inside = x.sum(1) < 1.5
    success = Success.learn(x[inside], x[~inside])
    assert success is not None
    at = points(5, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(success.log_chance, (at,))
    value, slope = success.score(at.detach().numpy())
    assert value == pytest.approx(success.log_chance(at).detach().numpy())
    (expected,) = torch.autograd.grad(success.log_chance(at).sum(), at)
    assert slope == pytest.approx(expected.numpy())


def test_failures_at_random_forbid_next_to_nothing():
    x = points(150, 2)
    bad = torch.rand(150, generator=torch.Generator().manual_seed(3)) < 0.1
    success = Success.learn(x[~bad], x[bad])
    assert success is not None and float(success.allows(points(500, 2, seed=1)).double().mean()) > 0.95


def test_without_failures_there_is_nothing_to_learn():
    assert Success.learn(points(5, 2), torch.empty(0, 2, dtype=torch.float64)) is None
    assert Success.learn(torch.empty(0, 2, dtype=torch.float64), points(5, 2)) is None


def test_an_option_that_fails_is_told_from_one_that_does_not():
    box = Box({"solver": Choice("direct", "iterative", "broken"), "tolerance": (0.0, 1.0)})
    theta = box.sample(60, torch.Generator().manual_seed(0))
    success = Success.of(box, theta[theta[:, 0] < 2], theta[theta[:, 0] == 2])
    assert success is not None
    fresh = box.sample(200, torch.Generator().manual_seed(1))
    assert torch.equal(success.allows(coordinates(box, fresh)), fresh[:, 0] < 2)


def test_a_pool_is_measured_in_its_own_widths():
    pool = Pool(torch.stack([torch.linspace(0, 1e6, 30), torch.full((30,), 3.0)], 1), names=("a", "b"))
    seen = coordinates(pool, pool.candidates)
    assert float(seen[:, 0].max()) == 1.0 and bool((seen[:, 1] == 0).all())


def test_objectives_that_are_not_finite_count_as_failures():
    theta = points(4, 2)
    outcome = torch.tensor([1.0, -1.0, 4.0, -4.0], dtype=torch.float64)
    history = History.from_tensors(BOX, theta, outcome, failed=theta[:1] + 1)
    good, bad = good_and_bad(history, torch.sqrt)
    assert torch.equal(good, theta[[0, 2]]) and torch.equal(bad, torch.cat([theta[:1] + 1, theta[[1, 3]]]))


def wall(theta, generator):
    """The best point lies where simulations fail; the best of the others is (.5, .8)."""
    value = (theta - 0.8).square().sum(1)
    return torch.where(theta[:, 0] > 0.5, math.nan, value)


def noisy_wall(theta, generator):
    return wall(theta, generator) + 0.1 * torch.randn(len(theta), generator=generator, dtype=theta.dtype)


@pytest.mark.parametrize("seed", [0, 1])
def test_local_descent_answers_on_the_good_side_of_a_wall(seed):
    study = Study(BOX, LocalDescent(), seed=seed)
    study.run(noisy_wall, trials=300)
    a, b = study.recommend().tolist()
    assert 0.35 < a < 0.55 and abs(b - 0.8) < 0.25
    assert len(study.history.failed) < 200


def test_constrained_improvement_answers_on_the_good_side_of_a_wall():
    study = Study(BOX, ConstrainedImprovement(constraints=(lambda y: 0.05 - y,), initial=8), seed=0)
    study.run(wall, trials=18)
    assert float(wall(study.recommend()[None], None)) < 0.5  # NaN beyond the wall


def test_constrained_improvement_learns_from_objectives_that_are_not_finite():
    """Outcomes are finite everywhere; the objective is not where a is above .5."""

    def value(outcome):
        return torch.where(outcome[:, 1] > 0.5, math.nan, outcome[:, 0])

    def simulator(theta, generator):
        return torch.stack([(theta - 0.8).square().sum(1), theta[:, 0]], 1)

    strategy = ConstrainedImprovement(value, constraints=(lambda y: 0.05 - y[:, 0],), initial=8)
    study = Study(BOX, strategy, seed=0)
    history = study.run(simulator, trials=20)
    assert int((history.theta[8:, 0] > 0.5).sum()) < 6
    assert float(value(simulator(study.recommend()[None], None))) < 0.5


def test_noisy_improvement_evaluates_the_objective_of_its_history_once_a_round():
    calls = []

    def objective(outcome):
        calls.append(len(outcome))
        return outcome

    theta = points(8, 2)
    history = History.from_tensors(BOX, theta, theta.sum(1), failed=theta[:2] - 1)
    strategy = NoisyExpectedImprovement(objective)
    strategy.propose(history, 1, torch.Generator().manual_seed(0))
    strategy.recommend(history)
    assert calls == [8, 8]


@pytest.mark.parametrize("seed", [0, 1])
def test_noisy_improvement_comes_close_to_a_wall_and_answers_before_it(seed):
    study = Study(BOX, NoisyExpectedImprovement(), seed=seed)
    study.run(wall, trials=35)
    assert float(wall(study.recommend()[None], None)) < 0.15  # .09 at the wall, NaN beyond


def test_noisy_improvement_is_not_put_off_by_accidents():
    def fragile(theta, generator):
        value = (theta - 0.8).square().sum(1)
        return torch.where(torch.rand(len(theta), generator=generator) < 0.3, math.nan, value)

    study = Study(BOX, NoisyExpectedImprovement(), seed=0)
    study.run(fragile, trials=30)
    assert float((study.recommend() - 0.8).square().sum()) < 0.05
