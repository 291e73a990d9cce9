"""Random Fourier features: the kernels that they stand for, their derivatives, extreme length scales."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffsim.errors import ArgumentError
from diffsim.fields.fourier_features import FourierFeatures

TURN = 2 * math.pi


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def kernel(features, z, lengthscale):
    phi = features.at(lengthscale)(z)
    return phi @ phi.T


def squared_exponential(z, lengthscale):
    difference = (z[:, None] - z) / lengthscale
    return torch.exp(-0.5 * difference.square().sum(-1))


@pytest.mark.parametrize(("m", "tolerance"), [(1, 0.005), (2, 0.01), (4, 0.03)])
def test_products_of_features_are_the_squared_exponential_kernel(m, tolerance):
    z, lengthscale = normal(60, m), torch.linspace(0.7, 1.8, m, dtype=torch.float64)
    exact = squared_exponential(z, lengthscale)
    errors = [
        (kernel(FourierFeatures(m, n, seed=1), z, lengthscale) - exact).abs().amax().item() for n in (64, 512, 4096)
    ]
    assert errors[2] < tolerance
    assert errors[2] < errors[1] < errors[0]


def test_a_periodic_kernel_is_the_periodic_sum_of_the_squared_exponential():
    period, lengthscale = 3.0, torch.tensor([0.45], dtype=torch.float64)
    z = torch.linspace(-2, 5, 50, dtype=torch.float64)[:, None]
    images = torch.stack([squared_exponential_shifted(z, lengthscale, n * period) for n in range(-6, 7)]).sum(0)
    got = kernel(FourierFeatures(1, 4096, periods=[period]), z, lengthscale)
    assert (got - images / images[0, 0]).abs().amax() < 0.005


def squared_exponential_shifted(z, lengthscale, shift):
    return torch.exp(-0.5 * ((z - z.T + shift) / lengthscale).square())


@given(period=st.floats(0.1, 30), turns=st.integers(-5, 5), share=st.floats(0.05, 0.3))
def test_a_periodic_coordinate_is_exactly_periodic(period, turns, share):
    features = FourierFeatures(2, 40, periods=[None, period], seed=2)
    waves = features.at(torch.tensor([1.3, share * period], dtype=torch.float64))
    z = normal(6, 2)
    moved = z + torch.tensor([0.0, turns * period], dtype=torch.float64)
    assert torch.allclose(waves(z), waves(moved), atol=1e-11)
    gradient = waves.gradient(z)
    assert torch.allclose(gradient, waves.gradient(moved), atol=1e-11 * gradient.abs().amax().item())
    other = z + torch.tensor([0.0, 0.5 * period])
    assert not torch.allclose(waves(z), waves(other))


@given(
    m=st.integers(1, 4),
    n=st.integers(1, 20),
    batch=st.lists(st.integers(1, 3), max_size=2),
    periodic=st.lists(st.booleans(), min_size=4, max_size=4),
    seed=st.integers(0, 1000),
)
def test_derivatives_agree_with_autograd(m, n, batch, periodic, seed):
    periods = [2.0 + i if p else None for i, p in enumerate(periodic[:m])]
    features = FourierFeatures(m, 2 * n, periods=periods, seed=seed)
    z, weights = normal(*batch, m, seed=seed).requires_grad_(True), normal(2 * n, seed=seed + 1)
    waves = features.at(normal(m, seed=seed + 2).exp())
    phi = waves(z)
    assert phi.shape == (*batch, 2 * n) and phi.dtype == torch.float64
    exact = torch.stack([torch.autograd.grad(phi[..., f].sum(), z, retain_graph=True)[0] for f in range(2 * n)], -1)
    assert torch.allclose(waves.gradient(z), exact, atol=1e-12)
    gradient = waves.weighted_gradient(z, weights)
    assert torch.allclose(gradient, exact @ weights, atol=1e-10)
    rows = [torch.autograd.grad(gradient[..., i].sum(), z, retain_graph=True)[0] for i in range(m)]
    _, hessian = waves.derivatives(z, weights)
    assert torch.allclose(hessian, torch.stack(rows, -2), atol=1e-9)
    assert torch.allclose(hessian, hessian.mT)


def test_weights_may_differ_from_point_to_point():
    waves = FourierFeatures(2, 30).at(torch.ones(2, dtype=torch.float64))
    z, weights = normal(5, 2), normal(5, 30, seed=1)
    got = waves.weighted_gradient(z, weights)
    assert torch.allclose(got, (waves.gradient(z) @ weights[..., None])[..., 0])


@pytest.mark.parametrize("periods", [[None, None], [1.0, None], [1.0, 2.0]])
@pytest.mark.parametrize("size", [1e-8, 1e-3, 1.0, 1e3, 1e8])
def test_unit_variance_and_finite_gradients_at_extreme_length_scales(periods, size):
    features = FourierFeatures(2, 60, periods=periods)
    lengthscale = torch.full((2,), size, dtype=torch.float64, requires_grad=True)
    waves = features.at(lengthscale)
    assert torch.allclose(waves.amplitudes.square().sum(), torch.ones((), dtype=torch.float64))
    z = normal(4, 2)
    phi = waves(z)
    assert torch.allclose(phi.square().sum(-1), torch.ones(4, dtype=torch.float64))
    for value in (phi.sum(), waves.gradient(z).sum()):
        (gradient,) = torch.autograd.grad(value, lengthscale, retain_graph=True)
        assert bool(torch.isfinite(value)) and bool(torch.isfinite(gradient).all())


def test_features_are_differentiable_in_the_length_scales():
    features, z = FourierFeatures(2, 10, periods=[TURN, None]), normal(3, 2)
    lengthscale = torch.tensor([0.6, 1.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda scale: features.at(scale)(z), lengthscale)
    assert torch.autograd.gradcheck(lambda scale: features.at(scale).gradient(z), lengthscale)


def test_seeds():
    before = torch.get_rng_state()
    first, second, other = (FourierFeatures(2, 20, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(first.spectrum, second.spectrum) and not torch.equal(first.spectrum, other.spectrum)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((0, 10), "n_inputs"),
        ((2, 0), "n_features"),
        ((2, 11), "n_features"),
        ((2, 10, [1.0]), "periods"),
        ((2, 10, [1.0, 0.0]), "periods"),
        ((2, 10, [1.0, -2.0]), "periods"),
        ((2, 10, [math.nan, None]), "periods"),
        ((2, 10, [math.inf, None]), "periods"),
    ],
)
def test_bad_input(arguments, name):
    with pytest.raises(ArgumentError, match=name):
        FourierFeatures(*arguments[:2], periods=arguments[2] if len(arguments) > 2 else None)
