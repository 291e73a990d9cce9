"""Descriptions of methods and times for the native library, in its memory layout."""

import ctypes
import functools

from diffsim.integrate.tableaux import AdaptiveTableau, Tableau
from diffsim.native.memory import Memory

__all__ = [
    "EmbeddedSpec",
    "GridSpec",
    "MovesSpec",
    "OutputsSpec",
    "StepsSpec",
    "TableauSpec",
    "estimates",
    "grid_spec",
    "tableau_spec",
]


class GridSpec(ctypes.Structure):
    """A uniform grid: first time, signed step and step numbers."""

    _fields_ = (
        ("start", ctypes.c_double),
        ("step", ctypes.c_double),
        ("n_nodes", ctypes.c_int32),
        ("nodes", ctypes.c_void_p),
    )


class TableauSpec(ctypes.Structure):
    """The coefficients of an explicit Runge-Kutta method."""

    _fields_ = (
        ("stages", ctypes.c_int32),
        ("a", ctypes.c_void_p),
        ("b", ctypes.c_void_p),
        ("c", ctypes.c_void_p),
    )


class MovesSpec(ctypes.Structure):
    """The drifts and kicks of a step, in steps."""

    _fields_ = (
        ("n", ctypes.c_int32),
        ("drifts", ctypes.c_void_p),
        ("kicks", ctypes.c_void_p),
        ("half_kick", ctypes.c_double),
    )


class EmbeddedSpec(ctypes.Structure):
    """An adaptive method with its tolerances."""

    _fields_ = (
        ("tableau", TableauSpec),
        ("order", ctypes.c_int32),
        ("error", ctypes.c_void_p),
        ("dense", ctypes.c_void_p),
        ("rtol", ctypes.c_double),
        ("atol", ctypes.c_double),
        ("max_steps", ctypes.c_int64),
    )


class OutputsSpec(ctypes.Structure):
    """Output times, as distances from the first one in the direction of time."""

    _fields_ = (
        ("start", ctypes.c_double),
        ("sign", ctypes.c_double),
        ("n", ctypes.c_int32),
        ("at", ctypes.c_void_p),
    )


class StepsSpec(ctypes.Structure):
    """The accepted steps of all trajectories."""

    _fields_ = (
        ("offsets", ctypes.c_void_p),
        ("begins", ctypes.c_void_p),
        ("lengths", ctypes.c_void_p),
        ("states", ctypes.c_void_p),
    )


def tableau_spec(tableau: Tableau, memory: Memory) -> TableauSpec:
    """The description of a tableau."""
    return TableauSpec(len(tableau.b), *(memory.doubles(x) for x in _coefficients(tableau)))


@functools.cache
def _coefficients(tableau: Tableau) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(x.ravel().tolist()) for x in (tableau.a, tableau.b, tableau.c))


@functools.cache
def estimates(tableau: AdaptiveTableau) -> tuple[tuple[float, ...], ...]:
    """The numbers of an adaptive method's error estimate and of its dense output, row by row."""
    return tuple(tuple(x.ravel().tolist()) for x in (tableau.error, tableau.dense))


def grid_spec(start: float, step: float, nodes: tuple[int, ...], memory: Memory) -> GridSpec:
    """The description of a grid."""
    return GridSpec(start, step, len(nodes), memory.integers(nodes))
