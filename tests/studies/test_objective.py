"""The objective of a history: shapes, inputs, rows that are not finite, and errors that say what is wrong."""

from dataclasses import replace

import pytest
import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.history import History
from studies.objective import evaluate_objective, objective_of
from studies.spaces.box import Box
from studies.stopping import NoImprovement
from studies.strategies.constrained import ConstrainedImprovement
from studies.strategies.local_descent import LocalDescent
from studies.strategies.noisy_improvement import NoisyExpectedImprovement
from studies.strategies.sobol import Sobol
from studies.study import Study

BOX = Box({"a": (0.0, 1.0)})
THETA = torch.tensor([[0.1], [0.2], [0.3]], dtype=torch.float64)


def history(outcome):
    return History.from_tensors(BOX, THETA, outcome)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_outcome_itself(shape, dtype):
    values = evaluate_objective(None, history(torch.arange(3, dtype=dtype).reshape(shape)))
    assert values.tolist() == [0.0, 1.0, 2.0] and values.dtype == torch.float64


def test_rows_that_are_not_finite_are_marked_and_the_others_kept():
    outcome = torch.tensor([[1.0], [torch.inf], [torch.nan]], requires_grad=True)
    values = evaluate_objective(lambda y: 2 * y, history(outcome))
    assert values[0] == 2 and values[1:].isnan().all() and not values.requires_grad


def test_penalties_whose_squares_overflow_mark_their_rows():
    values = evaluate_objective(None, history(torch.tensor([1e30, 1e300, -1e200], dtype=torch.float64)))
    assert values[0] == 1e30 and values[1:].isnan().all()


def test_without_trials_there_is_nothing_to_call():
    assert evaluate_objective(lambda y: 1 / 0, History(BOX)).shape == (0,)


def test_failed_and_pending_trials_are_no_rows():
    some = History.from_tensors(BOX, THETA[:1], torch.ones(1, 2), pending=THETA[1:2], failed=THETA[2:])
    assert evaluate_objective(lambda y: y.sum(-1), some).tolist() == [2.0]


@pytest.mark.parametrize(
    ("objective", "outcome", "message"),
    [
        (None, torch.ones(3, 2), r"the outcome must have shape \[3\] or \[3, 1\], got \[3, 2\].*Pass objective"),
        (lambda y: y.sum(), torch.ones(3, 2), r"objective\(outcome\) must have shape \[3\].*got \[\]"),
        (lambda y: y, torch.ones(3, 2), r"got \[3, 2\]"),
    ],
)
def test_a_wrong_shape_is_told(objective, outcome, message):
    with pytest.raises(ArgumentError, match=message):
        evaluate_objective(objective, history(outcome))


def test_a_wrong_type_is_told():
    with pytest.raises(ArgumentTypeError, match=r"must be a tensor.*float"):
        evaluate_objective(lambda y: 1.0, history(torch.ones(3, 2)))
    with pytest.raises(ArgumentTypeError, match=r"called objective\(outcome\)"):
        evaluate_objective(lambda y, x: y, history(torch.ones(3, 2)))
    with pytest.raises(TypeError, match="inside"):  # an error inside is the user's own

        def broken(y):
            raise TypeError("inside")

        evaluate_objective(broken, history(torch.ones(3, 2)))


def test_what_is_shown_of_a_strategy_is_its_objective_where_its_constraints_hold():
    seen = history(torch.tensor([[1.0, -1.0], [0.0, 2.0], [3.0, 0.0]]))
    strategy = ConstrainedImprovement(lambda y: y[:, 0], constraints=[lambda y: y[:, 1:], lambda y: y[:, 0] - 2])
    assert evaluate_objective(objective_of(strategy), seen).nan_to_num(nan=-9).tolist() == [1, -9, -9]
    plain = NoisyExpectedImprovement(lambda y: y[:, 0])
    assert objective_of(plain) is plain.objective and objective_of(Sobol()) is None


def test_a_constrained_study_has_not_improved_by_what_is_not_allowed():
    strategy = ConstrainedImprovement(lambda y: y[:, 0], constraints=[lambda y: y[:, 1]])
    outcomes = torch.tensor([[-5.0, 1.0], [3.0, -1.0], [2.0, -1.0]])
    seen = History.from_tensors(BOX, THETA, outcomes)
    seen = History(BOX, tuple(replace(trial, round=i) for i, trial in enumerate(seen.trials)))
    assert NoImprovement(1).reason(seen, strategy) is None
    assert NoImprovement(1, objective=lambda y: y[:, 0]).reason(seen, strategy)


def test_local_descent_minimises_a_chance():
    """How often y ~ N(theta - 0.7, 0.3^2) is outside of [-0.5, 0.5]: 0.096 at best, 0.75 at the start."""

    def simulator(theta, generator):
        return theta - 0.7 + 0.3 * torch.randn(theta.shape, dtype=theta.dtype, generator=generator)

    study = Study(BOX, LocalDescent(objective=lambda y: y[:, 0].abs() > 0.5, start=[0.0]), seed=0)
    study.run(simulator, trials=150, executor="here", progress=False)
    assert abs(float(study.recommend()) - 0.7) < 0.15
