"""Diagnostics: right surrogates pass, wrong ones show; gradients against known ones, distances against their theory."""

import math

import matplotlib.pyplot as plt
import pytest
import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.training.settings import Training
from surrogates.diagnostics.gradient import check_gradient
from surrogates.diagnostics.outcomes import OutcomeCheck, check_outcomes, outcome_plot
from surrogates.generators.cramer_gan import CramerGAN
from surrogates.generators.flow import ConditionalFlow
from surrogates.generators.gaussian import GaussianNetwork
from surrogates.generators.mixture import MixtureDensityNetwork
from surrogates.generators.response import LinearResponse, ProcessResponse
from surrogates.problems.hump import Hump2
from surrogates.problems.problem import hide_inputs

SLOPES = torch.tensor([[1.0, 0.5], [-2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
POINT = torch.tensor([0.2, -0.1, 0.4], dtype=torch.float64)
HUMP, CENTER = Hump2(), torch.tensor([1.2, -1.0], dtype=torch.float64)


def plane(theta, generator):
    return theta @ SLOPES + 0.3 * torch.randn(len(theta), 2, dtype=torch.float64, generator=generator)


def objective(y):
    return y[..., 0] + 3 * y[..., 1]


@pytest.fixture(scope="module")
def linear():
    generator = torch.Generator().manual_seed(0)
    theta = 2 * torch.rand(400, 3, dtype=torch.float64, generator=generator) - 1
    surrogate = LinearResponse(3, 2)
    surrogate.fit(theta, plane(theta, generator))
    return surrogate


@pytest.fixture(scope="module")
def network():
    generator = torch.Generator().manual_seed(1)
    theta = CENTER + torch.rand(3000, 2, dtype=torch.float64, generator=generator) - 0.5
    x = HUMP.inputs(3000, generator)
    surrogate = MixtureDensityNetwork(2, 1, 2)
    surrogate.fit(theta, HUMP(theta, x, generator), x)
    return surrogate


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_common_random_numbers_leave_no_noise_on_a_plane(linear):
    check = check_gradient(linear, objective, plane, POINT, step=0.1, n=50)
    assert torch.allclose(check.simulator, SLOPES @ torch.tensor([1.0, 3.0]).double())
    assert check.simulator_error.max() < 1e-12 and check.n_simulations == 300
    assert check.cosine > 0.999 and check.relative_error < 0.05


def test_a_wrong_gradient_shows():
    known = SLOPES @ torch.tensor([1.0, 3.0]).double()
    double = check_gradient(lambda theta: 2 * theta @ known, objective, plane, POINT, step=0.1, n=50)
    assert double.cosine == pytest.approx(1) and double.relative_error == pytest.approx(1)
    assert double.surrogate_error.max() == 0
    assert check_gradient(lambda theta: -theta @ known, objective, plane, POINT, step=0.1, n=50).cosine < -0.999


def test_differences_on_the_hump_agree_with_the_exact_gradient(network):
    theta = CENTER.clone().requires_grad_()
    (exact,) = torch.autograd.grad(HUMP.exact(theta), theta)
    check = check_gradient(network, HUMP.objective, HUMP, CENTER, step=0.1, n=20_000)
    assert bool(((check.simulator - exact).abs() < 4 * check.simulator_error + 0.01).all())
    assert 0 < check.noise < 0.1 and check.cosine > 0.95 and check.relative_error < 0.35


def test_standard_errors_are_those_of_repetition():
    hidden = hide_inputs(HUMP)
    checks = [
        check_gradient(lambda theta: theta.sum(), hidden.objective, hidden, CENTER, step=0.3, n=200, seed=seed)
        for seed in range(40)
    ]
    spread = torch.stack([check.simulator for check in checks]).std(0)
    error = torch.stack([check.simulator_error for check in checks]).mean(0)
    assert bool((spread / error).log().abs().max() < math.log(1.5))


def test_a_response_of_the_objective_is_checked_too():
    hidden, generator = hide_inputs(HUMP), torch.Generator().manual_seed(2)

    def reward(theta, generator):
        return hidden.objective(hidden(theta, generator))[:, None]

    theta = CENTER + torch.rand(1000, 2, dtype=torch.float64, generator=generator) - 0.5
    response = ProcessResponse(2)
    response.fit(theta, reward(theta, generator))
    assert check_gradient(response, lambda y: y[..., 0], reward, CENTER, step=0.1, n=4000).cosine > 0.9


def test_the_report_is_a_table(linear):
    check = check_gradient(linear, objective, plane, POINT, step=(0.1, 0.2, 0.1), n=50, names=("W", "L", "I"))
    title, *rows, summary, cost = str(check).splitlines()
    assert title.split() == ["parameter", "surrogate", "simulator"]
    assert [row.split()[0] for row in rows] == ["W", "L", "I"] and all(row.count("±") == 2 for row in rows)
    assert summary.startswith("cosine 0.99") and cost == "300 simulations"


def test_simulations_that_fail_are_left_out_of_a_difference():
    def fragile(theta, generator):
        y = plane(theta, generator)
        y[::3] = torch.nan
        return y

    check = check_gradient(lambda theta: theta.sum(), objective, fragile, POINT, step=0.1, n=30)
    assert torch.allclose(check.simulator, SLOPES @ torch.tensor([1.0, 3.0]).double())
    with pytest.raises(ArgumentError, match="finite outcomes"):
        check_gradient(lambda theta: theta.sum(), objective, lambda theta, generator: theta * torch.nan, POINT, step=1)


def test_equal_distributions_are_as_near_as_chance_makes_them(linear):
    thetas = torch.linspace(-0.8, 0.8, 30, dtype=torch.float64)[:, None].expand(-1, 3)
    check = check_outcomes(linear, plane, thetas, n=400)
    assert check.distance.shape == (30, 2) and check.energy.shape == (30,)
    assert 0.02 < float((check.distance > check.chance[:, None]).double().mean() + 0.02) < 0.25
    assert check.energy.max() < 0.03


def test_a_shifted_distribution_is_as_far_as_theory_says(linear):
    def shifted(theta, generator):
        return plane(theta, generator) + torch.tensor([0.3, 0.0])  # one standard deviation

    check = check_outcomes(linear, shifted, POINT[None], n=4000)
    normal = 2 * torch.special.ndtr(torch.tensor(0.5)).item() - 1
    assert check.distance[0, 0].item() == pytest.approx(normal, abs=0.05) and check.distance[0, 1] < 0.06
    assert check.distance[0, 0] > check.chance[0] and check.energy[0] > 0.03


def test_the_energy_distance_sees_correlations(linear):
    def twisted(theta, generator):
        noise = 0.3 * torch.randn(len(theta), 1, dtype=torch.float64, generator=generator)
        return theta @ SLOPES + noise

    check = check_outcomes(linear, twisted, POINT[None], n=2000)
    assert check.distance.max() < 0.08 and check.energy[0] > 0.01


def test_the_hump_with_inputs_where_it_was_learnt_and_where_not(network):
    check = check_outcomes(network, HUMP, torch.stack([CENTER, torch.zeros(2)]), n=1000)
    assert check.distance[0] < 0.08 < check.distance[1]
    rows = str(check).splitlines()
    assert len(rows) == 3 and rows[1].startswith("(1.2, -1)") and rows[0].split()[-1] == "energy"


def test_outcome_plot(linear):
    check = check_outcomes(linear, plane, POINT.repeat(3, 1), n=50)
    figure = outcome_plot(check, names=("gain", "offset"), units=("", "mV"))
    assert len(figure.axes) == 6
    assert [ax.get_xlabel() for ax in figure.axes[:2]] == ["gain", "offset [mV]"]
    assert all(ax.get_ylabel() == "density" and "distance" in ax.get_title() for ax in figure.axes)
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["simulated", "predicted"]
    figure.canvas.draw()
    with pytest.raises(ArgumentError, match="`names` must have one entry for each of the 2"):
        outcome_plot(check, names=("gain",))


def test_equal_seeds_give_equal_checks_and_leave_the_global_numbers(linear):
    state = torch.get_rng_state()
    first, second = (check_gradient(linear, objective, plane, POINT, step=0.1, n=20, seed=3) for _ in range(2))
    assert torch.equal(first.surrogate, second.surrogate) and torch.equal(first.simulator, second.simulator)
    one, two = (check_outcomes(linear, plane, POINT[None], n=20, seed=3) for _ in range(2))
    assert torch.equal(one.predicted, two.predicted) and torch.equal(one.simulated[0], two.simulated[0])
    assert torch.equal(state, torch.get_rng_state())


def test_arguments_are_checked(linear):
    for changed, match in (
        ({"step": 0.0}, "`step`"),
        ({"step": (0.1, 0.1)}, "`step`"),
        ({"n": 3}, "`n`"),
        ({"names": ("a",)}, "`names`"),
        ({"theta": POINT[None]}, "`theta` must have shape"),
        ({"objective": lambda y: y}, "`objective` must map"),
        ({"simulator": HUMP}, "`x`"),
    ):
        arguments = {"objective": objective, "simulator": plane, "theta": POINT, "step": 0.1, **changed}
        with pytest.raises(ArgumentError, match=match):
            check_gradient(linear, **arguments)
    with pytest.raises(ArgumentError, match="`thetas` must have shape"):
        check_outcomes(linear, plane, POINT)
    with pytest.raises(ArgumentError, match="must have 1 outcomes"):
        check_outcomes(linear, lambda theta, generator: theta[:, :1], POINT[None])


def test_the_energy_distance_of_constant_outcomes_is_a_number():
    always = torch.full((40, 1), 3.7, dtype=torch.float64)
    spread = torch.randn(40, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = torch.stack([always, always + 1, spread])
    energy = OutcomeCheck(torch.zeros(3, 1), drawn, (always,) * 3).energy
    assert energy[:2].tolist() == [0, 1] and 0.5 < energy[2] < 1


def test_the_energy_distance_does_not_see_an_offset():
    first, second = torch.randn(2, 200, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    near, far = (OutcomeCheck(torch.zeros(1, 1), second[None] + at, (first + at,)).energy for at in (0.0, 1e8))
    assert torch.allclose(near, far, atol=1e-6)


@pytest.mark.parametrize("make", [LinearResponse, GaussianNetwork, MixtureDensityNetwork, ConditionalFlow])
def test_a_chance_has_the_gradient_of_its_closed_form(make):
    """P(y > 0) of y ~ N(2 theta, 0.5^2) at theta = 0.1."""
    generator = torch.Generator().manual_seed(0)
    theta = 2 * torch.rand(1500, 1, dtype=torch.float64, generator=generator) - 1
    surrogate = make(1)
    surrogate.fit(theta, 2 * theta + 0.5 * torch.randn(theta.shape, dtype=torch.float64, generator=generator))
    at = torch.full((1, 1), 0.1, dtype=torch.float64, requires_grad=True)
    chance = surrogate.expectation(lambda y: y[..., 0] > 0, at, None, 20_000, generator)
    (slope,) = torch.autograd.grad(chance.sum(), at)
    normal = torch.distributions.Normal(0.0, 1.0)
    assert abs(float(chance.detach()) - float(normal.cdf(torch.tensor(0.4)))) < 0.05
    assert float(slope) == pytest.approx(4 * float(normal.log_prob(torch.tensor(0.4)).exp()), rel=0.15)


def test_what_has_no_gradient_is_named(linear):
    with pytest.raises(ArgumentError, match="`objective` must be differentiable in the outcome: CramerGAN has no"):
        check_gradient(CramerGAN(3, 2), lambda y: (y[..., 0] > 0).double(), plane, POINT, step=0.1)
    with pytest.raises(ArgumentError, match="`surrogate` must be a function of theta that torch can differentiate"):
        check_gradient(lambda theta: theta, objective, plane, POINT, step=0.1)
    with pytest.raises(ArgumentTypeError, match="`theta` must be a tensor, got list"):
        check_gradient(linear, objective, plane, POINT.tolist(), step=0.1)


@pytest.mark.parametrize("make", [lambda: GaussianNetwork(1, 2), lambda: MixtureDensityNetwork(1, 2, components=1)])
def test_the_gradient_of_a_chance_from_two_draws_is_right_in_the_mean(make):
    surrogate = make()
    points = torch.rand(200, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    outcome = points + torch.randn(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    surrogate.fit(points, outcome, training=Training(steps=200))

    def slope(n, repeats):
        at = torch.full((repeats, 1), 0.5, dtype=torch.float64).requires_grad_()
        generator = torch.Generator().manual_seed(2)
        parts = [
            surrogate.expectation(lambda y: y[..., 0] > 0.5, at[i : i + 1], None, n, generator) for i in range(repeats)
        ]
        (gradient,) = torch.autograd.grad(torch.cat(parts).sum(), at)
        return float(gradient.mean())

    many = slope(50_000, 2)
    assert slope(2, 4000) == pytest.approx(many, abs=0.2 * abs(many))
