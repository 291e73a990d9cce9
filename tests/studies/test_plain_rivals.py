"""Finite differences equal Adam on the exact gradient where they should; random search is not fooled by luck."""

import pytest
import torch

from diffsim.errors import ArgumentError
from studies.history import History
from studies.spaces.box import Box
from studies.spaces.pool import Pool
from studies.strategies.finite_differences import FiniteDifferences
from studies.strategies.random_search import RandomSearch
from studies.study import Study

SQUARE = Box({"a": (-1.0, 3.0), "b": (0.0, 2.0)})
STRETCH = torch.tensor([1.0, 5.0], dtype=torch.float64)


def bowl(theta, generator=None):
    return ((theta - torch.tensor([1.0, 0.5])).square() * STRETCH).sum(-1)


def test_differences_of_a_quadratic_are_adam_on_its_gradient():
    """Central differences of a quadratic are exact, whatever the step."""
    study = Study(SQUARE, FiniteDifferences(start=(2.5, 1.5), step=(0.2, 0.1), lr=0.05))
    theta = torch.tensor([2.5, 1.5], dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([theta], lr=0.05, eps=1e-12)
    for step in range(1, 30):
        study.run(bowl, trials=4 * step, batch=4, progress=False)
        adam.zero_grad()
        bowl(theta).backward()
        adam.step()
        assert torch.allclose(study.recommend(), theta.detach(), atol=1e-9)


def test_at_a_bound_the_difference_is_one_sided_and_the_walk_stays_inside():
    study = Study(SQUARE, FiniteDifferences(start=(-1.0, 2.0), step=0.1, lr=0.5))
    history = study.run(lambda theta, generator: theta @ torch.tensor([1.0, -2.0]).double(), trials=40, batch=4)
    assert study.recommend().tolist() == [-1.0, 2.0] and SQUARE.contains(history.theta).all()
    start = History(SQUARE)
    points = FiniteDifferences(start=(-1.0, 2.0)).propose(start, 3, torch.Generator()).theta
    assert torch.allclose(points, torch.tensor([[-0.9, 2.0], [-1.0, 2.0], [-1.0, 1.9]]).double())


def test_a_parameter_whose_point_fails_moves_away_from_it():
    def fragile(theta, generator):
        return torch.where(theta[:, 0] > 2.5, torch.nan, bowl(theta))

    study = Study(SQUARE, FiniteDifferences(start=(2.45, 1.5), step=0.1))
    study.run(fragile, trials=4, progress=False, batch=4)
    assert study.recommend().tolist() == pytest.approx([2.35, 1.4])


@pytest.mark.parametrize(("border", "lr"), [(1.3, 0.05), (1.3, 0.3), (1.75, 0.1)])
def test_the_descent_does_not_walk_over_a_wall_of_failures(border, lr):
    """The minimum, (1, .5), lies beyond the wall; momentum would carry the iterate there."""

    def walled(theta, generator):
        return torch.where(theta[:, 0] < border, torch.nan, bowl(theta))

    study = Study(SQUARE, FiniteDifferences(start=(2.5, 1.5), step=0.1, lr=lr))
    history = study.run(walled, trials=400, progress=False, max_failures=100)
    a, b = study.recommend().tolist()
    assert border < a < border + 0.5 and abs(b - 0.5) < 0.3
    assert len(history.failed) < 150


@pytest.mark.parametrize("scale", [1e-14, 1e12])
def test_the_descent_does_not_depend_on_the_objectives_unit(scale):
    studies = [Study(SQUARE, FiniteDifferences(lambda y, u=unit: u * y, start=(2.5, 1.5))) for unit in (1.0, scale)]
    for study in studies:
        study.run(bowl, trials=60, progress=False)
    assert torch.allclose(studies[0].recommend(), studies[1].recommend(), rtol=1e-6)


@pytest.mark.parametrize(("name", "width"), [("step", 0.0), ("lr", (0.1, -1.0)), ("step", (0.1,) * 3)])
def test_widths_are_checked(name, width):
    study = Study(SQUARE, FiniteDifferences(**{name: width}))
    with pytest.raises(ArgumentError, match=f"`{name}`"):
        study.run(bowl, trials=5, batch=4, progress=False)


def test_random_search_takes_the_best_neighbourhood_not_the_luckiest_draw():
    def noisy(theta, generator):
        return bowl(theta) + 3 * torch.randn(len(theta), generator=generator, dtype=theta.dtype)

    regret = {"answer": 0.0, "luckiest": 0.0}
    for seed in range(8):
        study = Study(SQUARE, RandomSearch(), seed=seed)
        history = study.run(noisy, trials=400, batch=400, vectorized=True, progress=False)
        regret["answer"] += float(bowl(study.recommend())) / 8
        regret["luckiest"] += float(bowl(history.theta[history.outcome.argmin()])) / 8
    assert regret["answer"] < 0.8 * regret["luckiest"]


def test_without_noise_random_search_takes_nearly_the_best_point():
    study = Study(SQUARE, RandomSearch(), seed=0)
    history = study.run(bowl, trials=500, batch=500, vectorized=True, progress=False)
    assert bowl(study.recommend()) < history.outcome.sort().values[12]


def test_random_search_repeats_points_and_uses_a_pool_up():
    pool = Pool(SQUARE.sample(6, torch.Generator().manual_seed(0)), ["a", "b"])
    history = Study(pool, RandomSearch(repeats=3), seed=2).run(bowl, trials=18, batch=4, progress=False)
    assert history.theta.unique(dim=0, return_counts=True)[1].tolist() == [3] * 6
