"""Objectives written as formulas: what they are worth, and what they refuse."""

import pickle

import pytest
import torch

from diffsim.errors import ArgumentError
from studies.files.expression import Expression

NAMES = ("mass", "bend")
OUTCOME = torch.tensor([[2.0, 0.5], [1.0, 3.0], [4.0, -1.0]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mass", [2, 1, 4]),
        ("mass + 2 * bend", [3, 7, 2]),
        ("-mass ** 2 / 2", [-2, -0.5, -8]),
        ("max(0, bend - 1, mass - 3)", [0, 2, 1]),
        ("min(mass, bend)", [0.5, 1, -1]),
        ("abs(bend) + sqrt(mass * mass)", [2.5, 4, 5]),
        ("1e3", [1000, 1000, 1000]),
        ("log10(exp(mass)) * log(10)", [2, 1, 4]),
        ("sin(pi / 2) + 0 * mass", [1, 1, 1]),
        ("mean(mass)", [2, 1, 4]),
    ],
)
def test_formulas_of_columns(text, expected):
    value = Expression(text, NAMES)(OUTCOME)
    torch.testing.assert_close(value, torch.tensor(expected).double())


def test_formulas_of_one_output():
    runs = torch.tensor([[1.0, 2.0, 6.0], [0.0, 4.0, 2.0]])
    for text, expected in (("last(y)", [6, 2]), ("max(y) - mean(y)", [3, 2]), ("sum(y * y)", [41, 20])):
        torch.testing.assert_close(Expression(text, ("y",))(runs), torch.tensor(expected).double())
    assert Expression("2 * y", ("y",))(torch.ones(2, 1)).tolist() == [2, 2]
    assert Expression("2 * y", ("y",))(torch.ones(2)).tolist() == [2, 2]
    assert Expression("first(y)", ("y",))(torch.arange(8.0).reshape(2, 2, 2)).tolist() == [0, 4]
    with pytest.raises(ArgumentError, match=r"gives 3 numbers a trial. Reduce it"):
        Expression("y + 1", ("y",))(runs)


def test_numbers_that_grow_too_large_are_infinite_not_slow():
    assert Expression("9 ** 9 ** 9 ** 9", ("y",))(torch.ones(1)).tolist() == [torch.inf]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("mass +", "is no formula"),
        ("weight", r"names 'weight'; the outputs are \['mass', 'bend'\]"),
        ("__import__('os').system('true')", "no part of a formula"),
        ("mass.__class__", "no part of a formula"),
        ("(lambda: mass)()", "no part of a formula"),
        ("[x for x in mass]", "no part of a formula"),
        ("mass if bend else 1", "no part of a formula"),
        ("mass < 1", "no part of a formula"),
        ("'mass'", "no part of a formula"),
        ("True", "no part of a formula"),
        ("1e999", "no part of a formula"),
        ("eval(mass)", "calls 'eval'"),
        ("sqrt(mass, bend)", "calls 'sqrt' of 2"),
        ("max(*mass)", "no part of a formula"),
        ("max(mass, key=bend)", "no part of a formula"),
        ("-" * 1900 + "mass", "is no formula"),
        ("(" * 1900, "is no formula"),
        ("mass" + " + mass" * 1000, "may have 2000 characters"),
    ],
)
def test_what_is_no_formula_is_refused(text, problem):
    with pytest.raises(ArgumentError, match=problem):
        Expression(text, NAMES)


def test_other_outcomes_are_refused():
    with pytest.raises(ArgumentError, match="has 3 numbers a trial"):
        Expression("mass", NAMES)(torch.ones(2, 3))


def test_it_travels_and_its_repr_tells_it():
    expression = pickle.loads(pickle.dumps(Expression("mass", NAMES)))
    assert (
        expression == Expression("mass", NAMES)
        and repr(expression) == "Expression(text='mass', names=('mass', 'bend'))"
    )
