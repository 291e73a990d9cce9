"""One solve: the choice of the method, and what becomes of trajectories that diverge."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsim.fields.base import VectorField
from diffsim.integrate.failure import DivergenceError
from diffsim.integrate.grid import Grid
from diffsim.integrate.implicit_midpoint import ImplicitMidpoint
from diffsim.integrate.march import march
from diffsim.integrate.reference import Reference
from diffsim.integrate.solver import REFERENCE_METHODS, SEPARABLE_METHODS, Solver
from diffsim.integrate.symplectic import Splitting, check_separable

__all__ = ["solve"]


def solve(
    field: VectorField, y0: Tensor, times: Tensor, solver: Solver, known: Sequence[Tensor], resolution: float
) -> Tensor:
    try:
        states = _solve_all(field, y0, times, solver, known, resolution)
        _check_finite(states, times, solver)
    except DivergenceError:
        if solver.on_divergence == "raise":
            raise
    else:
        return states
    with torch.no_grad():
        states, alive = _solve_survivors(field, y0, times, solver, resolution)
    marked = torch.where(alive[..., None], states, torch.nan)
    survivors = alive[-1]
    if torch.is_grad_enabled() and survivors.any():
        # Once more with the graph: the diverged ones stand still, so that no NaN reaches the others' gradients.
        states = _solve_all(field, y0, times, solver, known, resolution, survivors)
        return torch.where(survivors[..., None], states, marked)
    return marked


def _solve_all(
    field: VectorField,
    y0: Tensor,
    times: Tensor,
    solver: Solver,
    known: Sequence[Tensor],
    resolution: float,
    moving: Tensor | None = None,
) -> Tensor:
    backprop = solver.gradient == "backprop"

    def rate(unit: float) -> float | Tensor:
        return unit if moving is None else unit * moving[..., None].to(y0)

    if solver.adaptive:
        start, span = float(times[0]), float(times[-1] - times[0])
        problem = Reference(field, solver, start, span, rate(span))
        return problem.solve(y0, (times - times[0]) / (times[-1] - times[0]), known, backprop=backprop)
    if solver.step is None:
        raise AssertionError("Solver has checked that a fixed-step method has a step")
    grid = Grid.over(times, solver.step, solver.max_steps, resolution)
    h = rate(grid.h)
    if solver.method in REFERENCE_METHODS:
        problem = Reference(field, solver, grid.start, grid.h, h)
        nodes = torch.tensor(grid.nodes, dtype=torch.float64, device=y0.device)
        states = problem.solve(y0, nodes, known, backprop=backprop)
    else:
        separable = solver.method in SEPARABLE_METHODS
        stepper = (
            Splitting(check_separable(field, solver.method), solver.method, h)
            if separable
            else ImplicitMidpoint(field, grid, h)
        )
        replay = not backprop and torch.is_grad_enabled()
        states = march(stepper, y0, grid.nodes, known, replay=replay)
    return grid.interpolate(field, states, h)


def _solve_survivors(
    field: VectorField, y0: Tensor, times: Tensor, solver: Solver, resolution: float, alive: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """States [T, ..., d] and whether each is good [T, ...]: a solve that stops goes on without those that stopped it."""
    moving = torch.ones(y0.shape[:-1], dtype=torch.bool, device=y0.device) if alive is None else alive
    states, good, start = [y0[None]], [moving[None]], 0
    while start < len(times) - 1:
        rest, y = times[start:], states[-1][-1]
        dead = torch.zeros_like(moving)
        try:
            piece = _solve_all(field, y, rest, solver, (), resolution, moving)
            mask = moving & torch.isfinite(piece).all(-1).cummin(0).values
        except DivergenceError as failure:
            direction = (rest[-1] - rest[0]).sign()
            before = min(max(int((direction * (rest - failure.time) < 0).sum()), 1), len(rest) - 1)
            if before > 1:
                piece, mask = _solve_survivors(field, y, rest[:before], solver, resolution, moving)
            else:
                piece, mask = y[None], moving[None]
            dead = failure.members & moving
            dead = dead if dead.any() else moving
        states.append(piece[1:])
        good.append(mask[1:])
        start += len(piece) - 1
        moving = mask[-1] & ~dead
        if not moving.any():
            remaining = len(times) - 1 - start
            states.append(states[0].expand(remaining, *y0.shape))
            good.append(moving.expand(remaining, *moving.shape))
            break
    return torch.cat(states), torch.cat(good)


def _check_finite(states: Tensor, times: Tensor, solver: Solver) -> None:
    finite = torch.isfinite(states).all(-1)
    if finite.all():
        return
    members = ~finite.all(0)
    first = int((~finite).reshape(len(times), -1).any(-1).nonzero()[0])
    raise DivergenceError(
        f"{solver.method} gave a state that is not finite at or before t = {float(times[first]):.6g}. "
        "Shorten `t`, pass a smaller `step`, or pass on_divergence='nan'.",
        float(times[first]),
        members,
    )
