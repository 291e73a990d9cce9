"""Exports and imports: what a table, a dataset or a study holds of data from elsewhere is what was put in."""

import csv
import importlib.util

import numpy as np
import pytest
import torch
import xarray

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.errors import StudyError
from studies.history import History
from studies.spaces.box import Box
from studies.spaces.parameters import Choice, Integer
from studies.storage.sqlite import SQLiteStorage
from studies.strategies.noisy_improvement import NoisyExpectedImprovement
from studies.strategies.sobol import Sobol
from studies.study import Study

BOX = Box({"q": (-2, 2), "state": (0, 1)}, units={"q": "m"})


def history(outcome=(2, 2), x=True):
    generator = torch.Generator().manual_seed(0)
    theta = torch.rand(6, 2, generator=generator, dtype=torch.float64)
    rows = torch.rand(4, *outcome, generator=generator)
    inputs = torch.rand(4, 1, generator=generator) if x else None
    return History.from_tensors(BOX, theta[:4], rows, pending=theta[4:5], failed=theta[5:], x=inputs)


def test_a_table_has_one_row_a_trial():
    made = history()
    table = made.to_pandas()
    assert list(table.index) == list(range(6)) and table.index.name == "trial"
    assert list(table["state"]) == ["complete"] * 4 + ["failed", "pending"]
    assert np.array_equal(table[["q", "state_"]].to_numpy(), made.tried.numpy()), "a parameter may be called `state`"
    names = ["outcome_0_0", "outcome_0_1", "outcome_1_0", "outcome_1_1"]
    assert np.array_equal(table[names][:4].to_numpy(), made.outcome.reshape(4, 4).numpy())
    assert table[[*names, "x_0"]][4:].isna().to_numpy().all() and list(table["error"])[4] == "given as failed"


def test_a_table_decodes_integers_and_choices():
    box = Box({"blades": Integer(2, 8), "material": Choice("steel", "brass")})
    made = History.from_tensors(box, torch.tensor([[3.0, 1.0], [8.0, 0.0]]), torch.zeros(2))
    table = made.to_pandas()
    assert list(table["blades"]) == [3, 8] and table["blades"].dtype == np.int64
    assert list(table["material"]) == ["brass", "steel"] and list(table["outcome"]) == [0.0, 0.0]


def test_an_empty_history_is_an_empty_table():
    table = History(BOX).to_pandas()
    assert len(table) == 0 and {"q", "outcome", "seed"} <= set(table.columns)


def test_an_outcome_too_wide_for_a_table_is_refused():
    with pytest.raises(ArgumentError, match="1200 numbers, too many for a table"):
        history((60, 20)).to_pandas()


def test_csv_keeps_all_digits(tmp_path):
    made = history()
    made.to_csv(tmp_path / "trials.csv")
    with open(tmp_path / "trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [[float(row["q"]), float(row["state_"])] for row in rows] == made.tried.tolist()
    outcome = np.array([row["outcome_1_0"] for row in rows[:4]], dtype=np.float32)
    assert np.array_equal(outcome, made.outcome[:, 1, 0].numpy())
    assert [row["outcome_1_0"] for row in rows[4:]] == ["", ""]
    assert [path.name for path in tmp_path.iterdir()] == ["trials.csv"]


@pytest.mark.skipif(importlib.util.find_spec("zarr") is None, reason="zarr is not installed")
def test_zarr_gives_back_the_dataset(tmp_path):
    made = history((50, 3))
    made.to_zarr(tmp_path / "trials.zarr")
    with xarray.open_zarr(tmp_path / "trials.zarr") as read:
        assert read.load().identical(made.to_xarray())
    with pytest.raises(ArgumentError, match="must not exist yet"):
        made.to_zarr(tmp_path / "trials.zarr")


def test_zarr_that_is_missing_is_named(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "zarr" else find(name, *rest))
    with pytest.raises(StudyError, match=r"pip install 'diffsim-studies\[zarr\]'"):
        history().to_zarr(tmp_path / "trials.zarr")


def test_past_data_are_a_round_that_says_so(tmp_path):
    study = Study(BOX, Sobol(), tmp_path / "runs.db")
    theta = BOX.sample(5, torch.Generator().manual_seed(1))
    outcome = theta.sum(1, keepdim=True)
    outcome[2] = torch.nan
    assert study.add(theta, outcome) == (0, 1, 2, 3, 4)
    made = study.history
    assert len(made) == 4 and torch.equal(made.failed, theta[2:3]) and set(made.info[0]) == {"imported"}
    assert torch.equal(made.outcome, outcome[[0, 1, 3, 4]])
    assert study.run(lambda theta, generator: theta.sum(1, keepdim=True), trials=8, executor="here").n_rounds == 4


def test_past_data_are_added_once_even_after_a_kill(tmp_path, monkeypatch):
    theta = BOX.sample(3, torch.Generator().manual_seed(1))
    study = Study(BOX, Sobol(), tmp_path / "runs.db")
    with monkeypatch.context() as patch:
        patch.setattr(SQLiteStorage, "add_results", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            study.add(theta, theta)
    assert len(study.history.pending) == 3
    assert study.storage.claim("study", "worker", 9, 60.0) == [], "no worker takes what is being written"
    for _ in range(2):
        assert Study(BOX, Sobol(), tmp_path / "runs.db").add(theta, theta) == (0, 1, 2)
    assert len(study.history) == 3 and study.history.n_rounds == 1
    assert study.add(theta, theta + 1) == (3, 4, 5), "other outcomes are other data"


def test_a_strategy_learns_from_past_data():
    study = Study(BOX, NoisyExpectedImprovement(), seed=3)
    theta = BOX.sample(20, torch.Generator().manual_seed(1))
    study.add(theta, (theta - 0.3).square().sum(1, keepdim=True))
    asked = study.ask()
    assert (asked.theta - 0.3).abs().max() < 0.4, "it does not begin with a blind design"


@pytest.mark.parametrize(
    ("theta", "outcome", "message"),
    [
        ([[0.0]], [[1.0]], r"`theta` must have shape \[n, 2\]"),
        ([[0.0, 5.0]], [[1.0]], "got 1 rows elsewhere"),
        ([[0.0, torch.nan]], [[1.0]], "got 1 rows elsewhere"),
        ([[0.0, 0.5]], [[1.0], [2.0]], r"must have shape \[1, ...\]"),
        ([[0.0, 0.5]], [[1.0, 2.0]], "the study's first has"),
    ],
)
def test_past_data_that_do_not_fit_are_refused(theta, outcome, message):
    study = Study(BOX, Sobol())
    study.tell(study.ask(), [[1.0]])
    with pytest.raises(ArgumentError, match=message):
        study.add(theta, outcome)
    with pytest.raises(ArgumentTypeError, match="`theta` must hold real numbers"):
        study.add("ab", [[1.0]])
    assert study.history.n_rounds == 1
