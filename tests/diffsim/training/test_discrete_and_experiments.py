"""Fits by discrete steps, with learned noise, over several experiments, and to energies with their gradients."""

import pytest
import torch

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, ArgumentTypeError, TrainingError
from diffsim.fields.discrete import DiscreteGradientField, VariationalField, roll_out
from diffsim.fields.hamiltonian import HamiltonianField
from diffsim.fields.inputs import Input
from diffsim.fields.matrices import PositiveMatrix, canonical_structure
from diffsim.fields.neural import mlp
from diffsim.fields.port_hamiltonian import PortHamiltonian
from diffsim.integrate.odeint import simulate
from diffsim.integrate.solver import Solver
from diffsim.systems.henon_heiles import HenonHeiles
from diffsim.systems.oscillators import MassSpring, Pendulum
from diffsim.training.experiments import Experiment, fit_experiments
from diffsim.training.fit import fit
from diffsim.training.fit_energy import fit_energy
from diffsim.training.losses import DerivativeLoss, DiscreteGradientLoss, RolloutLoss
from diffsim.training.optimise import optimise
from diffsim.training.settings import Training

QUICK = Training("lbfgs", steps=150)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pendulum_runs(n=6, times=31, end=3.0):
    return simulate(Pendulum(gravity=1.0), normal(n, 2), torch.linspace(0, end, times, dtype=torch.float64))


class Stiffness(torch.nn.Module):
    """V = k q^2 / 2 with k to be learned."""

    def __init__(self):
        super().__init__()
        self.k = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def forward(self, q):
        return self.k * q.square() / 2


@pytest.mark.parametrize("scheme", ["velocity", "stoermer", "rotation"])
def test_a_variational_integrator_learns_the_force_of_its_own_steps(scheme):
    # Steps far too long for Verlet to be exact: only the same steps give the force back.
    t = torch.linspace(0, 8, 21, dtype=torch.float64)
    truth = VariationalField(lambda q: q.square(), scheme=scheme)
    runs = Trajectory(t, roll_out(truth, 0.5 * normal(5, 2), t).detach())
    field = VariationalField(Stiffness(), scheme=scheme)
    fit(field, runs, RolloutLoss(window=3, discrete=True), QUICK)
    assert abs(float(next(field.parameters()).detach()) - 2) < 1e-4
    fit(field, runs, RolloutLoss(window=3), QUICK, Solver("rk4", step=0.1))
    assert abs(float(next(field.parameters()).detach()) - 2) > 1e-2


def test_the_discrete_gradient_loss_solves_nothing_and_learns():
    runs = pendulum_runs()
    field = DiscreteGradientField(mlp(2, 1, (24,), dtype=torch.float64), canonical_structure(1))
    report = fit(field, runs, DiscreteGradientLoss(), QUICK)
    assert report.best_loss < 1e-4 * report.losses[0]
    with torch.no_grad():
        predicted = roll_out(field, runs.y0, runs.t)
    assert (predicted - runs.y).abs().amax() < 0.05
    batches = fit(field, runs, DiscreteGradientLoss(), Training(steps=5, batch=16, lr=1e-5))
    assert batches.steps == 5
    for wrong in (MassSpring(mass=torch.nn.Parameter(torch.tensor(1.0))), field):
        data = Trajectory(runs.t[:1], runs.y[:1]) if wrong is field else runs
        with pytest.raises((ArgumentError, ArgumentTypeError)):
            fit(wrong, data, DiscreteGradientLoss())


def test_irregular_samples_weigh_by_their_own_steps():
    t = torch.tensor([0.0, 0.05, 0.3, 0.4, 0.72, 1.0, 1.06, 1.5], dtype=torch.float64)
    runs = simulate(Pendulum(gravity=1.0), normal(8, 2), t)
    field = DiscreteGradientField(mlp(2, 1, (24,), dtype=torch.float64), canonical_structure(1))
    fit(field, runs, DiscreteGradientLoss(), QUICK)
    y = 0.5 * normal(20, 2, seed=5)
    zero = torch.zeros((), dtype=torch.float64)
    assert (field(zero, y) - Pendulum(gravity=1.0)(zero, y)).abs().amax() < 0.1


def test_discrete_roll_outs_need_a_field_with_steps():
    with pytest.raises(ArgumentTypeError, match="`discrete` needs a field with steps of its own"):
        fit(HamiltonianField(mlp(2, 1)), pendulum_runs(), RolloutLoss(discrete=True))


