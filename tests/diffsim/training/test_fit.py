"""Fits: what is learnt, and that stopping, seeds and failures behave as promised."""

import math

import pytest
import torch
from torch import nn

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, ArgumentTypeError, TrainingError
from diffsim.fields import FunctionField, HamiltonianField, NeuralField, VectorField, mlp
from diffsim.integrate.odeint import odeint, simulate
from diffsim.integrate.solver import Solver
from diffsim.metrics import coordinate_error, energy_drift
from diffsim.systems import MassSpring
from diffsim.training import DerivativeLoss, OneStepLoss, RolloutLoss, Training, fit

T = torch.linspace(0, 3, 31)
RK4 = Solver("rk4", step=0.1, gradient="backprop")


def oscillations(n=8, t=T, dtype=torch.float32, frequency=1.0):
    """Exact runs of q'' = -frequency^2 q, with state (q, q' / frequency)."""
    generator = torch.Generator().manual_seed(n)
    amplitude = 0.5 + torch.rand(n, generator=generator, dtype=dtype)
    phase = 2 * math.pi * torch.rand(n, generator=generator, dtype=dtype)
    angle = frequency * t.to(dtype)[:, None] + phase
    return Trajectory(t.to(dtype), torch.stack([amplitude * angle.cos(), -amplitude * angle.sin()], dim=-1))


def linear_field(dtype=torch.float32):
    """dy/dt = A y with unknown A."""
    return FunctionField(lambda t, y, matrix: y @ matrix.T, matrix=nn.Parameter(torch.zeros(2, 2, dtype=dtype)))


def frequency_of(field):
    return torch.linalg.eigvals(field.matrix.detach()).imag.max().item()


def hnn(width=32, seed=0):
    return HamiltonianField(mlp(2, 1, (width, width), seed=seed))


def weights(field):
    return nn.utils.parameters_to_vector(field.parameters()).detach().clone()


