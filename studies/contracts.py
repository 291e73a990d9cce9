"""Contract suites: the rules that a study relies on, checked on a user's own strategy or storage."""

import copy
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from diffsim.errors import ContractError
from studies.errors import ConflictError, StorageError, StudyError
from studies.history import History, Proposal
from studies.randomness import isolated
from studies.spaces.base import Space
from studies.spaces.box import Box
from studies.storage.base import MAX_LEASES, Result, RoundRecord, Storage, StudyRecord
from studies.strategies.base import Optimiser, Strategy, checked

__all__ = ["check_storage", "check_strategy"]


def check_strategy(
    strategy: Strategy,
    space: Space | None = None,
    histories: Sequence[History] | None = None,
    n: Sequence[int] = (1, 3),
) -> None:
    """Checks that a strategy is pure and proposes what it may.

    The rules: a proposal has n rows, finite and inside the space, and its info is JSON; the same history and generator
    give the same proposal; the history is left as it was; histories may be empty, and may hold pending and failed
    trials; a recommendation is one row inside the space.

    Args:
        strategy: The strategy.
        space: Where it is tried, a square if not given.
        histories: What it is tried on; if not given, an empty history, and one of eight trials whose outcome is a
            quadratic of shape [n, 1], with and without pending and failed ones.
        n: The numbers of trials that are asked for.

    Raises:
        ContractError: A rule is broken; the message names it.
    """
    if isinstance(strategy, type):
        raise ContractError(f"check_strategy takes a strategy, got the class {strategy.__name__}. Pass an instance.")
    space = space or Box({"a": (-1.0, 2.0), "b": (0.0, 1.0)})
    for history in _histories(space) if histories is None else histories:
        for count in n:
            proposal = _propose(strategy, history, count)
            later = History(space, history.trials, (*history.info, proposal.info))
            _propose(strategy, later, count)
        if isinstance(strategy, Optimiser) and len(history):
            best = strategy.recommend(history)
            _require(best.shape == (space.dim,), f"a recommendation has shape [{space.dim}], got {list(best.shape)}")
            _require(bool(space.contains(best[None]).all()), f"a recommendation lies in the space, got {best.tolist()}")


def _histories(space: Space) -> list[History]:
    theta = space.sample(14, torch.Generator().manual_seed(0))
    outcome = theta[:8].square().sum(1, keepdim=True)
    return [
        History(space),
        History.from_tensors(space, theta[:8], outcome),
        History.from_tensors(space, theta[:8], outcome, pending=theta[8:11], failed=theta[11:]),
        History.from_tensors(space, theta[:0], outcome[:0], failed=theta[11:]),
    ]


def _propose(strategy: Strategy, history: History, n: int) -> Proposal:
    where = (
        f"(n = {n}, history of {len(history)} complete, {len(history.pending)} pending, {len(history.failed)} failed)"
    )
    before = copy.deepcopy(history)
    proposals: list[Proposal] = []
    for _ in range(2):
        with isolated(torch.Generator().manual_seed(0)):  # as the study does
            proposals.append(strategy.propose(history, n, torch.Generator().manual_seed(1)))
    _require(_equal(before, history), f"the history is left as it was {where}")
    try:
        (first, info), (second, other) = (checked(proposal, history.space, n) for proposal in proposals)
    except StudyError as error:
        raise ContractError(f"Rule broken: a proposal is valid {where}. {error}") from error
    _require(
        torch.equal(first, second) and info == other, f"the same history and generator give the same proposal {where}"
    )
    return Proposal(first, info)


def _equal(before: History, after: History) -> bool:
    def same(old: Tensor | None, new: Tensor | None) -> bool:
        return old is new or (old is not None and new is not None and torch.equal(old, new))

    return before.info == after.info and all(
        same(old.theta, new.theta) and same(old.outcome, new.outcome) and same(old.x, new.x)
        for old, new in zip(before.trials, after.trials, strict=True)
    )


def check_storage(make: Callable[[], Storage]) -> None:
    """Checks that a storage gives back what it was given, appends whole or not at all, never twice, and leases fairly.

    Args:
        make: A function that makes an empty storage, a new one at each call.

    Raises:
        ContractError: A rule is broken; the message names it.
    """
    for rule in (
        _keeps_studies,
        _keeps_rounds,
        _keeps_results,
        _keeps_studies_apart,
        _refuses_doubles,
        _serves_threads,
        _leases_trials,
        _ends_leases,
        _gives_up,
        _leases_to_one,
    ):
        rule(make())


def _keeps_studies(storage: Storage) -> None:
    _require(storage.studies() == [], "a new storage is empty")
    study = _study("first")
    _require(storage.create(study) == study, "`create` returns the study that it adds")
    again = StudyRecord("first", {"kind": "other"}, "Other()", 1, {}, "later")
    _require(storage.create(again) == study, "`create` returns the study that has the name already, unchanged")
    storage.create(_study("second"))
    _require([record.name for record in storage.studies()] == ["first", "second"], "`studies` lists them, oldest first")


