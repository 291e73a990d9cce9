"""Lagrangian fields: equations of motion, energy, momenta, forces, constraints, singular mass matrices, contract."""

import pytest
import torch
from torch import nn

from diffsim.contracts import check_vector_field
from diffsim.errors import ArgumentError
from diffsim.fields.charts import to_momenta
from diffsim.fields.inputs import Input
from diffsim.fields.lagrangian import LagrangianField
from diffsim.fields.matrices import PositiveMatrix
from diffsim.fields.mechanics import MechanicalLagrangian
from diffsim.fields.neural import mlp
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver
from diffsim.systems.double_pendulum import DoublePendulum
from diffsim.systems.relativistic import relativistic_lagrangian, toy_relativistic_lagrangian

ZERO = torch.tensor(0.0, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def double_pendulum(y):
    (a, b), (v, w) = y[..., :2].unbind(-1), y[..., 2:].unbind(-1)
    kinetic = v.square() + w.square() / 2 + v * w * (a - b).cos()
    return kinetic + 9.81 * (2 * a.cos() + b.cos())


def test_the_double_pendulum_moves_as_its_hamiltonian_form():
    field, canonical = LagrangianField(double_pendulum), DoublePendulum()
    y = normal(5, 4)
    state = canonical.from_velocities(*y.chunk(2, -1))
    torch.testing.assert_close(to_momenta(field, y), state)
    torch.testing.assert_close(field.energy(y) + 3 * 9.81, canonical.energy(state))
    rates = field(ZERO, y)
    change = torch.func.jvp(lambda y: canonical.from_velocities(*y.chunk(2, -1)), (y,), (rates,))[1]
    torch.testing.assert_close(change, canonical(ZERO, state))
    with torch.no_grad():
        torch.testing.assert_close(field(ZERO, y), rates)
        assert not field(ZERO, y.clone().requires_grad_()).requires_grad
    torch.testing.assert_close(field(ZERO, y[0]), rates[0])
    torch.testing.assert_close(field(ZERO, y.expand(2, 5, 4))[1], rates)


@pytest.mark.parametrize(
    ("lagrangian", "acceleration"),
    [
        (relativistic_lagrangian(3.0), lambda v: 3 * (1 - v**2) ** 1.5),
        (toy_relativistic_lagrangian(3.0), lambda v: 3 * (1 - v**2) ** 2.5 / (1 + 2 * v**2)),
    ],
)
def test_the_published_accelerations_of_the_relativistic_particle(lagrangian, acceleration):
    y = torch.stack([normal(7), 0.95 * normal(7, seed=1).tanh()], dim=-1)
    torch.testing.assert_close(LagrangianField(lagrangian)(ZERO, y)[:, 1], acceleration(y[:, 1]))


def test_the_energy_of_a_network_is_conserved_and_its_reversed_run_returns():
    net = mlp(4, 1, (16,), nn.Softplus, seed=1, dtype=torch.float64).requires_grad_(False)
    field = LagrangianField(lambda y: y[..., 2:].square().sum(-1) + 0.3 * net(y)[..., 0])
    t, y0 = torch.linspace(0, 3, 7, dtype=torch.float64), 0.5 * normal(3, 4)
    run = odeint(field, y0, t, Solver("dopri8", rtol=1e-10, atol=1e-12)).detach()
    energy = field.energy(run).detach()
    torch.testing.assert_close(energy, energy[:1].expand_as(energy), rtol=1e-8, atol=1e-8)
    assert (run[-1] - run[0]).abs().amax() > 0.3
    torch.testing.assert_close(odeint(field, run[-1], t.flip(0))[-1].detach(), y0, rtol=1e-4, atol=1e-5)


def test_damping_and_inputs_change_the_energy_by_their_power():
    lagrangian = MechanicalLagrangian(PositiveMatrix(2, mlp(2, 3, (6,), seed=2), floor=0.2), mlp(2, 1, (6,)))
    matrix = PositiveMatrix(2, mlp(2, 3, (6,), seed=4))
    drive = Input(lambda t: torch.cat([t.cos(), t.sin(), t], dim=-1), normal(2, 3))
    field = LagrangianField(lagrangian, dissipation=matrix, input=drive).double()
    y, t = normal(5, 4), torch.tensor(0.7, dtype=torch.float64)
    q, v = y.chunk(2, -1)
    y.requires_grad_()
    (slope,) = torch.autograd.grad(field.energy(y).sum(), y)
    change = (slope * field(t, y)).sum(-1)
    power = (v * drive(t, q, v)).sum(-1) - (v * (matrix(q) @ v[..., None])[..., 0]).sum(-1)
    torch.testing.assert_close(change, power)


def test_the_regularisation_keeps_signs_and_bounds_inverses():
    # L = a v1^2 / 2 - b v2^2 / 2: a mass matrix of mixed signature; forces of one.
    for scale in (1.0, 1e-2, 0.0):
        field = LagrangianField(
            lambda y, s=scale: s * (y[..., 2].square() - y[..., 3].square()) / 2 + y[..., :2].sum(-1),
            regularisation=0.1,
        )
        acceleration = field(ZERO, torch.ones(4, dtype=torch.float64))[2:]
        expected = scale / (scale**2 + 0.01)
        torch.testing.assert_close(acceleration, torch.tensor([expected, -expected], dtype=torch.float64))


@pytest.mark.parametrize(
    "lagrangian",
    [
        lambda y: y[..., 2].square() - y[..., 0].square(),  # the second velocity is missing
        lambda y: (y[..., 2] + y[..., 3]).square() + y[..., 0],  # only the sum of the velocities counts
        lambda y: y.sum(-1),  # linear
        lambda y: y[..., 0] * 0,
    ],
)
def test_a_singular_mass_matrix_is_an_error_that_says_where(lagrangian):
    with pytest.raises(ArgumentError, match=r"`lagrangian` is singular at 3 of 3 states.*regularisation"):
        LagrangianField(lagrangian)(ZERO, normal(3, 4))


def test_bad_arguments():
    with pytest.raises(ArgumentError, match="`regularisation` must be at least 0"):
        LagrangianField(double_pendulum, regularisation=-1.0)
    with pytest.raises(ArgumentError, match="even state dimension"):
        LagrangianField(double_pendulum)(ZERO, normal(3, 5))
    with pytest.raises(ArgumentError, match=r"`lagrangian` must map \[3, 4\]"):
        LagrangianField(lambda y: y.sum())(ZERO, normal(3, 4))


def test_second_derivatives_match_vmapped_hessians_and_train():
    net = mlp(4, 1, (12,), nn.Softplus, seed=3, dtype=torch.float64)
    field, y = LagrangianField(net, regularisation=0.05), normal(6, 4)

    def acceleration(state):
        q, v = state.chunk(2)
        f = lambda q, v: net(torch.cat([q, v])).squeeze()  # noqa: E731
        mass = torch.func.hessian(f, 1)(q, v)
        mixed = torch.func.jacrev(torch.func.grad(f, 1), 0)(q, v)
        force = torch.func.grad(f, 0)(q, v) - mixed @ v
        values, vectors = torch.linalg.eigh(mass)
        return vectors @ (values / (values**2 + 0.05**2) * (vectors.T @ force))

    torch.testing.assert_close(field(ZERO, y)[:, 2:], torch.func.vmap(acceleration)(y))
    field(ZERO, y).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net[:4].parameters())


def test_contract():
    field = LagrangianField(mlp(4, 1, (10,), nn.Softplus, seed=1), regularisation=0.3, dissipation=0.1)
    check_vector_field(field, 0.5 * normal(2, 4), duration=0.3)
