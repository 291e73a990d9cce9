"""Solving differential equations: `Solver` says how, `odeint`, `solve`, `simulate` and `odeint_event` do it."""

from diffsim.integrate.event import Event, odeint_event
from diffsim.integrate.odeint import odeint, simulate
from diffsim.integrate.solution import Solution, solve
from diffsim.integrate.solver import Method, Solver

__all__ = ["Event", "Method", "Solution", "Solver", "odeint", "odeint_event", "simulate", "solve"]
