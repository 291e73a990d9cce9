"""Columns in units of their own mean and spread: the scaling that surrogates learn in, kept in their buffers."""

import torch
from torch import Tensor, nn

__all__ = ["Standardisation"]

_CONSTANT = 1e-12  # of a column's largest magnitude: below, its spread is rounding
_FLOOR = 1e-6  # scale of a constant outcome, in units of its magnitude, or of 1 where that is zero


class Standardisation(nn.Module):
    """An affine map of columns to mean 0 and spread 1.

    A column that does not vary in the data maps to 0 wherever it is evaluated, so that nothing depends on it; on the
    way back it has a tiny scale.

    Args:
        n: Number of columns.
    """

    shift: Tensor
    scale: Tensor
    inverse: Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(n, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(n, dtype=torch.float64))
        self.register_buffer("inverse", torch.ones(n, dtype=torch.float64))

    @torch.no_grad()
    def learn(self, columns: Tensor) -> None:
        """Take mean and spread from data, shape [n_rows, n]."""
        columns = columns.to(self.shift)
        size = columns.abs().amax(0)
        spread = columns.std(0, correction=0)
        varies = spread > _CONSTANT * size
        self.shift.copy_(columns.mean(0))
        self.scale.copy_(torch.where(varies, spread, _FLOOR * torch.where(size > 0, size, torch.ones_like(size))))
        self.inverse.copy_(torch.where(varies, 1 / self.scale, torch.zeros_like(spread)))

    def forward(self, columns: Tensor) -> Tensor:
        """Columns in standard units, shape [..., n]."""
        return (columns - self.shift.to(columns)) * self.inverse.to(columns)
