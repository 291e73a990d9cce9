"""Solving differential equations: `Solver` says how, `odeint` and `simulate` do it."""

from diffsim.integrate.odeint import odeint, simulate
from diffsim.integrate.solver import Method, Solver

__all__ = ["Method", "Solver", "odeint", "simulate"]
