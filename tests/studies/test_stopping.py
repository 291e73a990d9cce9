"""Rules that end a study: budgets, no improvement, regret bounds, model errors."""

from dataclasses import replace

import pytest
import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.history import History, Trial
from studies.spaces.box import Box
from studies.spaces.pool import Pool
from studies.stopping import Budget, ModelError, NoImprovement, RegretBound, Stop
from studies.strategies.noisy_improvement import NoisyExpectedImprovement
from studies.strategies.random import Random
from studies.strategies.sobol import Sobol
from studies.study import Study

LINE = Box({"a": (0.0, 1.0)})
SQUARE = Box({"a": (-1.0, 2.0), "b": (0.0, 1.0)})


def row(number, round, value, state="complete", theta=None, seconds=None):
    theta = torch.tensor([number / 100 if theta is None else theta], dtype=torch.float64)
    outcome = torch.tensor([value], dtype=torch.float64) if state == "complete" else None
    return Trial(number, round, theta, state, outcome, seconds=seconds)


def history_of(*rows):
    return History(LINE, tuple(rows), ({},) * (1 + max((trial.round for trial in rows), default=-1)))


def bowl(theta):
    return (theta - torch.tensor([0.6, 0.3])).square().sum(-1)


@pytest.mark.parametrize("rule", [Budget(1.0), NoImprovement(2), RegretBound(0.1), ModelError(0.1, lambda _: 1.0)])
def test_rules_let_an_empty_history_go_on(rule):
    assert isinstance(rule, Stop)
    failed = row(1, 0, 0.0, "failed")
    for history in (history_of(), history_of(failed), history_of(failed, row(2, 1, 0.0, "pending"))):
        assert rule.reason(history, Random()) is None


def test_a_budget_counts_the_seconds_of_all_simulations():
    rows = [row(0, 0, 1.0, seconds=1.5), row(1, 0, 0.0, "failed", seconds=2.0), row(2, 1, 0.0, "pending")]
    assert Budget(3.6).reason(history_of(*rows), Random()) is None
    assert "3.5 s" in Budget(3.5).reason(history_of(*rows), Random())


def test_no_improvement_counts_finished_rounds_since_the_last_gain():
    values = [3.0, 2.0, 2.0, 1.9, 2.5]
    rows = [row(i, i, value) for i, value in enumerate(values)]
    reasons = [NoImprovement(2).reason(history_of(*rows[:n]), Random()) is not None for n in range(1, 6)]
    assert reasons == [False, False, False, False, False]
    assert NoImprovement(1).reason(history_of(*rows), Random())
    assert NoImprovement(2, tolerance=0.11).reason(history_of(*rows), Random())
    pending = (*rows, row(5, 4, 0.0, "pending"))  # its round is not finished: only the one before it counts
    assert NoImprovement(1).reason(history_of(*pending), Random()) is None


def test_a_lucky_draw_that_repetition_corrects_is_no_improvement():
    rows = [row(0, 0, 1.0), row(1, 1, 0.2, theta=0.5), row(2, 2, 1.9, theta=0.5)]
    assert NoImprovement(1).reason(history_of(*rows[:2]), Random()) is None
    assert NoImprovement(2).reason(history_of(*rows), Random())  # the best mean is still that of the first round


def test_the_objective_is_the_rule_s_own_or_the_strategy_s():
    rows = [replace(row(i, i, 0.0), outcome=torch.tensor([0.0, float(-i)])) for i in range(4)]
    first = NoisyExpectedImprovement(lambda y: y[:, 0])
    assert NoImprovement(2).reason(history_of(*rows), first)
    assert NoImprovement(2, objective=lambda y: y[:, 1]).reason(history_of(*rows), first) is None


def test_the_regret_bound_falls_and_holds():
    strategy, bounds = Sobol(), []
    history = Study(SQUARE, strategy, seed=3).run(lambda theta, _: bowl(theta), trials=24, batch=24, progress=False)
    for n in (10, 24):
        part = History(SQUARE, history.trials[:n], history.info)
        bound = RegretBound(1.0).bound(part, strategy)
        assert bound >= float(bowl(part.theta).min()) - 1e-6  # the smallest value there is, is 0
        bounds.append(bound)
    assert bounds[-1] < 0.5 * bounds[0]
    assert RegretBound(bounds[-1] * 1.01).reason(history, strategy).startswith("The regret is at most")
    assert RegretBound(bounds[-1] * 0.99).reason(history, strategy) is None
    assert RegretBound(1.0, least=25).bound(history, strategy) is None
    small = RegretBound(1.0, objective=lambda y: 2.0**-40 * y).bound(history, strategy)
    assert small == pytest.approx(2.0**-40 * bounds[-1], rel=1e-3)  # the unit changes nothing


def test_the_regret_bound_serves_a_pool_and_leaves_random_numbers_alone():
    pool = Pool(SQUARE.sample(40, torch.Generator().manual_seed(0)), ["a", "b"])
    history = History.from_tensors(pool, pool.candidates[:30], bowl(pool.candidates[:30]))
    before = torch.get_rng_state()
    bound = RegretBound(1.0).bound(history, Random())
    assert bound == RegretBound(1.0).bound(history, Random()) and torch.equal(before, torch.get_rng_state())
    assert 0 <= bound < 1


def test_a_model_error_below_its_target_ends_the_study():
    def measure(history):
        return 1 / len(history)

    history = Study(LINE, Sobol()).run(lambda theta, _: theta, trials=5, progress=False)
    assert ModelError(0.2, measure).reason(history, Sobol())
    assert ModelError(0.19, measure).reason(history, Sobol()) is None
    assert ModelError(0.2, lambda _: torch.tensor(torch.nan)).reason(history, Sobol()) is None


def test_settings_are_checked():
    for make in (
        lambda: Budget(0),
        lambda: Budget(float("inf")),
        lambda: NoImprovement(0),
        lambda: NoImprovement(2, tolerance=-1),
        lambda: RegretBound(0.0),
        lambda: RegretBound(0.1, least=1),
        lambda: RegretBound(0.1, beta=0.0),
        lambda: ModelError(-1, len),
    ):
        with pytest.raises(ArgumentError, match="must be"):
            make()
    with pytest.raises(ArgumentTypeError, match="`measure`"):
        ModelError(0.1, measure=0.3)
