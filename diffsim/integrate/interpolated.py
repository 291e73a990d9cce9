"""The adjoint equation along the dense output of an adaptive solve, with its integrals by Gauss's rule."""

import dataclasses
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import Function, FunctionCtx

from diffsim.errors import IntegrationError
from diffsim.integrate.adaptive import REASONS, Stepper
from diffsim.integrate.constants import check_first_derivative, check_unchanged
from diffsim.integrate.dynamics import Dynamics
from diffsim.integrate.path import Path, Step
from diffsim.integrate.runge_kutta import interpolate

__all__ = ["interpolated"]

# Gauss's rule of order 6 on [0, 1]: the constants' gradients are integrals, not states.
_NODES = ((0.5 - 0.15**0.5, 5 / 18), (0.5, 8 / 18), (0.5 + 0.15**0.5, 5 / 18))


def interpolated(
    f: Dynamics, stepper: Stepper, path: Path, s: Tensor, y0: Tensor, constants: Sequence[Tensor]
) -> Tensor:
    """States of a path, shape [q, n, d]; backward the adjoint equation is solved with the path's dense output.

    Args:
        f: What was solved.
        stepper: The method, which solves the adjoint equation too.
        path: The accepted steps.
        s: Unit times of each trajectory, not decreasing along the first dimension, shape [q, n].
        y0: Initial states, shape [n, d].
        constants: Tensors of the field that need a gradient.

    Source: Kim, Ji, Deng, Ma and Rackauckas, 2021, arXiv 2103.15341, section 3 (interpolating adjoint); Norcliffe and
        Deisenroth, 2023, arXiv 2308.10644 (Gauss's rule).
    """
    return cast(Tensor, _Interpolated.apply(y0, _Adjoint(f, stepper, path, s), *constants))


class _Adjoint:
    def __init__(self, f: Dynamics, stepper: Stepper, path: Path, s: Tensor) -> None:
        self.f, self.path, self.s = f, path, s
        # Each call looks its trajectories' states up: it takes all of them.
        self.stepper = dataclasses.replace(stepper, compact=False)
        self._rows = torch.arange(len(path.y0), device=s.device)

    def states(self, s: Tensor) -> Tensor:
        """States of all trajectories at unit times of their own, shape [n] -> [n, d]."""
        return self.path.states(self.path.find(s, self._rows))

    def gradients(self, gradient: Tensor, constants: Sequence[Tensor]) -> list[Tensor]:
        """Gradients in the initial states, shape [n, d], and in each constant, from those in the states [q, n, d].

        The equation is linear: it is solved for gradients of size 1, whatever the scale of the loss.
        """
        scale = gradient.abs().amax((0, 2))
        if not torch.isfinite(scale).all():
            raise IntegrationError("The gradient that reaches the solve is not finite. Look for NaN in the loss.")
        scale = torch.where(scale > 0, scale, 1.0)[:, None]
        a, sums = torch.zeros_like(self.path.y0), [torch.zeros_like(c) for c in constants]
        ends = [self.path.begin * torch.ones_like(self.s[0]), *self.s]
        step = length = None
        for q in range(len(self.s) - 1, -1, -1):
            a = a + gradient[q] / scale
            if not a.any():
                continue
            end, stretch = ends[q + 1], ends[q + 1] - ends[q]
            if not stretch.any():
                continue
            first = None if step is None or length is None else (step * length / stretch).nan_to_num(1.0).clamp(max=1.0)
            way = self.stepper.run(lambda r, a, e=end, w=stretch: self._slope(e - r * w, a, w), a, first=first)
            if way.failed.any():
                reason = REASONS[int(way.failed.amax())].format(max_steps=self.stepper.max_steps)
                raise IntegrationError(f"The adjoint equation: {reason}. Pass gradient='checkpoint'.")
            step, length = way.following, stretch
            if constants:
                for piece in way.steps:
                    self._integrate(piece, end, stretch, scale, constants, sums)
            a = way.states(way.find(torch.ones_like(end), self._rows))
        return [a * scale, *sums]

    def _slope(self, s: Tensor, a: Tensor, stretch: Tensor) -> Tensor:
        with torch.enable_grad():
            y = self.states(s).requires_grad_(True)
            f = self.f(s, y)
            if not f.requires_grad:
                return torch.zeros_like(a)
            (product,) = torch.autograd.grad(f, y, a, allow_unused=True, materialize_grads=True)
        return product * stretch.to(a.dtype)[:, None]

    def _integrate(
        self, step: Step, end: Tensor, stretch: Tensor, scale: Tensor, constants: Sequence[Tensor], sums: list[Tensor]
    ) -> None:
        """Adds a step's part of the integrals."""
        times, states, weights = [], [], []
        for x, weight in _NODES:
            s = end - (step.s + x * step.h) * stretch
            a = interpolate(self.stepper.tableau, step.y, step.h, step.k, torch.full_like(step.h, x))
            times.append(s)
            states.append(self.states(s))
            weights.append(a * scale * (weight * step.h * stretch).to(a.dtype)[:, None])
        if self.f.rows == "any":
            times, states, weights = [torch.cat(times)], [torch.cat(states)], [torch.cat(weights)]
        for s, y, weight in zip(times, states, weights, strict=True):
            with torch.enable_grad():
                f = self.f(s, y)
            if f.requires_grad:
                found = torch.autograd.grad(f, constants, weight, allow_unused=True, materialize_grads=True)
                for total, part in zip(sums, found, strict=True):
                    total += part


class _Context(FunctionCtx):
    adjoint: _Adjoint
    saved_tensors: tuple[Tensor, ...]


class _Interpolated(Function):
    @staticmethod
    def forward(ctx: _Context, y0: Tensor, adjoint: _Adjoint, *constants: Tensor) -> Tensor:
        ctx.adjoint = adjoint
        ctx.save_for_backward(*constants)
        return torch.stack([adjoint.states(s) for s in adjoint.s])

    @staticmethod
    def backward(ctx: _Context, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        check_first_derivative("Pass gradient='backprop'.")
        constants = ctx.saved_tensors
        check_unchanged(ctx.adjoint.f.field, constants)
        y0, *rest = ctx.adjoint.gradients(gradients[0], constants)
        return (y0, None, *rest)
