"""A solution with its dense output and what each trajectory cost."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from diffsim.fields.base import VectorField
from diffsim.integrate.adaptive_problem import AdaptiveProblem
from diffsim.integrate.checks import check_arguments, check_field
from diffsim.integrate.constants import constants
from diffsim.integrate.follow import follow
from diffsim.integrate.path import Path
from diffsim.integrate.solver import DENSE_METHODS, Solver

__all__ = ["Solution", "check_dense", "solve"]


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """States at the times of a solve, and by a call at any times between the first and the last.

    Attributes:
        t: Times, shape [T].
        y: States, shape [T, ..., d]; NaN where a trajectory has failed and the solver goes on without it.
        steps: Accepted steps of each trajectory, shape [...].
        rejected: Steps of each trajectory that were taken again, shape [...].
        evaluations: Calls of the field, each with all trajectories that were still on their way.
    """

    t: Tensor
    y: Tensor
    steps: Tensor
    rejected: Tensor
    evaluations: int
    _problem: AdaptiveProblem = dataclasses.field(repr=False)
    _path: Path = dataclasses.field(repr=False)

    def __call__(self, t: Tensor) -> Tensor:
        """States at times, [Q] -> [Q, ..., d], or [] -> [..., d]; differentiable as `y` is, and in these times.

        Raises:
            ArgumentError: A time lies outside the span of the solve.
        """
        first, last = float(self.t.amin()), float(self.t.amax())
        slack = 1e-12 + 4 * torch.finfo(t.dtype).eps * max(abs(first), abs(last))
        if t.ndim > 1 or not ((t.detach() >= first - slack) & (t.detach() <= last + slack)).all():
            raise ArgumentError(
                f"`t` must have shape [] or [Q] and lie in [{first:.6g}, {last:.6g}], got {list(t.shape)} between "
                f"{float(t.amin()):.6g} and {float(t.amax()):.6g}. Solve over a longer span."
            )
        states = _states(self._problem, self._path, t.reshape(-1))
        return states[0] if t.ndim == 0 else states


def solve(field: VectorField, y0: Tensor, t: Tensor, solver: Solver = Solver(independent=True)) -> Solution:
    """The solution of dy/dt = field(t, y), y(t[0]) = y0, with dense output, by our own adaptive steps.

    The states are those of `odeint` with the plain backend; gradients reach y0, t and the constants of the field in
    the way that `solver.gradient` names.

    Args:
        field: The vector field; unless `solver.independent` is False it gets times of shape [..., 1].
        y0: Initial states, float32 or float64, shape [..., d].
        t: Increasing or decreasing times, shape [T] with T >= 2.
        solver: `dopri5`, `tsit5` or `bosh3`.

    Raises:
        ArgumentError: A wrong shape or value, a field that does not take a time for each trajectory, or a method
            without dense output.
        ArgumentTypeError: A wrong type or dtype.
        IntegrationError: The solution diverges, the step underflows, or `max_steps` is not enough.

    Example:
        >>> from diffsim.fields import FunctionField
        >>> rates = torch.tensor([[1.0], [50.0]])
        >>> decay = FunctionField(lambda t, y, rate: -rate * y, rate=rates)
        >>> solution = solve(decay, torch.ones(2, 1), torch.tensor([0.0, 1.0]))
        >>> bool(solution.steps[1] > 2 * solution.steps[0])
        True
        >>> solution(torch.tensor(0.5))[0]
        tensor([0.6065])

    Source: Hairer, Norsett and Wanner, 1993, Solving Ordinary Differential Equations I, sections II.4 to II.6.
    """
    check_arguments(field, y0, t, solver)
    check_dense(solver)
    if len(t) < 2:
        raise ArgumentError(f"`t` must have shape [T] with T >= 2, got {list(t.shape)}. Give the end of the span too.")
    known = constants(field) if torch.is_grad_enabled() else ()
    slope = check_field(field, y0, t, known)
    start = follow(y0[None], t[:1], -slope[None])[0] if torch.is_grad_enabled() and t.requires_grad else y0
    first, last = float(t[0].detach()), float(t[-1].detach())
    problem = AdaptiveProblem(field, solver, known, start, first, last)
    path = problem.path()
    steps, rejected = path.counts.reshape(2, *y0.shape[:-1])
    evaluations = problem.dynamics.evaluations
    return Solution(t, _states(problem, path, t), steps, rejected, evaluations, problem, path)


def check_dense(solver: Solver) -> None:
    """Refuses a method without dense output.

    Raises:
        ArgumentError: It has none.
    """
    if solver.method not in DENSE_METHODS:
        raise ArgumentError(
            f"`solver` must have a method with dense output ({', '.join(map(repr, DENSE_METHODS))}), got "
            f"{solver.method!r}. Call odeint, or pass Solver('tsit5')."
        )


def _states(problem: AdaptiveProblem, path: Path, t: Tensor) -> Tensor:
    states = problem.at(path, t.detach())
    if not (torch.is_grad_enabled() and t.requires_grad):
        return states
    with torch.no_grad():
        field = problem.dynamics.field
        slopes = torch.stack([field(s, y) for s, y in zip(t.detach().to(states.dtype), states, strict=True)])
    return follow(states, t, slopes.nan_to_num(nan=0.0))
