"""Solving differential equations: `Solver` says how, `odeint` and what is built on it do it."""

from diffsim.integrate.ensemble import odeint_ensemble
from diffsim.integrate.event import Event, odeint_event
from diffsim.integrate.odeint import odeint, simulate
from diffsim.integrate.solution import Solution, solve
from diffsim.integrate.solver import Method, Solver

__all__ = [
    "Event",
    "Method",
    "Solution",
    "Solver",
    "odeint",
    "odeint_ensemble",
    "odeint_event",
    "simulate",
    "solve",
]
