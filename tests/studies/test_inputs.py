"""Simulators with observed inputs: drawn from a trial's own numbers, recorded with its outcome, resumed bit for bit."""

import sqlite3
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.errors import StorageError
from studies.history import History, Proposal
from studies.spaces.box import Box
from studies.storage.sqlite import SQLiteStorage
from studies.strategies.random import Random
from studies.strategies.sobol import Sobol
from studies.study import Study
from surrogates.problems.hump import Hump2

BOX = Box({"q": (-2, 2), "p": (-1, 1)})


class Tilted:
    """The outcome tells the inputs and the noise that it was made of."""

    def inputs(self, n, generator):
        return torch.randn(n, 3, generator=generator, dtype=torch.float64)

    def __call__(self, theta, x, generator):
        outcome = torch.cat([theta, x, torch.randn(len(theta), 1, generator=generator, dtype=torch.float64)], 1)
        x.zero_()  # what a simulator does to its inputs does not reach the record
        return outcome


class Broken(Tilted):
    """Fails in one way or another, but at its first call."""

    def __init__(self, way):
        self.way, self.calls = way, 0

    def inputs(self, n, generator):  # pyright: ignore[reportIncompatibleMethodOverride] - it breaks the rules
        self.calls += 1
        x = super().inputs(n, generator)
        if self.calls > 1:
            match self.way:
                case "raises":
                    raise ValueError("no beam")
                case "nan":
                    return x / 0
                case "rows":
                    return x[:, 0]
                case "columns":
                    return x[:, :2]
                case "none":
                    return None
        return x

    def __call__(self, theta, x, generator):
        if self.way == "outcome" and self.calls > 1:
            raise ValueError("the beam is off")
        return torch.ones(len(theta), 1)


@dataclass(frozen=True)
class Follow:
    """Goes where the inputs were large: depends on their record."""

    def propose(self, history, n, generator):
        if history.x is None:
            return Proposal(history.space.sample(n, generator))
        centre = history.theta[history.x[:, 0].argmax()] + 0.1 * torch.randn(n, 2, generator=generator)
        return Proposal(centre.double().clamp(*history.space.bounds), {"x": history.x.sum().item()})


@pytest.mark.parametrize("options", [{}, {"batch": 4}, {"batch": 4, "vectorized": True}])
def test_inputs_are_drawn_and_recorded(options):
    history = Study(BOX, Sobol()).run(Tilted(), trials=10, **options)
    assert history.x.shape == (10, 3) and history.x.dtype == torch.float64
    assert torch.equal(history.outcome[:, 2:5], history.x) and torch.equal(history.outcome[:, :2], history.theta)
    assert len(history.x.unique(dim=0)) == len(history.outcome[:, 5].unique()) == 10
    assert all(torch.equal(trial.x, row) for trial, row in zip(history.trials, history.x, strict=True))


def test_a_trial_has_its_own_inputs_in_any_batch():
    alone, together = (Study(BOX, Sobol()).run(Tilted(), trials=6, batch=batch) for batch in (6, 6))
    assert torch.equal(alone.x, together.x)
    first = Study(BOX, Sobol()).run(Tilted(), trials=1)
    assert torch.equal(first.x, together.x[:1]) and torch.equal(first.outcome, together.outcome[:1])


def test_a_simulator_without_inputs_has_none():
    history = Study(BOX, Sobol()).run(lambda theta, generator: theta, trials=2)
    assert history.x is None and history.trials[0].x is None and "x" not in history.to_xarray()
    assert History(BOX).x is None


class Interrupted(Tilted):
    """Is stopped at a call."""

    def __init__(self, call):
        self.left = call

    def __call__(self, theta, x, generator):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().__call__(theta, x, generator)


