"""Past data from tables and from Optuna."""

import math

import optuna
import pandas
import pytest
import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.interop.optuna_export import export_optuna
from studies.interop.optuna_import import import_optuna
from studies.interop.past import import_table
from studies.spaces.box import Box
from studies.spaces.parameters import Choice, Integer, Log
from studies.spaces.pool import Pool
from studies.storage.memory import MemoryStorage
from studies.strategies.noisy_improvement import NoisyExpectedImprovement
from studies.strategies.random import Random
from studies.study import Study

PUMP = {"rate": Log(1e-4, 1.0), "blades": Integer(2, 8), "material": Choice("steel", "brass")}
TABLE = pandas.DataFrame(
    {
        "material": ["brass", "steel", "brass"],
        "blades": [2, 8, 3],
        "rate": [0.5, 1e-4, 0.1],
        "cost": [1.0, 2.0, math.nan],
        "loss": [5.0, 6.0, 7.0],
    }
)


def test_rows_of_a_table_are_trials_of_one_round():
    study = Study(Box(PUMP), Random())
    study.tell(study.ask(1), [[0.0, 0.0]])
    assert import_table(study, TABLE, ["cost", "loss"]) == (1, 2, 3)
    history = study.history
    assert history.theta[1:].tolist() == [[0.5, 2.0, 1.0], [1e-4, 8.0, 0.0]]
    assert history.outcome[1:].tolist() == [[1.0, 5.0], [2.0, 6.0]] and history.failed.tolist() == [[0.1, 3.0, 1.0]]
    assert set(history.info[1]) == {"imported"} and "1 of its 2 numbers are NaN" in history.trials[3].error
    assert import_table(study, TABLE, ["cost", "loss"]) == (1, 2, 3), "the same table is added once"


def test_a_csv_file_is_a_table(tmp_path):
    TABLE.to_csv(tmp_path / "past.csv", index=False)
    one, two = (Study(Box(PUMP), Random()) for _ in range(2))
    import_table(one, tmp_path / "past.csv", "cost")
    import_table(two, TABLE, "cost")
    assert torch.equal(one.history.theta, two.history.theta) and torch.equal(one.history.outcome, two.history.outcome)
    assert import_table(one, TABLE[:0], "cost") == () and len(one.history.trials) == 3


def test_a_strategy_goes_on_from_past_data():
    study = Study(Box({"a": (0, 1)}), NoisyExpectedImprovement(initial=2))
    a = torch.linspace(0, 1, 9).double()
    import_table(study, pandas.DataFrame({"a": a.numpy(), "f": (a - 0.3).square().numpy()}), "f")
    study.run(lambda theta, generator: (theta - 0.3).square(), trials=11)
    assert abs(float(study.recommend()) - 0.3) < 0.02


def test_tables_that_do_not_fit_are_refused_and_nothing_is_added():
    study = Study(Box(PUMP), Random())
    with pytest.raises(ArgumentError, match=r"lacks the columns \['gain'\]"):
        import_table(study, TABLE, "gain")
    with pytest.raises(ArgumentError, match="'blades' must lie"):
        import_table(study, TABLE.assign(blades=99), "cost")
    with pytest.raises(ArgumentTypeError, match="Box"):
        import_table(Study(Pool(torch.eye(2), ["a", "b"]), Random()), TABLE, "cost")
    with pytest.raises(ArgumentError, match=r"lacks the columns \['cost'\], or has one of them twice"):
        import_table(study, pandas.concat([TABLE, TABLE[["cost"]]], axis=1), "cost")
    with pytest.raises(ArgumentError, match=r"`table` cannot be read: .* No such file"):
        import_table(study, "none.csv", "cost")
    with pytest.raises(ArgumentTypeError, match="must be a data frame or the path"):
        import_table(study, {"cost": [1.0]}, "cost")
    with pytest.raises(ArgumentTypeError, match=r"The columns \['material'\] of `table` must hold numbers"):
        import_table(study, TABLE, "material")
    assert study.history.trials == ()


def test_trials_of_optuna_become_past_data():
    source = optuna.create_study(direction="maximize")

    def objective(trial):
        if trial.suggest_categorical("material", ["steel", "brass"]) == "steel":
            raise optuna.TrialPruned
        return trial.suggest_float("rate", 1e-5, 1.0, log=True) * trial.suggest_int("blades", 2, 8)

    source.optimize(objective, n_trials=12)
    source.ask()
    inside = [trial for trial in source.trials if trial.values and trial.params["rate"] >= 1e-4]
    study = Study(Box(PUMP), Random())
    assert import_optuna(study, source) == tuple(range(len(inside)))
    assert study.history.outcome.tolist() == [[-trial.value] for trial in inside]
    assert [study.space.to_dict(row) for row in study.history.theta] == [
        {name: trial.params[name] for name in PUMP} for trial in inside
    ]


def test_a_study_that_was_exported_comes_back():
    storage = MemoryStorage()
    study = Study(Box(PUMP), Random(), storage=storage)

    def simulator(theta, generator):
        assert theta[0, 1] != 3, "three blades break"
        return theta[:, :1]

    study.run(simulator, trials=20)
    again = Study(Box(PUMP), Random())
    import_optuna(again, export_optuna(storage, "study", optuna.storages.InMemoryStorage()))
    assert torch.equal(again.history.theta, study.history.theta)
    assert torch.equal(again.history.outcome, study.history.outcome.double())
    assert torch.equal(again.history.failed, study.history.failed) and len(study.history.failed)
    assert all("three blades break" in trial.error for trial in again.history.trials if trial.state == "failed")


def test_an_optuna_study_of_something_else_is_refused():
    with pytest.raises(ArgumentError, match="No finished trial"):
        import_optuna(Study(Box(PUMP), Random()), optuna.create_study())
