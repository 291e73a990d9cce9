"""Stochastic test problems whose expected objective is known exactly."""

from surrogates.problems.boston import Boston91
from surrogates.problems.hump import Hump2, Hump40
from surrogates.problems.problem import HiddenInputs, Problem, hide_inputs
from surrogates.problems.rosenbrock import Rosenbrock10, Rosenbrock100

__all__ = [
    "Boston91",
    "HiddenInputs",
    "Hump2",
    "Hump40",
    "Problem",
    "Rosenbrock10",
    "Rosenbrock100",
    "hide_inputs",
]
