"""Active learning with fields of the literature: a study chooses initial states, an ensemble is fitted to the runs."""

import pytest
import torch
from torch import nn

from diffsim.fields.constraints import Rods
from diffsim.fields.inputs import Input
from diffsim.fields.lagrangian import LagrangianField
from diffsim.fields.mechanics import MechanicalLagrangian, ParticleMasses
from diffsim.fields.neural import mlp
from diffsim.fields.port_hamiltonian import DissipativeHamiltonian, PortHamiltonian
from diffsim.integrate.odeint import odeint, simulate
from diffsim.integrate.solver import Solver
from diffsim.systems import Pendulum
from diffsim.training.fit import fit
from diffsim.training.losses import RolloutLoss
from diffsim.training.settings import Training
from studies.acquisitions.model_error import disagreement
from studies.spaces.box import Box
from studies.strategies.model_based import ModelBased
from studies.study import Study
from surrogates.rollout_ensemble import RolloutEnsemble

T = torch.linspace(0, 0.6, 4, dtype=torch.float64)
RK4 = Solver("rk4", step=0.1, gradient="backprop")
LABORATORY = Box({"q": (-1.5, 1.5), "p": (-1.0, 1.0)})


def wave(t):
    return torch.cos(2 * t)


def energy(seed, n=2):
    return mlp(n, 1, (8,), nn.Softplus, seed=seed, dtype=torch.float64)


FIELDS = {
    "lnn": lambda seed: LagrangianField(energy(seed), regularisation=0.3),
    "port-hnn": lambda seed: PortHamiltonian(energy(seed), dissipation=0.1, input=Input(wave)),
    "d-hnn": lambda seed: DissipativeHamiltonian(energy(seed), energy(seed + 9)),
}


def ensemble(make, history):
    members = [make(seed) for seed in range(2)]
    for member in members:
        fit(member, history.runs(T), RolloutLoss(None), Training("lbfgs", steps=15), RK4)
    return RolloutEnsemble(members, T, solver=RK4)


@pytest.mark.parametrize("name", FIELDS)
def test_a_study_of_a_learned_field(name):
    """Its ensemble chooses the later runs, and at the end predicts all of them; the truth is driven and damped."""
    system = PortHamiltonian(Pendulum(gravity=1.0).double(), dissipation=0.1, input=Input(wave))

    def experiment(y0, generator):
        return simulate(system, y0, T)

    strategy = ModelBased(
        lambda history: ensemble(FIELDS[name], history), disagreement, start=3, candidates=32, climb=2
    )
    history = Study(LABORATORY, strategy, seed=1).run(experiment, trials=5, executor="here")
    assert [trial.state for trial in history.trials] == ["complete"] * 5
    assert all("acquisition" in info for info in history.info[-2:])
    learned = ensemble(FIELDS[name], history)
    predicted = learned(history.theta).mean(-3)
    measured = history.runs(T).y[1:].movedim(0, -2).flatten(-2)
    assert float((predicted - measured).square().mean()) < 0.05


def test_states_on_constraints_are_designs():
    """A pendulum in Cartesian coordinates: the design is an angle, the state lies on the rod."""

    def state(design):
        angle, rate = design[..., :1], design[..., 1:]
        return torch.cat([angle.sin(), -angle.cos(), rate * angle.cos(), rate * angle.sin()], dim=-1)

    def make(seed):
        potential = mlp(2, 1, (8,), seed=seed, dtype=torch.float64)
        mass = ParticleMasses(torch.ones(1)).double()
        return LagrangianField(MechanicalLagrangian(mass, potential), constraints=Rods([(0, (0.0, 0.0))], [1.0], 1))

    model = RolloutEnsemble([make(0), make(1)], T, state=state, solver=RK4)
    design = LABORATORY.sobol(6, seed=0).requires_grad_(True)
    spread = model(design[:, None]).var(-3).sum()
    (slope,) = torch.autograd.grad(spread, design)
    assert bool(torch.isfinite(slope).all()) and float(slope.abs().max()) > 0
    run = odeint(model.fields[0], state(design.detach()), T, RK4)
    torch.testing.assert_close(run[..., :2].norm(dim=-1), torch.ones(4, 6, dtype=torch.float64), atol=1e-4, rtol=0)