@pytest.mark.parametrize(("vectorized", "calls"), [(False, (1, 5, 7, 12)), (True, (1, 3))])
def test_an_interrupted_study_goes_on_bit_for_bit(tmp_path, vectorized, calls):
    run = {"trials": 12, "batch": 4, "vectorized": vectorized}
    unbroken = Study(BOX, Follow(), seed=4).run(Tilted(), **run)
    for call in calls:
        path = tmp_path / f"{call}.db"
        with pytest.raises(KeyboardInterrupt):
            Study(BOX, Follow(), path, seed=4).run(Interrupted(call), executor="here", **run)
        resumed = Study(BOX, Follow(), path, seed=4).run(Tilted(), **run)
        assert torch.equal(resumed.x, unbroken.x) and torch.equal(resumed.outcome, unbroken.outcome)
        assert resumed.info == unbroken.info and resumed.info[-1]


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("raises", "no beam"),
        ("nan", "`x` must be finite, got 3 of 3 numbers that are NaN or infinite"),
        ("rows", r"`x` must have shape \[1, k\], got \[1\]"),
        ("columns", r"x of shape \[2\] where the study's first has x of shape \[3\]"),
        ("none", "`x` must be an array of real numbers, got NoneType"),
        ("outcome", "the beam is off"),
    ],
)
def test_bad_inputs_are_failed_trials(way, message):
    history = Study(BOX, Sobol()).run(Broken(way), trials=4)
    assert [trial.state for trial in history.trials] == ["complete", "failed", "failed", "failed"]
    assert history.x.shape == (1, 3)
    for trial in history.trials[1:]:
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(trial.error)
        assert (trial.x is not None) == (way in ("columns", "outcome"))  # those that the simulator ran with


def test_inputs_are_told():
    study = Study(BOX, Random())
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    study.tell(study.ask(2), [[0.0], [1.0]], x)
    assert torch.equal(study.history.x, torch.tensor(x))
    asked = study.ask(2)
    for wrong, error, message in (
        (None, ArgumentError, r"has no x where the study's first has x of shape \[2\]"),
        ([[1.0], [2.0]], ArgumentError, r"x of shape \[1\] where the study's first has x of shape \[2\]"),
        (x[:1], ArgumentError, r"`x` must have shape \[2, k\], got \[1, 2\]"),
        (x * np.nan, ArgumentError, "`x` must be finite"),
        ("x", ArgumentTypeError, "`x` must be an array of real numbers"),
    ):
        with pytest.raises(error, match=message):
            study.tell(asked, [[0.0], [1.0]], wrong)
    assert len(study.history.pending) == 2
    without = Study(BOX, Random())
    without.tell(without.ask(), [1.0])
    with pytest.raises(ArgumentError, match=r"x of shape \[2\] where the study's first has no x"):
        without.tell(without.ask(), [1.0], x[:1])


def test_inputs_come_back_from_a_file(tmp_path):
    told = Study(BOX, Sobol(), tmp_path / "runs.db").run(Hump2(), trials=5)
    read = Study(BOX, Sobol(), tmp_path / "runs.db").history
    assert torch.equal(read.x, told.x) and read.x.shape == (5, 2)
    assert all(torch.equal(ours.x, theirs.x) for ours, theirs in zip(read.trials, told.trials, strict=True))


def test_a_file_from_before_inputs_is_refused(tmp_path):
    storage = SQLiteStorage(tmp_path / "runs.db")
    with sqlite3.connect(storage.path) as connection:
        connection.execute("ALTER TABLE results DROP COLUMN x")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(StorageError, match=r"layout 1, this version reads \d. Use the version that wrote it"):
        Study(BOX, Sobol(), storage.path)


def test_the_dataset_holds_inputs():
    study = Study(BOX, Sobol())
    study.run(Tilted(), trials=3)
    study.ask()
    dataset = study.history.to_xarray()
    assert dataset["x"].dims == ("trial", "input") and dataset["x"].shape == (4, 3)
    assert np.array_equal(dataset["x"][:3], study.history.x) and dataset["x"][3].isnull().all()


def test_histories_from_tensors_take_inputs():
    theta, outcome, x = torch.zeros(3, 2), torch.zeros(3, 1), torch.arange(6.0).reshape(3, 2)
    history = History.from_tensors(BOX, theta, outcome, pending=theta[:1], failed=theta[:2], x=x)
    assert torch.equal(history.x, x.double()) and len(history) == 3 and len(history.failed) == 2
    for wrong in (x[:2], x[:, 0]):
        with pytest.raises(ArgumentError, match=r"`x` must have shape \[3, k\]"):
            History.from_tensors(BOX, theta, outcome, x=wrong)
