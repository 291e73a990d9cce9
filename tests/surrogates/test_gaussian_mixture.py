"""Mixtures: densities, quantiles, and derivatives of draws through the conditional distribution functions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from surrogates.generators.gaussian_mixture import GaussianMixture

F64 = torch.float64


def parameters(k, m, batch=(), seed=0):
    g = torch.Generator().manual_seed(seed)
    random = [torch.randn(*batch, *shape, dtype=F64, generator=g) for shape in ((k,), (k, m), (k, m))]
    return random[0], 2 * random[1], 0.3 + random[2].abs()


def normals(*shape, seed=1):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


@given(k=st.integers(1, 6), m=st.integers(1, 3), batch=st.sampled_from([(), (4,), (2, 3)]), seed=st.integers(0, 99))
def test_density_and_moments_are_those_of_torch(k, m, batch, seed):
    log_weight, loc, scale = parameters(k, m, batch, seed)
    ours = GaussianMixture(log_weight, loc, scale)
    reference = MixtureSameFamily(Categorical(logits=log_weight), Independent(Normal(loc, scale), 1))
    value = normals(5, *batch, m)
    torch.testing.assert_close(ours.log_prob(value), reference.log_prob(value))
    torch.testing.assert_close(ours.mean, reference.mean)
    torch.testing.assert_close(ours.variance, reference.variance)
    assert ours.rsample((7,)).shape == (7, *batch, m)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_draws_are_differentiable_in_every_parameter(m):
    given_parameters = [p.requires_grad_(True) for p in parameters(3, m, (2,))]
    noise = normals(20, 2, m)
    assert torch.autograd.gradcheck(lambda *p: GaussianMixture(*p).push(noise), given_parameters, atol=1e-4)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_pathwise_gradients_are_those_of_the_expectation(m):
    exact, pathwise = [], []
    weights = torch.linspace(1, 2, m, dtype=F64)

    def objective(y):
        return (y * weights).sum(-1).square()

    for store, mean_of in ((exact, None), (pathwise, 200_000)):
        log_weight, loc, scale = (p.requires_grad_(True) for p in parameters(3, m))
        mixture = GaussianMixture(log_weight, loc, scale)
        if mean_of is None:
            means, variances = (loc * weights).sum(-1), (scale * weights).square().sum(-1)
            value = (mixture.weight * (means.square() + variances)).sum()
        else:
            value = objective(mixture.push(normals(mean_of, m))).mean()
        store += [value.detach(), *torch.autograd.grad(value, (log_weight, loc, scale))]
    for a, b in zip(pathwise, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05 * float(exact[0]))


@given(k=st.integers(1, 5), seed=st.integers(0, 999), spread=st.sampled_from([0.3, 3.0, 30.0]))
def test_a_draw_is_the_quantile_of_its_noise(k, seed, spread):
    log_weight, loc, scale = parameters(k, 1, seed=seed)
    mixture = GaussianMixture(log_weight, spread * loc, scale)
    noise = torch.linspace(-6, 6, 41, dtype=F64)
    y = mixture.push(noise[:, None])[:, 0]
    assert bool((y.diff() > 0).all())
    distance = (y[:, None] - spread * loc[:, 0]) / scale[:, 0]
    below = (mixture.weight * torch.special.ndtr(distance)).sum(-1)
    above = (mixture.weight * torch.special.ndtr(-distance)).sum(-1)
    lower = noise <= 0
    torch.testing.assert_close(below[lower], torch.special.ndtr(noise[lower]), rtol=1e-6, atol=1e-15)
    torch.testing.assert_close(above[~lower], torch.special.ndtr(-noise[~lower]), rtol=1e-6, atol=1e-15)


def test_far_components_of_very_different_widths():
    mixture = GaussianMixture(
        torch.tensor([0.0, 0.0], dtype=F64),
        torch.tensor([[-1e3], [1e3]], dtype=F64),
        torch.tensor([[1e-6], [1.0]], dtype=F64),
    )
    y = mixture.push(torch.tensor([[-1.0], [1.0]], dtype=F64))[:, 0]
    share = float(torch.special.ndtr(torch.tensor(-1.0, dtype=F64))) / 0.5
    z = float(torch.special.ndtri(torch.tensor(share, dtype=F64)))
    torch.testing.assert_close(y, torch.tensor([-1e3 + 1e-6 * z, 1e3 - z], dtype=F64), rtol=0, atol=1e-8)


def test_draws_have_the_mixtures_distribution():
    mixture = GaussianMixture(*parameters(4, 2, seed=3))
    draws = mixture.push(normals(100_000, 2))
    reference = MixtureSameFamily(
        Categorical(logits=mixture.log_weight), Independent(Normal(mixture.loc, mixture.scale), 1)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        other = reference.sample((100_000,))
    for frequency in normals(6, 2, seed=5):
        phases = draws @ frequency, other @ frequency
        for function in (torch.sin, torch.cos):
            difference = function(phases[0]).mean() - function(phases[1]).mean()
            assert abs(float(difference)) < 5 * math.sqrt(2 / 100_000)


def test_a_rescaled_mixture_is_that_of_rescaled_draws():
    mixture = GaussianMixture(*parameters(3, 2, (4,)))
    shift, scale = torch.tensor([1.0, -2.0], dtype=F64), torch.tensor([0.1, 10.0], dtype=F64)
    rescaled, noise = mixture.rescaled(shift, scale), normals(5, 4, 2)
    torch.testing.assert_close(rescaled.push(noise), shift + scale * mixture.push(noise))
    value = normals(5, 4, 2)
    torch.testing.assert_close(rescaled.log_prob(shift + scale * value), mixture.log_prob(value) - scale.log().sum())
