"""The gest-api generator: VOCS as boxes, suggest and ingest, failures, foreign points, restarts."""

import copy
import math

import gest_api
import pytest
import torch
from gest_api.vocs import VOCS, ContextualVariable, ContinuousVariable

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.errors import ConflictError
from studies.interop.gest import Generator
from studies.interop.vocs import Problem
from studies.spaces.box import Box
from studies.spaces.parameters import Choice, Integer
from studies.strategies.noisy_improvement import NoisyExpectedImprovement
from studies.strategies.random import Random
from studies.strategies.random_search import RandomSearch
from studies.strategies.sobol import Sobol

PLAIN = VOCS(variables={"a": [0, 1], "b": [-1, 1]}, objectives={"f": "MINIMIZE"})
MIXED = VOCS(
    variables={"a": [0, 1], "n": {1, 2, 3}, "size": {0.5, 4.0, 1.0}, "kind": {"x", "y"}, "fixed": {7}},
    objectives={"f": "MAXIMIZE", "g": "EXPLORE"},
    constraints={"c": ["LESS_THAN", 1.0], "d": ["GREATER_THAN", 2.0], "e": ["BOUNDS", -1.0, 3.0]},
    constants={"alpha": 0.55},
    observables=["seen"],
)


def valued(points):
    return [{**point, "f": point["a"] ** 2 + point["b"]} for point in points]


def test_it_is_a_generator_of_the_standard():
    generator = Generator(PLAIN, Random())
    assert isinstance(generator, gest_api.Generator) and generator.returns_id and generator.finalize() is None


def test_suggested_points_are_those_of_a_study_with_that_seed():
    first, second, other = (Generator(PLAIN, Sobol(), seed=seed).suggest(3) for seed in (3, 3, 4))
    assert first == second != other
    assert [point["_id"] for point in first] == [0, 1, 2]
    assert all(type(point["a"]) is float and 0 <= point["a"] <= 1 <= point["b"] + 2 for point in first)


def test_the_strategy_sees_what_was_ingested_and_what_is_pending():
    generator = Generator(PLAIN, Random())
    points = generator.suggest(3)
    generator.ingest(valued(points[1:]))
    history = generator.study.history
    assert history.theta.tolist() == [[p["a"], p["b"]] for p in points[1:]]
    assert history.outcome.tolist() == [[p["a"] ** 2 + p["b"]] for p in points[1:]]
    assert history.pending.tolist() == [[points[0]["a"], points[0]["b"]]]


def test_the_generator_decides_how_many_where_the_host_does_not():
    assert len(Generator(PLAIN, Random()).suggest()) == 1
    assert len(Generator(PLAIN, RandomSearch(repeats=4)).suggest(None)) == 4
    with pytest.raises(ValueError, match="`n` must be"):
        Generator(PLAIN, Random()).suggest(0)


def test_variables_become_parameters_and_come_back_as_they_were():
    problem = Problem(MIXED)
    assert problem.box == Box(
        {"a": (0, 1), "n": Integer(1, 3), "size": Integer(0, 2), "kind": Choice("'x'", "'y'")},
    )
    points = Generator(MIXED, Random()).suggest(40)
    assert {point["n"] for point in points} == {1, 2, 3} and {point["size"] for point in points} == {0.5, 1.0, 4.0}
    assert {point["kind"] for point in points} == {"x", "y"}
    assert all(point["fixed"] == 7 and point["alpha"] == 0.55 for point in points)
    for point in points:
        again = problem.point(problem.row(point))
        assert again == {name: value for name, value in point.items() if name != "_id"}


def test_outputs_become_an_outcome_whose_columns_are_smaller_the_better():
    outcome = Problem(MIXED).outcome({"f": 5.0, "g": 2.0, "c": 3.0, "d": 2.5, "e": 0.0, "seen": "text"})
    assert outcome == [-5.0, 2.0, 2.0, -0.5, -1.0, -3.0]
    assert math.isnan(Problem(MIXED).outcome({"g": 1.0, "c": 0.0, "d": 0.0, "e": 0.0})[0])


def test_results_that_are_not_finite_are_failures_with_the_reason():
    generator = Generator(PLAIN, Random())
    points = generator.suggest(4)
    generator.ingest(
        [
            {**points[0], "f": math.nan},
            {**points[1]},
            {**points[2], "f": math.inf, "xopt_error": True, "xopt_error_str": "Traceback: no mesh"},
            {**points[3], "f": 1.0},
        ]
    )
    trials = generator.study.history.trials
    assert [trial.state for trial in trials] == ["failed"] * 3 + ["complete"]
    assert "nan" in trials[0].error and "None" in trials[1].error and trials[2].error == "Traceback: no mesh"


