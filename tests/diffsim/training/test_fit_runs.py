"""Fits to whole runs: accuracy without noise, noise levels, free initial states, calibration, stationary points."""

import functools
import math
import sys

import pytest
import torch

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, TrainingError
from diffsim.fields.base import ConditionedField
from diffsim.fields.evidence import MAX_ROWS
from diffsim.fields.gaussian_process import FourierHamiltonian, GaussianProcessHamiltonian
from diffsim.integrate.odeint import odeint, simulate
from diffsim.integrate.sensitivity import runge_kutta, weight_sensitivity
from diffsim.integrate.solver import Solver
from diffsim.systems import FreeParticle, Pendulum
from diffsim.training.fit_runs import fit_runs

ZERO = torch.tensor(0.0, dtype=torch.float64)
T = torch.linspace(0, 3, 7, dtype=torch.float64)
PRECISE = Solver("dopri8", rtol=1e-10, atol=1e-12)
TRUTH = Pendulum(gravity=1.0).double()
TURN = 2 * math.pi


def states(n, seed=0, q=2.5, p=1.2):
    unit = torch.rand(n, 2, dtype=torch.float64, generator=seeded(seed))
    return (2 * unit - 1) * torch.tensor([q, p])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noisy(runs, sigma, seed=0, exact_start=True):
    """Runs with normal noise, on the first sample too or not."""
    generator = seeded(1000 + seed)
    error = sigma * torch.randn(runs.y.shape, dtype=torch.float64, generator=generator)
    if exact_start:
        error[0] = 0
    return Trajectory(runs.t, runs.y + error)


def make(n_features=100, seed=0, **arguments):
    return GaussianProcessHamiltonian(2, n_features=n_features, periods=[TURN, None], seed=seed, **arguments)


def rollout_error(field, y0=None, t=T):
    y0 = states(40, seed=99, q=2.0, p=1.0) if y0 is None else y0
    with torch.no_grad():
        got, exact = odeint(field, y0, t, Solver("rk4", step=0.05)), odeint(TRUTH, y0, t, PRECISE)
    return float((got - exact).square().mean().sqrt())


@functools.cache
def exact_runs(n, seed=0):
    return simulate(TRUTH, states(n, seed), T, PRECISE)


# Accuracy


@pytest.mark.parametrize(("n", "seed"), [(4, 0), (5, 1), (6, 2)])
def test_a_few_sparse_runs_without_noise_give_the_pendulum(n, seed):
    """Seven samples over half an oscillation: too sparse for derivatives, enough for roll-outs."""
    field = make(seed=seed)
    record = fit_runs(field, exact_runs(n, seed))
    assert record.converged and record.residual < 1e-4
    assert rollout_error(field) < 1e-3
    assert rollout_error(field, exact_runs(n, seed).y[0]) < 1e-4


def test_roll_outs_fit_better_than_the_integral_form_alone():
    first, last = make(), make()
    runs = exact_runs(5, 3)
    start = fit_runs(first, runs, iterations=1)
    end = fit_runs(last, runs)
    assert end.residual < start.residual and end.iterations > 1
    assert rollout_error(last) < rollout_error(first)


def test_runs_backward_in_time_give_the_same_field():
    forward, backward = make(), make()
    runs = exact_runs(5)
    fit_runs(forward, runs, initial="free", noise=1e-3)
    fit_runs(backward, Trajectory(runs.t.flip(0), runs.y.flip(0)), initial="free", noise=1e-3)
    z = states(30, seed=5, q=1.5, p=1.0)
    assert torch.allclose(forward(ZERO, z), backward(ZERO, z), atol=1e-4)


def test_unequal_sampling_times():
    t = torch.tensor([0.0, 0.2, 0.9, 1.1, 2.0, 2.3, 3.0], dtype=torch.float64)
    field = make()
    fit_runs(field, simulate(TRUTH, states(6), t, PRECISE))
    assert rollout_error(field) < 1e-3


# Noise


