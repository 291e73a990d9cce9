"""The experiments on learned mechanics in short: chains, inputs and control, forces of time, Lagrangians."""

import math

import pytest
import torch

from benchmarks.dynamics_experiments import chaos, forced, lagrangian, relativity
from benchmarks.dynamics_experiments.chains import fit_chain
from benchmarks.dynamics_experiments.common import Setting
from benchmarks.dynamics_experiments.features import AngleSums, Sloped
from benchmarks.dynamics_experiments.ring import RingPotential, accelerations
from benchmarks.dynamics_experiments.robots import brought_upright
from benchmarks.dynamics_experiments.symoden import Budget, Learned, Task, embed_start, learn_embedded
from diffsim import (
    AngleFeatures,
    EmbeddedField,
    ForcedDuffing,
    Input,
    LagrangianField,
    MassSpring,
    MechanicalLagrangian,
    PortHamiltonian,
    Solver,
    Training,
    Trajectory,
    fit,
    mlp,
    odeint,
)
from diffsim.fields import ParticleMasses
from diffsim.systems import Acrobot, CartPole, random_pendulum_chain, sample_pendulum_chain
from diffsim.systems.pendulum_chain import chain_rods

EYE = torch.eye(1, dtype=torch.float64)


def test_the_masses_and_the_gravity_of_a_chain_are_learned_from_two_runs():
    truth = random_pendulum_chain(2)
    t = torch.arange(16, dtype=torch.float64) * 0.03
    with torch.no_grad():
        run = truth.velocities(odeint(truth, sample_pendulum_chain(truth, 2), t, Solver("rk4", step=0.005)))
    masses = ParticleMasses(torch.ones(2)).double()
    potential = Sloped(4, mlp(4, 1, (4,), dtype=torch.float64))
    lagrangian = MechanicalLagrangian(masses, potential)
    field = LagrangianField(lagrangian, constraints=chain_rods(truth.rods.lengths), tolerance=1.0)
    fit_chain(field, Trajectory(t, run), 5, potential.net)
    ratio, known = (masses.masses[1] / masses.masses[0]).detach(), truth.masses[1] / truth.masses[0]
    assert float(ratio) == pytest.approx(float(known), rel=0.02)
    gravity = potential.slope.detach()[:, 0] / masses.masses.detach().repeat_interleave(2)
    torch.testing.assert_close(gravity, torch.tensor([0.0, 9.81, 0.0, 9.81], dtype=torch.float64), atol=0.2, rtol=0)


def test_a_driven_pendulum_is_learned_with_its_motor():
    chart = AngleFeatures(1)
    true = MechanicalLagrangian(EYE / 3, lambda q: 5 * q.cos())
    task = Task(
        "pendulum",
        lambda u: EmbeddedField(LagrangianField(true, input=Input(u)), chart),
        embed_start(chart, math.pi, 1.0),
        [[-2.0], [2.0]],
        0.05,
        10,
        {},
    )
    rows, learned = learn_embedded(task, chart, Budget(12, 120, 1), Setting(), baseline=False)
    q = torch.linspace(-3, 3, 13, dtype=torch.float64)[:, None]
    unit = learned.unit(torch.zeros(1, dtype=torch.float64))
    slope = (learned.potential(q) - learned.potential(torch.zeros_like(q)))[:, 0] / unit
    torch.testing.assert_close(slope, 5 * (q[:, 0].cos() - 1), atol=1.0, rtol=0)
    assert rows[1].value < 1.0


@pytest.mark.parametrize(
    ("plant", "goal", "start", "springs", "damping"),
    [
        (CartPole(), (0.0, 0.0), (0.3, 3.1), (1.0, 0.0), 2.0),
        (Acrobot(), (math.pi, 0.0), (0.05, 0.05), (0.0, 0.0), 8.0),
    ],
)
def test_the_true_energy_brings_the_robots_upright(plant, goal, start, springs, damping):
    true, chart = plant.function, AngleFeatures(2, [1] if springs[0] else None)

    def rest(strength):
        motors = strength * torch.eye(2, dtype=torch.float64)
        learned = Learned(true.mass, true.potential, lambda q: motors)
        return brought_upright(learned, plant, chart, goal, start, springs, damping, seconds=6)[1]

    # Taken for twice as strong as they are, the motors just carry the weight.
    assert rest(1.0) < 0.2 < rest(2.0)


