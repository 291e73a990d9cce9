"""Metrics: hand-computed values, exact solutions, and what is refused."""

import math

import pytest
import torch

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields import mlp
from diffsim.metrics import coordinate_error, energy_drift, energy_error, rmse, valid_prediction_time
from diffsim.systems import MassSpring

T = torch.linspace(0, 20, 401, dtype=torch.float64)


def oscillation(frequency=1.0, amplitude=(1.0, 2.0), growth=0.0):
    phase = frequency * T[:, None]
    size = torch.tensor(amplitude, dtype=torch.float64) * torch.exp(growth * T[:, None])
    return Trajectory(T, torch.stack([size * phase.cos(), -size * phase.sin()], dim=-1))


def test_rmse_and_coordinate_error_by_hand():
    truth, run = torch.zeros(3, 2, 2), torch.zeros(3, 2, 2)
    run[:, 1] = 2.0
    assert rmse(run, truth).item() == pytest.approx(math.sqrt(2))
    assert coordinate_error(run, truth).tolist() == [0, 4]
    assert rmse(Trajectory(torch.arange(3.0), run), truth) == rmse(run, truth)


def test_an_exact_solution_keeps_its_energy():
    assert energy_drift(MassSpring(), oscillation()).max() < 1e-12
    assert energy_error(MassSpring(), oscillation(1.5), oscillation()).max() < 1e-24


def test_the_drift_of_a_growing_oscillation():
    run = oscillation(growth=0.01)
    growth = math.exp(0.4) - 1  # of the energy, over 20 s
    assert torch.allclose(energy_drift(MassSpring(), run, relative=True), torch.tensor([growth] * 2).double())
    assert torch.allclose(energy_drift(MassSpring(), run), growth * torch.tensor([0.5, 2.0]).double())
    assert not energy_drift(MassSpring(stiffness=torch.tensor(1.0, requires_grad=True)), run).requires_grad
    assert not rmse(run.y.requires_grad_(True), run).requires_grad


def test_valid_prediction_time_of_a_wrong_frequency():
    # The distance of two phases is 2 A sin(delta t / 2), the spread of each component A / sqrt 2 of the mean square A.
    delta, truth, tolerance = 0.05, oscillation(amplitude=(1.0, 1.0)), 0.4
    expected = 2 * math.asin(tolerance / (2 * math.sqrt(2)) * math.sqrt(2)) / delta
    found = valid_prediction_time(oscillation(1 + delta, (1.0, 1.0)), truth, tolerance)
    assert found.tolist() == pytest.approx([expected] * 2, rel=0.05)
    assert valid_prediction_time(truth, truth).tolist() == [20, 20]
    assert valid_prediction_time(oscillation(amplitude=(1.0, 1e3)), truth).tolist() == [20, 0]


def test_a_state_that_is_not_finite_ends_the_valid_time():
    truth = oscillation()
    y = truth.y.clone()
    y[100:, 0] = torch.nan
    assert valid_prediction_time(y, truth).tolist() == pytest.approx([T[99].item(), 20])
    assert rmse(y, truth).isnan()


def test_a_constant_component_is_measured_as_it_is():
    truth = Trajectory(T, torch.cat([oscillation().y, torch.ones(401, 2, 1)], dim=-1))
    assert valid_prediction_time(truth.y + torch.tensor([0, 0, 0.1]), truth).tolist() == [20, 20]


def test_refused():
    truth = oscillation()
    later = Trajectory(T + 0.1, truth.y)
    for metric in (rmse, coordinate_error, valid_prediction_time):
        with pytest.raises(ArgumentError, match="same times"):
            metric(later, truth)
        with pytest.raises(ArgumentError, match="same shape"):
            metric(truth[:1], truth)
    with pytest.raises(ArgumentError, match=r"\[T, n, d\]"):
        rmse(torch.zeros(3, 2), torch.zeros(3, 2))
    with pytest.raises(ArgumentTypeError, match="Trajectory or a tensor"):
        rmse([0.0], torch.zeros(3, 2, 1))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="`tolerance`"):
        valid_prediction_time(truth, truth, 0.0)
    with pytest.raises(ArgumentTypeError, match="no method `energy`"):
        energy_drift(mlp(2, 1), truth)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="absolute drift"):
        energy_drift(MassSpring(), oscillation(amplitude=(0.0, 1.0)), relative=True)


def test_runs_at_other_times_are_refused_wherever_the_zero_of_time_is():
    julian, y = 2459000.5 + T / 20, oscillation().y
    with pytest.raises(ArgumentError, match="same times"):
        rmse(Trajectory(julian + 0.05, y), Trajectory(julian, y))
    assert rmse(Trajectory(T.float(), y), Trajectory(T, y)) == 0


def test_a_constant_component_is_taken_as_it_is_in_any_dtype():
    truth = Trajectory(T[:31].float(), torch.full((31, 4, 1), 0.1))
    assert truth.y.std((0, 1), unbiased=False) > 0  # its rounding error
    assert valid_prediction_time(truth.y * 1.001, truth).tolist() == pytest.approx([1.5] * 4)
    with pytest.raises(ArgumentTypeError, match="`truth` must be a Trajectory"):
        valid_prediction_time(truth, truth.y)