def test_points_that_were_not_suggested_are_learnt_from():
    generator = Generator(PLAIN, NoisyExpectedImprovement(initial=2))
    past = [{"a": a, "b": b, "f": (a - 0.3) ** 2 + b**2} for a in (0.0, 0.3, 1.0) for b in (-1.0, 0.0, 1.0)]
    generator.ingest([*past, {"a": 0.5, "b": 0.5, "f": math.nan}])
    history = generator.study.history
    assert len(history) == 9 and history.failed.tolist() == [[0.5, 0.5]] and set(history.info[0]) == {"imported"}
    best = generator.recommend()
    assert abs(best["a"] - 0.3) < 0.1 and abs(best["b"]) < 0.1


def test_a_point_without_its_number_is_found_by_its_values():
    generator = Generator(PLAIN, Random())
    points = [{name: point[name] for name in "ab"} for point in generator.suggest(2)]
    generator.ingest(valued([points[1], {"a": 0.25, "b": 0.25}]))
    assert [trial.state for trial in generator.study.history.trials] == ["pending", "complete", "complete"]


def test_numbers_of_numpy_and_marks_of_no_number_are_understood():
    generator = Generator(PLAIN, Random())
    generator.suggest(1)
    one = torch.tensor(1.0).numpy()[()]
    generator.ingest([{"a": one, "b": one, "f": one, "_id": math.nan}, {"a": 0.0, "b": 0.0, "f": 2.0, "_id": -1}])
    assert generator.study.history.outcome.tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize(
    "result, problem",
    [
        ({"a": 0.5, "f": 1.0}, "without"),
        ({"a": 2.0, "b": 0.0, "f": 1.0}, "'a' must lie from"),
        ({"a": 0.5, "b": 0.0, "f": 1.0, "_id": 7}, "unknown"),
        ({"a": 0.5, "b": 0.0, "f": 1.0, "_id": 0.5}, "unknown"),
    ],
)
def test_a_wrong_result_is_refused_and_nothing_is_taken(result, problem):
    generator = Generator(PLAIN, Random())
    [point] = generator.suggest(1)
    with pytest.raises(ValueError, match=problem):
        generator.ingest([*valued([point]), result])
    assert len(generator.study.history) == 0 and len(generator.study.history.trials) == 1


def test_a_result_counts_once():
    generator = Generator(PLAIN, Random())
    points = generator.suggest(2)
    results = [*valued(points[:1]), {**points[1], "f": math.nan}]
    generator.ingest(results)
    generator.ingest(results)
    assert len(generator.study.history.trials) == 2
    with pytest.raises(ConflictError, match="already"):
        generator.ingest([{**points[0], "f": 99.0}])
    with pytest.raises(ConflictError, match="already"):
        generator.ingest([{**point, "f": 0.0} for point in generator.suggest(1) * 2])


def test_a_host_that_was_killed_goes_on(tmp_path):
    url = f"sqlite:///{tmp_path}/runs.db"
    unbroken = Generator(PLAIN, NoisyExpectedImprovement(initial=3), seed=5)
    for _ in range(5):
        unbroken.ingest(valued(unbroken.suggest(1)))
    for _ in range(5):
        host = Generator(PLAIN, NoisyExpectedImprovement(initial=3), seed=5, storage=url)
        host.ingest(valued(host.suggest(1)))
    again = Generator(PLAIN, NoisyExpectedImprovement(initial=3), seed=5, storage=url)
    assert torch.equal(again.study.history.theta, unbroken.study.history.theta)


def test_a_copy_is_another_handle_of_the_same_study():
    generator = Generator(PLAIN, Random())
    held = copy.deepcopy(generator)  # as Xopt does
    held.ingest(valued(generator.suggest(1)))
    assert held is not generator and len(generator.study.history) == 1


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"objectives": {}}, "objective"),
        ({"variables": {"a": {3}}}, "more than one value"),
        ({"variables": {"a": ContextualVariable()}}, "contextual"),
        ({"variables": {"a": ContinuousVariable(domain=[0, math.inf])}}, "finite"),
        ({"variables": {"a": ContinuousVariable(domain=[0, 1], dtype=(float, 3))}}, "array"),
    ],
)
def test_a_problem_that_no_study_can_have_is_refused(changes, problem):
    with pytest.raises(ArgumentError, match=problem):
        Generator(VOCS(**{"variables": {"a": [0, 1]}, "objectives": {"f": "MINIMIZE"}} | changes), Random())


def test_something_else_than_a_problem_is_refused():
    with pytest.raises(ArgumentTypeError, match="VOCS"):
        Generator({"variables": {}}, Random())