class TestLearning:
    @pytest.mark.parametrize(
        "loss", [DerivativeLoss(), OneStepLoss(), RolloutLoss(6), RolloutLoss(6, "free")], ids=repr
    )
    @pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
    def test_a_linear_oscillator_is_recovered(self, loss, optimizer):
        field = linear_field()
        training = Training(optimizer, steps=200, lr=0.05 if optimizer == "adam" else None)
        report = fit(field, oscillations(frequency=1.7), loss, training, RK4)
        assert frequency_of(field) == pytest.approx(1.7, abs=0.03)
        assert report.best_loss < 1e-3 * report.losses[0]

    def test_lbfgs_reaches_machine_precision_and_stops(self):
        field = linear_field(torch.float64)
        data = oscillations(dtype=torch.float64, frequency=1.7)
        dy = torch.stack([1.7 * data.y[..., 1], -1.7 * data.y[..., 0]], dim=-1)
        report = fit(field, Trajectory(data.t, data.y, dy), training=Training("lbfgs", steps=200))
        assert frequency_of(field) == pytest.approx(1.7, abs=1e-10)
        assert report.stopped_because == "converged" and report.steps < 100

    def test_gaps_in_time_do_no_harm(self):
        keep = [i for i in range(61) if i % 7 not in (3, 4)]
        data = oscillations(t=torch.linspace(0, 6, 61)[keep], frequency=1.7)
        for loss in (DerivativeLoss("spline"), OneStepLoss(), RolloutLoss(5)):
            field = linear_field()
            fit(field, data, loss, Training("lbfgs", steps=60), RK4)
            assert frequency_of(field) == pytest.approx(1.7, abs=0.01)

    @pytest.mark.parametrize("loss", [DerivativeLoss(), RolloutLoss(4), RolloutLoss(4, "free")], ids=repr)
    @pytest.mark.parametrize(
        "training", [Training("lbfgs", steps=20), Training(steps=100, lr=0.05, batch=16)], ids=["all", "batch"]
    )
    def test_a_field_that_depends_on_time_sees_the_time_of_each_sample(self, loss, training):
        class Driven(VectorField):  # the drive is invisible in the graph while its amplitude is zero
            def __init__(self):
                super().__init__()
                self.amplitude = nn.Parameter(torch.zeros(()))

            def forward(self, t, y):
                return self.amplitude * (2 * t).cos() + 0 * y

        truth = Driven()
        nn.init.constant_(truth.amplitude, 0.7)
        with torch.no_grad():
            data = simulate(truth, torch.randn(4, 1, generator=torch.Generator().manual_seed(0)), T)
        field = Driven()
        fit(field, data, loss, training, RK4)
        assert field.amplitude.item() == pytest.approx(0.7, abs=0.05)

    def test_a_hamiltonian_field_keeps_the_energy_better_than_a_neural_one(self):
        # The spring of the HNN paper, small: noisy samples, analytic derivatives.
        spring = MassSpring(mass=0.5, stiffness=2.0)
        y0 = torch.randn(5, 2, generator=torch.Generator().manual_seed(1))
        y0 = torch.linspace(0.4, 1, 5)[:, None] * y0 / y0.norm(dim=-1, keepdim=True)
        clean = simulate(spring, y0, torch.linspace(0, 3, 30))
        data = Trajectory(clean.t, clean.y, spring(clean.t[0], clean.y)).noise(0.1, 2)
        drift = []
        for field in (hnn(), NeuralField(mlp(2, 2, (32, 32)))):
            fit(field, data, training=Training(steps=600))
            run = simulate(field, clean.y0, torch.linspace(0, 40, 101))
            drift.append(energy_drift(spring, run).median())
        assert drift[0] < 0.2 * drift[1]

    def test_free_initial_states_beat_derivatives_on_noisy_data(self):
        clean = oscillations(n=10, frequency=1.7)
        noisy = clean.noise(0.3, 0)
        errors = []
        for loss, training in (
            (DerivativeLoss(), Training(steps=300, lr=0.03)),
            (RolloutLoss(None, "free", noise=0.3), Training("lbfgs", steps=60)),
        ):
            field = linear_field()
            report = fit(field, noisy, loss, training, RK4)
            errors.append(coordinate_error(simulate(field, clean.y0, T).detach(), clean).median())
        assert errors[1] < 0.1 * errors[0]
        # Per number twice the negative log likelihood: about one, less the share of the fitted numbers.
        assert report.best_loss == pytest.approx(1 - (2 * 10 + 4) / (31 * 2 * 10), abs=0.1)

    def test_one_short_run_is_enough_data(self):
        field = linear_field()
        fit(field, oscillations(n=1), training=Training("lbfgs", steps=50, holdout=0.2))
        assert frequency_of(field) == pytest.approx(1.0, abs=0.01)

    def test_a_function_of_the_user(self):
        def loss(field, data, solver):
            return (odeint(field, data.y0, data.t, solver) - data.y).abs().mean()

        for batch in ("all", 3):
            field = linear_field()
            fit(field, oscillations(), loss, Training(steps=60, lr=0.05, batch=batch), Solver("rk4", step=0.3))
            assert frequency_of(field) == pytest.approx(1.0, abs=0.05)


