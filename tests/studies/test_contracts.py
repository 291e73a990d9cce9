"""The contract suites: our own strategies and storages pass, broken ones fail with the rule's name."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from diffsim.errors import ContractError
from studies.contracts import check_storage, check_strategy
from studies.history import Proposal
from studies.spaces.pool import Pool
from studies.storage.memory import MemoryStorage
from studies.storage.sqlite import SQLiteStorage
from studies.strategies.random import Random
from studies.strategies.sobol import Sobol


@pytest.mark.parametrize("strategy", [Random(), Sobol()])
def test_our_strategies_keep_the_contract(strategy):
    check_strategy(strategy)


def test_random_keeps_the_contract_on_a_pool():
    check_strategy(Random(), Pool(torch.arange(20.0)[:, None], names=["a"]))


def test_our_storages_keep_the_contract(tmp_path):
    numbers = itertools.count()
    check_storage(MemoryStorage)
    check_storage(lambda: SQLiteStorage(tmp_path / f"{next(numbers)}.db"))


@dataclass
class Broken:
    """Random, but for one broken rule."""

    rule: str
    calls: int = 0

    def propose(self, history, n, generator):
        self.calls += 1
        theta = history.space.sample(n, generator)
        match self.rule:
            case "impure":
                return Proposal(theta * 0.9**self.calls)
            case "outside":
                return Proposal(theta + 10)
            case "rows":
                return Proposal(theta[:1])
            case "mutates":
                for trial in history.trials:
                    trial.theta.zero_()
            case "notes":
                return Proposal(theta, {"calls": self.calls})
            case "empty":
                history.theta[0]
        return Proposal(theta)

    def recommend(self, history):
        return history.space.bounds[1] + (1 if self.rule == "recommend" else 0)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("impure", "same history and generator"),
        ("outside", "must lie in"),
        ("rows", r"n = 3.*must have shape \[3, 2\]"),
        ("mutates", "history is left as it was"),
        ("notes", "same history and generator"),
        ("recommend", "recommendation lies in the space"),
    ],
)
def test_a_broken_strategy_is_told_which_rule(rule, message):
    with pytest.raises(ContractError, match=message):
        check_strategy(Broken(rule))


def test_a_strategy_that_cannot_begin_fails():
    with pytest.raises(IndexError):
        check_strategy(Broken("empty"))
    with pytest.raises(ContractError, match="Pass an instance"):
        check_strategy(Random)


class Forgetful(MemoryStorage):
    """Keeps the results of a refused call."""

    def add_results(self, name, results):
        for result in results:
            super().add_results(name, [result])


class Rounding(MemoryStorage):
    """Keeps single precision."""

    def read(self, name, n_rounds=0, n_results=0):
        rounds, results = super().read(name, n_rounds, n_results)
        return [replace(round, theta=round.theta.astype(np.float32).astype(np.float64)) for round in rounds], results


@pytest.mark.parametrize(("storage", "message"), [(Forgetful, "leaves nothing behind"), (Rounding, "bit for bit")])
def test_a_broken_storage_is_told_which_rule(storage, message):
    with pytest.raises(ContractError, match=message):
        check_storage(storage)
