"""Flows: densities are those of the draws, the divergence is exact, skewed outcomes are learnt."""

import pytest
import torch

from diffsim.errors import ArgumentError
from diffsim.integrate.solver import Solver
from diffsim.training.settings import Training
from surrogates.generators.continuous_flow import ContinuousFlow
from surrogates.generators.flow import ConditionalFlow

F64 = torch.float64
KINDS = [ConditionalFlow, ContinuousFlow]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def shaken(kind, m=1, **options):
    """A surrogate with weights far from the start, in float64."""
    surrogate = kind(2, m, **options).double()
    g = generator(3)
    with torch.no_grad():
        for weight in surrogate.parameters():
            weight += 0.3 * torch.randn(weight.shape, dtype=F64, generator=g)
    return surrogate


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_density_of_a_draw_is_that_of_its_noise_over_the_volume(kind, m):
    options = {"solver": Solver("rk4", step=1 / 20)} if kind is ContinuousFlow else {}
    distribution = shaken(kind, m, **options)(torch.tensor([0.3, -0.5], dtype=F64))
    noise = torch.randn(3, m, dtype=F64, generator=generator())
    jacobian = torch.stack(
        [torch.autograd.functional.jacobian(lambda z: distribution.push(z[None])[0], row) for row in noise]
    )
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(noise).sum(-1) - torch.linalg.slogdet(jacobian)[1]
    torch.testing.assert_close(distribution.log_prob(distribution.push(noise)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("m", [1, 3])
def test_the_divergence_is_the_trace_of_the_jacobian(m):
    drift = shaken(ContinuousFlow, m).distribution(torch.tensor([0.3, -0.5], dtype=F64)).drift
    time, y = torch.tensor(0.4, dtype=F64), torch.randn(m + 1, dtype=F64, generator=generator())
    jacobian = torch.autograd.functional.jacobian(lambda state: drift(time, state), y)
    torch.testing.assert_close(-drift(time, y)[-1], jacobian[:m, :m].diagonal().sum())
    assert bool((jacobian[:, m] == 0).all())


@pytest.mark.parametrize("gradient", ["adjoint", "backprop"])
def test_the_adjoint_and_backpropagation_give_one_gradient_in_theta(gradient):
    theta = torch.tensor([[0.3, -0.5]], dtype=F64, requires_grad=True)

    def slope(solver):
        surrogate = shaken(ContinuousFlow, solver=solver)
        return torch.autograd.grad(surrogate.sample(theta, None, 20, generator()).sin().sum(), theta)[0]

    reference = slope(Solver(rtol=1e-9, atol=1e-11, gradient="backprop"))
    torch.testing.assert_close(slope(Solver("rk4", step=1 / 40, gradient=gradient)), reference, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "training"),
    [
        (ConditionalFlow, Training(steps=150, lr=2e-2, batch=128)),
        (ContinuousFlow, Training(steps=60, lr=3e-2, batch=128)),
    ],
)
def test_a_skewed_outcome_is_learnt(kind, training):
    g = generator(1)
    theta = 2 * torch.rand(1500, 1, dtype=F64, generator=g) - 1
    outcome = torch.exp(0.5 * theta + 0.6 * torch.randn(1500, 1, dtype=F64, generator=g))
    surrogate = kind(1)
    surrogate.fit(theta, outcome, training=training)
    at = torch.tensor([0.4], dtype=F64)
    draws = surrogate.sample(at, None, 5000, generator())[:, 0]
    quantiles = draws.detach().quantile(torch.tensor([0.1, 0.5, 0.9], dtype=F64))
    normal = torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor([0.1, 0.5, 0.9], dtype=F64))
    torch.testing.assert_close(quantiles, torch.exp(0.2 + 0.6 * normal), rtol=0.15, atol=0.0)


@pytest.mark.parametrize("options", [{"transforms": 0}, {"bins": 1}, {"hidden": ()}])
def test_numbers_below_their_least_are_refused(options):
    with pytest.raises(ArgumentError, match=f"`{next(iter(options))}`"):
        ConditionalFlow(2, **options)


def test_a_continuous_flow_needs_a_layer():
    with pytest.raises(ArgumentError, match="`hidden`"):
        ContinuousFlow(2, hidden=())