class TestConduct:
    def test_equal_seeds_give_equal_weights_and_no_global_draws(self):
        data, state = oscillations().noise(0.1, 0), torch.get_rng_state()

        def trained(seed):
            field = hnn()
            report = fit(field, data, training=Training(steps=20, batch=32, seed=seed, holdout=0.25))
            return weights(field), report.losses

        (a, losses), (b, losses_again), (c, _) = trained(0), trained(0), trained(1)
        assert torch.equal(a, b) and losses == losses_again
        assert not torch.equal(a, c)
        assert torch.equal(torch.get_rng_state(), state)

    def test_early_stopping_restores_the_best_weights(self):
        data = oscillations(n=6).noise(0.3, 0)
        field = NeuralField(mlp(2, 2, (100,)))
        training = Training(steps=2000, lr=0.02, batch="all", holdout=0.34, patience=100, schedule="constant")
        report = fit(field, data, training=training)
        assert report.stopped_because == "patience" and report.steps < 2000
        assert report.best_step == report.held_out_steps[report.held_out_losses.index(min(report.held_out_losses))]
        _, held_out = data.split(1 - 0.34, 0)
        with torch.no_grad():
            assert float(DerivativeLoss()(field, held_out, Solver())) == pytest.approx(report.best_loss, rel=1e-5)
        assert report.best_loss < report.held_out_losses[-1]

    def test_without_a_held_out_part_the_best_are_those_of_the_lowest_training_loss(self):
        field, data = linear_field(), oscillations()
        report = fit(field, data, training=Training(steps=50, lr=1.0, batch="all", schedule="constant"))
        assert report.best_loss == pytest.approx(min([*report.losses, report.best_loss]))
        with torch.no_grad():
            assert float(DerivativeLoss()(field, data, Solver())) == pytest.approx(report.best_loss, rel=1e-4)

    @pytest.mark.parametrize("optimizer", ["adam", "adamw", "lbfgs"])
    def test_weight_decay_shrinks_the_weights(self, optimizer):
        norms = []
        for decay in (0.0, 1.0):
            field = linear_field()
            lr = None if optimizer == "lbfgs" else 0.1
            fit(field, oscillations(), training=Training(optimizer, steps=100, lr=lr, weight_decay=decay))
            norms.append(weights(field).norm())
        assert norms[1] < 0.9 * norms[0]

    def test_free_initial_states_have_no_weight_decay_and_leave_the_field_alone(self):
        field = linear_field()
        report = fit(field, oscillations(), RolloutLoss(6, "free"), Training(steps=5, weight_decay=0.1), RK4)
        assert report.n_parameters == 4 and len(list(field.parameters())) == 1

    @pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle", "step"])
    def test_schedules(self, schedule):
        field = linear_field()
        report = fit(field, oscillations(), training=Training(steps=150, lr=0.05, schedule=schedule))
        assert report.steps == 150 and report.losses[-1] < 0.1 * report.losses[0]

    def test_a_clipped_gradient_lets_one_monstrous_batch_pass(self):
        def final(clip):
            calls = []

            def loss(field, data, solver):
                calls.append(0)
                return (1e6 if len(calls) == 1 else -1.0) * field.matrix[0, 0]

            field = linear_field()
            fit(field, oscillations(), loss, Training(steps=8, batch=2, lr=0.1, schedule="constant", clip=clip))
            return float(field.matrix[0, 0].detach())

        assert final(None) < -0.3
        assert final(1.0) > 0.2

    def test_data_take_the_dtype_of_the_weights(self):
        for field_dtype, data_dtype in ((torch.float32, torch.float64), (torch.float64, torch.float32)):
            field = linear_field(field_dtype)
            for loss in (DerivativeLoss(), OneStepLoss(), lambda f, data, s: f(data.t[0], data.y).square().mean()):
                fit(field, oscillations(dtype=data_dtype), loss, Training(steps=3), RK4)
            assert field.matrix.dtype == field_dtype

    def test_frozen_weights_stay(self):
        field = hnn()
        field.net[0].weight.requires_grad_(False)
        before = field.net[0].weight.clone()
        fit(field, oscillations(), training=Training(steps=5))
        assert torch.equal(field.net[0].weight, before)
        assert all(parameter.grad is None for parameter in field.parameters())

    def test_known_derivatives_are_used(self):
        data = oscillations()
        field = linear_field()
        fit(field, Trajectory(data.t, data.y, 2 * data.y), training=Training("lbfgs", steps=50))
        assert torch.allclose(field.matrix.detach(), 2 * torch.eye(2), atol=1e-3)

    def test_report_and_progress_bar(self, capsys):
        report = fit(linear_field(), oscillations(), training=Training(steps=12, holdout=0.25, progress=True))
        assert report.held_out_steps == (0, 10, 12) and len(report.held_out_losses) == 3
        assert "12 steps in" in str(report) and "held-out loss" in str(report) and "4 weights" in str(report)


