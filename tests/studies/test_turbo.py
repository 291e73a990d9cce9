"""TuRBO-1: where it samples, how its region grows, shrinks and starts again, and what it recommends."""

import math

import pytest
import torch

from diffsim.errors import ArgumentError
from studies.history import History
from studies.spaces.box import Box
from studies.strategies.means import mean_objectives
from studies.strategies.turbo import TuRBO
from studies.study import Study
from surrogates.gaussian_process import gaussian_process

SQUARE = Box({"a": (-1.0, 3.0), "b": (0.0, 0.2)})


def run(simulator, strategy, trials, space=SQUARE, seed=0):
    study = Study(space, strategy, seed=seed)
    study.run(simulator, trials=trials, batch=strategy.points * strategy.repeats, vectorized=True, progress=False)
    return study, [info["turbo"] for info in study.history.info if "turbo" in info]


def test_steps_without_a_gain_halve_the_region_until_it_starts_again():
    _, notes = run(lambda theta, generator: torch.ones(len(theta)), TuRBO(points=4), 4 * 14)
    assert notes[0]["initial"] and len(notes[0]["points"]) == 4  # 2 d
    lengths = [note["length"] for note in notes]
    assert lengths[1:9] == [0.8, *(0.8 / 2**k for k in range(1, 7)), 0.8]
    again = notes[8]
    assert again["initial"] and again["since"] == 4 * 8 and again["best"][1] == pytest.approx(1.0)
    assert not again["points"] == notes[0]["points"]


def test_steps_with_a_gain_double_it():
    space = Box({f"p{i}": (0.0, 1.0) for i in range(20)})
    strategy = TuRBO(points=4, initial=20, candidates=200)
    _, notes = run(lambda theta, generator: theta.sum(1), strategy, 20 + 4 * 4, space)
    states = [(note["successes"], note["length"]) for note in notes]
    first = states.index((0, 1.6))
    assert states[first - 3 : first] == [(0, 0.8), (1, 0.8), (2, 0.8)]


def test_samples_lie_in_the_region_around_the_best_point():
    strategy = TuRBO(points=8, initial=30)
    space = Box({name: (-1.0, 1.0) for name in "abcde"})
    theta = space.sobol(30, seed=0)
    outcome = (theta * torch.tensor([3.0, 1.0, 0.3, 0.1, 0.0])).square().sum(1)
    history = History.from_tensors(space, theta, outcome)
    model = gaussian_process(theta, outcome, bounds=space.bounds)
    best = theta[model.posterior(theta).mean.argmin()]
    scale = model.covar_module.lengthscale.detach().flatten()
    half = scale / scale.log().mean().exp() * 0.8
    points = strategy.propose(history, 8, torch.Generator().manual_seed(0)).theta
    assert bool(((points - best).abs() <= half + 1e-9).all()) and len(points.unique(dim=0)) == 8
    assert half[0] < half[4]


def test_in_many_dimensions_few_coordinates_move():
    space = Box({f"p{i}": (0.0, 1.0) for i in range(60)})
    theta = space.sobol(5, seed=0)
    history = History.from_tensors(space, theta, theta.sum(1))
    points = TuRBO(points=6, initial=4, candidates=400).propose(history, 6, torch.Generator().manual_seed(0)).theta
    moved = (points[:, None] != theta).sum(-1).amin(1)
    assert bool((moved >= 1).all()) and 12 < float(moved.double().mean()) < 28


def test_it_learns_from_a_history_that_is_there_already():
    theta = SQUARE.sobol(20, seed=0)
    history = History.from_tensors(SQUARE, theta, theta[:, 0])
    proposal = TuRBO().propose(history, 4, torch.Generator().manual_seed(0))
    assert not proposal.info["turbo"]["initial"] and proposal.theta[:, 0].max() < 1.5
    few = History.from_tensors(SQUARE, theta[:3], theta[:3, 0])
    assert TuRBO().propose(few, 1, torch.Generator().manual_seed(0)).info["turbo"]["initial"]


def test_the_answer_is_the_models_not_the_luckiest_mean():
    def noisy(theta, generator):
        unit = (theta - SQUARE.bounds[0]) / SQUARE.bounds.diff(dim=0)
        return (unit - 0.3).square().sum(1) + 0.3 * torch.randn(len(theta), generator=generator, dtype=theta.dtype)

    regrets = {"answer": 0.0, "luckiest": 0.0}
    for seed in range(4):
        study, _ = run(noisy, TuRBO(repeats=3), 120, seed=seed)
        means = mean_objectives(None, study.history)
        for name, theta in (("answer", study.recommend()), ("luckiest", means.theta[means.mean.argmin()])):
            unit = (theta - SQUARE.bounds[0]) / SQUARE.bounds.diff(dim=0).flatten()
            regrets[name] += float((unit - 0.3).square().sum()) / 4
    assert regrets["answer"] < min(regrets["luckiest"], 0.05)


def test_means_know_their_errors_and_draw_few_repetitions_to_the_pool():
    generator = torch.Generator().manual_seed(0)
    theta = SQUARE.sobol(50, seed=0)
    outcome = 0.5 * torch.randn(50, 8, generator=generator, dtype=torch.float64)
    history = History.from_tensors(SQUARE, theta.repeat_interleave(8, 0), outcome.flatten())
    means = mean_objectives(None, history)
    assert torch.allclose(means.mean.sort().values, outcome.mean(1).sort().values)
    assert torch.allclose(means.error, torch.full((50,), 0.5 / math.sqrt(8)).double(), rtol=0.5)
    assert means.error.std() < (outcome.std(1) / math.sqrt(8)).std()
    assert mean_objectives(None, History.from_tensors(SQUARE, theta, outcome[:, 0])).error is None
    some = torch.where(torch.arange(50) < 20, torch.nan, outcome[:, 0])
    assert len(mean_objectives(None, History.from_tensors(SQUARE, theta, some)).mean) == 30


@pytest.mark.parametrize("name", ["points", "initial", "repeats", "candidates"])
@pytest.mark.parametrize("count", [0, 1.5, True])
def test_counts_are_checked(name, count):
    with pytest.raises(ArgumentError, match=f"`{name}`"):
        TuRBO(**{name: count})
