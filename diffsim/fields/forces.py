"""What acts on a mechanical system beside its energy: damping -D(q) v, and inputs."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields.matrices import MatrixOf, positive_semi_definite

__all__ = ["Dissipation", "Force", "Forces"]

Dissipation: TypeAlias = float | Tensor | Callable[[Tensor], Tensor]
"""Damping: a coefficient, a matrix [k, k], or a function of the positions [..., k] -> [..., k, k] (PositiveMatrix)."""

Force: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A generalised force of time, positions and velocities, [], [..., k], [..., k] -> [..., k], such as `Input`."""


class Forces(nn.Module):
    """The generalised force -D(q) v + input(t, q, v).

    Args:
        dissipation: D, positive semi-definite; None for none.
        input: None for none.

    Raises:
        ArgumentError: A constant damping is negative, or not positive semi-definite.
        ArgumentTypeError: Something else was given.
    """

    coefficient: Tensor | None

    def __init__(self, dissipation: Dissipation | None = None, input: Force | None = None) -> None:
        super().__init__()
        if input is not None and not callable(input):
            raise ArgumentTypeError(
                f"`input` must be a force(t, q, v), got {type(input).__name__}. Pass Input(u) or Input(u, matrix)."
            )
        if isinstance(dissipation, bool) or not (
            dissipation is None or callable(dissipation) or isinstance(dissipation, int | float | Tensor)
        ):
            raise ArgumentTypeError(
                f"`dissipation` must be a number, a matrix or a function, got {type(dissipation).__name__}."
            )
        self.input = input
        self.damping: MatrixOf | None = None
        coefficient = None
        if isinstance(dissipation, int | float) or (isinstance(dissipation, Tensor) and dissipation.ndim == 0):
            coefficient = (
                torch.as_tensor(dissipation, dtype=torch.float64)
                if isinstance(dissipation, int | float)
                else dissipation
            )
            if not bool(coefficient >= 0):
                raise ArgumentError(
                    f"`dissipation` must not be negative, got {float(coefficient)}: it would add energy."
                )
        elif isinstance(dissipation, Tensor):
            self.damping = MatrixOf(positive_semi_definite(dissipation, "dissipation"), "dissipation")
        elif dissipation is not None:
            self.damping = MatrixOf(dissipation, "dissipation")
        if isinstance(coefficient, nn.Parameter):
            self.coefficient = coefficient
        else:
            self.register_buffer("coefficient", coefficient)

    def forward(self, t: Tensor, q: Tensor, v: Tensor) -> Tensor:
        """The generalised force, [], [..., k], [..., k] -> [..., k]."""
        force = torch.zeros_like(v)
        if self.coefficient is not None:
            force = force - self.coefficient.to(v) * v
        if self.damping is not None:
            matrix = self.damping(q)
            if matrix.shape[-2:] != (v.shape[-1], v.shape[-1]):
                raise ArgumentError(
                    f"`dissipation` must have shape [..., {v.shape[-1]}, {v.shape[-1]}], got {list(matrix.shape)}."
                )
            force = force - (matrix @ v[..., None])[..., 0]
        if self.input is not None:
            given = self.input(t, q, v)
            pairs = zip(reversed(given.shape), reversed(v.shape), strict=False)
            if given.ndim > v.ndim or any(ours not in (1, theirs) for ours, theirs in pairs):
                raise ArgumentError(
                    f"`input` must give forces of shape {list(v.shape)}, got {list(given.shape)}. "
                    "An input of one run a row needs as many rows as there are states."
                )
            force = force + given
        return force
