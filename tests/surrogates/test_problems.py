"""The stochastic test problems: exact objectives against known numbers and against the simulators themselves."""

import importlib.util
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffsim.errors import ArgumentError
from surrogates.problems import Boston91, Hump2, Hump40, Problem, Rosenbrock10, Rosenbrock100, hide_inputs
from surrogates.problems.hump import _mixing as hump_mixing
from surrogates.problems.rosenbrock import _mixing as rosenbrock_mixing
from surrogates.simulator import Cost, InputSimulator, check_simulator

NOISY = [Hump2(), Hump40(), Rosenbrock10(), Rosenbrock100()]
WITH_DATA = pytest.mark.skipif(importlib.util.find_spec("mlxtend") is None, reason="needs the extra `boston`")
PROBLEMS = [*NOISY, pytest.param(Boston91(), marks=WITH_DATA)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def start(problem):
    return torch.tensor(problem.start, dtype=torch.float64)


def near(problem, n):
    """Points about the start, inside the box."""
    low, high = torch.tensor(list(problem.space_bounds.values()), dtype=torch.float64).T
    noise = torch.randn(n, len(low), dtype=torch.float64, generator=seeded(1))
    return (start(problem) + 0.03 * (high - low) * noise).clamp(low, high)


def measured(problem, theta, n, seed=0):
    """The mean objective of n simulations at one theta, and its standard error."""
    x = problem.inputs(n, seeded(seed))
    r = problem.objective(problem(theta.expand(n, -1), x, seeded(seed + 100)), x)
    assert r.shape == (n,)
    return r.mean().item(), r.std().item() / math.sqrt(n)


@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
def test_problems_keep_the_contract(problem):
    assert isinstance(problem, Problem) and isinstance(problem, InputSimulator)
    check_simulator(problem, near(problem, 3))
    assert problem.cost == Cost()
    assert len(problem.start) == len(problem.space_bounds)
    low, high = torch.tensor(list(problem.space_bounds.values()), dtype=torch.float64).T
    assert bool(((low <= start(problem)) & (start(problem) <= high)).all())
    assert pickle.loads(pickle.dumps(problem)) == problem


@pytest.mark.parametrize(
    ("problem", "theta", "expected"),
    [
        (Hump2(), (2.0, 0.0), -0.4993),
        (Hump2(), (0.0, 1.233), -0.8582),
        (Hump2(), (0.0, -1.233), -0.8582),
        (Hump40(), Hump40().start, -0.5198),
        (Rosenbrock10(), (2.0,) * 10, 45.0),
        (Rosenbrock10(), (1.0,) * 10, 0.0),
        (Rosenbrock100(), (0.0,) * 100, 9.0),
    ],
    ids=repr,
)
def test_known_values(problem, theta, expected):
    assert problem.exact(torch.tensor(theta, dtype=torch.float64)).item() == pytest.approx(expected, abs=5e-5)


def test_minima():
    line = torch.linspace(1.2, 1.26, 121, dtype=torch.float64)
    cusp = Hump2().exact(torch.stack([torch.zeros_like(line), line], -1))
    assert cusp.min().item() == pytest.approx(Hump2.minimum, abs=1e-6)
    everywhere = Hump2().exact(torch.rand(4000, 2, dtype=torch.float64, generator=seeded()) * 10 - 5)
    assert everywhere.min() > Hump2.minimum
    plateau = Hump2().exact(torch.tensor([[0.5, 0.0], [-1.7, 0.0], [2.0, 0.0]], dtype=torch.float64))
    assert torch.allclose(plateau, torch.tensor(-0.5, dtype=torch.float64), atol=0.01)
    # The minima lie in the images of the mixed problems, too.
    inner, outer = hump_mixing()
    best = inner @ torch.atanh(outer @ torch.tensor([0.0, 1.23232], dtype=torch.float64))
    assert Hump40().exact(best).item() == pytest.approx(Hump40.minimum, abs=1e-6)
    ones = rosenbrock_mixing() @ torch.ones(10, dtype=torch.float64)
    assert Rosenbrock100().exact(ones).item() == pytest.approx(0, abs=1e-12)
    assert best.abs().max() < 5 and ones.abs().max() < 5


def test_mixing_matrices_have_orthonormal_columns():
    for matrix in (*hump_mixing(), rosenbrock_mixing()):
        torch.testing.assert_close(matrix.T @ matrix, torch.eye(matrix.shape[1], dtype=torch.float64))


@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
def test_exact_objective_is_the_mean_of_the_simulator(problem):
    for row, theta in enumerate([start(problem), *near(problem, 4)]):
        mean, error = measured(problem, theta, 20_000, seed=row)
        assert abs(problem.exact(theta).item() - mean) < 4.5 * error


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_hump_is_exact_all_over_its_box(a, b):
    theta = torch.tensor([a, b], dtype=torch.float64)
    mean, error = measured(Hump2(), theta, 8000)
    assert abs(Hump2().exact(theta).item() - mean) < 5 * error + 1e-9


def test_hump_agrees_with_a_fine_sum_over_its_noise():
    """Both ways of integrating over x, for flat humps and steep ones, against a plain grid."""
    e = torch.linspace(-8, 8, 401, dtype=torch.float64)
    weight = torch.exp(-e.square() / 2) / math.sqrt(2 * math.pi) * (e[1] - e[0])
    unit = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    for a, b in ((0.05, 0.02), (0.6, -0.3), (0.7, 0.1), (1.5, 0.4), (2.2, 1.0)):
        theta = torch.tensor([a, b], dtype=torch.float64)
        h = 2 * a**2 - 1.05 * a**4 + a**6 / 6 + a * b + b**2
        means = []
        for x in (4 * unit - 2, 5 * unit):
            y = x[:, None] * h + math.sqrt(2) * e
            means.append(((torch.sigmoid(y - 10) - torch.sigmoid(y)) * weight).sum(1).mean())
        chance = abs(a) / (abs(a) + abs(b))
        expected = chance * means[0] + (1 - chance) * means[1]
        assert Hump2().exact(theta).item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
def test_exact_objective_is_batched_and_differentiable(problem):
    theta = near(problem, 6).requires_grad_()
    value = problem.exact(theta)
    torch.testing.assert_close(problem.exact(theta.reshape(2, 3, -1)), value.reshape(2, 3))
    (gradient,) = torch.autograd.grad(value.sum(), theta)
    direction = torch.randn(theta.shape, dtype=torch.float64, generator=seeded(2))
    step = 1e-5
    difference = (problem.exact(theta + step * direction) - problem.exact(theta - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(1), difference, rtol=2e-3, atol=1e-6)


def test_the_origin_of_the_hump_has_a_gradient():
    theta = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(Hump2().exact(theta), theta)
    assert gradient.isfinite().all()
    assert Hump2()(theta.detach().expand(4, -1), Hump2().inputs(4, seeded()), seeded()).isfinite().all()


@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
def test_rows_are_simulated_one_by_one(problem):
    """Each row has its own theta and x: with equal noise, changing one row changes its outcome alone."""
    theta, x = near(problem, 5), problem.inputs(5, seeded())
    moved, other = theta.clone(), x.clone()
    moved[2] += 0.3
    other[2] = x[1]
    before = problem(theta, x, seeded(3))
    assert before.shape == (5, 1) and before.dtype == torch.float64
    for after in (problem(moved, x, seeded(3)), problem(theta, other, seeded(3))):
        assert torch.equal(before[[0, 1, 3, 4]], after[[0, 1, 3, 4]])


def test_rosenbrock_noise_grows_with_the_input():
    n = 20_000
    theta = torch.ones(n, 10, dtype=torch.float64)
    spread = [Rosenbrock10()(theta, torch.full((n, 1), x, dtype=torch.float64), seeded()).std() for x in (0.0, 8.0)]
    # Var y = Var z + E (.1 + .5 |z|)^2 with z ~ N(x, 1).
    absolute = math.sqrt(2 / math.pi)
    assert spread[0].item() == pytest.approx(math.sqrt(1 + 0.01 + 0.1 * absolute + 0.25), rel=0.02)
    assert spread[1].item() == pytest.approx(math.sqrt(1 + 0.01 + 0.1 * 8 + 0.25 * 65), rel=0.02)


@WITH_DATA
def test_boston_is_a_regression_without_noise():
    problem = Boston91()
    x = problem.inputs(2000, seeded())
    assert x.shape == (2000, 14) and len(x.unique(dim=0)) > 450
    theta = start(problem)
    assert theta[-1] == 22.5328 and theta[:-1].max() < 0.105 and theta.min() >= 0
    assert torch.equal(*(problem(theta.expand(2000, -1), x, seeded(seed)) for seed in (0, 1)))
    constant = torch.zeros(91, dtype=torch.float64)
    constant[-1] = 22.5328
    assert problem.exact(constant).item() == pytest.approx(84.4196, abs=1e-3)  # the variance of the targets
    by_hand = torch.nn.Sequential(torch.nn.Linear(13, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)).double()
    weights = torch.randn(91, dtype=torch.float64, generator=seeded()) * 0.01
    by_hand[0].weight.data, by_hand[0].bias.data = weights[:78].reshape(6, 13), weights[78:84]
    by_hand[2].weight.data, by_hand[2].bias.data = weights[84:90][None], weights[90:]
    torch.testing.assert_close(problem(weights.expand(2000, -1), x, seeded()), by_hand(x[:, :13]).detach())


@pytest.mark.parametrize("problem", NOISY, ids=repr)
def test_inputs_can_be_hidden(problem):
    hidden = hide_inputs(problem)
    assert not isinstance(hidden, InputSimulator)
    check_simulator(hidden, near(problem, 3))
    n = 20_000
    r = hidden.objective(hidden(start(problem).expand(n, -1), seeded()))
    assert abs(r.mean() - hidden.exact(start(problem))) < 4.5 * r.std() / math.sqrt(n)
    assert (hidden.start, hidden.minimum, hidden.cost) == (problem.start, problem.minimum, problem.cost)
    assert hidden.space_bounds == problem.space_bounds


def test_inputs_that_the_objective_needs_stay():
    with pytest.raises(ArgumentError, match=r"The objective of Boston91\(.*depends on its inputs"):
        hide_inputs(Boston91())
    with pytest.raises(ArgumentError, match="needs the inputs x"):
        Boston91().objective(torch.zeros(2, 1), None)


def test_boston_without_its_data_names_the_extra(monkeypatch):
    from surrogates.problems import boston

    boston._rows.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "mlxtend.data", None)
    with pytest.raises(ImportError, match=r"pip install 'diffsim-studies\[boston\]'"):
        Boston91().inputs(2, seeded())


def test_the_origin_of_the_hump_is_defined_in_single_precision():
    humps = Hump2()
    assert torch.allclose(humps.exact(torch.zeros(2)).double(), humps.exact(torch.zeros(2).double()))
    x = humps.inputs(50, torch.Generator().manual_seed(0))
    assert humps(torch.zeros(50, 2), x, torch.Generator().manual_seed(0)).isfinite().all()