def _keeps_rounds(storage: Storage) -> None:
    storage.create(_study("a"))
    info = {"text": "ü", "list": [1, 0.1, None, True], "nested": {"x": 1e-300}}
    rounds = [RoundRecord(0, 0, _theta(2), info, "S()"), RoundRecord(1, 2, _theta(1) / 3, {}, "T()")]
    for round in rounds:
        storage.add_round("a", round)
    for start in range(3):
        read, _ = storage.read("a", start, 0)
        _require(
            [round.number for round in read] == [0, 1][start:], f"`read` returns the rounds after the first {start}"
        )
        for old, new in zip(rounds[start:], read, strict=True):
            same = (old.first, old.info, old.strategy) == (new.first, new.info, new.strategy)
            _require(same and _same(old.theta, new.theta), "a round comes back bit for bit, its notes too")


def _keeps_results(storage: Storage) -> None:
    storage.create(_study("a"))
    storage.add_round("a", RoundRecord(0, 0, _theta(4), {}, "S()"))
    results = [
        Result(2, np.array([[0.1, -0.0], [1e-310, 1e308]]), None, 1.5, 0.25, "host:1", np.array([0.1, -1e-310])),
        Result(0, None, "Traceback\nValueError: ü", None, None, None, np.array([1 / 3, 2.0])),
        Result(3, np.array(0.1, dtype=np.float32), seed=2**63 - 1, environment='{"python": "ü"}'),
        Result(1, np.random.default_rng(1).normal(size=(300, 40)), environment='{"python": "3"}'),
    ]
    storage.add_results("a", results[:1])
    storage.add_results("a", results[1:])
    storage.add_results("a", [])
    for start in range(5):
        _, read = storage.read("a", 0, start)
        order = [result.trial for result in read]
        _require(
            order == [2, 0, 3, 1][start:], f"`read` returns the results after the first {start}, as they were told"
        )
        for old, new in zip(results[start:], read, strict=True):
            same = (old.error, old.started, old.seconds, old.host) == (new.error, new.started, new.seconds, new.host)
            same = same and _same(old.outcome, new.outcome) and _same(old.x, new.x)
            _require(same, "a result comes back bit for bit, large or small, its inputs too")
            same = (old.seed, old.environment) == (new.seed, new.environment)
            _require(same, "a result keeps its seed and its environment")


def _keeps_studies_apart(storage: Storage) -> None:
    for name in ("a", "b"):
        storage.create(_study(name))
        storage.add_round(name, RoundRecord(0, 0, _theta(1), {"name": name}, "S()"))
    storage.add_results("a", [Result(0, np.ones(1))])
    rounds, results = storage.read("b")
    _require(rounds[0].info == {"name": "b"} and not results, "studies of one storage do not mix")
    for call in (
        lambda: storage.read("c"),
        lambda: storage.add_round("c", RoundRecord(0, 0, _theta(1), {}, "S()")),
        lambda: storage.add_results("c", [Result(0, np.ones(1))]),
        lambda: storage.claim("c", "worker", 1, 60.0),
        lambda: storage.renew("c", "worker", 60.0),
        lambda: storage.release("c", "worker"),
        lambda: storage.leases("c"),
    ):
        _require(_raises(StorageError, call), "a study that does not exist raises StorageError")


def _refuses_doubles(storage: Storage) -> None:
    storage.create(_study("a"))
    storage.add_round("a", RoundRecord(0, 0, _theta(3), {}, "S()"))
    for number, first in ((0, 3), (1, 0)):
        double = RoundRecord(number, first, _theta(1), {}, "S()")
        refused = _raises(ConflictError, lambda double=double: storage.add_round("a", double))
        _require(refused, "a round whose number or first trial is taken raises ConflictError")
    storage.add_results("a", [Result(1, np.ones(1))])
    refused = _raises(ConflictError, lambda: storage.add_results("a", [Result(0, np.ones(1)), Result(1, np.zeros(1))]))
    _require(refused, "a trial told twice raises ConflictError")
    rounds, results = storage.read("a")
    _require(len(rounds) == 1 and [result.trial for result in results] == [1], "what is refused leaves nothing behind")
    _require(_same(results[0].outcome, np.ones(1)), "what was told first is kept")


def _serves_threads(storage: Storage) -> None:
    storage.create(_study("a"))
    storage.add_round("a", RoundRecord(0, 0, _theta(20), {}, "S()"))

    def tell(trial: int) -> bool:
        return not _raises(ConflictError, lambda: storage.add_results("a", [Result(trial, np.full(1, float(trial)))]))

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(tell, [*range(20), *range(20)]))
    _, results = storage.read("a")
    once = sum(told) == 20 and sorted(result.trial for result in results) == list(range(20))
    _require(once, "of threads that tell the same trial at once, one succeeds")


