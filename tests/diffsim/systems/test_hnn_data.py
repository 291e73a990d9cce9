"""The data sets of the HNN paper: sizes, noise, derivatives and the order of the draws."""

import numpy as np
import pytest
import torch

from diffsim.errors import ArgumentError
from diffsim.systems import (
    hnn_pendulum_data,
    hnn_spring_data,
    hnn_three_body_data,
    hnn_two_body_data,
    sample_three_body,
    sample_two_body,
)

OSCILLATORS = [(hnn_spring_data, 30), (hnn_pendulum_data, 45)]
ORBITS = [(hnn_two_body_data, sample_two_body, 8, 50, 20.0), (hnn_three_body_data, sample_three_body, 12, 20, 5.0)]


@pytest.mark.parametrize(("make", "n_times"), OSCILLATORS)
def test_the_noisy_oscillators(make, n_times):
    data = make()
    assert data.t.shape == (n_times,)
    assert (data.t[0], data.t[-1]) == (0, 3)
    assert data.y_clean.shape == data.y_noisy.shape == data.dy.shape == (n_times, 50, 2)
    assert (data.train, data.test) == (slice(0, 25), slice(25, 50))
    energy = data.field.energy(data.y_clean)
    torch.testing.assert_close(energy, energy[:1].expand_as(energy), rtol=1e-7, atol=1e-7)
    # Derivatives belong to the clean states.
    assert torch.equal(data.dy, data.field(data.t[0], data.y_clean))
    noise = data.y_noisy - data.y_clean
    assert noise.mean().abs() < 0.01
    assert noise.std().item() == pytest.approx(0.1, rel=0.05)
    # The floor of the published losses: the true field at the noisy states.
    y, dy = data.rows(data.train)
    assert y.shape == dy.shape == (25 * n_times, 2)
    assert torch.equal(y[:n_times], data.y_noisy[:, 0])
    assert torch.equal(dy[n_times : 2 * n_times], data.dy[:, 1])


def test_the_floor_of_the_published_spring_losses():
    data = hnn_spring_data()
    y, dy = data.rows(data.test)
    assert (data.field(data.t[0], y) - dy).square().mean().item() == pytest.approx(4e-2, rel=0.1)


def test_the_spring_interleaves_states_and_noise_in_one_stream():
    data = hnn_spring_data(n=3, noise=0.3)
    t = data.t.numpy()
    stream = np.random.RandomState(0)
    for run in range(3):
        direction = stream.rand(2) * 2 - 1
        q, p = direction / np.sqrt((direction**2).sum()) * (stream.rand() * 0.9 + 0.1)
        clean = np.stack([q * np.cos(2 * t) + p * np.sin(2 * t), p * np.cos(2 * t) - q * np.sin(2 * t)], axis=-1)
        np.testing.assert_allclose(data.y_clean[:, run], clean, atol=1e-8)
        noise = np.stack([stream.randn(30), stream.randn(30)], axis=-1)
        np.testing.assert_allclose(data.y_noisy[:, run], clean + 0.3 * noise, atol=1e-8)


@pytest.mark.parametrize(("make", "sample", "size", "n_times", "end"), ORBITS)
def test_the_orbits(make, sample, size, n_times, end):
    data = make(n=10, seed=2)
    assert data.t.shape == (n_times,)
    assert data.t[-1] == end
    assert data.y_clean.shape == data.dy.shape == (n_times, 10, size)
    assert torch.equal(data.y_noisy, data.y_clean)
    assert (data.test, data.train) == (slice(0, 2), slice(2, 10))
    torch.testing.assert_close(data.y_clean[0], sample(10, seed=2))
    energy = data.field.energy(data.y_clean)
    torch.testing.assert_close(energy, energy[:1].expand_as(energy), rtol=1e-6, atol=1e-6)
    assert torch.equal(data.dy, data.field(data.t[0], data.y_clean))
    assert not data.dy.requires_grad


def test_without_noise_the_observed_runs_are_the_clean_ones():
    data = hnn_pendulum_data(n=2, noise=0.0)
    assert torch.equal(data.y_noisy, data.y_clean)


def test_bad_arguments():
    with pytest.raises(ArgumentError, match="`n` must be at least 2"):
        hnn_spring_data(n=1)
    with pytest.raises(ArgumentError, match="`noise` must not be negative"):
        hnn_pendulum_data(noise=-0.1)
    with pytest.raises(ArgumentError, match="`n` must be at least 5"):
        hnn_two_body_data(n=4)
