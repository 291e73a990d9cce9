"""What holds for every learned field: it is fitted, predicts in an ensemble with gradients, takes times and dtypes."""

import copy

import pytest
import torch
from torch import nn

from diffsim.data.trajectory import Trajectory
from diffsim.fields.charts import AngleFeatures, EmbeddedField
from diffsim.fields.constraints import Rods
from diffsim.fields.discrete import DiscreteGradientField, VariationalField
from diffsim.fields.graphs import Graph, GraphDelta, GraphEnergy, GraphField, GraphNetwork, RingLagrangian
from diffsim.fields.hamiltonian import HamiltonianField, SeparableHamiltonian
from diffsim.fields.inputs import Input
from diffsim.fields.lagrangian import LagrangianField
from diffsim.fields.matrices import AntisymmetricMatrix, PositiveMatrix
from diffsim.fields.mechanics import MechanicalHamiltonian, MechanicalLagrangian, ParticleMasses
from diffsim.fields.neural import NeuralField, mlp
from diffsim.fields.port_hamiltonian import DissipativeHamiltonian, GradientHamiltonian, PortHamiltonian
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver
from diffsim.training.fit import fit
from diffsim.training.losses import RolloutLoss
from diffsim.training.settings import Training
from surrogates.rollout_ensemble import RolloutEnsemble

RK4 = Solver("rk4", step=0.05, gradient="backprop")


def energy(n=2, seed=0):
    return mlp(n, 1, (8,), seed=seed)


def embedded():
    chart = AngleFeatures(1)
    mass = PositiveMatrix(1, nn.Sequential(chart, mlp(2, 1, (6,))), floor=0.2)
    return EmbeddedField(
        LagrangianField(MechanicalLagrangian(mass, nn.Sequential(chart, energy())), dissipation=PositiveMatrix(1)),
        chart,
    )


def driven():
    mechanical = MechanicalHamiltonian(PositiveMatrix(1, mlp(1, 1, (6,)), floor=0.2), energy(1))
    drive = Input(mlp(1, 1, (6,)), lambda q: torch.ones_like(q)[..., None])
    return PortHamiltonian(mechanical, dissipation=0.1, input=drive)


def constrained():
    mechanical = MechanicalHamiltonian(ParticleMasses([1.0], inverse=True), energy())
    return PortHamiltonian(mechanical, constraints=Rods([(0, (0.0, 0.0))], [1.0], 1), tolerance=0.1)


NETWORK = GraphNetwork(2, 4, hidden=(6,), n_messages=4)
FIELDS = {
    "neural": (NeuralField(mlp(2, 2, (8,))), 2),
    "hnn": (HamiltonianField(energy()), 2),
    "separable": (SeparableHamiltonian(energy(1), energy(1, 1)), 2),
    "lnn": (LagrangianField(mlp(2, 1, (8,), nn.Softplus, seed=2), regularisation=0.3), 2),
    "delan": (embedded(), 3),
    "port-hnn": (driven(), 2),
    "d-hnn": (DissipativeHamiltonian(energy(), energy(seed=3)), 2),
    "howse": (GradientHamiltonian(energy(), AntisymmetricMatrix(2), PositiveMatrix(2, mlp(2, 3, (6,)))), 2),
    "dgnet": (DiscreteGradientField(energy(), AntisymmetricMatrix(2)), 2),
    "vin": (VariationalField(energy(1)), 2),
    "chnn": (constrained(), 4),
    "ogn": (GraphField(NETWORK, Graph(2)), 8),
    "delta": (GraphDelta(copy.deepcopy(NETWORK), Graph(2), h=0.1), 8),
    "hogn": (HamiltonianField(GraphEnergy(GraphNetwork(2, 1, hidden=(6,), n_messages=4), Graph(2))), 8),
    "ring": (LagrangianField(RingLagrangian(mlp(6, 1, (6,), nn.Softplus)), regularisation=0.5), 6),
}
every = pytest.mark.parametrize("name", FIELDS)


def given(name, dtype=torch.float64):
    field, d = FIELDS[name]
    y = 0.5 * torch.randn(4, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    field = copy.deepcopy(field).to(dtype)
    if name == "delan":
        y = torch.cat([y[:, :1].cos(), y[:, :1].sin(), y[:, 2:]], dim=-1)
    if name == "chnn":
        y = field.double().project(y)
        field = field.to(dtype)
    return field, y.to(dtype)


@every
def test_a_fit_lowers_the_loss(name):
    field, y = given(name)
    t = torch.linspace(0, 0.3, 4, dtype=torch.float64)
    # Runs of the same kind of field with other weights: what the field can express.
    other = copy.deepcopy(field)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.2)
        runs = Trajectory(t, odeint(other, y, t, RK4))
    before = float(RolloutLoss(3)(field, runs, RK4).detach())
    report = fit(field, runs, RolloutLoss(3), Training("lbfgs", steps=6), RK4)
    assert report.best_loss < 0.8 * before


@every
def test_an_ensemble_predicts_with_gradients_in_the_design(name):
    field, y = given(name)
    other = copy.deepcopy(field)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    t = torch.linspace(0, 0.2, 3, dtype=torch.float64)
    ensemble = RolloutEnsemble([field, other], t, solver=RK4)
    design = y.clone().requires_grad_(name != "chnn")
    predicted = ensemble(design)
    assert predicted.shape == (2, 4, 2 * y.shape[-1])
    torch.testing.assert_close(predicted[0], odeint(field, y, t, RK4)[1:].movedim(0, -2).flatten(-2))
    spread = predicted.var(0).sum()
    assert float(spread.detach()) > 0
    if name != "chnn":
        (slope,) = torch.autograd.grad(spread, design)
        assert bool(torch.isfinite(slope).all()) and bool(slope.abs().amax() > 0)


@every
def test_times_are_numbers_or_one_a_state_and_dtypes_follow(name):
    field, y = given(name)
    t = torch.full((4, 1), 0.4, dtype=torch.float64)
    torch.testing.assert_close(field(t, y), field(t[0, 0], y))
    single, state = given(name, torch.float32)
    rates = single(torch.tensor(0.4), state)
    assert rates.dtype == torch.float32
    torch.testing.assert_close(rates.double(), field(t, y), rtol=1e-2, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(field(t, y), field(t, y.requires_grad_()).detach())


@pytest.mark.parametrize("name", ["lnn", "port-hnn", "chnn", "hogn"])
def test_fields_and_their_states_survive_saving(name, tmp_path):
    field, y = given(name)
    torch.save(field.state_dict(), tmp_path / "weights")
    other, _ = given(name)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(torch.load(tmp_path / "weights"))
    t = torch.tensor(0.1, dtype=torch.float64)
    torch.testing.assert_close(other(t, y), field(t, y))
