"""Initial states of the HNN paper: ranges, statistics and the order of the draws."""

import math

import numpy as np
import pytest
import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.systems import (
    MassSpring,
    NBody,
    sample_pendulum,
    sample_spring,
    sample_square,
    sample_three_body,
    sample_two_body,
)

SAMPLERS = [
    (sample_spring, 2),
    (sample_pendulum, 2),
    (sample_square, 2),
    (sample_two_body, 8),
    (sample_three_body, 12),
]
every = pytest.mark.parametrize(("sample", "size"), SAMPLERS)


@every
def test_equal_seeds_give_equal_states(sample, size):
    y = sample(7, seed=3)
    assert y.shape == (7, size)
    assert y.dtype == torch.float64
    assert torch.equal(y, sample(7, seed=3))
    assert not torch.equal(y, sample(7, seed=4))
    assert torch.equal(y, sample(7, seed=np.random.RandomState(3)))
    assert torch.equal(sample(7, np.random.default_rng(3)), sample(7, np.random.default_rng(3)))


@every
def test_a_source_of_numbers_is_drawn_from_in_place(sample, size):
    rng = np.random.RandomState(3)
    parts = torch.cat([sample(2, rng), sample(5, rng)])
    assert torch.equal(parts, sample(7, seed=3))


@every
def test_global_random_state_is_not_touched(sample, size):
    before = np.random.get_state(legacy=False), torch.get_rng_state()
    sample(7)
    np.testing.assert_equal(np.random.get_state(legacy=False), before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


@every
def test_bad_arguments(sample, size):
    with pytest.raises(ArgumentError, match="`n` must be at least 1, got 0"):
        sample(0)
    with pytest.raises(ArgumentTypeError, match="`seed` must be an int, a numpy RandomState"):
        sample(1, "0")


@pytest.mark.parametrize(("sample", "low", "high"), [(sample_spring, 0.1, 1.0), (sample_pendulum, 1.3, 2.3)])
def test_the_radius_is_uniform(sample, low, high):
    radius = sample(4000).norm(dim=-1)
    assert radius.min() >= low
    assert radius.max() <= high
    assert radius.mean().item() == pytest.approx((low + high) / 2, abs=0.02)
    assert radius.std().item() == pytest.approx((high - low) / math.sqrt(12), abs=0.02)


def test_spring_states_by_the_legacy_stream_of_numpy():
    stream = np.random.RandomState(0)
    for y in sample_spring(5, seed=0).numpy():
        direction = stream.rand(2) * 2 - 1
        radius = stream.rand() * 0.9 + 0.1
        np.testing.assert_allclose(y, direction / np.sqrt((direction**2).sum()) * radius, rtol=1e-14)


def test_the_energies_of_the_spring():
    energy = MassSpring(mass=0.5, stiffness=2.0).energy(sample_spring(1000))
    assert energy.min() >= 0.01
    assert energy.max() <= 1.0


def test_evaluation_states_lie_in_four_squares():
    y = sample_square(4000)
    assert y.abs().min() >= 0.2
    assert y.abs().max() <= 1.0
    # Those outside the circle of the training states: 1 - (area of the circle in (.2, 1)^2) / .64.
    inside = (1 - 0.04) ** 0.5
    x = torch.linspace(0.2, inside, 10001, dtype=torch.float64)
    area = torch.trapezoid((1 - x.square()).sqrt() - 0.2, x).item()
    assert (y.norm(dim=-1) > 1).double().mean().item() == pytest.approx(1 - area / 0.64, abs=0.03)
    assert y.mean(0).abs().max() < 0.05


def test_two_bodies_move_nearly_in_circles(solve):
    y = sample_two_body(4000)
    q, p = y.chunk(2, dim=-1)
    assert torch.equal(q[:, :2], -q[:, 2:])
    assert torch.equal(p[:, :2], -p[:, 2:])
    assert q[:, :2].min() >= 0.5
    assert q[:, :2].max() <= 1.5
    assert (q[:, :2] * p[:, :2]).sum(-1).abs().max() < 1e-15  # perpendicular
    assert (q[:, 0] * p[:, 1] - q[:, 1] * p[:, 0]).min() > 0  # anticlockwise
    radius, speed = q[:, :2].norm(dim=-1), p[:, :2].norm(dim=-1)
    ratio = speed / (2 * radius.sqrt()) ** -1
    assert ratio.mean().item() == pytest.approx(1.0, abs=0.003)
    assert ratio.std().item() == pytest.approx(0.05, abs=0.003)
    run = solve(NBody([1.0, 1.0]), y[:5], torch.linspace(0, 20, 50))
    # The start is one end of a Kepler ellipse; at the other end the radius has this factor.
    other = (ratio**2 / (2 - ratio**2))[:5]
    factor = run[..., :2].norm(dim=-1) / radius[:5]
    assert (factor <= other.clamp(min=1) + 1e-6).all()
    assert (factor >= other.clamp(max=1) - 1e-6).all()


def test_two_bodies_by_the_legacy_stream_of_numpy():
    stream = np.random.RandomState(7)
    for y in sample_two_body(3, seed=7).numpy():
        position = stream.rand(2) * (1.5 - 0.5) + 0.5
        r = np.sqrt((position**2).sum())
        velocity = np.flip(position) / (2 * r**1.5) * [-1, 1] * (1 + 0.05 * stream.randn())
        np.testing.assert_allclose(y[:2], position, rtol=1e-14)
        np.testing.assert_allclose(y[4:6], velocity, rtol=1e-14)


def test_three_bodies_start_in_a_triangle():
    y = sample_three_body(4000)
    q, p = (half.unflatten(-1, (3, 2)) for half in y.chunk(2, dim=-1))
    radius = q.norm(dim=-1)
    torch.testing.assert_close(radius, radius[:, :1].expand(-1, 3))
    assert radius.min() >= 0.9
    assert radius.max() <= 1.2
    assert q.sum(1).abs().max() < 1e-14
    torch.testing.assert_close((q[:, 0] - q[:, 1]).norm(dim=-1), radius[:, 0] * math.sqrt(3))
    assert ((q[:, 0, 0] * q[:, 1, 1] - q[:, 0, 1] * q[:, 1, 0]) > 0).all()  # the second follows anticlockwise
    rigid = torch.stack([-q[..., 1], q[..., 0]], dim=-1) / radius[..., None] ** 1.5 * 3**-0.25
    ratio = p / rigid
    assert ratio.min() >= 0.8 - 1e-9
    assert ratio.max() <= 1.2 + 1e-9
    assert ratio.mean().item() == pytest.approx(1.0, abs=0.005)
    assert ratio.std().item() == pytest.approx(0.4 / math.sqrt(12), abs=0.005)
