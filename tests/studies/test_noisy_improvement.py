"""Noisy expected improvement: repeated points, the model's answer with its uncertainty, pending points."""

import numpy as np
import pytest
import torch

from diffsim.errors import ArgumentError
from studies.history import History, Trial
from studies.spaces.box import Box
from studies.strategies.improvement_model import ImprovementModel
from studies.strategies.means import mean_objectives
from studies.strategies.noisy_improvement import NoisyExpectedImprovement
from studies.study import Study

SQUARE = Box({"a": (-1.0, 3.0), "b": (0.0, 0.2)})
LOW, HIGH = SQUARE.bounds


def bowl(theta):
    return (((theta - LOW) / (HIGH - LOW) - torch.tensor([0.3, 0.6])).square()).sum(-1)


def noisy(theta, generator):
    return bowl(theta) + 0.1 * torch.randn(len(theta), generator=generator, dtype=theta.dtype)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def known(n, repeats, seed=0):
    theta = SQUARE.sobol(n, seed=seed).repeat_interleave(repeats, 0)
    return History.from_tensors(SQUARE, theta, noisy(theta, seeded(seed)))


def test_points_are_repeated_and_begin_at_the_start():
    strategy = NoisyExpectedImprovement(repeats=4, start=(0.0, 0.1), initial=3)
    history = Study(SQUARE, strategy, seed=1).run(noisy, trials=20, batch=5, progress=False)
    assert history.theta[0].tolist() == [0.0, 0.1]
    points = history.theta.reshape(5, 4, 2)
    assert torch.equal(points, points[:, :1].expand_as(points)) and len(history.theta.unique(dim=0)) == 5
    asked = [("acquisition" in info) for info in history.info]
    assert asked == [False, False, True, True]  # the third round begins the fourth point
    mean, deviation = history.info[-1]["estimate"]
    assert abs(mean - bowl(history.theta).min()) < 0.3 and 0 < deviation < 0.3


@pytest.mark.parametrize("repeats", [1, 8])
def test_the_answer_and_its_uncertainty(repeats):
    strategy = NoisyExpectedImprovement(repeats=repeats)
    errors, scores = [], []
    for seed in range(4):
        history = known(40, repeats, seed)
        best = strategy.recommend(history)
        mean, deviation = strategy.estimate(history, torch.cat([best[None], history.theta]))
        assert mean.shape == deviation.shape == (1 + len(history.theta),)
        assert mean[0] <= mean.min() + deviation[0]
        errors.append(float(bowl(best)))
        scores.append(float((mean[0] - bowl(best)) / deviation[0]))
    assert max(errors) < 0.03
    assert max(map(abs, scores)) < 4


def test_every_other_time_a_gain_must_exceed_the_noise():
    for n, repeats in ((20, 1), (21, 1), (20, 8), (21, 8)):
        means = mean_objectives(None, known(n, repeats))
        model = ImprovementModel.fit(means, SQUARE, seeded())
        least = model.mixture.predict(model.mixture.x).mean.min(1)
        margin = least - model.improvement(SQUARE.sample(0, seeded()), seeded()).least
        assert np.allclose(margin, 0 if n % 2 else model.noise[:, None])
        if repeats == 8:
            assert 0.05 < model.scale * model.noise.mean() * repeats**0.5 < 0.2, "the standard deviation is .1"


def test_points_under_way_are_not_proposed_again():
    strategy = NoisyExpectedImprovement()
    history = known(20, 1)
    first = strategy.propose(history, 1, seeded()).theta
    trials = (*history.trials, Trial(20, 0, first[0]))
    second = strategy.propose(History(SQUARE, trials, ({},)), 3, seeded()).theta
    together = torch.cat([first, second]) / (HIGH - LOW)
    assert torch.pdist(together).min() > 1e-3


def test_counts_are_checked():
    with pytest.raises(ArgumentError, match="`initial`"):
        NoisyExpectedImprovement(initial=0)


def test_an_estimate_needs_trials_and_rows():
    strategy, theta = NoisyExpectedImprovement(), torch.rand(3, 2, dtype=torch.float64)
    with pytest.raises(ArgumentError, match="`history` must hold a complete trial"):
        strategy.estimate(History(SQUARE), theta)
    history = History.from_tensors(SQUARE, theta, theta.sum(1))
    with pytest.raises(ArgumentError, match=r"`theta` must have shape \[n, 2\], got \[2\]"):
        strategy.estimate(history, theta[0])
