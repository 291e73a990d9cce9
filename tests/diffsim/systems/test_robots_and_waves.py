"""Cart-pole and acrobot against their textbook equations, power of motors; waves on a grid and their invariants."""

import pickle

import pytest
import torch

from diffsim.contracts import check_vector_field
from diffsim.errors import ArgumentError
from diffsim.fields.inputs import PiecewiseConstant
from diffsim.systems.pendulum_chain import PendulumChain, random_pendulum_chain
from diffsim.systems.robots import Acrobot, CartPole
from diffsim.systems.waves import CahnHilliard, KortewegDeVries, sample_mixture, sample_solitons

ZERO = torch.tensor(0.0, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_cart_pole_has_the_textbook_accelerations():
    cart, pole, half, g, force = 0.5, 0.3, 0.6, 9.8, 0.7
    y = normal(6, 4)
    _, angle, _, rate = y.unbind(-1)
    push = (force + pole * half * rate**2 * angle.sin()) / (cart + pole)
    turn = (g * angle.sin() - angle.cos() * push) / (half * (4 / 3 - pole * angle.cos() ** 2 / (cart + pole)))
    slide = push - pole * half * turn * angle.cos() / (cart + pole)
    field = CartPole(cart, pole, half, g, u=torch.tensor([force], dtype=torch.float64))
    torch.testing.assert_close(field(ZERO, y)[:, 2:], torch.stack([slide, turn], dim=-1))


def test_the_acrobot_has_the_textbook_accelerations():
    y, torque = normal(6, 4), 0.8
    q1, q2, w1, w2 = y.unbind(-1)
    m = l = i = 1.0  # noqa: E741
    lc, g = 0.5, 9.8
    d1 = m * lc**2 + m * (l**2 + lc**2 + 2 * l * lc * q2.cos()) + 2 * i
    d2 = m * (lc**2 + l * lc * q2.cos()) + i
    phi2 = m * lc * g * (q1 + q2 - torch.pi / 2).cos()
    phi1 = -m * l * lc * w2**2 * q2.sin() - 2 * m * l * lc * w2 * w1 * q2.sin()
    phi1 = phi1 + (m * lc + m * l) * g * (q1 - torch.pi / 2).cos() + phi2
    a2 = (torque + d2 / d1 * phi1 - m * l * lc * w1**2 * q2.sin() - phi2) / (m * lc**2 + i - d2**2 / d1)
    a1 = -(d2 * a2 + phi1) / d1
    field = Acrobot(u=torch.tensor([torque], dtype=torch.float64))
    torch.testing.assert_close(field(ZERO, y)[:, 2:], torch.stack([a1, a2], dim=-1))


@pytest.mark.parametrize(
    ("field", "torque"),
    [
        (CartPole(u=normal(1)), lambda v: v[:, 0]),
        (CartPole(u=normal(2), torque=True), None),
        (Acrobot(u=normal(1)), lambda v: v[:, 1]),
        (Acrobot(u=normal(2), shoulder=True), None),
    ],
)
def test_motors_do_the_work_of_their_joints(field, torque):
    y = normal(5, 4, seed=3).requires_grad_()
    (slope,) = torch.autograd.grad(field.energy(y).sum(), y)
    v, u = y.detach()[:, 2:], field.forces.input.constant
    power = v @ u if torque is None else torque(v) * u[0]
    torch.testing.assert_close((slope * field(ZERO, y)).sum(-1).detach(), power)


def test_robots_move_under_piecewise_constant_inputs_and_pass_the_contract():
    u = PiecewiseConstant(torch.tensor([0.0]), torch.tensor([[1.0]]))
    check_vector_field(CartPole(u=u, dissipation=0.1), normal(2, 4), duration=0.1)
    with pytest.raises(ArgumentError, match="`pole` must be positive"):
        CartPole(pole=0.0)
    with pytest.raises(ArgumentError, match=r"`matrix` must have shape \[..., 2, 2\]"):
        Acrobot(u=torch.ones(2))(ZERO, normal(3, 4))


@pytest.mark.parametrize("field", [CartPole(), Acrobot(), PendulumChain(), KortewegDeVries(), CahnHilliard()])
def test_systems_travel_to_processes(field):
    y = torch.zeros(50, dtype=torch.float64) if hasattr(field, "spacing") else torch.tensor([0.0, -1.0, 0.1, 0.0])
    torch.testing.assert_close(pickle.loads(pickle.dumps(field))(ZERO, y), field(ZERO, y))


def test_korteweg_de_vries_is_the_difference_equation_and_keeps_energy_and_mass():
    field, u = KortewegDeVries(), sample_solitons(3)
    dx = 0.2
    bracket = 3 * u**2 + (u.roll(-1, -1) - 2 * u + u.roll(1, -1)) / dx**2
    expected = (bracket.roll(-1, -1) - bracket.roll(1, -1)) / (2 * dx)
    rate = field(ZERO, u)
    torch.testing.assert_close(rate, expected)
    assert rate.sum(-1).abs().amax() < 1e-9
    assert (rate * field.energy_gradient(u)).sum(-1).abs().amax() < 1e-8
    torch.testing.assert_close(field.total_energy(u), field.energy(u) * dx)


def test_cahn_hilliard_is_the_difference_equation_and_loses_energy_but_no_mass():
    field, u = CahnHilliard(), sample_mixture(3)
    dx = 1 / 50
    bend = lambda x: (x.roll(-1, -1) - 2 * x + x.roll(1, -1)) / dx**2  # noqa: E731
    rate = field(ZERO, u)
    torch.testing.assert_close(rate, bend(-u + u**3 - 5e-4 * bend(u)))
    assert rate.sum(-1).abs().amax() < 1e-6
    assert ((rate * field.energy_gradient(u)).sum(-1) < 0).all()
    assert u.abs().amax() <= 0.05


def test_waves_have_grids_and_draws_that_repeat():
    for kind in (KortewegDeVries, CahnHilliard):
        with pytest.raises(ArgumentError, match="`n` must be at least 3 and `width` positive"):
            kind(2)
    assert torch.equal(sample_solitons(4, seed=1), sample_solitons(4, seed=1))
    u = sample_solitons(40)
    assert 0.4 < u.amax() < 17 and (u >= 0).all()


def test_a_random_chain_has_the_published_ranges():
    chain = random_pendulum_chain(5, seed=3)
    for value in (chain.masses, chain.rods.lengths):
        assert value.shape == (5,) and 0.6 <= float(value.amin()) and float(value.amax()) <= 1.4
    with pytest.raises(ArgumentError, match="must be as many"):
        PendulumChain([1.0], [1.0, 1.0])
