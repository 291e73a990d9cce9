"""The choice between the native library and the plain path, and why."""

import functools
import logging
import warnings

from torch import Tensor

from diffsim.errors import ArgumentError
from diffsim.fields.base import VectorField
from diffsim.integrate.solver import SEPARABLE_METHODS, Solver
from diffsim.integrate.tableaux import ADAPTIVE_TABLEAUX, FIXED_TABLEAUX
from diffsim.native.library import BuildError, library
from diffsim.native.program import Program, UnknownFieldError, program

__all__ = ["backend_of", "native_evaluation", "native_program"]

_LOG = logging.getLogger("diffsim")


def backend_of(field: VectorField, y0: Tensor, solver: Solver = Solver()) -> str:
    """Which path `odeint` takes: "native", or "plain: " or "compiled: " and the reason.

    Args:
        field: The vector field.
        y0: Initial states, shape [..., d].
        solver: How it is solved.

    Raises:
        ArgumentError: The solver asks for the native library, which cannot solve this.
    """
    if solver.backend in ("plain", "compiled"):
        return f"{solver.backend}: the solver asks for it"
    try:
        _native(field, y0, solver)
    except (UnknownFieldError, BuildError) as error:
        _check_wanted(field, solver, error)
        return f"plain: {error}"
    return "native"


def native_program(field: VectorField, y0: Tensor, solver: Solver) -> Program | None:
    """The field's description for the native library; None where the plain path has to solve it.

    The choice is logged when it is new. That the library cannot be built is a warning, given once.

    Raises:
        ArgumentError: The solver asks for the native library, which cannot solve this.
    """
    if solver.backend in ("plain", "compiled"):
        return None
    try:
        described = _native(field, y0, solver)
    except UnknownFieldError as error:
        _check_wanted(field, solver, error)
        _tell(type(field).__name__, solver.method, f"plain: {error}")
        return None
    except BuildError as error:
        _check_wanted(field, solver, error)
        _warn(str(error))
        return None
    _tell(type(field).__name__, solver.method, "native")
    return described


def native_evaluation(field: VectorField, y: Tensor) -> Program | None:
    """The field's description for evaluations at states, shape [..., d]; None where the field itself has to be called.

    That the library cannot be built is a warning, given once.
    """
    try:
        described = program(field, y)
        library(y.dtype)
        return described
    except UnknownFieldError:
        return None
    except BuildError as error:
        _warn(str(error))
        return None


def _native(field: VectorField, y0: Tensor, solver: Solver) -> Program:
    if solver.method not in (*FIXED_TABLEAUX, *ADAPTIVE_TABLEAUX, *SEPARABLE_METHODS, "implicit_midpoint"):
        raise UnknownFieldError(f"{solver.method!r} is no method of the native library")
    described = program(field, y0)
    if solver.method in SEPARABLE_METHODS and len(described.networks) != 2:
        raise UnknownFieldError("the field is not made of a kinetic and a potential network")
    library(y0.dtype)
    return described


def _check_wanted(field: VectorField, solver: Solver, error: Exception) -> None:
    if solver.backend == "native":
        raise ArgumentError(
            f"`backend` must not be 'native' for this {type(field).__name__} and {solver.method!r}: {error}. "
            "Pass backend='auto'."
        ) from error


@functools.cache
def _tell(field: str, method: str, choice: str) -> None:
    _LOG.info("%s by %s: %s", field, method, choice)


@functools.cache
def _warn(reason: str) -> None:
    warnings.warn(
        f"diffsim solves without its native library, at a fraction of the speed: {reason}. "
        "Solver(..., backend='plain') does not look for it.",
        RuntimeWarning,
        stacklevel=4,
    )
