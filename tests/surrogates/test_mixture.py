"""Mixture density networks: exact sums over components, gradients of expected objectives, degenerate data."""

import pytest
import torch

from diffsim.errors import ArgumentError
from diffsim.training.settings import Training
from surrogates.generators.mixture import MixtureDensityNetwork
from surrogates.problems.hump import Hump2

QUICK = Training(steps=60, lr=1e-2, batch=128)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def uniform(*shape, seed=0):
    return 2 * torch.rand(*shape, dtype=torch.float64, generator=generator(seed)) - 1


def fitted(m=1, k=0, **options):
    surrogate = MixtureDensityNetwork(2, m, k, **options)
    theta, x = uniform(300, 2), uniform(300, k, seed=1) if k else None
    outcome = theta[:, :1] * uniform(300, m, seed=2).sign() + 0.3 * uniform(300, m, seed=3)
    surrogate.fit(theta, outcome, x, QUICK)
    return surrogate


def square(y, x=None):
    return y.square().sum(-1) + (0 if x is None else x.sum(-1))


@pytest.mark.parametrize("n", [1, 16, 1000])
def test_the_expectation_of_one_outcome_is_exact(n):
    surrogate, theta = fitted(), uniform(5, 2, seed=4)
    mixture = surrogate(theta)
    exact = (mixture.mean.square() + mixture.variance)[..., 0]
    found = surrogate.expectation(square, theta, None, n, generator())
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-9)


def test_the_expectation_of_several_outcomes_is_near_and_smooth():
    surrogate, theta = fitted(m=3), uniform(5, 2, seed=4)
    mixture = surrogate(theta)
    exact = (mixture.mean.square() + mixture.variance).sum(-1)
    found = surrogate.expectation(square, theta, None, 4000, generator())
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.0)
    alone = surrogate.expectation(square, theta[:1], None, 4000, generator())
    torch.testing.assert_close(alone, found[:1], rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("m", [1, 2])
def test_inputs_broadcast_against_theta(m):
    surrogate = fitted(m, k=2)
    theta, x = uniform(3, 2, seed=4), uniform(7, 2, seed=5)
    found = surrogate.expectation(square, theta[:, None], x, 50, generator())
    assert found.shape == (3, 7)
    row = surrogate.expectation(square, theta[1], x, 50, generator())
    torch.testing.assert_close(found[1], row)


def test_the_gradient_of_the_expectation_is_that_of_draws():
    surrogate, theta = fitted(components=2), torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    exact = torch.autograd.grad(surrogate.expectation(square, theta, None, 16, generator()), theta)[0]
    draws = surrogate.sample(theta, None, 50_000, generator())
    pathwise = torch.autograd.grad(square(draws).mean(), theta)[0]
    torch.testing.assert_close(pathwise, exact, rtol=0.05, atol=0.02)


@pytest.mark.parametrize(("with_x", "cosine"), [(False, 0.95), (True, 0.97)])
def test_gradient_on_the_three_hump_problem(with_x, cosine):
    problem, centre = Hump2(), torch.tensor([1.0, 1.0], dtype=torch.float64)
    g = generator(3)
    theta = centre + 0.5 * uniform(1001, 2, seed=5)
    x = problem.inputs(1001, g)
    surrogate = MixtureDensityNetwork(2, 1, 2 if with_x else 0)
    surrogate.fit(theta, problem(theta, x, g), x if with_x else None)
    at = centre.clone().requires_grad_(True)
    fresh = problem.inputs(4000, g) if with_x else None
    found = torch.autograd.grad(surrogate.expectation(problem.objective, at, fresh, 16, g).mean(), at)[0]
    exact = torch.autograd.grad(problem.exact(at), at)[0]
    assert float(torch.cosine_similarity(found, exact, dim=0)) > cosine
    assert float((found - exact).norm() / exact.norm()) < 0.35


def test_units_do_not_matter():
    theta, outcome = uniform(200, 2), uniform(200, 1, seed=2)
    here, there = MixtureDensityNetwork(2), MixtureDensityNetwork(2)
    here.fit(theta, outcome, training=QUICK)
    there.fit(100 * theta + 3, 1e-4 * outcome - 7, training=QUICK)
    draws = here.sample(theta[:5], None, 10, generator())
    others = there.sample(100 * theta[:5] + 3, None, 10, generator())
    torch.testing.assert_close((others + 7) / 1e-4, draws, rtol=1e-3, atol=1e-3)


def test_bimodal_outcomes_are_learnt():
    theta = uniform(1500, 1)
    outcome = theta + 2 * uniform(1500, 1, seed=1).sign() + 0.1 * torch.randn(1500, 1, generator=generator(2))
    surrogate = MixtureDensityNetwork(1)
    surrogate.fit(theta, outcome, training=Training(steps=300, lr=1e-2, batch=128))
    density = surrogate(torch.tensor([0.5], dtype=torch.float64)).log_prob(
        torch.tensor([[2.5], [-1.5], [0.5]], dtype=torch.float64)
    )
    assert bool((density[:2] > 0).all()) and bool(density[2] < -3)


@pytest.mark.parametrize("components", [0, 1.5])
def test_components_below_one_or_broken_are_refused(components):
    with pytest.raises(ArgumentError, match="components"):
        MixtureDensityNetwork(2, components=components)


def test_an_objective_of_a_wrong_shape_is_refused():
    with pytest.raises(ArgumentError, match="objective"):
        fitted().expectation(lambda y: y, uniform(5, 2), None, 16, generator())