def _leases_trials(storage: Storage) -> None:
    storage.create(_study("a"))
    storage.create(_study("b"))
    storage.add_round("a", RoundRecord(0, 0, _theta(2), {}, "S()"), "asker", 60.0)
    storage.add_round("a", RoundRecord(1, 2, _theta(6), {}, "S()"))
    storage.add_results("a", [Result(3, np.ones(1))])
    _require(storage.claim("b", "first", 9, 60.0) == [], "a study without trials leases none")
    claimed = storage.claim("a", "first", 2, 60.0)
    _require(claimed == [2, 4], f"`claim` leases the oldest that are neither told nor leased, at most n, got {claimed}")
    claimed = storage.claim("a", "second", 9, 60.0)
    _require(claimed == [5, 6, 7], f"`claim` leases to another worker what is left, got {claimed}")
    _require(storage.claim("a", "first", 9, 60.0) == [], "a worker is not leased again what it has")
    held = [(lease.trial, lease.worker, lease.count) for lease in storage.leases("a")]
    owners = {0: "asker", 1: "asker", 2: "first", 4: "first", 5: "second", 6: "second", 7: "second"}
    _require(held == [(trial, worker, 1) for trial, worker in owners.items()], f"`leases` lists them all, got {held}")
    left = [lease.seconds for lease in storage.leases("a")]
    _require(all(0 < seconds <= 60 for seconds in left), f"`leases` says how long each holds, got {left}")
    storage.add_results("a", [Result(2, np.ones(1)), Result(5, None, "told by another")])
    _require(storage.renew("a", "first", 60.0) == [4], "a trial that is told, by whomever, is no longer leased")


def _ends_leases(storage: Storage) -> None:
    storage.create(_study("a"))
    storage.add_round("a", RoundRecord(0, 0, _theta(3), {}, "S()"))
    start = time.monotonic()
    storage.claim("a", "first", 1, 0.3)
    claimed = storage.claim("a", "second", 1, 60.0)
    _require(claimed == [1] or time.monotonic() - start > 0.3, f"a lease holds for its time, got {claimed}")
    time.sleep(0.35)
    _require(storage.claim("a", "third", 1, 0.0) == [0], "a trial whose lease ran out is leased again, oldest first")
    _require(storage.renew("a", "first", 60.0) == [], "a worker does not renew what another has taken")
    _require(storage.renew("a", "third", 60.0) == [0], "a worker renews what ran out and nobody took")
    _require(storage.claim("a", "fourth", 1, 60.0) == [2], "a lease that was renewed holds")
    _require(storage.release("a", "third") == [0], "`release` returns what is given back")
    _require(storage.release("a", "third") == [], "what was given back is no longer the worker's")
    _require(storage.claim("a", "fourth", 9, 60.0) == [0], "what was given back is leased again")
    counts = [lease.count for lease in storage.leases("a")]
    _require(counts == [2, 1, 1], f"a lease that was given back does not count, one that ran out does, got {counts}")


def _gives_up(storage: Storage) -> None:
    storage.create(_study("a"))
    storage.add_round("a", RoundRecord(0, 0, _theta(1), {}, "S()"), "asker", 0.0)
    for n in range(1, MAX_LEASES):
        _require(storage.claim("a", f"worker {n}", 1, 0.0) == [0], f"a trial is leased {MAX_LEASES} times")
    _require(storage.claim("a", "last", 1, 60.0) == [], f"a trial is not leased more than {MAX_LEASES} times")
    _, results = storage.read("a")
    failed = [result.error is not None and "given up" in result.error for result in results]
    _require(failed == [True] and not storage.leases("a"), "a trial whose leases all ran out gets a failed result")


def _leases_to_one(storage: Storage) -> None:
    storage.create(_study("a"))
    storage.add_round("a", RoundRecord(0, 0, _theta(40), {}, "S()"))

    def work(worker: int) -> list[int]:
        return [trial for _ in range(10) for trial in storage.claim("a", f"worker {worker}", 2, 60.0)]

    with ThreadPoolExecutor(4) as pool:
        claimed = [trial for trials in pool.map(work, range(4)) for trial in trials]
    _require(sorted(claimed) == list(range(40)), "of threads that claim at once, each trial goes to one")


def _study(name: str) -> StudyRecord:
    return StudyRecord(name, {"kind": "Box", "low": [0.1]}, "S()", 2**63 - 1, {"python": "3"}, "2020-01-01T00:00:00")


def _theta(n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.random.default_rng(0).normal(size=(n, 2))


def _same(old: np.ndarray | None, new: np.ndarray | None) -> bool:
    if old is None or new is None:
        return old is new
    return old.dtype == new.dtype and old.shape == new.shape and old.tobytes() == new.tobytes()


def _raises(kind: type[Exception], call: Callable[[], object]) -> bool:
    try:
        call()
    except kind:
        return True
    return False


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise ContractError(f"Rule broken: {rule}.")
