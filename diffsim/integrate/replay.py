"""Gradients of an adaptive solve's computed states: its accepted steps are taken again, their lengths held fixed."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx

from diffsim.integrate.constants import check_first_derivative, check_unchanged
from diffsim.integrate.dynamics import Dynamics
from diffsim.integrate.path import Path, Places, Step
from diffsim.integrate.runge_kutta import interpolate, stages

__all__ = ["replay", "unroll"]


def replay(f: Dynamics, path: Path, places: Places, y0: Tensor, constants: Sequence[Tensor]) -> Tensor:
    """States of a path at places, shape [q, d], that store no graph: backward each step is taken once more.

    Args:
        f: What was solved.
        path: Its accepted steps.
        places: Where the states are.
        y0: Initial states, shape [n, d].
        constants: Tensors of the field that need a gradient.
    """
    return cast(Tensor, _Replay.apply(y0, f, path, places, *constants))


def unroll(f: Dynamics, path: Path, places: Places, y0: Tensor) -> Tensor:
    """The same with the graph of all steps, which can be differentiated again."""
    y, states = y0, [y0[places.rows[places.step < 0]]]
    order = [(places.step < 0).nonzero()[:, 0]]
    for step, chosen in zip(path.steps, _by_step(path, places), strict=True):
        after, within = _again(f, path, step, y[step.rows], places, chosen)
        y = y.index_copy(0, step.rows, after)
        states.append(within)
        order.append(chosen)
    return torch.cat(states)[torch.cat(order).argsort()]


def _by_step(path: Path, places: Places) -> list[Tensor]:
    """Which of the places lie in each step."""
    counts = torch.bincount(places.step + 1, minlength=len(path.steps) + 1).tolist()
    return list(places.step.argsort(stable=True).split(counts))[1:]


def _again(f: Dynamics, path: Path, step: Step, y: Tensor, places: Places, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The state after a step, shape [m, d], and those of the chosen places within it."""
    k, after = stages(path.method, f, step.s, y, None, step.h, last=len(chosen) > 0)
    if not len(chosen):
        return after, y[:0]
    place = places.place[chosen]
    slopes = torch.stack(k)[:, place]
    return after, interpolate(path.method, y[place], step.h[place], slopes, places.x[chosen])


class _Context(FunctionCtx):
    f: Dynamics
    path: Path
    places: Places
    saved_tensors: tuple[Tensor, ...]


class _Replay(Function):
    @staticmethod
    def forward(ctx: _Context, y0: Tensor, f: Dynamics, path: Path, places: Places, *constants: Tensor) -> Tensor:
        ctx.f, ctx.path, ctx.places = f, path, places
        ctx.save_for_backward(*constants)
        return path.states(places)

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        check_first_derivative("Pass gradient='backprop'.")
        path, places, constants = ctx.path, ctx.places, ctx.saved_tensors
        check_unchanged(ctx.f.field, constants)
        (gradient,) = gradients
        before = places.step < 0
        a = torch.zeros_like(path.y0)
        sums = [torch.zeros_like(c) for c in constants]
        for step, chosen in zip(reversed(path.steps), reversed(_by_step(path, places)), strict=True):
            arriving = a[step.rows]
            if not (len(chosen) or arriving.any()):
                continue
            with torch.enable_grad():
                y = step.y.detach().requires_grad_(True)
                ends = _again(ctx.f, path, step, y, places, chosen)
                found = torch.autograd.grad(
                    ends, (y, *constants), (arriving, gradient[chosen]), allow_unused=True, materialize_grads=True
                )
            a[step.rows] = found[0]
            for total, part in zip(sums, found[1:], strict=True):
                total += part
        a.index_add_(0, places.rows[before], gradient[before])
        return (a, None, None, None, *sums)
