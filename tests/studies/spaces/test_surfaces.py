"""Energy shells and manifolds: membership, draws, projection, and strategies on them."""

import json
import math

import pytest
import torch
from scipy import stats

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.systems.henon_heiles import HenonHeiles
from studies.contracts import check_strategy
from studies.errors import StudyError
from studies.spaces.base import Rounded
from studies.spaces.box import Box
from studies.spaces.constraints import Linear
from studies.spaces.energy_shell import EnergyShell
from studies.spaces.manifold import Manifold
from studies.spaces.parameters import Log
from studies.strategies.model_based import ModelBased
from studies.strategies.projected_search import descend_projected
from studies.strategies.random import Random
from studies.study import Study
from surrogates.gaussian_process import gaussian_process

PLANE = Box({"q": (-2, 2), "p": (-3, 3)}, units={"q": "m"})


def oscillator(y):
    return y[:, 1].square() / 2 + 2 * y[:, 0].square()


def phases(theta):
    return (torch.atan2(theta[:, 1], 2 * theta[:, 0]) / (2 * math.pi) + 0.5).numpy()


def rest(theta):
    return theta - theta.mean(-1, keepdim=True)


SHELL = EnergyShell(oscillator, 1.0, PLANE)
BAND = EnergyShell(oscillator, (0.5, 2.0), PLANE)
AT_REST = Manifold(Box({name: (-1, 1) for name in "abc"}), rest)
CIRCLE = Manifold(PLANE, lambda theta: theta / theta.norm(dim=-1, keepdim=True))
SPACES = [SHELL, BAND, AT_REST, CIRCLE]


