"""Runs under a posterior of Hamiltonians: the linearised covariance against samples, shapes, divergence, bad input."""

import functools
import math

import pytest
import torch

from diffsim.errors import ArgumentError
from diffsim.fields.gaussian_process import GaussianProcessHamiltonian
from diffsim.fields.hamiltonian import Separable
from diffsim.integrate.odeint import odeint, simulate
from diffsim.integrate.solver import Solver
from diffsim.systems import Pendulum
from surrogates.rollout_posterior import RolloutPosterior

T = torch.linspace(0, 2, 5, dtype=torch.float64)
ZERO = torch.tensor(0.0, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def fitted(noise=0.02, n=60, **arguments):
    field = GaussianProcessHamiltonian(2, n_features=60, **arguments)
    y = normal(n, 2)
    theta = 1 + 0.2 * normal(n, field.n_theta, seed=4) if field.n_theta else None
    dy = Pendulum(gravity=1.0).double()(ZERO, y) + noise * normal(n, 2, seed=1)
    field.fit(y, dy, theta)
    return field


class Runaway(Separable):
    """A known energy p^2 / 2 - q^4 / 4: runs from large q reach infinity in finite time."""

    def kinetic(self, p):
        return p.square().sum(-1) / 2

    def potential(self, q):
        return -(q**4).sum(-1) / 4


def test_covariance_against_roll_outs_of_posterior_samples():
    field = fitted()
    X = 0.7 * normal(4, 2, seed=5)
    model = RolloutPosterior(field, T)
    with torch.no_grad():
        posterior = model.posterior(X)
    mean, covariance = posterior.mean.flatten(), posterior.distribution.covariance_matrix
    samples = field.sample(1500, torch.Generator().manual_seed(0))
    weights = torch.stack([sample.weights for sample in samples])
    runs = batched_runs(field, weights, X)
    deviation = covariance.diagonal().sqrt()
    assert deviation.amax() < 0.1  # small enough for the linearisation
    assert ((runs.mean(0) - mean) / deviation).abs().amax() < 0.15
    assert torch.allclose(runs.std(0), deviation, rtol=0.1)
    correlation = covariance / deviation / deviation[:, None]
    assert (torch.corrcoef(runs.T) - correlation).abs().amax() < 0.12


def batched_runs(field, weights, X):
    """Runs from each X under each row of weights, [s, n (T - 1) d]."""
    y0 = X.expand(len(weights), *X.shape)
    zero = torch.zeros(())

    class Fields(GaussianProcessHamiltonian):
        def energy_gradient(self, y, theta=None):
            return self.waves.weighted_gradient(y, weights[:, None])

    stack = Fields(2, n_features=60)
    stack.waves = field.waves
    with torch.no_grad():
        assert stack(zero, y0).shape == y0.shape
        return odeint(stack, y0, T, Solver("rk4", step=0.05))[1:].permute(1, 2, 0, 3).flatten(1)


@pytest.mark.parametrize("shape", [(3,), (1,), (2, 3), (2, 1, 3)])
def test_posterior_is_mean_and_response_for_any_batch(shape):
    model = RolloutPosterior(fitted(), T)
    X = 0.5 * normal(*shape, 2, seed=2)
    with torch.no_grad():
        posterior, response = model.posterior(X), model.response(X)
    outputs = (len(T) - 1) * 2
    assert model.num_outputs == outputs and model.batch_shape == torch.Size()
    assert response.shape == (*shape, outputs, 60) and posterior.mean.shape == (*shape, outputs)
    flat = response.flatten(-3, -2)
    covariance = posterior.distribution.covariance_matrix
    assert torch.allclose(covariance, flat @ flat.mT, atol=1e-8)
    assert torch.allclose(covariance, covariance.mT)
    exact = simulate(model.field, X.reshape(-1, 2), T, Solver("rk4", step=0.05)).y[1:]
    assert torch.allclose(posterior.mean.reshape(-1, outputs), exact.transpose(0, 1).flatten(1), atol=1e-5)
    variance = posterior.variance
    assert torch.allclose(variance, response.square().sum(-1), atol=1e-8)
    draws = posterior.rsample(torch.Size([5]))
    assert draws.shape == (5, *shape, outputs)


def test_samples_have_the_posterior_covariance():
    model = RolloutPosterior(fitted(), T)
    X = 0.5 * normal(2, 2, seed=2)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        posterior = model.posterior(X)
        draws = posterior.rsample(torch.Size([4000])).flatten(1)
    covariance = posterior.distribution.covariance_matrix
    deviation = covariance.diagonal().sqrt()
    difference = (torch.cov(draws.T) - covariance) / deviation / deviation[:, None]
    assert difference.abs().amax() < 0.1


def test_measurement_noise():
    model = RolloutPosterior(fitted(), T, noise=0.3)
    X = normal(3, 2)
    with torch.no_grad():
        plain = model.posterior(X).variance
        assert torch.allclose(model.posterior(X, observation_noise=True).variance - plain, torch.tensor(0.09).double())
        given = model.posterior(X, observation_noise=torch.full((1, 8), 0.5)).variance
        assert torch.allclose(given - plain, torch.tensor(0.5).double())
    assert RolloutPosterior(model.field, T).noise == float(model.field.noise)


def test_state_and_theta_map_designs():
    field = fitted(n_theta=1)
    model = RolloutPosterior(
        field, T, state=lambda X: torch.cat([X[..., :1], torch.zeros_like(X[..., :1])], -1), theta=lambda X: X[..., 1:]
    )
    X = torch.tensor([[[0.5, 1.0]], [[0.5, 1.4]], [[0.2, 1.0]]], dtype=torch.float64)
    with torch.no_grad():
        response, mean = model.response(X), model.posterior(X).mean
    assert response.shape == (3, 1, 8, 60)
    assert not torch.allclose(mean[0], mean[1]) and not torch.allclose(mean[0], mean[2])
    with torch.no_grad():
        other = RolloutPosterior(field, T, theta=lambda X: torch.full_like(X[..., :1], 1.4))
        assert torch.allclose(other.response(torch.tensor([[0.5, 0.0]]))[0], response[1, 0], atol=1e-12)


def test_other_output_times():
    model = RolloutPosterior(fitted(), T)
    X = 0.5 * normal(3, 2)
    with torch.no_grad():
        longer = model.response(X, torch.linspace(0, 4, 9, dtype=torch.float64))
        assert longer.shape == (3, 16, 60)
        assert torch.allclose(longer[:, :8], model.response(X), atol=1e-12)


def test_gradient_of_the_response_in_the_design():
    model = RolloutPosterior(fitted(), T[:3], step=0.25)
    X = 0.5 * normal(2, 1, 2, seed=3).requires_grad_(True)
    check = functools.partial(torch.autograd.gradcheck, check_undefined_grad=False)
    assert check(lambda X: model.response(X).square().sum(-1), X)
    assert check(lambda X: model.posterior(X).mean, X)


def test_diverging_runs_respond_with_zero_and_leave_the_others_alone():
    field = fitted(known=Runaway())
    model = RolloutPosterior(field, torch.linspace(0, 4, 9))
    X = torch.tensor([[0.1, 0.0], [60.0, 5.0], [0.2, 0.1]], dtype=torch.float64, requires_grad=True)
    response = model.response(X)
    assert torch.equal(response[1], torch.zeros_like(response[1]))
    with torch.no_grad():
        assert torch.allclose(response[[0, 2]], model.response(X[[0, 2]]), rtol=1e-9, atol=1e-12)
    (gradient,) = torch.autograd.grad(response.square().sum(), X)
    assert torch.isfinite(gradient).all() and not gradient[1].any() and gradient[0].any()
    (alone,) = torch.autograd.grad(model.response(X[:1]).square().sum(), X)
    assert torch.allclose(alone[0], gradient[0], rtol=1e-9)
    posterior = model.posterior(X)
    assert torch.isfinite(posterior.mean).all() and torch.isfinite(posterior.variance).all()


def test_bad_input():
    field = fitted()
    for arguments, name in (
        (dict(noise=-1.0), "`noise`"),
        (dict(noise=math.nan), "`noise`"),
        (dict(theta=lambda X: X), "`theta`"),
        (dict(step=0.0), "`step`"),
    ):
        with pytest.raises(ArgumentError, match=name):
            RolloutPosterior(field, T, **arguments)
    for t in (T[:1], T[None]):
        with pytest.raises(ArgumentError, match="`t`"):
            RolloutPosterior(field, t)
    with pytest.raises(ArgumentError, match="`theta`"):
        RolloutPosterior(fitted(n_theta=1), T)
    with pytest.raises(ArgumentError, match="`output_indices`"):
        RolloutPosterior(field, T).posterior(normal(2, 2), output_indices=[0])
