"""Noisy expected improvement on boxes of any kind, with points under way, repetitions and unequal noise."""

import pytest
import torch

from studies.contracts import check_strategy
from studies.history import History
from studies.spaces.box import Box
from studies.spaces.constraints import Linear, Nonlinear
from studies.spaces.parameters import Choice, Integer, Log
from studies.strategies.noisy_improvement import NoisyExpectedImprovement
from studies.strategies.random import Random
from studies.study import Study

MIXED = Box(
    {"rate": Log(1e-4, 1.0), "blades": Integer(2, 30), "material": Choice("steel", "brass", "oak"), "a": (0, 1)}
)
GRID = Box({"blades": Integer(1, 3), "material": Choice("steel", "brass", "oak")})
RING = Box(
    {"a": (-1, 1), "b": (-1, 1)},
    constraints=[
        Nonlinear(lambda theta: 0.8 - theta.square().sum(-1)),
        Nonlinear(lambda theta: theta.square().sum(-1) - 0.5),
    ],
)
CORNER = Box({"a": (0, 1), "b": (0, 1), "c": (0, 1)}, constraints=[Linear({"a": 1.0, "b": 1.0, "c": 1.0}, most=1.0)])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pump(theta, generator=None):
    """Least, 0, at a rate of .01, 17 blades of brass, a = .3."""
    rate, blades, material, a = theta.unbind(-1)
    return (rate.log10() + 2).square() + ((blades - 17) / 10).square() + 0.5 * (material - 1).abs() + (a - 0.3).square()


@pytest.mark.parametrize("box", [MIXED, GRID, RING, CORNER], ids=["mixed", "grid", "ring", "corner"])
def test_contract(box):
    theta = box.sample(6, seeded())
    outcome = theta.sum(1)
    histories = [
        History(box),
        History.from_tensors(box, theta, outcome),
        History.from_tensors(box, theta, outcome, pending=box.sample(2, seeded(1)), failed=box.sample(1, seeded(2))),
    ]
    check_strategy(NoisyExpectedImprovement(initial=4), box, histories, n=(1, 2))


def test_mixed_parameters_are_searched_together():
    study = Study(MIXED, NoisyExpectedImprovement(), seed=0)
    history = study.run(pump, trials=35, vectorized=True, executor="here", progress=False)
    best = MIXED.to_dict(study.recommend())
    assert best["material"] == "brass" and abs(best["blades"] - 17) <= 1
    assert float(pump(study.recommend())) < 0.02
    assert len(history.theta.unique(dim=0)) == 35
    random = Study(MIXED, Random(), seed=0).run(pump, trials=35, vectorized=True, executor="here", progress=False)
    assert history.outcome.min() < random.outcome.min()


def test_a_grid_is_tried_whole_before_a_point_is_repeated():
    study = Study(GRID, NoisyExpectedImprovement(), seed=1)
    history = study.run(lambda theta, g: theta.sum(1), trials=11, vectorized=True, executor="here", progress=False)
    assert len(history.theta[:9].unique(dim=0)) == 9 and len(history.theta) == 11
    assert study.recommend().tolist() == [1.0, 0.0]


def test_the_least_value_on_a_ring_lies_on_its_edge():
    """The distance to (2, 0) is least where the ring ends, at sqrt(.8)."""

    def distance(theta, generator):
        return (theta - torch.tensor([2.0, 0.0])).square().sum(-1)

    study = Study(RING, NoisyExpectedImprovement(), seed=0)
    history = study.run(distance, trials=18, vectorized=True, executor="here", progress=False)
    assert RING.contains(history.theta).all()
    assert study.recommend().tolist() == pytest.approx([0.8**0.5, 0.0], abs=0.03)


def test_a_linear_constraint_is_reached():
    def gap(theta, generator):
        return (theta - torch.tensor([1.0, 0.6, -0.2])).square().sum(-1)

    study = Study(CORNER, NoisyExpectedImprovement(), seed=0)
    history = study.run(gap, trials=16, vectorized=True, executor="here", progress=False)
    assert CORNER.contains(history.theta).all()
    assert study.recommend().tolist() == pytest.approx([0.7, 0.3, 0.0], abs=0.03)


def test_a_batch_is_worth_several_trials():
    """Rounds of four find the least value of a bowl, and no two of their points are close."""
    box = Box({"a": (-1, 1), "b": (-1, 1)})

    def bowl(theta, generator):
        return (theta - torch.tensor([0.31, -0.52])).square().sum(-1)

    study = Study(box, NoisyExpectedImprovement(), seed=3)
    history = study.run(bowl, trials=24, batch=4, vectorized=True, executor="here", progress=False)
    assert (study.recommend() - torch.tensor([0.31, -0.52])).abs().max() < 0.02
    assert torch.pdist(history.theta[:16]).min() > 1e-3


def test_points_under_way_move_the_next_one_away():
    box = Box({"a": (0, 1)})
    theta = torch.linspace(0, 1, 6).double()[:, None]
    history = History.from_tensors(box, theta, (theta[:, 0] - 0.52).square())
    strategy = NoisyExpectedImprovement()
    alone = strategy.propose(history, 1, seeded()).theta
    waiting = History.from_tensors(box, theta, (theta[:, 0] - 0.52).square(), pending=alone)
    assert (strategy.propose(waiting, 1, seeded()).theta - alone).abs() > 1e-3


def test_unequal_noise_is_learnt_from_repetitions():
    """The left half is noisy, the right exact: the model is unsure on the left only."""
    box = Box({"a": (0, 1)})
    theta = torch.linspace(0.02, 0.98, 16).double()[:, None].repeat_interleave(40, 0)
    noise = torch.where(theta[:, 0] < 0.5, 0.5, 1e-3) * torch.randn(640, generator=seeded(), dtype=torch.float64)
    history = History.from_tensors(box, theta, (3 * theta[:, 0]).sin() + noise)
    _, deviation = NoisyExpectedImprovement(repeats=40).estimate(history, torch.tensor([[0.25], [0.75]]))
    assert deviation[0] > 2 * deviation[1]


def test_one_value_and_equal_values_are_enough():
    box = Box({"a": (0, 1), "b": (0, 1)})
    strategy = NoisyExpectedImprovement(initial=1)
    for n in (1, 5):
        history = History.from_tensors(box, box.sobol(n, seed=0), torch.ones(n))
        assert box.contains(strategy.propose(history, 2, seeded()).theta).all()
        assert box.contains(strategy.recommend(history)[None]).all()
        mean, deviation = strategy.estimate(history, box.sobol(3, seed=1))
        assert mean.tolist() == pytest.approx([1.0] * 3) and (deviation > 0).all()
