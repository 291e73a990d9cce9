"""Calibration of a Gaussian process on held-out trials: against a process fitted without them, and its coverage."""

import numpy as np
import pytest
import torch

from studies.history import History
from studies.report.calibration import calibrate
from studies.report.view import view_of
from studies.spaces.box import Box
from studies.storage.base import StudyRecord
from surrogates.gaussian_process import gaussian_process


def make_view(theta, value, bounds):
    box = Box(bounds)
    described = {"names": list(box.names), "low": list(box.low), "high": list(box.high), "units": {}}
    record = StudyRecord("study", described, "Sobol()", 0, {}, "2026-11-21")
    return view_of(record, History.from_tensors(box, theta, value[:, None]))


def test_predictions_come_from_the_other_trials_and_the_intervals_hold_what_they_promise():
    theta = Box({"a": (0, 10)}).sobol(60, seed=0)
    noise = 0.2 * torch.randn(60, generator=torch.Generator().manual_seed(1)).double()
    calibration = calibrate(make_view(theta, theta[:, 0].sin() + noise, {"a": (0, 10)}))
    assert calibration is not None
    residual = calibration.observed - calibration.mean
    assert 0.15 < residual.std() < 0.3  # the noise, and little more
    assert 0.12 < calibration.deviation.mean() < 0.3
    assert calibration.coverage[-1] == pytest.approx(0.95, abs=0.07)
    assert calibration.coverage[0] == pytest.approx(0.5, abs=0.2)
    assert np.all(np.diff(calibration.coverage) >= 0)


def test_repetitions_of_a_point_are_held_out_together():
    theta = Box({"a": (0, 1)}).sobol(15, seed=0).repeat(4, 1)
    value = torch.randn(15, generator=torch.Generator().manual_seed(0)).double().repeat(4)  # no function of theta
    value = value + 0.01 * torch.randn(60, generator=torch.Generator().manual_seed(1)).double()
    calibration = calibrate(make_view(theta, value, {"a": (0, 1)}))
    assert calibration is not None
    # With the other repetitions at hand the error would be near 0.01.
    assert np.sqrt(((calibration.observed - calibration.mean) ** 2).mean()) > 0.3


def test_a_held_out_prediction_equals_that_of_a_process_without_the_trial(monkeypatch):
    theta = Box({"a": (0, 1)}).sobol(14, seed=0)
    value = (6 * theta[:, 0]).sin()
    kept = []

    def fit(*arguments, **settings):
        kept.append(gaussian_process(*arguments, **settings))
        return kept[0]

    monkeypatch.setattr("studies.report.calibration.gaussian_process", fit)
    found = calibrate(make_view(theta, value, {"a": (0, 1)}))
    assert found is not None
    model = kept[0]
    standard = (value - value.mean()) / value.std()
    with torch.no_grad():
        model.set_train_data(theta[1:], standard[1:], strict=False)
        posterior = model.likelihood(model(theta[:1]))
    assert found.mean[0] == pytest.approx(float(posterior.mean.detach() * value.std() + value.mean()), rel=1e-4)
    assert found.deviation[0] == pytest.approx(float(posterior.stddev.detach() * value.std()), rel=1e-3)


def test_too_few_trials_or_no_spread_give_none_and_global_numbers_stay():
    theta = Box({"a": (0, 1)}).sobol(20, seed=0)
    assert calibrate(make_view(theta[:5], theta[:5, 0], {"a": (0, 1)})) is None
    assert calibrate(make_view(theta, torch.ones(20).double(), {"a": (0, 1)})) is None
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    calibrate(make_view(theta, theta[:, 0].sin(), {"a": (0, 1)}))
    assert torch.equal(torch.rand(1), expected)
