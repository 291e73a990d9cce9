"""The Cramer GAN: the published widths, epochs and losses, and no density."""

import pytest
import torch

from diffsim.errors import ArgumentError
from diffsim.training.settings import Training
from surrogates.generators.cramer_gan import CramerGAN

F64 = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def data(n, seed=0):
    g = generator(seed)
    theta = 2 * torch.rand(n, 2, dtype=F64, generator=g) - 1
    return theta, 2 * theta[:, :1] + 0.5 * torch.randn(n, 1, dtype=F64, generator=g)


def test_it_has_draws_but_no_density():
    distribution = CramerGAN(2)(torch.zeros(3, 2))
    assert distribution.rsample((4,)).shape == (4, 3, 1)
    with pytest.raises(NotImplementedError):
        distribution.log_prob(torch.zeros(3, 1))


def test_widths_are_the_published_ones():
    gan = CramerGAN(2, 1, 3)
    shapes = [tuple(p.shape) for p in gan.parameters() if p.ndim == 2]
    assert shapes == [(100, 155), (100, 100), (100, 100), (1, 100), (100, 6), (100, 100), (256, 100)]


@pytest.mark.parametrize(("n", "steps"), [(512, 15), (1100, 30), (100, 15)])
def test_it_learns_for_fifteen_epochs(n, steps):
    assert CramerGAN(2).fit(*data(n)).steps == steps


def test_the_distance_vanishes_between_equal_distributions_only():
    gan = CramerGAN(2).double()
    context = torch.zeros(4000, 2, dtype=F64)
    with torch.no_grad():
        own = gan.generator(torch.cat([torch.randn(4000, 150, dtype=F64, generator=generator(1)), context], dim=-1))
        near = float(gan._distance(context, own, generator(2)))
        far = float(gan._distance(context, own + 3, generator(2)))
    assert abs(near) < 0.02 * far


def test_the_penalty_is_for_slopes_above_one():
    gan = CramerGAN(2)
    context, real = torch.zeros(50, 2), torch.randn(50, 1, generator=generator())
    penalties = []
    for factor in (1e-2, 1e3):
        with torch.no_grad():
            gan.critic[-1].weight.mul_(factor)
        penalties.append(float(gan._penalty(context, real, generator()).detach()))
    assert penalties[0] == 0.0 and penalties[1] > 1.0


@pytest.mark.parametrize(
    "training", [Training(optimizer="lbfgs"), Training(holdout=0.2), Training(patience=5, batch="all")]
)
def test_training_that_a_gan_has_not_is_refused(training):
    with pytest.raises(ArgumentError, match="GAN"):
        CramerGAN(2).fit(*data(20), training=training)
