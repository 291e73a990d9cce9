"""The Gaussian process on outcomes: interpolation, known and estimated noise, calibration, bad input."""

import math

import pytest
import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from surrogates.gaussian_process import gaussian_process


def uniform(n, d, seed=0):
    return torch.rand(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def wave(theta):
    return torch.stack([(3 * theta[:, 0]).sin() + theta[:, 1], 100 * theta[:, 0] * theta[:, 1]], -1)


def test_predicts_each_output_in_its_own_units():
    theta, new = uniform(40, 2), uniform(20, 2, seed=1)
    posterior = gaussian_process(theta, wave(theta)).posterior(new)
    assert posterior.mean.shape == (20, 2)
    assert (posterior.mean - wave(new)).abs().amax(0)[0] < 0.02
    assert (posterior.mean - wave(new)).abs().amax(0)[1] < 2


@pytest.mark.parametrize("unit", [2.0**-50, 2.0**50])
def test_predicts_alike_whatever_the_unit(unit):
    theta, new = uniform(30, 2), uniform(10, 2, seed=1)
    expected = gaussian_process(theta, wave(theta)).posterior(new)
    posterior = gaussian_process(theta, unit * wave(theta)).posterior(new)
    assert torch.allclose(posterior.mean / unit, expected.mean, rtol=1e-6)
    covariance = posterior.distribution.covariance_matrix / unit**2
    assert torch.allclose(covariance, expected.distribution.covariance_matrix, rtol=1e-4, atol=1e-9)


def test_rounding_of_a_constant_outcome_is_no_signal():
    theta = uniform(30, 2)
    outcome = 0.1 + 1e-16 * torch.randn(30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(gaussian_process(theta, outcome).posterior(theta).mean, torch.tensor(0.1).double())


def test_a_known_noise_gives_the_textbook_posterior():
    """Mean and variance from the dense kernel, with the length scale that was found."""
    theta, new = uniform(12, 1), uniform(6, 1, seed=1)
    outcome = (6 * theta[:, 0]).sin()
    model = gaussian_process(theta, outcome, bounds=torch.tensor([[0.0], [1.0]]), noise=0.1)
    ell, mean, scale = model.covar_module.lengthscale.item(), outcome.mean(), outcome.std()
    constant = model.mean_module.constant.item()

    def kernel(a, b):
        return torch.exp(-0.5 * ((a - b.T) / ell).square())

    gram = kernel(theta, theta) + (0.1 / scale).square() * torch.eye(12, dtype=torch.float64)
    cross = kernel(new, theta)
    exact = constant + cross @ torch.linalg.solve(gram, (outcome - mean) / scale - constant)
    variance = 1 - (cross * torch.linalg.solve(gram, cross.T).T).sum(-1)
    with torch.no_grad():
        posterior = model.posterior(new)
    assert torch.allclose(posterior.mean[:, 0], mean + scale * exact, atol=1e-6)
    assert torch.allclose(posterior.variance[:, 0], scale.square() * variance, atol=1e-6)


def test_the_noise_is_estimated():
    theta = uniform(150, 1)
    noise = 0.2 * torch.randn(150, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    model = gaussian_process(theta, (6 * theta[:, 0]).sin() + noise)
    new = uniform(50, 1, seed=2)
    with torch.no_grad():
        noisy, exact = model.posterior(new, observation_noise=True).variance, model.posterior(new)
    assert float((noisy - exact.variance).mean().sqrt()) == pytest.approx(0.2, rel=0.2)
    score = (exact.mean[:, 0] - (6 * new[:, 0]).sin()) / exact.variance[:, 0].sqrt()
    assert (score.abs() < 2.5).double().mean() > 0.8


@pytest.mark.parametrize("shape", [(), (20,), (20, 2)])
def test_known_noise_may_differ_from_row_to_row(shape):
    theta = uniform(20, 2)
    noise = torch.full(shape, 0.3)
    model = gaussian_process(theta, wave(theta), noise=noise)
    standard = wave(theta).std(0)
    got = model.likelihood.noise.expand(2, 20).T * standard.square()
    assert torch.allclose(got, torch.full((20, 2), 0.09, dtype=torch.float64), rtol=1e-5)


def test_outcomes_may_be_single_precision_and_one_dimensional():
    theta = uniform(10, 1).float()
    model = gaussian_process(theta, theta[:, 0])
    assert model.posterior(theta.double()).mean.dtype == torch.float64
    assert model.num_outputs == 1 and not model.training


def test_fitting_draws_no_global_numbers():
    before = torch.get_rng_state()
    theta = uniform(10, 2)
    first, second = (gaussian_process(theta, wave(theta)).posterior(theta).mean for _ in range(2))
    assert torch.equal(before, torch.get_rng_state()) and torch.equal(first, second)


def test_one_row_is_enough():
    with torch.no_grad():
        posterior = gaussian_process(uniform(1, 2), torch.ones(1, 1)).posterior(uniform(3, 2))
    assert torch.isfinite(posterior.mean).all() and torch.isfinite(posterior.variance).all()


@pytest.mark.parametrize(
    ("theta", "outcome", "arguments", "name"),
    [
        (torch.ones(3), torch.ones(3), {}, "`theta`"),
        (torch.ones(3, 2), torch.ones(2, 1), {}, "`theta` and `outcome`"),
        (torch.ones(3, 2), torch.ones(3, 1, 1), {}, "`outcome`"),
        (torch.ones(0, 2), torch.ones(0, 1), {}, "n > 0"),
        (torch.full((3, 2), math.nan), torch.ones(3, 1), {}, "finite"),
        (torch.ones(3, 2), torch.full((3, 1), math.inf), {}, "finite"),
        (torch.ones(3, 2), torch.ones(3, 1), dict(bounds=torch.ones(2, 3)), "`bounds`"),
        (torch.ones(3, 2), torch.ones(3, 1), dict(noise=-1.0), "`noise`"),
        (torch.ones(3, 2), torch.ones(3, 1), dict(noise=math.nan), "`noise`"),
        (torch.ones(3, 2), torch.ones(3, 1), dict(noise=torch.ones(2)), "`noise`"),
    ],
)
def test_bad_input(theta, outcome, arguments, name):
    with pytest.raises(ArgumentError, match=name):
        gaussian_process(theta, outcome, **arguments)


def test_a_parameter_in_a_tiny_unit_is_no_constant():
    theta, new = uniform(30, 2), uniform(10, 2, seed=1)
    nano = torch.tensor([1e-9, 1.0], dtype=torch.float64)
    expected = gaussian_process(theta, wave(theta)).posterior(new).mean
    assert torch.allclose(gaussian_process(nano * theta, wave(theta)).posterior(nano * new).mean, expected, rtol=1e-4)


def test_lists_are_told_to_be_tensors():
    with pytest.raises(ArgumentTypeError, match="`theta` must be a tensor, got list"):
        gaussian_process([[0.0], [1.0]], [0.0, 1.0])
