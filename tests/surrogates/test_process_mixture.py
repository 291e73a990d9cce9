"""Mixtures of Gaussian processes: predictions, their gradients, what is under way, and the function without noise."""

import numpy as np
import pytest
from scipy.stats import norm

from studies.strategies.expected_improvement import LogImprovement, log_improvement
from surrogates.evidence import Evidence
from surrogates.process_mixture import ProcessMixture

RNG = np.random.default_rng(0)
X = RNG.random((15, 3))
Y = np.sin(5 * X[:, 0]) + X[:, 1] - 1.0
EVIDENCE = Evidence(X, Y, np.arange(3), share=np.ones(15), known=np.zeros(15))
SMOOTH = Evidence(X, Y, np.arange(3), share=np.ones(15), known=np.zeros(15), kernel="rbf")
NEW = RNG.random((4, 3))


def mixture(noise=1e-6):
    settings = np.array([-0.5, 0.5, 1.0, 0.2, np.log(noise)])
    return ProcessMixture.of([(EVIDENCE, settings), (SMOOTH, settings + 0.3), (EVIDENCE, settings - 0.2)])


def slopes(function, x):
    steps = 1e-6 * np.eye(x.shape[1])
    return np.stack([(function(x + step) - function(x - step)) / 2e-6 for step in steps], 1)


def test_what_was_seen_without_noise_is_known():
    seen = mixture().predict(X)
    assert np.abs(seen.mean - Y[:, None]).max() < 5e-3 and seen.deviation.max() < 5e-3
    far = mixture().predict(np.full((1, 3), 50.0))
    assert far.deviation[:, 0] ** 2 == pytest.approx(mixture().signal, rel=1e-6)


def test_the_least_squares_answer():
    """A process's mean and variance at new points, from the covariance matrices themselves."""
    subject = mixture(0.01)
    root = np.sqrt(subject.rates[1])

    def covariance(a, b):
        return subject.signal[1] * np.exp(-0.5 * (((a[:, None] - b) * root) ** 2).sum(-1))

    whole = covariance(X, X) + (subject.noise[1] + 1e-8 * subject.signal[1]) * np.eye(15)
    solved = np.linalg.solve(whole, covariance(X, NEW))
    seen = subject.predict(NEW)
    assert seen.mean[1, :, 0] == pytest.approx(subject.mean[1] + solved.T @ (Y - subject.mean[1]))
    variance = subject.signal[1] - (solved * covariance(X, NEW)).sum(0)
    assert seen.deviation[1] == pytest.approx(np.sqrt(variance))


def test_gradients_are_those_of_the_values():
    subject = mixture(0.01)
    weights, others = RNG.normal(size=(3, 4, 1)), RNG.normal(size=(3, 4))

    def rows(x):
        seen = subject.predict(x)
        return (weights * seen.mean).sum((0, 2)) + (others * seen.deviation).sum(0)

    assert subject.predict(NEW).gradient(weights, others) == pytest.approx(slopes(rows, NEW), abs=1e-6)
    score = LogImprovement(subject, np.full((3, 1), Y.min()))
    assert score(NEW)[1] == pytest.approx(slopes(lambda x: score(x)[0], NEW), rel=1e-4, abs=1e-5)


def test_improvement_is_the_mean_of_the_gain():
    subject = mixture(0.01)
    least = np.full((3, 1), 0.6)
    seen = subject.predict(NEW)
    draws = seen.mean[..., 0] + seen.deviation * norm.ppf((np.arange(4000) + 0.5) / 4000)[:, None, None]
    gain = np.maximum(0.6 - draws, 0).mean((0, 1))
    assert LogImprovement(subject, least)(NEW)[0] == pytest.approx(np.log(gain), abs=1e-2)


def test_the_logarithm_of_the_improvement_holds_far_out():
    z = np.array([-1e5, -301.0, -299.0, -40.0, -1.0 - 1e-9, -1.0 + 1e-9, 0.0, 5.0])
    value, slope = log_improvement(z)
    near = z[3:]
    assert value[4:] == pytest.approx(np.log(norm.pdf(near[1:]) + near[1:] * norm.cdf(near[1:])), rel=1e-6)
    assert np.isfinite(value).all() and (np.diff(value) > 0).all()
    assert value[:4] == pytest.approx(-0.5 * z[:4] ** 2 - 0.5 * np.log(2 * np.pi) - 2 * np.log(-z[:4]), rel=1e-3)
    ahead, behind = log_improvement(z[1:] + 1e-5)[0], log_improvement(z[1:] - 1e-5)[0]
    assert slope[1:] == pytest.approx((ahead - behind) / 2e-5, rel=1e-3)


def test_points_under_way_are_believed_to_come_back_as_predicted():
    subject = mixture(1e-4)
    normal = norm.ppf((np.arange(256) + 0.5) / 256)[RNG.permuted(np.tile(np.arange(256), (4, 1)), axis=1)]
    later = subject.with_pending(NEW, normal)
    at = RNG.random((5, 3))
    before, after = subject.predict(at), later.predict(at)
    assert after.mean.mean(-1) == pytest.approx(before.mean[..., 0], abs=0.05)
    assert (after.deviation <= before.deviation + 1e-9).all()
    total = after.deviation**2 + after.mean.var(-1)  # what is left, and what will be learnt
    assert total == pytest.approx(before.deviation**2, rel=0.3, abs=1e-4)
    assert later.predict(NEW).deviation.max() < 0.02