class TestFailures:
    def test_nan_restores_the_last_finite_weights(self):
        calls = 0

        def loss(field, data, solver):
            nonlocal calls
            calls += 1
            seen.append(weights(field))
            return field.matrix.square().sum() * (math.nan if calls == 4 else 1.0) + field.matrix.sum()

        seen = []
        field = linear_field()
        with pytest.raises(TrainingError, match=r"At step 3 the loss became nan.*Lower `lr`"):
            fit(field, oscillations(), loss, Training(steps=10))
        assert torch.equal(weights(field), seen[2])

    def test_a_loss_that_is_infinite_from_the_start(self):
        with pytest.raises(TrainingError, match=r"At step 0 the loss became inf.*initial weights"):
            fit(linear_field(), oscillations(), lambda f, data, s: f.matrix.sum() + math.inf)

    @pytest.mark.parametrize("batch", ["all", 4])
    def test_a_huge_learning_rate_is_reported(self, batch):
        field = linear_field()
        with pytest.raises(TrainingError, match="Lower `lr`"):
            fit(field, oscillations(), RolloutLoss(), Training(steps=30, lr=1e30, batch=batch), RK4)
        assert weights(field).isfinite().all()

    def test_a_solver_that_fails_is_reported_with_its_cause(self):
        field = FunctionField(lambda t, y, rate: rate * y**3, rate=nn.Parameter(torch.tensor(1e3)))
        with pytest.raises(TrainingError, match=r"At step 0 the solver failed") as caught:
            fit(field, oscillations(), RolloutLoss(), solver=Solver(max_steps=100))
        assert caught.value.__cause__ is not None

    def test_lbfgs_turns_back_from_trial_points_that_are_not_finite(self):
        field = FunctionField(lambda t, y, rate: -rate.log() * y, rate=nn.Parameter(torch.tensor(0.9)))
        report = fit(field, oscillations(), lambda f, data, s: (f.rate.log() + 3).square(), Training("lbfgs"))
        assert math.inf in report.losses
        assert field.rate.item() == pytest.approx(math.exp(-3), rel=1e-3)

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (lambda: fit(MassSpring(), oscillations()), ArgumentError, "no parameters that require a gradient"),
            (lambda: fit(hnn(), oscillations().y), ArgumentTypeError, "must be a Trajectory"),
            (lambda: fit(hnn(), oscillations(), "derivative"), ArgumentTypeError, "`loss` must be"),
            (lambda: fit(NeuralField(mlp(3, 3)), oscillations()), ArgumentError, "could not be evaluated"),
            (lambda: fit(NeuralField(mlp(2, 3)), oscillations()), ArgumentError, "derivatives of the same shape"),
            (lambda: fit(hnn(), Trajectory(T, torch.ones(31, 2, 3))), ArgumentError, "even state dimension"),
            (lambda: fit(hnn(), oscillations(n=2), training=Training(holdout=0.9)), ArgumentError, "part empty"),
            (lambda: fit(hnn(), oscillations(), RolloutLoss(40)), ArgumentError, "40 samples does not fit runs of 31"),
            (
                lambda: fit(hnn(), oscillations(n=1), RolloutLoss(10), Training(holdout=0.2)),
                ArgumentError,
                "in the held-out part",
            ),
            (lambda: fit(hnn(), Trajectory(T[:1], torch.ones(1, 1, 2))), ArgumentError, "at least 2 times"),
            (lambda: fit(hnn(), oscillations(), RolloutLoss(noise=[1.0] * 3)), ArgumentError, "`noise` must be one"),
            (lambda: RolloutLoss(1), ArgumentError, "at least 2 samples"),
            (lambda: RolloutLoss(initial="learned"), ArgumentError, "'fixed' or 'free'"),
            (lambda: RolloutLoss(stride=0), ArgumentError, "`stride`"),
            (lambda: RolloutLoss(noise=0.0), ArgumentError, "`noise` must be above 0"),
            (lambda: Training("sgd"), ArgumentError, "must be one of adam"),
            (lambda: Training(schedule="linear"), ArgumentError, "must be one of constant"),
            (lambda: Training(steps=0), ArgumentError, "`steps`"),
            (lambda: Training(batch=0), ArgumentError, "`batch`"),
            (lambda: Training(batch="some"), ArgumentError, "`batch`"),
            (lambda: Training(patience=0), ArgumentError, "`patience`"),
            (lambda: Training(lr=-1.0), ArgumentError, "`lr`"),
            (lambda: Training(lr=math.nan), ArgumentError, "`lr`"),
            (lambda: Training(weight_decay=-1.0), ArgumentError, "`weight_decay`"),
            (lambda: Training(holdout=1.0), ArgumentError, "`holdout`"),
            (lambda: Training("lbfgs", batch=10), ArgumentError, "must be 'all'"),
            (lambda: Training("lbfgs", lr=0.1), ArgumentError, "`lr` must be left out"),
            (lambda: Training("lbfgs", clip=1.0), ArgumentError, "`clip` must be left out"),
            (lambda: Training(clip=0.0), ArgumentError, "`clip` must be above 0"),
            (lambda: Training(patience=10), ArgumentError, "needs a held-out part"),
        ],
    )
    def test_bad_input(self, call, error, message):
        with pytest.raises(error, match=message):
            call()
