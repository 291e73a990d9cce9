"""The Lagrangian network: derivatives written out against autograd, period, energy along a run, start, errors."""

import copy

import pytest
import torch
from torch import nn

from diffsim.contracts import check_vector_field
from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields.charts import AngleFeatures
from diffsim.fields.lagrangian import LagrangianField
from diffsim.fields.lagrangian_network import LagrangianNetwork
from diffsim.fields.neural import NeuralField, mlp
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver
from diffsim.training.fit import fit
from diffsim.training.losses import free_particle, indefinite_mass
from diffsim.training.settings import Training

ZERO = torch.tensor(0.0, dtype=torch.float64)


def network(angles=(0, 1, 2), hidden=(9, 7), **options):
    chart = AngleFeatures(3, angles)
    net = mlp(chart.n_out + 3, 1, hidden, nn.Softplus, seed=1, dtype=torch.float64)
    return LagrangianNetwork(net, chart, speed=2.5, **options)


def states(n=6):
    return torch.randn(n, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("angles", [(0, 1, 2), (2, 0), (1,), ()])
def test_written_out_derivatives_are_those_of_autograd(angles):
    field = network(angles)
    whole = field.function
    by_autograd = LagrangianField(lambda y: whole(y), regularisation=field.regularisation)
    y = states()
    torch.testing.assert_close(field(ZERO, y), by_autograd(ZERO, y))
    torch.testing.assert_close(field.energy(y), by_autograd.energy(y))
    weight = field.network.net[0].weight
    (mine,), (theirs,) = (torch.autograd.grad(f(ZERO, y).square().sum(), weight) for f in (field, by_autograd))
    torch.testing.assert_close(mine, theirs)


def test_turns_of_angles_change_nothing_and_the_energy_is_kept():
    field = network()
    fit(field, Trajectory(torch.zeros(1), states(50)[None]), free_particle, Training("lbfgs", steps=40))
    y = states()
    turned = y + 2 * torch.pi * torch.tensor([1, -2, 3, 0, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(field(ZERO, turned), field(ZERO, y))
    with torch.no_grad():
        run = odeint(field, 0.2 * y, torch.linspace(0, 1, 5, dtype=torch.float64), Solver("dopri8", rtol=1e-9))
        assert float((field.energy(run) - field.energy(run[0])).abs().amax()) < 1e-3
    check_vector_field(field, y)
    torch.testing.assert_close(copy.deepcopy(field)(ZERO, y), field(ZERO, y))


def test_the_fit_may_start_from_a_free_particle():
    field, data = network(hidden=(16, 16)), Trajectory(torch.zeros(1), states(60)[None])
    assert float(torch.linalg.eigvalsh(field.mass(data.y).detach()).amin()) < 0.2
    fit(field, data, free_particle, Training("lbfgs", steps=200))
    masses = torch.linalg.eigvalsh(field.mass(data.y).detach())
    assert float(masses.amin()) > 0.7
    assert float(masses.amax()) < 1.3
    with pytest.raises(ArgumentTypeError, match="LagrangianField, got NeuralField"):
        free_particle(NeuralField(mlp(2, 2, (4,))), data, Solver())


def test_what_is_no_such_network_is_refused():
    chart = AngleFeatures(1)
    with pytest.raises(ArgumentTypeError, match="Pass an `mlp`"):
        LagrangianNetwork(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)), chart)
    with pytest.raises(ArgumentError, match="3 inputs, the features and the velocities, and one output, got 2 and 1"):
        LagrangianNetwork(mlp(2, 1, (4,)), chart)
    with pytest.raises(ArgumentError, match="`speed` must be above 0, got 0"):
        LagrangianNetwork(mlp(3, 1, (4,)), chart, speed=0.0)


def test_a_mass_that_changes_sign_is_mended_by_its_penalty_and_a_positive_one_left_alone():
    y = states(60)
    field = network(hidden=(16, 16))
    assert float(torch.linalg.eigvalsh(field.mass(y).detach()).amin()) < 0

    def loss(field, data, solver):
        return indefinite_mass(field.mass(data.y), 0.1)

    fit(field, Trajectory(torch.zeros(1), y[None]), loss, Training("lbfgs", steps=200))
    assert float(torch.linalg.eigvalsh(field.mass(y).detach()).amin()) > 0.09
    assert float(indefinite_mass(torch.eye(2).expand(5, 2, 2), 0.5)) == 0
    assert float(indefinite_mass(-torch.eye(3), 0.5)) == pytest.approx(9)
    with pytest.raises(ArgumentError, match="`floor` must be above 0, got 0"):
        indefinite_mass(torch.eye(2), 0.0)