def test_the_learned_noise_is_that_of_each_component():
    runs = pendulum_runs(20, 41, 4.0).noise([0.2, 0.05], seed=1)
    field = HamiltonianField(mlp(2, 1, (24,), dtype=torch.float64))
    loss = RolloutLoss(window=20, initial="free", learn_noise=True)
    terms = loss.terms(field, runs, Solver("rk4", step=0.1))
    optimise(lambda i: terms(field, i), list(field.parameters()), Training("lbfgs", steps=250), extra=terms.parameters)
    noise = terms.parameters[-1].detach().exp()
    torch.testing.assert_close(noise, torch.tensor([0.2, 0.05], dtype=torch.float64), rtol=0.25, atol=0)


def push_runs(energy, u, seed, **given):
    push = Input(torch.tensor([u], dtype=torch.float64), **given)
    data = simulate(
        PortHamiltonian(Pendulum(gravity=1.0), input=Input(torch.tensor([2 * u], dtype=torch.float64))),
        normal(5, 2, seed=seed),
        torch.linspace(0, 2, 21, dtype=torch.float64),
    )
    return Experiment(PortHamiltonian(energy, input=push), data)


@pytest.mark.parametrize("batch", ["all", 64])
def test_experiments_with_inputs_of_their_own_share_energy_and_input_matrix(batch):
    energy = HamiltonianField(mlp(2, 1, (24,), dtype=torch.float64))
    matrix = PositiveMatrix(1)
    experiments = [push_runs(energy, u, i, matrix=matrix) for i, u in enumerate((-1.0, 0.0, 1.0))]
    training = QUICK if batch == "all" else Training(steps=400, batch=batch, lr=1e-2)
    report = fit_experiments(experiments, DerivativeLoss(), training)
    assert report.n_parameters == sum(p.numel() for p in energy.parameters()) + 1
    assert abs(float(matrix(torch.zeros(1)).detach()) - 2) < 0.1  # the true inputs act with twice the strength


def test_bad_experiments():
    energy = HamiltonianField(mlp(2, 1, (4,), dtype=torch.float64))
    one = push_runs(energy, 1.0, 0)
    with pytest.raises(ArgumentError, match="at least one"):
        fit_experiments([])
    with pytest.raises(ArgumentTypeError, match="one of ours"):
        fit_experiments([one], lambda field, data, solver: torch.zeros(()))
    with pytest.raises(ArgumentError, match="Keep an experiment back"):
        fit_experiments([one], training=Training(holdout=0.2))
    with pytest.raises(ArgumentError, match="nothing can be trained"):
        fit_experiments([Experiment(MassSpring(), one.data)])


def test_gradients_with_values_need_fewer_states_than_values_alone():
    truth = HenonHeiles()
    y, judged = 0.5 * normal(20, 4), 0.5 * normal(500, 4, seed=1)
    errors = {}
    for name, given in (
        ("values", {"energy": truth.energy(y)}),
        ("both", {"energy": truth.energy(y), "gradient": truth.energy_gradient(y)}),
    ):
        field = HamiltonianField(mlp(4, 1, (32,), dtype=torch.float64))
        fit_energy(field, y, **given, training=Training("lbfgs", steps=200))
        difference = (field.energy(judged) - truth.energy(judged)).detach()
        errors[name] = float(difference.std())
    assert errors["both"] < 0.5 * errors["values"]


def test_bad_energies():
    field, y = HamiltonianField(mlp(2, 1)), normal(5, 2)
    with pytest.raises(ArgumentError, match="nothing to learn from"):
        fit_energy(field, y)
    with pytest.raises(ArgumentError, match=r"`energy` must have shape \[5\], got \[5, 1\]"):
        fit_energy(field, y, torch.zeros(5, 1))
    with pytest.raises(ArgumentError, match="`share` must lie between 0 and 1"):
        fit_energy(field, y, torch.zeros(5), share=1.0)
    with pytest.raises(ArgumentError, match="`holdout`"):
        fit_energy(field, y, torch.zeros(5), training=Training(holdout=0.5))
    with pytest.raises(TrainingError, match="must be finite"):
        fit_energy(field, y, torch.full((5,), float("nan")))
    with pytest.raises(ArgumentError, match="has nothing to train"):
        fit_energy(MassSpring(), y, torch.zeros(5))


def test_forces_are_learned_on_a_shell_of_one_energy():
    angle = torch.linspace(0, 6, 25, dtype=torch.float64)
    y = torch.stack([angle.cos(), angle.sin()], dim=-1)
    field = HamiltonianField(mlp(2, 1, (16,)).double())
    report = fit_energy(field, y, MassSpring().energy(y), y, training=Training("lbfgs", steps=100))
    assert report.losses[0] < 100 and (field.energy_gradient(y) - y).abs().max() < 0.05
