"""What all optimisers share: the contract, resume, pieces, failures, constants, starts, and answers under noise."""

from dataclasses import replace

import pytest
import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.contracts import check_strategy
from studies.history import History
from studies.spaces.box import Box
from studies.spaces.pool import Pool
from studies.strategies.cma_es import CMAES
from studies.strategies.finite_differences import FiniteDifferences
from studies.strategies.noisy_improvement import NoisyExpectedImprovement
from studies.strategies.random_search import RandomSearch
from studies.strategies.turbo import TuRBO
from studies.study import Study

SQUARE = Box({"a": (-1.0, 2.0), "b": (0.0, 1.0)})
BEST = torch.tensor([0.6, 0.3], dtype=torch.float64)


def objective(outcome):
    return outcome[:, 0] + outcome[:, 1]


def valley(theta, generator):
    """Two outcomes whose sum is smallest at BEST; noise of .1 in the sum."""
    squares = (theta - BEST).square()
    noise = 0.1 / 2**0.5 * torch.randn(len(theta), 2, generator=generator, dtype=theta.dtype)
    return squares + noise


RIVALS = {
    "cma": CMAES(objective, repeats=4),
    "differences": FiniteDifferences(objective, repeats=5, step=0.2, lr=0.1),
    "improvement": NoisyExpectedImprovement(objective, repeats=10, initial=4),
    "random": RandomSearch(objective, repeats=2),
    "turbo": TuRBO(objective, repeats=6, points=3),
}
WITH_START = [name for name in RIVALS if name != "random"]
each = pytest.mark.parametrize("name", RIVALS)


@each
@pytest.mark.parametrize("repeats", [1, 2])
def test_contract(name, repeats):
    check_strategy(replace(RIVALS[name], objective=None, repeats=repeats))


def test_random_search_keeps_the_contract_on_a_pool():
    check_strategy(RandomSearch(repeats=2), Pool(SQUARE.sample(40, torch.Generator().manual_seed(0)), ["a", "b"]))


@each
def test_the_answer_comes_near_the_minimum_under_noise(name):
    strategy, errors = RIVALS[name], []
    trials = {"improvement": 100, "turbo": 200}.get(name, 400)
    for seed in range(2):
        study = Study(SQUARE, strategy, seed=seed)
        study.run(valley, trials=trials, vectorized=True, progress=False)
        errors.append(float((study.recommend() - BEST).square().sum()))
    assert max(errors) < 0.2  # the centre's is .05, a corner's above 1: the walk must not go astray
    assert torch.tensor(errors).mean() < 0.1


@each
def test_a_resumed_study_equals_an_unbroken_one_bit_for_bit(name, tmp_path):
    trials, batch = 56, 7
    whole = Study(SQUARE, RIVALS[name], seed=4)
    history = whole.run(valley, trials=trials, batch=batch, progress=False)
    storage, calls = f"sqlite:///{tmp_path}/runs.db", iter(range(1000))

    def killed(theta, generator):
        if next(calls) == 40:
            raise KeyboardInterrupt
        return valley(theta, generator)

    with pytest.raises(KeyboardInterrupt):
        Study(SQUARE, RIVALS[name], storage, seed=4).run(
            killed, executor="here", trials=trials, batch=batch, progress=False
        )
    torch.rand(3)  # what happened meanwhile does not matter
    resumed = Study(SQUARE, RIVALS[name], storage, seed=4)
    again = resumed.run(valley, trials=trials, batch=batch, progress=False)
    assert torch.equal(again.theta, history.theta) and torch.equal(again.outcome, history.outcome)
    assert again.info == history.info
    assert torch.equal(resumed.recommend(), whole.recommend())


@each
def test_global_random_numbers_are_left_alone(name):
    history = Study(SQUARE, RIVALS[name], seed=1).run(valley, trials=60, batch=20, progress=False)
    before = torch.get_rng_state()
    RIVALS[name].propose(history, 3, torch.Generator().manual_seed(0))
    first, second = RIVALS[name].recommend(history), RIVALS[name].recommend(history)
    assert torch.equal(before, torch.get_rng_state()) and torch.equal(first, second)


