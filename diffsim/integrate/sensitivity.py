"""Runs with their sensitivities: how every state of a run moves with the weights of the field and the initial state."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from diffsim.fields.gaussian_process import FourierHamiltonian

__all__ = ["runge_kutta", "weight_sensitivity"]


def runge_kutta(slope: Callable[[Tensor], Tensor], y: Tensor, t: Tensor, step: float) -> Tensor:
    """The solution of dy/dt = slope(y) by the classical fourth-order method, in equal steps *between outputs*.

    Unlike `odeint`, whose steps are equal over the whole span, every output is the end of a step: states of the same
    run at the same times have the same error, whatever is integrated beside them.

    Args:
        slope: Maps [n, ...] to [n, ...].
        y: Initial values, shape [n, ...].
        t: Output times, shape [T], the first one that of `y`.
        step: Largest step.

    Returns:
        Values at the times, shape [n, T, ...].

    Source: Hairer, Noersett and Wanner, 1993, "Solving ordinary differential equations I", table 1.2.
    """
    values = [y]
    for interval in t.diff().tolist():
        n_steps = max(math.ceil(abs(interval) / step - 1e-9), 1)
        h = interval / n_steps
        for _ in range(n_steps):
            k1 = slope(y)
            k2 = slope(y + h / 2 * k1)
            k3 = slope(y + h / 2 * k2)
            k4 = slope(y + h * k3)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        values.append(y)
    return torch.stack(values, dim=1)


def weight_sensitivity(
    field: FourierHamiltonian, y0: Tensor, t: Tensor, *, step: float, theta: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Runs of a field that is linear in its weights w, with the tangent solutions dy/dw and dy/dy0.

    Solves the variational equation dS/dt = (df/dy) S + df/dw beside the state, by RK4 in equal steps between
    outputs. Differentiable in `y0` and `theta`. A run that diverges holds NaN or infinity from there on.

    Args:
        field: The field, with F weights.
        y0: Initial states, shape [n, d].
        t: Output times, shape [T], the first one that of `y0`; they may decrease.
        step: Largest step.
        theta: System parameters, shape [n, k], where the field depends on them.

    Returns:
        States [n, T, d], sensitivities in the weights [n, T, d, F] and in the initial state [n, T, d, d].

    Raises:
        ArgumentError: A shape is wrong, or `step` is not positive.

    Source: Hairer, Noersett and Wanner, 1993, "Solving ordinary differential equations I", section I.14.
    """
    if not step > 0:
        raise ArgumentError(f"`step` must be positive, got {step}.")
    if y0.ndim != 2:
        mend = " Pass y0[None] for one state." if y0.ndim == 1 else ""
        raise ArgumentError(f"`y0` must have shape [n, d], got {list(y0.shape)}.{mend}")
    if t.ndim != 1 or len(t) == 0:
        raise ArgumentError(f"`t` must have shape [T] with T >= 1, got {list(t.shape)}.")
    n, d = y0.shape
    n_weights = field.weights.shape[-1]

    def slope(state: Tensor) -> Tensor:
        y, s = state[..., 0], state[..., 1:]
        rate, jacobian, design = field.linearise(y, theta)
        return torch.cat([rate[..., None], jacobian @ s + torch.nn.functional.pad(design, (0, d))], dim=-1)

    start = torch.cat([y0[..., None], y0.new_zeros(n, d, n_weights), torch.eye(d).to(y0).expand(n, d, d)], dim=-1)
    states, weights, initial = runge_kutta(slope, start, t, step).split([1, n_weights, d], dim=-1)
    return states[..., 0], weights, initial
