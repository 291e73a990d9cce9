"""Runs with their sensitivities: how every state of a run moves with the weights of the field and the initial state."""

import math

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from diffsim.fields.gaussian_process import FourierHamiltonian

__all__ = ["weight_sensitivity"]


def weight_sensitivity(
    field: FourierHamiltonian, y0: Tensor, t: Tensor, *, step: float, theta: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Runs of a field that is linear in its weights w, with the tangent solutions dy/dw and dy/dy0.

    Solves the variational equation dS/dt = (df/dy) S + df/dw beside the state, by RK4 in equal steps between
    outputs. Differentiable in `y0` and `theta`. A run that diverges holds NaN from there on.

    Args:
        field: The field, with F weights.
        y0: Initial states, shape [n, d].
        t: Output times, shape [T], the first one that of `y0`.
        step: Largest step.
        theta: System parameters, shape [n, k], where the field depends on them.

    Returns:
        States [n, T, d], sensitivities in the weights [n, T, d, F] and in the initial state [n, T, d, d].

    Source: Hairer, Noersett and Wanner, 1993, "Solving ordinary differential equations I", section I.14.
    """
    if not step > 0:
        raise ArgumentError(f"`step` must be positive, got {step}.")
    zero = torch.zeros((), dtype=y0.dtype, device=y0.device)
    n, d = y0.shape
    n_weights = field.weights.shape[-1]

    def tangent(y: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        forcing = torch.nn.functional.pad(field.design(y, theta), (0, d))
        return field(zero, y, theta), field.jacobian(y, theta) @ s + forcing

    y = y0
    s = torch.cat([y0.new_zeros(n, d, n_weights), torch.eye(d).to(y0).expand(n, d, d)], dim=-1)
    states, sensitivities = [y], [s]
    for interval in t.diff().tolist():
        n_steps = max(math.ceil(abs(interval) / step - 1e-9), 1)
        h = interval / n_steps
        for _ in range(n_steps):
            ky1, ks1 = tangent(y, s)
            ky2, ks2 = tangent(y + h / 2 * ky1, s + h / 2 * ks1)
            ky3, ks3 = tangent(y + h / 2 * ky2, s + h / 2 * ks2)
            ky4, ks4 = tangent(y + h * ky3, s + h * ks3)
            y = y + h / 6 * (ky1 + 2 * ky2 + 2 * ky3 + ky4)
            s = s + h / 6 * (ks1 + 2 * ks2 + 2 * ks3 + ks4)
        states.append(y)
        sensitivities.append(s)
    stacked = torch.stack(sensitivities, dim=1)
    return torch.stack(states, dim=1), stacked[..., :n_weights], stacked[..., n_weights:]