def draws(space, n, seed=0):
    return space.sample(n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_draws_and_rounded_points_lie_in_the_space(space):
    assert isinstance(space, Rounded)
    theta = draws(space, 200)
    assert theta.shape == (200, space.dim) and theta.dtype == torch.float64
    assert space.contains(theta).all()
    assert torch.equal(theta, draws(space, 200)) and not torch.equal(theta, draws(space, 200, seed=1))
    assert torch.equal(space.round(theta), theta)
    box = space.box.sample(200, torch.Generator().manual_seed(0))
    assert space.contains(box).double().mean() < 0.5
    far = 4 * torch.randn(50, space.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert space.contains(space.round(far)).all()


@pytest.mark.parametrize("energy", [1.0, 1e-3])
def test_a_shell_is_drawn_from_evenly_in_time(energy):
    """In the microcanonical ensemble of an oscillator the phase is uniform: it takes equal times for equal parts."""
    theta = draws(EnergyShell(oscillator, energy, PLANE), 1000)
    assert (oscillator(theta) - energy).abs().max() <= 1e-6 * energy
    assert stats.kstest(phases(theta), "uniform").statistic < 0.06


def test_a_band_is_drawn_from_evenly():
    energies = oscillator(draws(BAND, 2000)).numpy()  # the volume within an energy is proportional to it
    assert stats.kstest(energies, "uniform", args=(0.5, 1.5)).pvalue > 1e-3


def test_a_shell_in_more_dimensions():
    box = Box({"x": (-0.5, 0.7), "y": (-0.5, 1.0), "px": (-0.6, 0.6), "py": (-0.6, 0.6)})
    shell = EnergyShell(HenonHeiles().energy, 1 / 8, box)
    theta = draws(shell, 500)
    assert (HenonHeiles().energy(theta) - 1 / 8).abs().max() < 1e-6
    assert theta[:, 2:].mean(0).abs().max() < 0.06  # the energy is even in the momenta


def test_rounding_goes_to_the_next_point_of_a_shell():
    circle = EnergyShell(lambda y: y.square().sum(-1) / 2, 0.5, Box({"q": (-2, 2), "p": (-2, 2)}))
    theta = torch.tensor([[1.8, 0.0], [0.6, 0.6], [-0.1, 0.2]], dtype=torch.float64)
    assert torch.allclose(circle.round(theta), theta / theta.norm(dim=1, keepdim=True), atol=1e-6)
    assert BAND.round(torch.tensor([[0.0, 0.1], [0.0, 3.0]]))[:, 1].tolist() == pytest.approx([1.0, 2.0], abs=0.1)


def test_rounding_stays_in_the_box():
    shell = EnergyShell(lambda y: y.sum(-1), 1.5, Box({"a": (0, 1), "b": (0, 1)}))
    rounded = shell.round(torch.tensor([[1.0, 0.0], [0.9, 0.1]]))
    assert shell.contains(rounded).all()
    assert torch.allclose(rounded, torch.tensor([[1.0, 0.5], [1.0, 0.5]]).double(), atol=1e-5)


def test_a_manifold_is_drawn_from_evenly():
    assert stats.kstest((torch.atan2(*draws(CIRCLE, 1500).T) / (2 * math.pi) + 0.5).numpy(), "uniform").pvalue > 1e-3
    fractions = Manifold(
        Box({name: (0, 1) for name in "abcd"}), lambda theta: theta + (1 - theta.sum(-1, keepdim=True)) / 4
    )
    theta = draws(fractions, 2000)
    assert torch.allclose(theta.sum(1), torch.ones(2000).double())
    assert theta.mean(0).tolist() == pytest.approx([0.25] * 4, abs=0.015)
    assert theta.var(0).tolist() == pytest.approx([3 / 80] * 4, abs=0.005)  # of a flat Dirichlet distribution


def test_a_manifold_keeps_the_constraints_of_its_box():
    box = Box({name: (-1, 1) for name in "abc"}, constraints=[Linear({"a": 1.0, "b": -1.0}, least=1.0)])
    space = Manifold(box, rest)
    theta = torch.cat([draws(space, 100), space.round(torch.zeros(3, 3))])
    assert space.contains(theta).all()
    assert (theta[:, 0] - theta[:, 1] >= 1 - 1e-9).all()
    assert theta.sum(1).abs().max() < 1e-6


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_spaces_are_described_and_named(space):
    described = json.loads(json.dumps(space.describe()))
    assert described["kind"] == type(space).__name__ and described["names"] == list(space.names)
    row = draws(space, 1)[0]
    assert list(space.to_dict(row)) == list(space.names)
    assert list(space.to_dict(row).values()) == row.tolist()


def test_shells_of_other_energies_are_other_spaces(tmp_path):
    storage = f"sqlite:///{tmp_path}/runs.db"
    Study(SHELL, Random(), storage)
    Study(EnergyShell(oscillator, 1.0, PLANE), Random(), storage)
    with pytest.raises(StudyError, match="stored with the space"):
        Study(EnergyShell(oscillator, 2.0, PLANE), Random(), storage)


def test_a_descent_reaches_the_lowest_point_of_a_sphere():
    sphere = EnergyShell(lambda y: y.square().sum(-1), 1.0, Box({name: (-2, 2) for name in "abc"}))
    goal = torch.tensor([1.0, 2.0, 2.0]).double() / 3
    theta, values = descend_projected(lambda theta: -theta @ goal, draws(sphere, 5), sphere, 60)
    assert sphere.contains(theta).all()
    assert values.tolist() == pytest.approx([-1.0] * 5, abs=1e-3)
    assert torch.allclose(theta, goal.expand(5, 3), atol=0.05)


def test_a_descent_stops_at_a_constraint():
    box = Box({"a": Log(0.01, 10), "b": (0, 1)}, constraints=[Linear({"a": 1.0, "b": 1.0}, least=0.5)])
    theta, values = descend_projected(lambda theta: theta.sum(-1), draws(box, 3), box, 25)
    assert box.contains(theta).all()
    assert values.tolist() == pytest.approx([0.5] * 3, abs=0.01)


def learn(history):
    return gaussian_process(history.theta, history.outcome[:, :1], bounds=history.space.bounds)


def improve(model, history):
    from botorch.acquisition import qLogNoisyExpectedImprovement
    from botorch.sampling import SobolQMCNormalSampler

    sampler = SobolQMCNormalSampler(torch.Size([32]), seed=0)
    return qLogNoisyExpectedImprovement(model, history.theta, sampler=sampler)


@pytest.mark.parametrize("space", [SHELL, CIRCLE], ids=repr)
def test_a_model_searches_a_curve(space):
    strategy = ModelBased(learn, improve, start=4, candidates=32, climb=8, restarts=2)
    check_strategy(strategy, space, n=(1,))
    study = Study(space, strategy, seed=1)
    history = study.run(
        lambda theta, generator: theta[:, :1] + theta[:, 1:], trials=10, executor="here", progress=False
    )
    assert space.contains(history.theta).all()
    best = (draws(space, 2000).sum(1)).max()
    assert history.outcome.max() > best - 0.02


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EnergyShell(oscillator, 100.0, PLANE), "between the energies of the box, 0 and 12.5"),
        (lambda: EnergyShell(oscillator, -1.0, PLANE), "between the energies of the box"),
        (lambda: EnergyShell(oscillator, (20, 30), PLANE), "between the energies of the box"),
        (lambda: EnergyShell(oscillator, (2, 1), PLANE), "a pair must rise"),
        (lambda: EnergyShell(oscillator, math.nan, PLANE), "must be finite"),
        (lambda: EnergyShell(oscillator, "high", PLANE), "must be an energy"),
        (lambda: EnergyShell(1.0, 1.0, PLANE), "must be a function"),
        (lambda: EnergyShell(oscillator, 1.0, {"q": (0, 1)}), "must be a Box"),
        (
            lambda: EnergyShell(oscillator, 1.0, Box({"q": Log(1, 2), "p": (0, 1)})),
            "real parameters and no constraints",
        ),
        (lambda: EnergyShell(lambda y: y, 1.0, PLANE), r"must map \[1024, 2\] to \[1024\], got \[1024, 2\]"),
        (lambda: Manifold(PLANE, lambda theta: theta / 2), "must not move what it has projected"),
        (lambda: Manifold(PLANE, lambda theta: theta[:, :1]), "to the same shape"),
        (lambda: Manifold(PLANE, 3), "must be a function"),
        (lambda: Manifold([0, 1], rest), "must be a Box"),
        (lambda: draws(Manifold(PLANE, lambda theta: theta * 0 + 9), 1), "No point was found"),
    ],
)
def test_bad_surfaces_are_named(make, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        make()