def duffing_runs(times):
    truth = ForcedDuffing(-1.0, 1.0, damping=0.1, amplitude=0.39, frequency=1.4)
    t = torch.linspace(0, 4, times, dtype=torch.float64)
    y0 = torch.rand(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 - 1
    return truth, Trajectory(t, odeint(truth, y0, t, Solver("dopri8", rtol=1e-10, atol=1e-11)))


def test_windows_of_a_driven_system_start_at_their_own_times():
    truth, data = duffing_runs(41)
    solver = Solver("rk4", step=0.05)
    assert float(forced.rollout_in_time(5, 2)(truth, data, solver)) < 1e-12
    off = Trajectory(data.t + 1, data.y)  # the drive is another one then
    assert float(forced.rollout_in_time(5, 2)(truth, off, solver)) > 1e-4


def test_an_unknown_frequency_is_found():
    spring = PortHamiltonian(MassSpring(), dissipation=0.2, input=Input(lambda t: 0.5 * (1.6 * t).cos()))
    t = torch.linspace(0, 6, 61, dtype=torch.float64)
    with torch.no_grad():
        data = Trajectory(t, odeint(spring, torch.eye(2, dtype=torch.float64), t, Solver("rk4", step=0.02)))
    sines = forced.Sines(1, (2.0,))
    field = forced.port_network(1, sines, seed=0)
    forced.fit_in_time(field, data, (100, 2), 1, 0.05)
    assert abs(float(sines.frequencies.detach())) == pytest.approx(1.6, abs=0.01)
    assert float(sines.amplitudes.detach().norm()) == pytest.approx(0.5, abs=0.02)


def test_the_section_of_the_chaotic_oscillator_is_two_sided_and_its_histogram_tells_others_apart():
    starts = torch.zeros(8, 2, dtype=torch.float64)
    starts[:, 0] = torch.linspace(-0.4, 0.4, 8)
    truth, regular = (
        chaos.sections(ForcedDuffing(-1.0, 1.0, damping=0.1, amplitude=a, frequency=1.4), starts, 30)
        for a in (0.39, 0.02)
    )
    assert truth.shape == (240, 2)
    assert (truth[:, 0] > 0).any() and (truth[:, 0] < 0).any()
    density = chaos.histogram(truth)
    assert float(density.sum()) * (4 / 30) ** 2 == pytest.approx(1.0)
    assert float((chaos.histogram(regular) - density).square().mean()) > 0.11


def test_the_force_of_a_ring_is_the_wave_for_squared_differences():
    def energy(x):
        return 1.25 * ((x[..., 1] - x[..., 0]) ** 2 + (x[..., 2] - x[..., 1]) ** 2)[..., None]

    q = torch.randn(3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(RingPotential(energy)(q).sum(), q)
    torch.testing.assert_close(-slope, accelerations(q).detach())


def test_the_mass_of_a_relativistic_particle_is_learned_as_a_function_of_its_rapidity():
    data = relativity.draw("physical", 300, torch.Generator().manual_seed(0))
    field = relativity.RapidityMass(seed=0)
    fit(field, data, relativity.rounded(1e-2), Training("lbfgs", steps=250))
    v = torch.tensor([[0.0], [0.8], [0.99]], dtype=torch.float64)
    growth = (field.log_mass(v.atanh()) - field.log_mass(0 * v)).detach()
    torch.testing.assert_close(growth, -1.5 * (1 - v.square()).log(), atol=0.3, rtol=0)


@pytest.mark.parametrize("rapidity", [False, True])
def test_a_learned_lagrangian_of_rapidity_or_speed_has_the_accelerations_of_its_network(rapidity):
    y = relativity.draw("toy", 8, torch.Generator().manual_seed(1)).y[0]
    y[:, 1] *= 0.9
    net = mlp(3, 1, (8, 8), seed=1, dtype=torch.float64)
    field = relativity.LearnedLagrangian(net, 2.0, 0.1, rapidity=rapidity)

    def lagrangian(state):
        x = state[:, 1:].atanh() if rapidity else state[:, 1:]
        return 4 * net(torch.cat([y[:, 2:] / 10, state[:, :1] / 10, x / 2], dim=-1))

    exact = LagrangianField(lagrangian)(torch.zeros(()), y[:, :2])[:, 1:]
    force, mass = field.force_and_mass(y)
    torch.testing.assert_close(force / mass, exact)


def test_sums_of_angles_are_features_and_the_rest_stays():
    features = AngleSums(AngleFeatures(3, [0, 2]))
    q = torch.tensor([0.3, 5.0, 0.5])
    turns = torch.tensor([0.3, 0.5, 0.8, -0.2])
    torch.testing.assert_close(features(q), torch.cat([q[1:2], turns.cos(), turns.sin()]))
    assert features.n_out == 9


def test_runs_in_momenta_are_those_in_velocities():
    def mass(q):
        c = (q[..., 0] - q[..., 1]).cos()
        return torch.stack([torch.stack([2 + 0 * c, c], -1), torch.stack([c, 1 + 0 * c], -1)], -2)

    def potential(q):
        return -9.8 * (2 * q[..., 0].cos() + q[..., 1].cos())

    y0 = torch.tensor([[2.0, 1.0, 0.5, -0.5]], dtype=torch.float64)
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    run = lagrangian.run_in_momenta(mass, potential, y0, t)
    field = LagrangianField(MechanicalLagrangian(mass, potential))
    with torch.no_grad():
        torch.testing.assert_close(run, odeint(field, y0, t, Solver("rk4", step=0.0125)), atol=1e-5, rtol=0)
        energy = field.energy(run)
    torch.testing.assert_close(energy, energy[:1].expand_as(energy), atol=1e-4, rtol=0)
