"""The published loop: Adam on the surrogate's gradient, a Latin hypercube, rows of the local box, clipped steps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.training.settings import Training
from studies.contracts import check_strategy
from studies.history import History
from studies.spaces.box import Box
from studies.strategies.paper_loop import PaperLoop
from studies.strategies.settings import check_count
from studies.study import Study
from surrogates.generators.mixture import MixtureDensityNetwork
from surrogates.generators.response import LinearResponse
from surrogates.problems.hump import Hump2

SQUARE = Box({"a": (-3.0, 3.0), "b": (-3.0, 3.0)})
SLOPE = torch.tensor([1.0, -2.0], dtype=torch.float64)


def slope(theta, generator):
    return theta @ SLOPE[:, None] + 0.01 * torch.randn(len(theta), 1, generator=generator)


def small(**settings):
    return PaperLoop(lambda: LinearResponse(2), points=5, repeats=4, samples=50, **settings)


def walk(study, simulator, rounds):
    points = []
    for n in range(1, rounds + 1):
        study.run(simulator, rounds=n, vectorized=True, progress=False)
        points.append(study.recommend())
    return torch.stack(points)


def adam(gradient, start, lr, steps):
    theta = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer, points = torch.optim.Adam([theta], lr=lr), []
    for _ in range(steps):
        theta.grad = gradient(theta.detach())
        optimizer.step()
        points.append(theta.detach().clone())
    return torch.stack(points)


def test_on_a_plane_it_is_adam():
    points = walk(Study(SQUARE, small(lr=0.05, eps=0.3)), slope, 4)
    assert torch.allclose(points, adam(lambda theta: SLOPE, (0.0, 0.0), 0.05, 4), atol=0.01)


def test_a_step_is_never_longer_than_eps():
    points = walk(Study(SQUARE, small(lr=1.0, eps=0.1)), slope, 3)
    steps = torch.cat([torch.zeros(1, 2), points]).diff(dim=0)
    assert torch.allclose(steps.norm(dim=1), torch.full((3,), 0.1).double())


@given(st.integers(1, 12), st.integers(1, 3), st.integers(0, 100))
def test_points_are_a_latin_hypercube_about_the_centre(points, repeats, seed):
    strategy = PaperLoop(lambda: LinearResponse(2), start=(0.5, -1), eps=0.2, points=points, repeats=repeats)
    n = strategy.batch(History(SQUARE))
    theta = strategy.propose(History(SQUARE), n, torch.Generator().manual_seed(seed)).theta
    assert n == (points + 1) * repeats and torch.equal(theta[::repeats], theta[repeats - 1 :: repeats])
    *others, center = theta[::repeats]
    assert torch.equal(center, torch.tensor([0.5, -1.0]).double())
    cells = ((torch.stack(others) - center + 0.2) / 0.4 * points).floor()
    assert all(sorted(column) == list(range(points)) for column in cells.T.tolist())


def test_all_rows_of_the_local_box_are_fitted_and_no_others():
    seen = []

    class Watched(LinearResponse):
        def fit(self, theta, outcome, x=None, training=Training()):
            seen.append(theta)
            return super().fit(theta, outcome, x, training)

    study = Study(SQUARE, PaperLoop(lambda: Watched(2), points=5, repeats=4, samples=50, eps=0.15))
    centers = torch.cat([torch.zeros(1, 2), walk(study, slope, 3)])
    for k, rows in enumerate(seen[::2]):  # once for each recommendation, once for the step after it
        known = study.history.theta[: 24 * (k + 1)]
        assert torch.equal(rows, known[((known - centers[k]).abs() < 0.15).all(1)])
    assert 24 < len(seen[4]) < 72  # some of the steps before, not all


def test_it_keeps_the_contract_at_every_stage():
    study, histories = Study(SQUARE, small(start=(3.0, -3.0), eps=0.5)), []
    for n in (10, 24, 30, 48):
        histories.append(study.run(slope, trials=n, vectorized=True, progress=False))
    check_strategy(small(start=(3.0, -3.0), eps=0.5), SQUARE, histories, n=(1, 14, 30))
    check_strategy(small())
    assert SQUARE.contains(study.history.tried).all()


def test_a_round_may_come_in_pieces():
    study = Study(SQUARE, small())
    for n, left in ((10, 14), (24, 24), (30, 18)):
        assert small().batch(study.run(slope, trials=n, vectorized=True, progress=False)) == left
    assert len({tuple(row.tolist()) for row in study.history.theta[:24]}) == 6


def test_inputs_and_vector_outcomes():
    class Beam:
        def inputs(self, n, generator):
            return torch.randn(n, 1, dtype=torch.float64, generator=generator)

        def __call__(self, theta, x, generator, /):
            return torch.stack([theta[:, 0] + x[:, 0], theta[:, 1]], 1)

    strategy = PaperLoop(
        lambda: LinearResponse(2, 2, 1),
        objective=lambda y, x: (y[:, 0] - x[:, 0]).square() + (y[:, 1] - 1).square(),
        start=(0.5, 0.0),
        points=5,
        repeats=4,
        samples=200,
        eps=0.3,
    )
    points = walk(Study(SQUARE, strategy), Beam(), 3)
    assert torch.allclose(points, adam(lambda theta: 2 * (theta - torch.tensor([0, 1])), (0.5, 0.0), 0.1, 3), atol=0.02)


def test_where_everything_fails_it_stays_and_goes_on():
    def broken(theta, generator):
        calls.append(len(theta))
        return torch.full((len(theta),), torch.nan) if len(calls) == 1 else slope(theta, generator)

    calls = []
    study = Study(SQUARE, small())
    history = study.run(broken, rounds=3, vectorized=True, max_failures=99, progress=False)
    points = [info["paper"]["theta"] for info in history.info]
    assert points[0] == points[1] != points[2] and len(history.failed) == 24


def test_it_goes_down_on_the_hump():
    problem = Hump2()
    make = lambda: MixtureDensityNetwork(2, 1, 2, hidden=(16,))  # noqa: E731
    strategy = PaperLoop(make, problem.objective, problem.start, eps=0.5, points=8, repeats=60, samples=500)
    study = Study(Box(problem.space_bounds), strategy)
    study.run(problem, rounds=3, vectorized=True, progress=False)
    assert problem.exact(study.recommend()) < problem.exact(torch.tensor(problem.start)) - 0.015


def test_arguments_are_checked():
    with pytest.raises(ArgumentTypeError, match="`surrogate` must be a function"):
        PaperLoop(LinearResponse(2))
    for name, value in (("eps", 0.0), ("lr", float("inf")), ("points", 0), ("repeats", 1.5), ("samples", True)):
        with pytest.raises(ArgumentError, match=f"`{name}`"):
            small(**{name: value}) if name in ("eps", "lr") else check_count(name, value)
    with pytest.raises(ArgumentError, match="`start` must lie in"):
        Study(SQUARE, small(start=(9, 9))).ask()
