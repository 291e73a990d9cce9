"""Constraints: rods, multipliers, agreement with angles, both formulations, projection, the check at the start."""

import pytest
import torch

from diffsim.contracts import check_vector_field
from diffsim.errors import ArgumentError
from diffsim.fields.constraints import Constraints, Rods
from diffsim.fields.inputs import Input
from diffsim.fields.lagrangian import LagrangianField
from diffsim.fields.mechanics import MechanicalLagrangian, ParticleMasses
from diffsim.integrate.odeint import odeint, simulate
from diffsim.integrate.solver import Solver
from diffsim.systems.double_pendulum import DoublePendulum
from diffsim.systems.oscillators import Pendulum
from diffsim.systems.pendulum_chain import PendulumChain, chain_rods, from_angles, sample_pendulum_chain

ZERO = torch.tensor(0.0, dtype=torch.float64)
TIGHT = Solver("dopri8", rtol=1e-9, atol=1e-11)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_a_chain_of_two_is_the_double_pendulum():
    chain = PendulumChain([1.0, 0.7], [1.2, 0.8])
    angles, rates = normal(3, 2), normal(3, 2, seed=1)
    known = DoublePendulum(1.0, 0.7, 1.2, 0.8)
    t = torch.linspace(0, 2, 5, dtype=torch.float64)
    run = odeint(chain, chain.state(angles, rates), t, TIGHT)
    truth = odeint(known, known.from_velocities(angles, rates), t, TIGHT)
    expected = chain.state(truth[..., :2], known.angular_velocities(truth))
    torch.testing.assert_close(run, expected, rtol=1e-6, atol=1e-6)
    energy = chain.energy(run)
    torch.testing.assert_close(energy, energy[:1].expand_as(energy), rtol=1e-7, atol=1e-7)
    assert chain.rods(run[..., :4]).abs().amax() < 1e-7


def test_lagrangian_and_hamiltonian_constraints_agree():
    masses, lengths = [1.0, 0.7, 1.3], [1.2, 0.8, 1.0]
    chain = PendulumChain(masses, lengths, gravity=3.0, dissipation=0.2, input=Input(normal(6)))
    lagrangian = MechanicalLagrangian(ParticleMasses(masses, learn=False), chain.hamiltonian.potential)
    field = LagrangianField(lagrangian, dissipation=0.2, input=Input(normal(6)), constraints=chain_rods(lengths))
    y = sample_pendulum_chain(chain, 4)
    x = chain.velocities(y)
    field.check_state(x)
    rates = field(ZERO, x)
    torch.testing.assert_close(chain.velocities(chain(ZERO, y)), rates)
    with torch.no_grad():
        torch.testing.assert_close(field(ZERO, x), rates)
        torch.testing.assert_close(chain.velocities(chain(ZERO, y)), rates)


def test_own_constraint_functions_need_no_jacobian():
    rods = Rods([(0, (0.0, 0.0))], [1.3], 1)
    own = Constraints(lambda q: (q.square().sum(-1, keepdim=True) - 1.69) / 2)
    q = normal(4, 2)
    torch.testing.assert_close(own.jacobian(q), rods.jacobian(q))
    torch.testing.assert_close(own.function(q), rods(q))


def test_a_rod_makes_a_pendulum():
    chain, pendulum = PendulumChain([2.0], [1.5]), Pendulum(2.0, 1.5)
    angle = torch.tensor([[0.4]], dtype=torch.float64)
    t = torch.linspace(0, 3, 4, dtype=torch.float64)
    run = odeint(chain, chain.state(angle, torch.zeros_like(angle)), t, TIGHT)
    truth = odeint(pendulum, torch.tensor([[0.4, 0.0]], dtype=torch.float64), t, TIGHT)
    torch.testing.assert_close(run[..., :2], from_angles(truth[..., :1], truth[..., 1:], torch.tensor([1.5]))[0])


def test_random_states_lie_on_the_constraints_and_projection_keeps_them():
    chain = PendulumChain([1.0, 0.7, 1.3], [1.2, 0.8, 1.0])
    y = sample_pendulum_chain(chain, 20)
    chain.check_state(y)
    assert chain.rods(y[:, :6]).abs().amax() < 1e-12
    torch.testing.assert_close(chain.project(y), y)
    assert torch.equal(sample_pendulum_chain(chain, 20), y)


def test_a_start_off_the_constraints_is_an_error_that_names_the_mend():
    chain = PendulumChain([1.0, 0.7], [1.2, 0.8])
    y = chain.state(normal(3, 2), normal(3, 2, seed=1))
    t = torch.linspace(0, 1, 3, dtype=torch.float64)
    off = y.clone()
    off[0, 0] += 0.1
    with pytest.raises(ArgumentError, match=r"`y0` breaks the constraints in 1 of 3 states.*project"):
        simulate(chain, off, t)
    leaving = y.clone()
    leaving[1, 4:] += 1.0
    with pytest.raises(ArgumentError, match=r"`y0` breaks the velocities in 1 of 3 states"):
        simulate(chain, leaving, t)
    simulate(chain, chain.project(leaving), t)
    assert PendulumChain([1.0, 0.7], [1.2, 0.8], tolerance=10.0).check_state(off) is None


def test_bad_rods():
    with pytest.raises(ArgumentError, match="`lengths` must hold 1 positive numbers"):
        Rods([(0, 1)], [-1.0], 2)
    with pytest.raises(ArgumentError, match="two of 2 particles"):
        Rods([(0, 2)], [1.0], 2)
    with pytest.raises(ArgumentError, match="two of 2 particles or one and a fixed point"):
        Rods([((0.0, 0.0), 0)], [1.0], 2)
    with pytest.raises(ArgumentError, match="must have 2 coordinates"):
        Rods([(0, (0.0,))], [1.0], 2)
    with pytest.raises(ArgumentError, match="2 particles in 2 dimensions"):
        Rods([(0, 1)], [1.0], 2)(torch.zeros(5))
    with pytest.raises(ArgumentError, match="`tolerance` must be positive"):
        PendulumChain(tolerance=0.0)
    twice = Rods([(0, (0.0, 0.0)), (0, (0.0, 0.0))], [1.0, 1.0], 1)
    field = LagrangianField(lambda y: y[..., 2:].square().sum(-1), constraints=twice)
    with pytest.raises(ArgumentError, match="`constraints` are redundant"):
        field(ZERO, torch.tensor([[0.0, -1.0, 0.0, 0.0]], dtype=torch.float64))


def test_contract():
    chain = PendulumChain([1.0, 0.7], [1.2, 0.8], tolerance=0.1)
    check_vector_field(chain, sample_pendulum_chain(chain, 2), duration=0.2)
