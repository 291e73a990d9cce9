"""Matrices as functions of the state, positive semi-definite or antisymmetric by construction, given or learned."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError, ArgumentTypeError

__all__ = [
    "AntisymmetricMatrix",
    "Matrix",
    "MatrixOf",
    "PositiveMatrix",
    "canonical_structure",
    "positive_semi_definite",
]

Matrix: TypeAlias = Tensor | Callable[[Tensor], Tensor]
"""A matrix [..., a, b], or a function (a network, say) of positions or states that returns one."""


class MatrixOf(nn.Module):
    """A given matrix, constant or a function, in the dtype and on the device of what it is asked for.

    Args:
        matrix: Shape [a, b] (or [n, a, b], one a state), or a function [..., k] -> [..., a, b].
        name: Of the argument, for messages.
    """

    constant: Tensor | None

    def __init__(self, matrix: Matrix, name: str = "matrix") -> None:
        super().__init__()
        self._name = name
        self.function = None if isinstance(matrix, Tensor) else matrix
        if isinstance(matrix, nn.Parameter):
            self.constant = matrix
        else:
            self.register_buffer("constant", matrix if isinstance(matrix, Tensor) else None)
        if not isinstance(matrix, Tensor) and not callable(matrix):
            raise ArgumentTypeError(f"`{name}` must be a tensor or a function, got {type(matrix).__name__}.")

    def forward(self, x: Tensor) -> Tensor:
        """The matrix at x, [..., k] -> [..., a, b]."""
        value = self.function(x) if self.function is not None else self.constant
        if not isinstance(value, Tensor) or value.ndim < 2:
            shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ArgumentError(f"`{self._name}` must give a matrix [..., a, b], got {shape}.")
        return value.to(x)


def positive_semi_definite(matrix: Tensor, name: str) -> Tensor:
    """The matrix, if it is symmetric and has no negative eigenvalue.

    Raises:
        ArgumentError: It is not.
    """
    value = matrix.detach().double()
    if value.ndim < 2 or value.shape[-1] != value.shape[-2]:
        raise ArgumentError(f"`{name}` must be a square matrix [k, k], got {list(value.shape)}.")
    scale = float(value.abs().amax()) or 1.0
    if float((value - value.mT).abs().amax()) > 1e-6 * scale:
        raise ArgumentError(f"`{name}` must be symmetric. What is antisymmetric belongs to the structure.")
    if float(torch.linalg.eigvalsh(value).amin()) < -1e-6 * scale:
        raise ArgumentError(f"`{name}` must be positive semi-definite: it would add energy. Pass an input for that.")
    return matrix


def canonical_structure(k: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """The matrix J = [[0, I], [-I, 0]] of the canonical equations dy/dt = J grad H, shape [2k, 2k]."""
    eye, zero = torch.eye(k, dtype=dtype), torch.zeros(k, k, dtype=dtype)
    return torch.cat([torch.cat([zero, eye], 1), torch.cat([-eye, zero], 1)])


class _Entries(nn.Module):
    """The independent entries of a matrix: learned constants, or the outputs of a network."""

    rows: Tensor
    columns: Tensor

    def __init__(self, size: int, n: int, index: Tensor, net: Callable[[Tensor], Tensor] | None, start: Tensor) -> None:
        super().__init__()
        if size < 1:
            raise ArgumentError(f"`size` must be at least 1, got {size}.")
        self.size = size
        self.n = n
        self.net = net
        self.entries = nn.Parameter(start) if net is None else None
        self.register_buffer("rows", index[0])
        self.register_buffer("columns", index[1])

    def triangle(self, x: Tensor) -> Tensor:
        """The entries in their places, zero elsewhere, [..., k] -> [..., size, size]."""
        entries = self.net(x) if self.net is not None else self.entries
        assert entries is not None
        if entries.shape[-1] != self.n:
            raise ArgumentError(
                f"`net` must have {self.n} outputs for a matrix of size {self.size}, got {entries.shape[-1]}."
            )
        matrix = entries.new_zeros(*entries.shape[:-1], self.size, self.size)
        matrix[..., self.rows, self.columns] = entries
        return matrix.to(x)


class PositiveMatrix(_Entries):
    """A symmetric matrix L L^T + floor I with a lower-triangular L: a mass matrix or a damping, whatever the weights.

    Args:
        size: Number k of rows.
        net: Maps [..., d] to the k (k + 1) / 2 entries of L; None learns a constant matrix, from half of I on.
        floor: Least eigenvalue; above zero for mass matrices.

    Raises:
        ArgumentError: The size is not positive, the floor negative, or the network has another number of outputs.

    Source: Zhong, Dey and Chakraborty, 2020, arXiv 1909.12077, section 3.4; Lutter, Ritter and Peters, 2019,
        arXiv 1907.04490, section 4.1.

    Example:
        >>> PositiveMatrix(2, floor=0.1)(torch.zeros(3, 2)).shape
        torch.Size([2, 2])
    """

    def __init__(self, size: int, net: Callable[[Tensor], Tensor] | None = None, *, floor: float = 0.0) -> None:
        index = torch.tril_indices(max(size, 1), max(size, 1))
        start = (index[0] == index[1]) * 0.5**0.5
        super().__init__(size, index.shape[1], index, net, start.to(torch.get_default_dtype()))
        if floor < 0:
            raise ArgumentError(f"`floor` must not be negative, got {floor}.")
        self.floor = floor

    def forward(self, x: Tensor) -> Tensor:
        """The matrix at x, [..., d] -> [..., k, k]."""
        lower = self.triangle(x)
        square = lower @ lower.mT
        return square + self.floor * torch.eye(self.size, dtype=x.dtype, device=x.device) if self.floor else square


class AntisymmetricMatrix(_Entries):
    """A matrix A - A^T: the conservative part of a flow, whatever the weights.

    Args:
        size: Number d of rows.
        net: Maps [..., d] to the d (d - 1) / 2 entries above the diagonal; None learns a constant matrix.

    Raises:
        ArgumentError: The size is not positive, or the network has another number of outputs.
    """

    def __init__(self, size: int, net: Callable[[Tensor], Tensor] | None = None) -> None:
        index = torch.triu_indices(max(size, 1), max(size, 1), 1)
        super().__init__(size, index.shape[1], index, net, torch.full((index.shape[1],), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        """The matrix at x, [..., d] -> [..., d, d]."""
        upper = self.triangle(x)
        return upper - upper.mT
