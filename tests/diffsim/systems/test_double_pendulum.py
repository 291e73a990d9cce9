"""The double pendulum against its Lagrangian, its normal modes and the plain pendulum."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from diffsim.systems import DoublePendulum, Pendulum

ZERO = torch.tensor(0.0)
CONSTANTS = {"mass1": 0.7, "mass2": 1.2, "length1": 1.3, "length2": 0.6, "gravity": 3.7}


def lagrangian(q, w, mass1, mass2, length1, length2, gravity):
    """Kinetic less potential energy of two bobs, from their Cartesian positions and velocities."""
    x1, x2 = length1 * torch.stack([q[0].sin(), -q[0].cos()]), length2 * torch.stack([q[1].sin(), -q[1].cos()])
    v1 = length1 * w[0] * torch.stack([q[0].cos(), q[0].sin()])
    v2 = length2 * w[1] * torch.stack([q[1].cos(), q[1].sin()])
    kinetic = mass1 * v1.square().sum() / 2 + mass2 * (v1 + v2).square().sum() / 2
    return kinetic - gravity * (mass1 * x1[1] + mass2 * (x1 + x2)[1])


angle = st.floats(-math.pi, math.pi)
velocity = st.floats(-5, 5)


@given(q=st.tuples(angle, angle), w=st.tuples(velocity, velocity), scale=st.floats(0.5, 2))
def test_the_equations_of_lagrange(q, w, scale):
    constants = {name: scale * value for name, value in CONSTANTS.items()}
    q, w = torch.tensor(q, dtype=torch.float64), torch.tensor(w, dtype=torch.float64)
    field = DoublePendulum(**constants)
    y = field.from_velocities(q, w)

    def action(q, w):
        return lagrangian(q, w, **constants)

    # p = dL/dw and H = p w - L, up to the energy at rest.
    torch.testing.assert_close(y[2:], torch.func.grad(action, 1)(q, w), rtol=1e-9, atol=1e-9)
    rest = action(torch.zeros_like(q), torch.zeros_like(w))
    torch.testing.assert_close(field.energy(y), y[2:] @ w - action(q, w) + rest, rtol=1e-9, atol=1e-9)
    # d/dt dL/dw = dL/dq, solved for the acceleration.
    mass = torch.func.hessian(action, 1)(q, w)
    mixed = torch.func.jacrev(torch.func.grad(action, 1), 0)(q, w)
    acceleration = torch.linalg.solve(mass, torch.func.grad(action, 0)(q, w) - mixed @ w)
    dq, dw = field(ZERO, y)[:2], torch.func.jvp(field.angular_velocities, (y,), (field(ZERO, y),))[1]
    torch.testing.assert_close(dq, w, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(dw, acceleration, rtol=1e-7, atol=1e-7)


def test_velocities_there_and_back():
    q, w = torch.randn(2, 5, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    field = DoublePendulum(**CONSTANTS)
    y = field.from_velocities(q, w)
    assert y.shape == (5, 3, 4)
    torch.testing.assert_close(y[..., :2], q)
    torch.testing.assert_close(field.angular_velocities(y), w)
    assert field.from_velocities(q.float(), w.float()).dtype == torch.float32


def test_the_normal_modes_of_equal_rods(solve):
    gravity, length, small = 9.81, 0.8, 1e-4
    field = DoublePendulum(length1=length, length2=length, gravity=gravity)
    for sign in (1, -1):
        frequency = math.sqrt(gravity / length * (2 - sign * math.sqrt(2)))
        q0 = small * torch.tensor([1.0, sign * math.sqrt(2)], dtype=torch.float64)
        y0 = field.from_velocities(q0, torch.zeros_like(q0))
        half = solve(field, y0, [0.0, math.pi / frequency])[1]
        torch.testing.assert_close(half, -y0, rtol=1e-4, atol=1e-9)


def test_a_light_lower_bob_leaves_a_plain_pendulum():
    y = torch.tensor([0.8, -0.3], dtype=torch.float64), torch.tensor([1.1, 0.4], dtype=torch.float64)
    field = DoublePendulum(mass1=0.7, mass2=1e-12, length1=1.3)
    plain = Pendulum(mass=0.7, length=1.3)
    upper = field(ZERO, field.from_velocities(*y))[[0, 2]]
    expected = plain(ZERO, torch.tensor([0.8, 0.7 * 1.3**2 * 1.1], dtype=torch.float64))
    torch.testing.assert_close(upper, expected, rtol=1e-9, atol=1e-9)


def test_a_state_at_rest_stays():
    for angles in ([0.0, 0.0], [math.pi, 0.0], [0.0, math.pi], [math.pi, math.pi]):
        y = torch.tensor([*angles, 0.0, 0.0], dtype=torch.float64)
        assert DoublePendulum(**CONSTANTS)(ZERO, y).abs().max() < 1e-14