@each
def test_a_constant_objective_is_no_accident(name):
    study = Study(SQUARE, RIVALS[name], seed=0)
    study.run(lambda theta, generator: torch.ones(len(theta), 2), trials=70, batch=10, progress=False)
    assert SQUARE.contains(study.recommend()[None]).all()


@each
def test_failed_trials_cost_themselves_only(name):
    def fragile(theta, generator):
        if torch.rand((), generator=generator) < 0.3:
            raise RuntimeError("diverged")
        outcome = valley(theta, generator)
        return outcome if theta[0, 0] < 1.5 else outcome.new_full((1, 2), torch.nan)

    study = Study(SQUARE, RIVALS[name], seed=2)
    history = study.run(fragile, trials=80, batch=9, max_failures=80, progress=False)
    assert len(history.trials) == 80 and len(history.failed) > 5
    assert SQUARE.contains(study.recommend()[None]).all()


@each
def test_an_objective_that_is_not_finite_marks_its_row_as_failed(name):
    def half(outcome):
        value = objective(outcome)
        return torch.where(value < 0.1, torch.nan, value)

    study = Study(SQUARE, replace(RIVALS[name], objective=half), seed=2)
    study.run(valley, trials=50, batch=9, progress=False)
    assert SQUARE.contains(study.recommend()[None]).all()
    nothing = Study(SQUARE, replace(RIVALS[name], objective=lambda y: objective(y) * torch.nan), seed=2)
    nothing.run(valley, trials=50, batch=9, progress=False)
    assert SQUARE.contains(nothing.recommend()[None]).all()


@each
def test_workers_that_ask_before_others_told_are_served(name):
    study, waiting = Study(SQUARE, RIVALS[name], seed=3), []
    for turn in range(60 if name != "improvement" else 30):
        waiting.append(study.ask(1))
        if len(waiting) == 3:  # the oldest of three workers tells; that of turn 5 never does
            done = waiting.pop(0)
            if turn != 5:
                study.tell(done, valley(done.theta, torch.Generator().manual_seed(turn)))
    assert SQUARE.contains(study.recommend()[None]).all()


@pytest.mark.parametrize("name", WITH_START)
def test_it_begins_where_it_is_told(name):
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ArgumentError, match=r"`start` must lie in"):
        replace(RIVALS[name], start=(5.0, 0.5)).propose(History(SQUARE), 1, generator)
    with pytest.raises(ArgumentError, match=r"`start` must hold 2 numbers"):
        replace(RIVALS[name], start=(0.5,)).propose(History(SQUARE), 1, generator)
    with pytest.raises(ArgumentTypeError, match=r"needs a Box"):
        RIVALS[name].propose(History(Pool(SQUARE.sample(9, generator), ["a", "b"])), 1, generator)
    assert replace(RIVALS[name], start=(-1.0, 1.0)).recommend(History(SQUARE)).tolist() == [-1.0, 1.0]
    assert RIVALS[name].recommend(History(SQUARE)).tolist() == [0.5, 0.5]


@each
def test_settings_are_checked(name):
    with pytest.raises(ArgumentError, match="`repeats`"):
        replace(RIVALS[name], repeats=0)
    with pytest.raises(ArgumentTypeError, match="`objective`"):
        replace(RIVALS[name], objective=3.0)
    if hasattr(RIVALS[name], "start"):
        with pytest.raises(ArgumentTypeError, match="`start` must be a number, or a list of numbers, got 'ab'"):
            replace(RIVALS[name], start="ab").propose(History(SQUARE), 1, torch.Generator())


@each
def test_a_wrong_objective_is_told(name):
    strategy = replace(RIVALS[name], objective=lambda y: y)
    rows = strategy.propose(History(SQUARE), 2, torch.Generator().manual_seed(0)).theta
    history = History.from_tensors(SQUARE, rows, torch.ones(2, 2))
    if name in ("random", "improvement", "turbo"):
        with pytest.raises(ArgumentError, match=r"objective\(outcome\) must have shape"):
            strategy.recommend(history)
    with pytest.raises(ArgumentError, match=r"objective\(outcome\) must have shape"):
        study = Study(SQUARE, strategy)
        study.run(valley, trials=60, batch=20, progress=False)
        study.recommend()
