"""The solution of an initial value problem, as states or as a `Trajectory`."""

import torch
from torch import Tensor

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, IntegrationError
from diffsim.fields.base import VectorField
from diffsim.integrate.checks import check_arguments, check_field
from diffsim.integrate.constants import constants
from diffsim.integrate.fast_path import FastPath
from diffsim.integrate.follow import follow
from diffsim.integrate.solve import InitialValueProblem
from diffsim.integrate.solver import SEPARABLE_METHODS, Solver
from diffsim.integrate.symplectic import check_separable
from diffsim.native.choose import native_program

__all__ = ["odeint", "simulate"]


def odeint(field: VectorField, y0: Tensor, t: Tensor, solver: Solver = Solver()) -> Tensor:
    """The solution of dy/dt = field(t, y), y(t[0]) = y0, at the times t.

    Gradients reach y0, t and every parameter and buffer of the field that requires one. Those in t are the field
    at the computed states. Without anything that requires a gradient no graph is built.

    Args:
        field: The vector field; it is also called once before the solve, for the checks.
        y0: Initial states, float32 or float64, shape [..., d].
        t: Times in the field's unit, increasing or decreasing, shape [T]; float64 times stay so beside
            float32 states, only the field gets each time in the states' dtype.
        solver: How to solve and how to differentiate.

    Returns:
        States at the times, shape [T, ..., d].

    Raises:
        ArgumentError: A wrong shape or value, or a constant that the gradient would miss.
        ArgumentTypeError: A wrong type or dtype.
        IntegrationError: The solution diverges, the step underflows, an implicit step does not converge, or
            `max_steps` is not enough.

    Example:
        >>> from diffsim.fields import FunctionField
        >>> decay = FunctionField(lambda t, y: -y)
        >>> odeint(decay, torch.ones(1), torch.tensor([0.0, 1.0]))
        tensor([[1.0000],
                [0.3679]])
    """
    check_arguments(field, y0, t, solver)
    known = constants(field) if torch.is_grad_enabled() else ()
    program = native_program(field, y0, solver)
    # A field that the native library knows needs no trial: it is made of the layers that its description names.
    slope = None if program is not None and not t.requires_grad else check_field(field, y0, t, known)
    if solver.method in SEPARABLE_METHODS:
        check_separable(field, solver.method)
    if len(t) == 1:
        return y0[None].clone()
    times = t.detach().double()
    problem = InitialValueProblem(field, solver, known, torch.finfo(t.dtype).eps)
    if program is not None:
        problem = FastPath(field, solver, known, problem.resolution, program, problem.solve)
    if not (torch.is_grad_enabled() and (y0.requires_grad or t.requires_grad or known)):
        with torch.no_grad():
            return problem.solve(y0, times)
    if slope is None or not t.requires_grad:
        return problem.solve(y0, times)
    started = follow(y0, t[:1], -slope[None])
    states = problem.solve(started, times)
    with torch.no_grad():
        slopes = torch.stack([field(s, y) for s, y in zip(t[1:].detach().to(y0.dtype), states[1:], strict=True)])
        slopes = slopes.nan_to_num(nan=0.0)  # of a diverged trajectory, which carries no gradient
    return torch.cat([y0[None], follow(states[1:], t[1:], slopes)])


def simulate(field: VectorField, y0: Tensor, t: Tensor, solver: Solver = Solver()) -> Trajectory:
    """The runs of a system from given initial states.

    Args:
        field: The vector field.
        y0: Initial states, shape [n, d].
        t: Times in the field's unit, increasing or decreasing, shape [T].
        solver: How to solve and how to differentiate.

    Returns:
        The runs; without a graph unless y0, t or a constant of the field requires a gradient.

    Raises:
        ArgumentError: A wrong shape or value.
        ArgumentTypeError: A wrong type or dtype.
        IntegrationError: The solve fails, or a run diverges: a `Trajectory` holds finite states only.

    Example:
        >>> from diffsim.systems import Pendulum
        >>> runs = simulate(Pendulum(), torch.tensor([[0.1, 0.0], [3.0, 0.0]]), torch.linspace(0, 3, 61))
        >>> runs.y.shape
        torch.Size([61, 2, 2])
    """
    if isinstance(y0, Tensor) and y0.ndim != 2:
        mend = " Pass y0[None] for one state." if y0.ndim == 1 else ""
        raise ArgumentError(f"`y0` must have shape [n, d], got {list(y0.shape)}.{mend}")
    y = odeint(field, y0, t, solver)
    diverged = (~torch.isfinite(y.detach()).all(-1).all(0)).nonzero().flatten().tolist()
    if diverged:
        raise IntegrationError(
            f"{len(diverged)} of {len(y0)} runs diverged (numbers {diverged[:8]}), and a Trajectory holds finite "
            "states only. Call odeint, whose states are NaN from there on, or drop these initial states."
        )
    return Trajectory(t=t, y=y)