@pytest.mark.parametrize("sigma", [0.01, 0.05])
@pytest.mark.parametrize("initial", ["fixed", "free"])
def test_the_noise_is_estimated(sigma, initial):
    t = torch.linspace(0, 3, 16, dtype=torch.float64)
    clean = simulate(TRUTH, states(12), t, PRECISE)
    ratios = []
    for seed in range(3):
        field = make(60)
        record = fit_runs(field, noisy(clean, sigma, seed, initial == "fixed"), initial=initial, step=0.2)
        assert float(field.noise) == record.noise
        ratios.append(record.noise / sigma)
    assert sum(ratios) / 3 == pytest.approx(1, abs=0.12)
    assert all(abs(ratio - 1) < 0.2 for ratio in ratios)


def test_the_error_falls_with_the_root_of_the_number_of_runs():
    """Four times the runs: about half the error."""
    errors = {16: 1.0, 64: 1.0}
    for n in errors:
        found = []
        for seed in range(4):
            field = make(scale=[1.5, 2.0])
            fit_runs(field, noisy(exact_runs(n, seed), 0.03, seed), noise=0.03, step=0.25)
            found.append(rollout_error(field))
        errors[n] = math.exp(sum(map(math.log, found)) / len(found))
    assert 1.5 < errors[16] / errors[64] < 3.2, errors


def test_free_initial_states_beat_trusting_a_noisy_first_sample():
    wins, ratios = 0, []
    for seed in range(4):
        runs = noisy(exact_runs(8, seed), 0.05, seed, exact_start=False)
        errors = []
        for initial in ("free", "fixed"):
            field = make(60)
            fit_runs(field, runs, initial=initial, step=0.25)
            errors.append(rollout_error(field))
        wins += errors[0] < errors[1]
        ratios.append(errors[0] / errors[1])
    assert wins >= 3 and sum(ratios) / 4 < 0.9, ratios


def test_held_out_runs_lie_within_the_predicted_error():
    inside, scores = [], []
    for seed in range(6):
        field = make(seed=seed)
        fit_runs(field, noisy(exact_runs(6, seed), 0.03, seed), step=0.25)
        y0 = states(20, seed=200 + seed)
        predicted, s, _ = weight_sensitivity(field, y0, T, step=0.1)
        deviation = (s @ field.factor).norm(dim=-1)[:, 1:]
        exact = odeint(TRUTH, y0, T, PRECISE).transpose(0, 1)
        score = ((predicted - exact)[:, 1:] / deviation).flatten()
        scores.append(score)
        inside.append((score.abs() < 2).double().mean())
    share = float(torch.stack(inside).mean())
    assert 0.85 < share <= 1, share
    assert 0.3 < float(torch.cat(scores).square().median().sqrt()) / 0.6745 < 1.6


def test_hyper_parameters_rest_on_all_runs_however_many_outputs_they_have(monkeypatch):
    """Thirty runs of two bodies have 1440 rows: length scales from a part of them jump from one run to the next."""
    module, rows = sys.modules["diffsim.training.fit_runs"], []
    evidence = module.maximise_evidence

    def spy(design, target, scale):
        rows.append((len(target), len(design(scale))))
        return evidence(design, target, scale, steps=1)

    monkeypatch.setattr(module, "maximise_evidence", spy)
    separation = torch.tensor([[1.0, 0, -1, 0, 0, 0, 0, 0], [0, 1.0, 0, -1, 0, 0, 0, 0]])
    field = GaussianProcessHamiltonian(8, n_features=20, coordinates=separation, known=FreeParticle())
    y = torch.randn(len(T), 30, 8, dtype=torch.float64, generator=seeded())
    fit_runs(field, Trajectory(T, y), step=0.5, iterations=1)
    assert rows == [(1440, 1440)] and MAX_ROWS >= 1440


# The optimum


def objective(field, weights, y0, y, sigma, step, first):
    """Minus twice the log posterior, written down once more."""
    trial = FourierHamiltonian(field.waves, weights, field.coordinates, field.known)
    run = runge_kutta(lambda x: trial(ZERO, x), y0, T, step)
    return ((y - run)[:, first:] / sigma).square().sum() + (weights / field.signal).square().sum()


