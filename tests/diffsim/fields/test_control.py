"""Energy shaping: swing-up of a pendulum, full actuation, underactuation, limits, errors."""

import pytest
import torch

from diffsim.errors import ArgumentError
from diffsim.fields.control import EnergyShaping
from diffsim.fields.port_hamiltonian import PortHamiltonian
from diffsim.integrate.odeint import odeint
from diffsim.systems.oscillators import MassSpring, Pendulum
from diffsim.systems.robots import CartPole

ZERO = torch.tensor(0.0, dtype=torch.float64)


def test_a_hanging_pendulum_swings_up_and_rests_upright():
    pendulum = Pendulum()
    shaping = EnergyShaping(pendulum.potential, lambda q: -pendulum.potential(q), damping=3.0)
    y0 = torch.tensor([[0.05, 0.0], [-2.0, 1.0]], dtype=torch.float64)
    run = odeint(PortHamiltonian(pendulum, input=shaping), y0, torch.linspace(0, 15, 31, dtype=torch.float64))
    upright = torch.tensor([torch.pi, -torch.pi], dtype=torch.float64)
    torch.testing.assert_close(run[-1, :, 0], upright, rtol=0, atol=1e-4)
    assert run[-1, :, 1].abs().amax() < 1e-4


def test_the_closed_loop_has_the_desired_energy():
    spring = MassSpring(stiffness=2.0)
    matrix = torch.tensor([[2.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    shaping = EnergyShaping(spring.potential, lambda q: 5 * q.square().sum(-1) / 2, matrix=matrix)
    y = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    closed, wanted = PortHamiltonian(spring, input=shaping), MassSpring(stiffness=5.0)
    zero = torch.tensor(0.0, dtype=torch.float64)
    torch.testing.assert_close(closed(zero, y), wanted(zero, y))


def test_more_inputs_than_positions_share_the_work():
    spring, matrix = MassSpring(stiffness=2.0), torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    shaping = EnergyShaping(spring.potential, lambda q: 5 * q.square().sum(-1) / 2, matrix=matrix)
    y = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(PortHamiltonian(spring, input=shaping)(ZERO, y), MassSpring(stiffness=5.0)(ZERO, y))
    torch.testing.assert_close(shaping.control(y[:, :1], y[:, 1:]), -3 * y[:, :1] * matrix / 5)


def test_limits_and_missing_motors():
    one = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    potential = lambda q: 2.45 * q[..., 1].cos()  # noqa: E731
    assert torch.equal(CartPole().energy(torch.tensor([0.0, 1.0, 0.0, 0.0])), potential(torch.ones(2)))
    shaping = EnergyShaping(potential, lambda q: 50 * q.square().sum(-1), matrix=one, limit=5.0)
    q = torch.tensor([[0.01, 0.3], [4.0, 0.3]], dtype=torch.float64)
    v = torch.zeros_like(q)
    torch.testing.assert_close(shaping.control(q, v)[:, 0].detach(), torch.tensor([-1.0, -5.0], dtype=torch.float64))
    force = shaping(torch.tensor(0.0), q, v)
    assert not force[:, 1].any()  # there is no motor at the pole


def test_bad_arguments():
    with pytest.raises(ArgumentError, match="`damping` must not be negative"):
        EnergyShaping(torch.sum, torch.sum, damping=-1.0)
    with pytest.raises(ArgumentError, match="`limit` must be positive"):
        EnergyShaping(torch.sum, torch.sum, limit=0.0)
