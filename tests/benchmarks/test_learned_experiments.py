"""The experiments on waves, noise, pictures, particles and epidemics in short."""

import math

import pytest
import torch

from benchmarks.dynamics_experiments import epidemics, pixels, recurrent, variational
from benchmarks.dynamics_experiments.common import Setting
from benchmarks.dynamics_experiments.densities import GaussianDensity
from benchmarks.dynamics_experiments.noisy import Oscillator
from benchmarks.dynamics_experiments.particles import PairPotential
from benchmarks.dynamics_experiments.real import Damped, difference
from benchmarks.dynamics_experiments.shooting import Harmonics, Powers, fit_potential
from diffsim import DiscreteGradientField, Pendulum, SeparableHamiltonian, Solver, Trajectory, mlp, odeint, roll_out
from diffsim.data.real_pendulum import schmidt_lipson_stand_in
from diffsim.systems import KortewegDeVries, pendulum_frames, sample_solitons, stack_frames

EXACT = Solver("dopri8", rtol=1e-9, atol=1e-10)


def test_a_gaussian_density_learns_solitons_from_a_few_samples():
    system, dt = KortewegDeVries(), 1e-3
    matrix = system.structure.constant
    truth = DiscreteGradientField(system.function, matrix)
    t = torch.arange(21, dtype=torch.float64) * dt
    with torch.no_grad():
        run = roll_out(truth, sample_solitons(4), t)
        density = GaussianDensity(run[:, :3], 80, seed=0)
        field = DiscreteGradientField(density, matrix)
        density.fit(field, run[:-1:2, :3].flatten(0, 1), run[1::2, :3].flatten(0, 1), dt)
        change = run[:, 3].diff(dim=0) / dt
        error = (field.rate(run[:-1, 3], run[1:, 3]) - change).square().mean() / change.square().mean()
        made = roll_out(field, run[0, 3:], t)
    assert float(error) < 1e-4
    drift = system.total_energy(made) - system.total_energy(made[0])
    assert float(drift.abs().max()) < 1e-2 * float(system.total_energy(made[0]).abs())


@pytest.mark.parametrize(
    ("potential", "force", "known"),
    [
        (Harmonics(1, symmetric=True), lambda q: -9.82 * q.sin(), [-9.82]),
        (Powers(2), lambda q: -2 * q, [0.0, 1.0]),
    ],
)
def test_shooting_finds_a_potential_and_the_noise_in_one_very_noisy_run(potential, force, known):
    t = torch.arange(60, dtype=torch.float64) * 0.1
    start = torch.tensor([[1.2, 0.3]], dtype=torch.float64)
    noisy = Trajectory(t, odeint(Oscillator(force), start, t, EXACT)).noise(0.3, seed=0)
    _, noise = fit_potential(potential, t, noisy.y[:, 0])
    assert noise == pytest.approx(0.3, rel=0.25)
    torch.testing.assert_close(potential.weights, torch.tensor(known, dtype=torch.float64), atol=0.15, rtol=0.04)


def test_a_drawn_pendulum_shows_its_angle_and_energy():
    t = torch.arange(40, dtype=torch.float64) * 0.05
    y0 = torch.tensor([[0.5, 0.0], [0.1, 0.9]], dtype=torch.float64)
    system = Pendulum(gravity=15.0)
    run = odeint(system, y0, t, EXACT)
    frames = pendulum_frames(run[..., 0].float())
    torch.testing.assert_close(pixels.angles_seen(frames), run[..., 0].float(), atol=0.03, rtol=0)
    seen = pixels.energy_seen(stack_frames(frames)).mean(0)
    torch.testing.assert_close(seen, system.energy(y0).float(), atol=0.1, rtol=0.1)


def test_pixels_are_learned_well_enough_to_roll_out():
    rows = {(r.model, r.metric.split(",")[0]): r.value for r in pixels.pixel_pendulum(Setting(), runs=5, steps=40)}
    assert all(math.isfinite(value) for value in rows.values())
    assert rows["latent HNN", "test"] < 0.03  # the pictures' variance is .06


def test_a_pair_potential_counts_pairs_whatever_their_order():
    net = mlp(3, 1, (8,), dtype=torch.float64)
    k = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    q = torch.tensor([[0.0, 0.1, 1.0, -0.4, 0.3, 2.0]], dtype=torch.float64)
    order = [2, 0, 1]
    turned = q.unflatten(-1, (3, 2))[:, order].flatten(1)
    torch.testing.assert_close(PairPotential(net, k)(q), PairPotential(net, k[:, order])(turned))


def test_a_potential_of_distances_with_fitted_initial_states_beats_a_neural_ode_on_noisy_bodies():
    rows = {(r.model, r.metric): r.value for r in recurrent.three_body(Setting(), count=8, steps=30)}
    metric = "state, mean squared error"
    assert rows["structured, fitted initial states", metric] < 0.3 * rows["NODE", metric]


def test_a_network_of_time_explains_a_second_wave_better_than_a_constant():
    rows = {(r.model, r.metric.split(",")[0]): r.value for r in epidemics.neural_number(Setting(), steps=15)}
    assert rows["SEIR, neural R0(t)", "true shares"] < 0.3 * rows["SEIR, constant R0", "true shares"]


def test_the_true_field_of_the_stand_in_predicts_its_samples_to_their_noise():
    record = schmidt_lipson_stand_in(0)
    swing = SeparableHamiltonian(lambda p: 1.0454 * p.square() / 2, lambda q: -1.2963 * (q - 0.0116).cos())
    truth = Damped(swing, torch.nn.Parameter(torch.tensor(0.0121 / 1.0454, dtype=torch.float64)))
    test = Trajectory(record.t[445:], record.y[445:])
    assert float(difference(truth, test)) == pytest.approx(2 * (0.01 * 6) ** 2, rel=0.3)


@pytest.mark.slow
def test_symplectic_graphs_and_energies_run_on_all_systems_of_their_paper():
    rows = variational.vign_systems(Setting(), count=3, steps=8)
    assert len({row.metric for row in rows}) == 16
    assert all(math.isfinite(row.value) for row in rows if "noise 0:" in row.metric and row.model == "VIGN")
