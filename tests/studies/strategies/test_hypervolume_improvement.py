"""Several objectives: the contract, the front and its volume against the exact ones, noise, constraints, references."""

import math

import pytest
import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.contracts import check_strategy
from studies.errors import StudyError
from studies.history import History
from studies.spaces.box import Box
from studies.strategies.hypervolume import HypervolumeImprovement
from studies.study import Study

SQUARE = Box({"a": (-1.0, 2.0), "b": (0.0, 1.0)})


def first(outcome):
    return outcome[:, 0]


def second(outcome):
    return outcome[:, 1]


STRATEGY = HypervolumeImprovement([first, second], reference=(1.0, 1.0), initial=6)


def two_bowls(theta, generator=None):
    """Squared distances to (0, .5) and to (1, .5): the front is sqrt(f) + sqrt(g) = 1, on the line between them."""
    offset = (theta[:, 1] - 0.5).square()
    return torch.stack([theta[:, 0].square() + offset, (theta[:, 0] - 1).square() + offset], -1)


EXACT = 5 / 6  # of the unit square, above the front: 1 - the integral of (1 - sqrt(f))^2


def test_contract():
    theta = SQUARE.sample(14, torch.Generator().manual_seed(0))
    outcome = two_bowls(theta[:8])
    failed = History.from_tensors(SQUARE, theta[:0], outcome[:0], failed=theta[11:])
    check_strategy(STRATEGY, SQUARE, [History(SQUARE), failed])
    full = History.from_tensors(SQUARE, theta[:8], outcome, theta[8:11], theta[11:])
    check_strategy(HypervolumeImprovement([first, second]), SQUARE, [full], n=[2])


def test_the_front_is_found_and_its_volume_grows():
    study = Study(SQUARE, STRATEGY, seed=0)
    history = study.run(two_bowls, trials=20, batch=2, progress=False)
    front = STRATEGY.front(history)
    outcome = two_bowls(front.theta)
    assert len(front) >= 6 and front.mean.shape == front.deviation.shape == (len(front), 2)
    assert (outcome.sqrt().sum(1) < 1.15).all()
    assert torch.allclose(front.mean, outcome, atol=0.03)
    assert (front.mean[:, 0].diff() > 0).all() and (front.mean[:, 1].diff() < 0).all()
    assert 0.72 < front.volume < EXACT + 0.01
    sobol = SQUARE.sobol(20, seed=0)
    assert front.volume > STRATEGY.front(History.from_tensors(SQUARE, sobol, two_bowls(sobol))).volume
    with pytest.raises(
        StudyError, match=r"several objectives, and no single answer. Use `strategy.front\(study.history\)`"
    ):
        study.recommend()


def test_units_of_the_objectives_change_nothing():
    unit = 2.0**-40
    theta = SQUARE.sobol(10, seed=0)
    history = History.from_tensors(SQUARE, theta, two_bowls(theta))
    small = HypervolumeImprovement([lambda y: unit * y[:, 0], second], reference=(unit, 1.0), initial=6)
    first, other = (one.propose(history, 2, torch.Generator().manual_seed(0)).theta for one in (STRATEGY, small))
    assert torch.allclose(first, other, atol=1e-3)
    front, scaled = STRATEGY.front(history), small.front(history)
    assert torch.equal(front.theta, scaled.theta) and scaled.volume == pytest.approx(unit * front.volume, rel=1e-3)
    assert torch.allclose(scaled.mean, front.mean * torch.tensor([unit, 1.0]), rtol=1e-3)


def test_the_front_holds_no_lucky_draw():
    theta = SQUARE.sobol(60, seed=0)
    outcome = two_bowls(theta) + 0.1 * torch.randn(60, 2, generator=torch.Generator().manual_seed(0)).double()
    front = STRATEGY.front(History.from_tensors(SQUARE, theta, outcome))
    error = (front.mean - two_bowls(front.theta)).abs()
    assert error.mean() < 0.06 and (error / front.deviation).max() < 4
    assert (outcome.min(0).values < front.mean.min(0).values - 0.02).any()


def test_a_constraint_cuts_the_front():
    strategy = HypervolumeImprovement([first, second], (1.0, 1.0), [lambda y: 0.16 - y[:, 0]], initial=6)
    study = Study(SQUARE, strategy, seed=1)
    history = study.run(two_bowls, trials=14, progress=False)
    front = strategy.front(history)
    assert len(front) and (two_bowls(front.theta)[:, 0] > 0.14).all()


def test_a_front_of_nothing_is_empty_and_references_may_be_guessed():
    assert len(STRATEGY.front(History(SQUARE))) == 0 and STRATEGY.front(History(SQUARE)).volume == 0
    theta = SQUARE.sobol(16, seed=0)
    history = History.from_tensors(SQUARE, theta, two_bowls(theta))
    front = HypervolumeImprovement([first, second]).front(history)
    assert len(front) and front.volume > 0 and math.isfinite(front.volume)


def test_settings_are_checked():
    with pytest.raises(ArgumentError, match="at least two"):
        HypervolumeImprovement([first])
    with pytest.raises(ArgumentTypeError, match="`objectives` must be a list"):
        HypervolumeImprovement(first)
    with pytest.raises(ArgumentError, match="`reference` must hold 2"):
        HypervolumeImprovement([first, second], reference=(1.0,))
    with pytest.raises(ArgumentTypeError, match="`objectives` must hold functions"):
        HypervolumeImprovement([first, 3])
