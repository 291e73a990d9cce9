"""Kepler's laws, conserved quantities and the symmetric solutions of n bodies."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffsim.errors import ArgumentError
from diffsim.systems import NBody, bodies_first, coordinates_first, figure_eight

ZERO = torch.tensor(0.0)


def positions_and_momenta(y, dimension=2):
    q, p = y.chunk(2, dim=-1)
    return q.unflatten(-1, (-1, dimension)), p.unflatten(-1, (-1, dimension))


def two_bodies(m1, m2, separation, speed, dimension):
    """The bodies on the first axis, about their centre of mass, moving along the last axis."""
    total = m1 + m2
    q, v = torch.zeros(2, 2, dimension, dtype=torch.float64)
    q[0, 0], q[1, 0] = separation * m2 / total, -separation * m1 / total
    v[0, -1], v[1, -1] = speed * m2 / total, -speed * m1 / total
    masses = torch.tensor([m1, m2], dtype=torch.float64)
    return torch.cat([q.flatten(), (masses[:, None] * v).flatten()])


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("fraction", [1.0, 0.8])
def test_keplers_third_law(solve, dimension, fraction):
    m1, m2, gravitation, separation = 1.5, 0.4, 0.8, 1.3
    mu = gravitation * (m1 + m2)
    speed = fraction * math.sqrt(mu / separation)  # of the circular orbit: fraction 1
    axis = 1 / (2 / separation - speed**2 / mu)  # vis-viva
    period = 2 * math.pi * math.sqrt(axis**3 / mu)
    field = NBody([m1, m2], dimension, gravitation)
    y0 = two_bodies(m1, m2, separation, speed, dimension)
    run = solve(field, y0, torch.linspace(0, period, 41, dtype=torch.float64))
    torch.testing.assert_close(run[-1], y0, rtol=1e-7, atol=1e-7)
    q, _ = positions_and_momenta(run, dimension)
    distance = (q[:, 0] - q[:, 1]).norm(dim=-1)
    assert distance.max().item() == pytest.approx(separation, rel=1e-7)
    assert distance.min().item() == pytest.approx(2 * axis - separation, rel=1e-6)
    energy = -gravitation * m1 * m2 / (2 * axis)
    torch.testing.assert_close(field.energy(run), torch.full((41,), energy, dtype=torch.float64))


@given(seed=st.integers(0, 1000), n=st.integers(2, 5), dimension=st.integers(1, 3), softening=st.floats(0.0, 1.0))
def test_momentum_and_angular_momentum_are_conserved(seed, n, dimension, softening):
    generator = torch.Generator().manual_seed(seed)
    masses = torch.rand(n, dtype=torch.float64, generator=generator) + 0.1
    y = torch.randn(4, 2 * n * dimension, dtype=torch.float64, generator=generator)
    field = NBody(masses, dimension, softening=softening)
    force = field.force(y[:, : n * dimension]).unflatten(-1, (n, dimension))
    scale = force.abs().sum((1, 2))
    assert (force.sum(1).abs() < 1e-13 * scale[:, None]).all()
    q, _ = positions_and_momenta(y, dimension)
    torque = (q.unsqueeze(-1) * force.unsqueeze(-2)).sum(1)
    assert ((torque - torque.mT).abs() < 1e-12 * (scale * (1 + q.abs().amax((1, 2))))[:, None, None]).all()


def test_the_force_is_newtons():
    y = torch.tensor([0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    force = NBody([2.0, 5.0], gravitation=10.0).force(y[:4])
    pull = 10.0 * 2.0 * 5.0 / 25.0
    torch.testing.assert_close(force, pull * torch.tensor([0.6, 0.8, -0.6, -0.8], dtype=torch.float64))


def test_softening_makes_plummer_spheres():
    y = torch.tensor([0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    field = NBody([2.0, 5.0], softening=2.0)
    assert field.energy(y).item() == pytest.approx(-10.0 / math.sqrt(29.0))
    assert field.force(y[:4])[0].item() == pytest.approx(10.0 * 3.0 / 29.0**1.5)
    together = torch.zeros(8, dtype=torch.float64)
    assert torch.isfinite(field(ZERO, together)).all()


def test_one_row_of_masses_a_state():
    masses = torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.7, 0.9]], dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    field = NBody(masses)
    for i in range(2):
        single = NBody(masses[i].detach())
        torch.testing.assert_close(field(ZERO, y)[i], single(ZERO, y[i]))
        torch.testing.assert_close(field.energy(y)[i], single.energy(y[i]))
    assert torch.autograd.gradcheck(lambda m: NBody(m)(ZERO, y), masses)
    assert NBody(masses.detach())(ZERO, y.float()).dtype == torch.float32


def test_the_triangle_of_lagrange_turns_rigidly(solve):
    radius = 1.1
    angles = torch.arange(3, dtype=torch.float64) * 2 * math.pi / 3
    q = radius * torch.stack([angles.cos(), angles.sin()], dim=-1)
    speed = 3**-0.25 / math.sqrt(radius)
    v = speed * torch.stack([-angles.sin(), angles.cos()], dim=-1)
    y0 = torch.cat([q.flatten(), v.flatten()])
    period = 2 * math.pi * radius / speed
    run = solve(NBody([1.0, 1.0, 1.0]), y0, [0.0, period / 3, period])
    torch.testing.assert_close(run[2], y0, rtol=1e-6, atol=1e-6)
    # After a third of a turn each body stands where the next one stood.
    q1, _ = positions_and_momenta(run[1])
    torch.testing.assert_close(q1, q.roll(-1, dims=0), rtol=1e-6, atol=1e-6)


def test_the_figure_eight_closes(solve):
    run = solve(NBody([1.0, 1.0, 1.0]), figure_eight(), [0.0, 6.32591398 / 3, 6.32591398])
    torch.testing.assert_close(run[2], run[0], rtol=0, atol=1e-6)
    q, _ = positions_and_momenta(run)
    torch.testing.assert_close(q[1].sort(dim=0).values, q[0].sort(dim=0).values, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("n", "dimension"), [(2, 2), (3, 2), (3, 3), (4, 1)])
def test_the_two_orders_of_coordinates(n, dimension):
    by_coordinate = torch.arange(3 * 2 * n * dimension).view(3, -1)
    by_body = bodies_first(by_coordinate, dimension)
    q = by_coordinate[:, : n * dimension].view(3, dimension, n)
    torch.testing.assert_close(by_body[:, : n * dimension].view(3, n, dimension), q.mT)
    assert torch.equal(coordinates_first(by_body, dimension), by_coordinate)


def test_bad_bodies():
    with pytest.raises(ArgumentError, match="`masses` must have shape"):
        NBody([1.0])
    with pytest.raises(ArgumentError, match="`masses` must have shape"):
        NBody(torch.tensor(1.0))
    with pytest.raises(ArgumentError, match="`dimension` must be at least 1"):
        NBody(dimension=0)
    with pytest.raises(ArgumentError, match=r"\[..., 12\]: positions of 3 bodies in 2 dimensions"):
        NBody([1.0, 1.0, 1.0]).energy(torch.zeros(4, 8))
    with pytest.raises(ArgumentError, match="`masses` must have shape"):
        NBody(torch.ones(4, 2))(ZERO, torch.ones(3, 8))
    with pytest.raises(ArgumentError, match="with `dimension` 2"):
        bodies_first(torch.zeros(6))
