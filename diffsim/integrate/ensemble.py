"""Initial value problems of several fields from the same initial states."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from diffsim.fields.base import VectorField
from diffsim.integrate.checks import check_arguments
from diffsim.integrate.constants import constants
from diffsim.integrate.fast_path import FastPath
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solve import InitialValueProblem
from diffsim.integrate.solver import Solver
from diffsim.native.choose import native_program
from diffsim.native.ensemble import solve_together
from diffsim.native.implicit import NotFoundError

__all__ = ["odeint_ensemble"]


def odeint_ensemble(fields: Sequence[VectorField], y0: Tensor, t: Tensor, solver: Solver = Solver()) -> Tensor:
    """The solutions by `odeint` of each field; one solve where all members are networks that the native library knows.

    Args:
        fields: The k members.
        y0: Initial states of all members, shape [..., d].
        t: Times, increasing or decreasing, shape [T].
        solver: How to solve and how to differentiate.

    Returns:
        States at the times, shape [k, T, ..., d].

    Raises:
        ArgumentError: There is no member, or what `odeint` refuses.
        ArgumentTypeError: What `odeint` refuses.
        IntegrationError: A member's solve fails.

    Example:
        >>> from diffsim.fields import NeuralField, mlp
        >>> members = [NeuralField(mlp(2, 2, (8,), seed=seed)) for seed in range(3)]
        >>> odeint_ensemble(members, torch.zeros(5, 2), torch.linspace(0, 1, 11)).shape
        torch.Size([3, 11, 5, 2])
    """
    if not fields:
        raise ArgumentError("`fields` must hold at least one member, got none.")
    together = None if len(fields) == 1 else _together(fields, y0, t, solver)
    return torch.stack([odeint(field, y0, t, solver) for field in fields]) if together is None else together


def _together(fields: Sequence[VectorField], y0: Tensor, t: Tensor, solver: Solver) -> Tensor | None:
    """The solutions by one native solve; None where members have to be solved for themselves."""
    check_arguments(fields[0], y0, t, solver)
    differentiated = torch.is_grad_enabled() and (t.requires_grad or any(constants(field) for field in fields))
    if differentiated or len(t) == 1:
        return None
    times, resolution = t.detach().double(), torch.finfo(t.dtype).eps
    paths: list[FastPath] = []
    for field in fields:
        program = native_program(field, y0, solver)
        if program is None:
            return None
        plain = InitialValueProblem(field, solver, (), resolution).solve
        paths.append(FastPath(field, solver, (), resolution, program, plain))
    method, grid = paths[0].method(times, len(paths))
    with torch.set_grad_enabled(torch.is_grad_enabled() and y0.requires_grad):
        try:
            states = solve_together([path.native(method, times) for path in paths], y0)
        except NotFoundError:
            return None
        if grid is not None and not grid.exact:
            states = torch.stack([grid.interpolate(f, run, grid.h) for f, run in zip(fields, states, strict=True)])
    return states if torch.isfinite(states.detach()).all() else None
