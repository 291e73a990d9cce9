"""Histories as values: what strategies read, and conversions."""

import pytest
import torch

from diffsim.errors import ArgumentError
from studies.history import History, Proposal, Trial
from studies.spaces.box import Box

BOX = Box({"q": (-2, 2), "p": (-1, 1)}, units={"q": "rad"})


def make_history(n=4, shape=(1,), **others):
    theta = BOX.sobol(n, seed=0)
    return History.from_tensors(
        BOX, theta, torch.randn(n, *shape, generator=torch.Generator().manual_seed(0)), **others
    )


def test_an_empty_history_has_shapes():
    history = History(BOX)
    assert history.theta.shape == history.pending.shape == history.failed.shape == history.tried.shape == (0, 2)
    assert history.outcome.shape == history.round.shape == (0,)
    assert len(history) == history.n_rounds == 0
    assert history.to_xarray().sizes["trial"] == 0


def test_states_are_kept_apart():
    pending, failed = torch.zeros(2, 2), torch.ones(1, 2)
    history = make_history(pending=pending, failed=failed)
    assert len(history) == 4
    assert torch.equal(history.pending, pending.double()) and torch.equal(history.failed, failed.double())
    assert history.tried.shape == (7, 2)
    assert [trial.number for trial in history.trials] == list(range(7))


def test_outcomes_of_two_precisions_take_the_finer():
    trials = [
        Trial(number, 0, torch.zeros(2), "complete", torch.ones(1, dtype=dtype))
        for number, dtype in enumerate((torch.float32, torch.float64))
    ]
    assert History(BOX, tuple(trials), ({},)).outcome.dtype == torch.float64


def test_runs_become_a_trajectory():
    history = make_history(shape=(5, 2))
    t = torch.linspace(0, 1, 5)
    runs = history.runs(t)
    assert runs.y.shape == (5, 4, 2)
    assert torch.equal(runs.y[:, 3], history.outcome[3])
    with pytest.raises(ArgumentError, match=r"as many times .* got \[4\] for outcomes of shape \[4, 5, 2\]"):
        history.runs(t[:4])
    with pytest.raises(ArgumentError, match="as many times"):
        make_history().runs(t)


def test_dataset_has_named_dimensions_units_and_states():
    dataset = make_history(shape=(5, 2), failed=torch.zeros(1, 2)).to_xarray()
    assert dataset["theta"].dims == ("trial", "parameter") and dataset["outcome"].dims[0] == "trial"
    assert dataset["parameter"].values.tolist() == ["q", "p"] and dataset["units"].values.tolist() == ["rad", ""]
    assert dataset["state"].values.tolist() == ["complete"] * 4 + ["failed"]
    assert dataset["outcome"].isel(trial=4).isnull().all() and not dataset["outcome"].isel(trial=0).isnull().any()


def test_dataset_is_written_to_netcdf(tmp_path):
    make_history(shape=(5, 2)).to_xarray().to_netcdf(tmp_path / "history.nc", engine="h5netcdf")
    assert (tmp_path / "history.nc").stat().st_size > 0


def test_values_are_frozen():
    with pytest.raises(AttributeError):
        Proposal(torch.zeros(1, 2)).theta = torch.ones(1, 2)
    with pytest.raises(AttributeError):
        make_history().trials = ()


def test_bad_tensors_are_named():
    with pytest.raises(ArgumentError, match=r"`theta` must have shape \[n, 2\], got \[3, 1\]"):
        History.from_tensors(BOX, torch.zeros(3, 1), torch.zeros(3))
    with pytest.raises(ArgumentError, match=r"`outcome` must have shape \[3, ...\], got \[2\]"):
        History.from_tensors(BOX, torch.zeros(3, 2), torch.zeros(2))
