"""The evidence of a Gaussian process: against a plain computation, its gradient against finite differences."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from surrogates.evidence import Evidence, kernel
from surrogates.likely_settings import likely_settings

RNG = np.random.default_rng(0)
X = RNG.random((20, 4))
Y = np.sin(4 * X[:, 0]) + X[:, 1] ** 2
GROUPS = np.array([0, 1, 2, 2])  # the last two columns share a length scale


def evidence(kind="matern", **changes):
    fields = {"share": 1 / RNG.integers(1, 4, 20), "known": np.full(20, 1e-3), "freedom": 9.0, "squares": 0.5}
    return Evidence(X, Y, GROUPS, kernel=kind, **{**fields, **changes})


@pytest.mark.parametrize("kind", ["rbf", "matern"])
def test_the_gradient_is_that_of_the_value(kind):
    subject = evidence(kind)
    for settings in RNG.normal(scale=0.7, size=(3, 5)):
        steps = 1e-5 * np.eye(5)
        slope = [(subject(settings + step)[0] - subject(settings - step)[0]) / 2e-5 for step in steps]
        assert subject(settings)[1] == pytest.approx(slope, abs=1e-6, rel=1e-6)


def test_differences_of_the_value_are_those_of_the_density():
    """The mean has a variance so wide that it is as good as flat; so little noise has no prior."""
    subject = evidence("rbf", share=np.ones(20), known=np.zeros(20), freedom=0.0, squares=0.0)

    def plain(settings):
        rates = np.exp(-2 * settings[GROUPS])
        squared = (((X[:, None] - X) ** 2) * rates).sum(-1)
        covariance = np.exp(settings[-2]) * np.exp(-0.5 * squared)
        covariance += (np.exp(settings[-1]) + 1e-8 * np.exp(settings[-2])) * np.eye(20) + 1e5
        return 0.5 * (np.linalg.slogdet(covariance)[1] + Y @ np.linalg.solve(covariance, Y))

    one, other = np.array([0.1, -0.2, 0.5, 0.0, -5.0]), np.array([0.1, -0.2, 0.5, 0.0, -6.0])
    assert subject(one)[0] - subject(other)[0] == pytest.approx(plain(one) - plain(other), abs=1e-3)


def test_repetitions_tell_the_noise():
    """Forty repetitions with a scatter of .3 outweigh means that look smooth."""
    noisy = evidence(share=np.full(20, 1 / 3), known=np.zeros(20), freedom=40.0, squares=40 * 0.09)
    best, *_ = likely_settings(noisy, np.zeros((1, 5)))
    assert math.exp(best[-1]) == pytest.approx(0.09, rel=0.3)


def test_likely_settings_begin_with_a_mode_and_are_likely():
    subject = evidence(freedom=0.0, squares=0.0)
    normal = np.random.default_rng(1).normal(size=(8, 5))
    settings = likely_settings(subject, normal)
    assert 2 <= len(settings) <= 8
    best = settings[0]
    least, slope = subject(best)
    low, high = subject.bounds
    inside = (best > low) & (best < high)
    assert np.abs(slope[inside]).max() < 0.05
    assert all(subject(row)[0] < least + 20 for row in settings)
    assert np.array_equal(likely_settings(subject, normal), settings)


def test_the_prior_of_the_lengths_is_densest_where_a_log_normal_density_of_them_is():
    """Of one parameter whose length scale the observations do not know: two points that are equal."""
    empty = Evidence(np.zeros((2, 1)), np.zeros(2), np.array([0]), share=np.ones(2), known=np.zeros(2))
    grid = np.linspace(-4, 3, 7001)
    values = [empty(np.array([length, 0.0, -2.0]))[0] for length in grid]
    density = norm.logpdf(grid, math.sqrt(2), math.sqrt(3)) - grid
    assert grid[np.argmin(values)] == pytest.approx(grid[np.argmax(density)], abs=2e-3)


def test_kernels_are_1_at_0_and_their_slopes_are_those_of_their_values():
    squared = np.array([0.0, 1e-3, 0.5, 4.0])
    for kind in ("rbf", "matern"):
        value, slope = kernel(squared, kind)
        assert value[0] == 1
        ahead, behind = kernel(squared[1:] + 1e-6, kind)[0], kernel(squared[1:] - 1e-6, kind)[0]
        assert slope[1:] == pytest.approx((ahead - behind) / 2e-6, rel=1e-5)