@pytest.mark.parametrize("initial", ["fixed", "free"])
def test_the_weights_are_a_stationary_point_of_the_posterior(initial):
    sigma, step = 0.03, 0.125
    runs = noisy(exact_runs(5), sigma, exact_start=initial == "fixed")
    field = make()
    record = fit_runs(field, runs, noise=sigma, initial=initial, step=step, iterations=40)
    assert record.converged and record.noise == sigma
    y = runs.y.transpose(0, 1)
    first = 0 if initial == "free" else 1
    y0 = y[:, 0].clone().requires_grad_(initial == "free")
    if initial == "free":  # the nuisance: at its optimum for these weights
        optimiser = torch.optim.LBFGS([y0], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

        def closure():
            optimiser.zero_grad()
            loss = objective(field, field.weights, y0, y, sigma, step, first)
            loss.backward()
            return loss

        optimiser.step(closure)
    weights = field.weights.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(objective(field, weights, y0.detach(), y, sigma, step, first), weights)
    # The Newton decrement: what a further step would still gain.
    assert float((gradient @ field.factor).square().sum()) / 4 < 2e-3
    if initial == "fixed":  # its two parts, misfit and prior, cancel
        prior = 2 * weights.detach() / field.signal.square()
        assert gradient.norm() < 0.02 * (gradient - prior).norm()


def test_the_covariance_is_the_inverse_gauss_newton_hessian():
    runs, sigma = noisy(exact_runs(4), 0.05), 0.05
    field = make(60)
    fit_runs(field, runs, noise=sigma, step=0.25)
    _, s, _ = weight_sensitivity(field, runs.y[0], T, step=0.25)
    design = s[:, 1:].flatten(0, 2)
    eye = torch.eye(60, dtype=torch.float64)
    precision = design.T @ design / sigma**2 + eye / field.signal**2
    assert torch.allclose(field.factor.T @ precision @ field.factor, eye, atol=1e-8)


def test_free_initial_states_are_marginalised():
    """The weights' covariance is the block of the joint covariance of weights and initial states."""
    runs, sigma = noisy(exact_runs(3), 0.05, exact_start=False), 0.05
    field = make(60)
    fit_runs(field, runs, noise=sigma, step=0.25, initial="free", iterations=40)
    y = runs.y.transpose(0, 1)
    y0 = y[:, 0].clone()
    run, s, s0 = weight_sensitivity(field, y0, T, step=0.25)
    for _ in range(20):  # the initial states' optimum, by Gauss-Newton
        y0 = y0 + torch.linalg.lstsq(s0.flatten(1, 2), (y - run).flatten(1)[..., None]).solution[..., 0]
        run, s, s0 = weight_sensitivity(field, y0, T, step=0.25)
    joint = torch.cat([s.flatten(0, 2), torch.block_diag(*s0.flatten(1, 2))], 1)
    precision = joint.T @ joint / sigma**2
    precision[:60, :60] += torch.eye(60, dtype=torch.float64) / field.signal**2
    covariance = torch.linalg.inv(precision)[:60, :60]
    got = field.factor @ field.factor.T
    assert (got - covariance).norm() < 1e-3 * covariance.norm()


def test_a_known_noise_is_kept_and_a_floor_replaces_zero():
    field = make(30)
    assert fit_runs(field, noisy(exact_runs(4), 0.02), noise=0.07, step=0.25).noise == 0.07
    record = fit_runs(field, exact_runs(4), noise=0.0, step=0.25)
    assert 0 < record.noise < 1e-4 and torch.isfinite(field.factor).all()


# Structure


def test_a_known_kinetic_energy_and_a_potential_on_positions():
    field = GaussianProcessHamiltonian(
        2, n_features=40, periods=[TURN], coordinates=torch.tensor([[1.0, 0.0]]), known=FreeParticle().double()
    )
    fit_runs(field, exact_runs(3))
    assert rollout_error(field) < 1e-3
    z = states(20)
    assert torch.allclose(field(ZERO, z)[:, 0], z[:, 1], atol=1e-12)


def test_parameters_of_the_system():
    length = torch.linspace(0.8, 1.6, 24, dtype=torch.float64)[torch.randperm(24, generator=seeded())][:, None]
    y0 = states(24, q=1.8, p=1.0)
    runs = simulate(Pendulum(length=length, gravity=1.0).double(), y0, T, PRECISE)
    field = GaussianProcessHamiltonian(2, n_theta=1, n_features=160, periods=[TURN, None, None], scale=[1.0, 1.0, 1.0])
    fit_runs(field, runs, theta=length, step=0.125)
    other = torch.full((20, 1), 1.15, dtype=torch.float64)
    z = states(20, seed=4, q=1.2, p=0.6)
    with torch.no_grad():
        got = odeint(ConditionedField(field, other), z, T, Solver("rk4", step=0.05))
        exact = odeint(Pendulum(length=1.15, gravity=1.0).double(), z, T, PRECISE)
    assert (got - exact).square().mean().sqrt() < 0.02


def test_equal_arguments_give_equal_fits_and_no_graph():
    fields = [make(30), make(30)]
    runs = Trajectory(T, exact_runs(3).y.clone().requires_grad_(True))
    before = torch.get_rng_state()
    for field in fields:
        fit_runs(field, runs, step=0.25)
    assert torch.equal(fields[0].weights, fields[1].weights) and torch.equal(before, torch.get_rng_state())
    assert not fields[0].weights.requires_grad and not fields[0].noise.requires_grad


def test_single_precision_data():
    field = make()
    fit_runs(field, Trajectory(T.float(), exact_runs(4).y.float()), step=0.25)
    assert field.weights.dtype == torch.float64 and rollout_error(field) < 1e-3


@pytest.mark.parametrize("samples", [2, 3])
def test_very_few_samples(samples):
    field = make(30)
    runs = exact_runs(6)
    record = fit_runs(field, Trajectory(T[:samples], runs.y[:samples]), step=0.1)
    assert math.isfinite(record.residual) and torch.isfinite(field.weights).all()


def test_runs_at_rest_are_no_error():
    for n in (1, 3):
        field = make(30)
        record = fit_runs(field, Trajectory(T, torch.zeros(7, n, 2, dtype=torch.float64)), step=0.25)
        assert record.residual < 1e-9 and torch.isfinite(field.factor).all()
        assert field(ZERO, torch.zeros(1, 2, dtype=torch.float64)).abs().amax() < 1e-6


# Bad input


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (dict(noise=-0.1), "`noise`"),
        (dict(noise=math.nan), "`noise`"),
        (dict(noise=math.inf), "`noise`"),
        (dict(initial="loose"), "'fixed' or 'free'"),
        (dict(iterations=0), "`iterations`"),
        (dict(step=0.0), "`step`"),
        (dict(step=-0.1), "`step`"),
        (dict(theta=torch.ones(3, 1)), "left out"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ArgumentError, match=name):
        fit_runs(make(10), exact_runs(3), **arguments)


@pytest.mark.parametrize("theta", [None, torch.ones(3), torch.ones(2, 1), torch.ones(3, 2), torch.tensor(1.0)])
def test_bad_parameters(theta):
    field = GaussianProcessHamiltonian(2, n_theta=1, n_features=10)
    with pytest.raises(ArgumentError, match=r"shape \[3, 1\]"):
        fit_runs(field, exact_runs(3), theta=theta)


def test_bad_data():
    field = GaussianProcessHamiltonian(2, n_theta=1, n_features=10)
    with pytest.raises(ArgumentError, match="finite"):
        fit_runs(field, exact_runs(3), theta=torch.full((3, 1), math.nan))
    with pytest.raises(ArgumentError, match="dimension 4"):
        fit_runs(GaussianProcessHamiltonian(4, n_features=10), exact_runs(3))
    with pytest.raises(TrainingError, match="two samples"):
        fit_runs(make(10), Trajectory(T[:1], exact_runs(3).y[:1]))
