"""A Gaussian process of values and gradients: kernels, interpolation, calibration, noise, missing gradients."""

import pytest
import torch
from torch.autograd.functional import hessian

from diffsim.errors import ArgumentError
from surrogates.gradient_process import _covariance, _profile, gradient_process

BOUNDS = torch.tensor([[-1.0, 0.0, 10.0], [2.0, 0.1, 30.0]], dtype=torch.float64)


def wave(theta):
    unit = (theta - BOUNDS[0]) / (BOUNDS[1] - BOUNDS[0])
    return 50 + 7 * (3 * unit[:, 0]).sin() * (2 * unit[:, 1]).cos() + 4 * unit[:, 2].square()


def data(n, seed=0, function=wave):
    unit = torch.rand(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    theta = (BOUNDS[0] + unit * (BOUNDS[1] - BOUNDS[0])).requires_grad_(True)
    value = function(theta)
    return theta.detach(), value.detach(), torch.autograd.grad(value.sum(), theta)[0]


def fitted(n=20, kernel="rbf", **more):
    return gradient_process(*data(n), bounds=BOUNDS, kernel=kernel, **more)


@pytest.mark.parametrize("kernel", ["rbf", "matern"])
def test_the_derivative_blocks_are_derivatives_of_the_kernel(kernel):
    length = torch.tensor([0.3, 1.5], dtype=torch.float64)
    noise = torch.zeros(2, dtype=torch.float64)
    one, other = torch.tensor([0.1, 0.7]).double(), torch.tensor([0.4, 0.2]).double()
    blocks, _ = _covariance(kernel, length, noise, torch.stack([one, other]), torch.zeros(2, 3).double())

    def k(both):
        return _profile(((both[:2] - both[2:]) / length).square().sum(), kernel)[0]

    both = torch.cat([one, other]).requires_grad_(True)
    slope, curve = torch.autograd.grad(k(both), both)[0], hessian(k, both)
    assert torch.allclose(blocks[0, 3], k(both).detach())
    assert torch.allclose(blocks[0, 4:], slope[2:]) and torch.allclose(blocks[1:3, 3], slope[:2])
    assert torch.allclose(blocks[1:3, 4:], curve[:2, 2:])
    assert torch.linalg.eigvalsh(blocks).min() > 0 and torch.equal(blocks, blocks.T)


@pytest.mark.parametrize(("kernel", "error"), [("rbf", 0.05), ("matern", 0.1)])
def test_it_interpolates_values_and_gradients_and_is_calibrated_between(kernel, error):
    process = fitted(kernel=kernel)
    theta, value, gradient = data(20)
    spread = value.std()
    mean, deviation = process.posterior(theta)
    assert torch.allclose(mean, value, atol=0.02 * float(spread)) and deviation.max() < 0.02 * spread
    width = BOUNDS[1] - BOUNDS[0]
    assert ((process.slope(theta) - gradient) * width).abs().max() < 0.05 * (gradient * width).abs().max()
    unseen, truth, _ = data(200, seed=1)
    mean, deviation = process.posterior(unseen)
    assert (mean - truth).square().mean().sqrt() < error * spread
    assert ((mean - truth) / deviation).square().mean().sqrt() < 2.5


def test_gradients_teach_more_than_values_alone():
    unseen, truth, _ = data(200, seed=1)
    errors = []
    for known in (1.0, torch.nan):
        theta, value, gradient = data(10)
        process = gradient_process(theta, value, gradient * known, bounds=BOUNDS)
        errors.append(float((process.posterior(unseen)[0] - truth).square().mean().sqrt()))
    assert errors[0] < 0.2 * errors[1]


def test_the_fit_maximises_the_evidence():
    """Against the plain normal density, at the fit and around it: no neighbour is better."""
    process = fitted(8)
    observed = process.observed.flatten()
    is_value = (torch.arange(32) % 4 == 0).double()

    def density(at):
        covariance, _ = _covariance("rbf", at[:3].exp(), at[3:].exp(), process.unit, process.observed)
        normal = torch.distributions.MultivariateNormal(process.mean * is_value, process.signal * covariance)
        prior = (((at[:3] - 2**0.5 - torch.tensor(3.0).log() / 2) / 3**0.5).square().sum()) / 2
        return float(normal.log_prob(observed) - prior)

    best = density(process.hyperparameters)
    for place in range(3):
        for step in (-0.2, 0.2):
            moved = process.hyperparameters.clone()
            moved[place] += step
            assert density(moved) < best + 0.05


def test_noise_is_estimated():
    theta, value, gradient = data(60)
    noise = torch.randn(60, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    value = value + 1.0 * noise[:, 0]
    gradient = gradient + 3.0 * noise[:, 1:] / (BOUNDS[1] - BOUNDS[0])
    process = gradient_process(theta, value, gradient, bounds=BOUNDS)
    found = (process.noise * process.signal).sqrt() * process.scale
    assert 0.6 < found[0] < 1.6 and 2.0 < found[1] < 4.5
    unseen, truth, _ = data(200, seed=1)
    mean, deviation = process.posterior(unseen)
    assert (mean - truth).square().mean().sqrt() < 0.6
    assert ((mean - truth) / deviation).square().mean().sqrt() < 2.5


def test_belief_in_points_under_way_takes_their_uncertainty_and_keeps_the_mean():
    process, (unseen, _, _) = fitted(6), data(30, seed=1)
    believed = process.believe(unseen[:2])
    for before, after in zip(process.posterior(unseen), believed.posterior(unseen), strict=True):
        assert (after <= before + 1e-6).all() or torch.allclose(after, before, atol=1e-6)
    assert torch.allclose(process.posterior(unseen)[0], believed.posterior(unseen)[0], atol=1e-6)
    assert believed.posterior(unseen[:2])[1].max() < 0.05 * process.posterior(unseen[:2])[1].max()


def test_the_joint_posterior_agrees_with_the_marginal_one():
    process, (unseen, _, _) = fitted(6), data(5, seed=1)
    mean, covariance = process.joint(unseen)
    assert torch.allclose(mean, process.posterior(unseen)[0])
    assert torch.allclose(covariance.diagonal().sqrt(), process.posterior(unseen)[1], atol=1e-6)
    assert torch.linalg.eigvalsh(covariance).min() > -1e-8


def test_one_point_equal_values_and_repeated_points_are_no_accident():
    one = fitted(1)
    assert all(part.isfinite().all() for part in one.posterior(data(5, seed=1)[0]))
    theta, value, gradient = data(6)
    flat = gradient_process(theta, torch.ones(6), torch.zeros(6, 3), bounds=BOUNDS)
    assert torch.allclose(flat.posterior(theta)[0], torch.ones(6).double())
    twice = gradient_process(*(torch.cat([part, part]) for part in (theta, value, gradient)), bounds=BOUNDS)
    assert all(part.isfinite().all() for part in twice.posterior(theta))


def test_a_fit_may_start_from_an_earlier_one():
    process = fitted(12)
    again = fitted(12, start=process.hyperparameters)
    assert torch.allclose(process.hyperparameters[:3], again.hyperparameters[:3], atol=0.05)


def test_bad_data_are_told():
    theta, value, gradient = data(4)
    for given in ((theta, value[:3], gradient), (theta, value, gradient[:, :2]), (theta[:0], value[:0], gradient[:0])):
        with pytest.raises(ArgumentError, match="must have shapes"):
            gradient_process(*given, bounds=BOUNDS)
    with pytest.raises(ArgumentError, match="must be finite"):
        gradient_process(theta, value * torch.nan, gradient, bounds=BOUNDS)
