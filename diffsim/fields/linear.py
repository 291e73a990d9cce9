"""Small linear systems of mechanics: mass matrices and constraints; an error or a regularisation where singular."""

import torch
from torch import Tensor

from diffsim.errors import ArgumentError

__all__ = ["solve_mass"]


def solve_mass(matrix: Tensor, rhs: Tensor, regularisation: float, message: str) -> Tensor:
    """X with matrix X = rhs for symmetric matrices, shapes [..., k, k] and [..., k, m] -> [..., k, m].

    With a regularisation e each eigenvalue s is inverted as s / (s^2 + e^2): its sign stays, its inverse is bounded
    by 1 / (2 e), and the error is of second order in e. That is the real part of the inverse of matrix + i e.

    Args:
        matrix: Symmetric, of any signature.
        rhs: Right-hand sides.
        regularisation: e, in the units of the matrix; 0 solves as it is.
        message: What is singular and how to mend it, for the error.

    Raises:
        ArgumentError: Without a regularisation: a matrix is singular to rounding.
    """
    if regularisation > 0:
        eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        return torch.linalg.solve(
            torch.complex(matrix, regularisation * eye.expand_as(matrix)), rhs.to(_complex(rhs))
        ).real
    factors, pivots, _ = torch.linalg.lu_factor_ex(matrix)
    pivot = factors.detach().diagonal(dim1=-2, dim2=-1).abs().amin(-1)
    tiny = 4 * torch.finfo(matrix.dtype).eps * matrix.detach().abs().amax((-2, -1))
    singular = pivot <= tiny
    if bool(singular.any()):
        count, total = int(singular.sum()), singular.numel()
        raise ArgumentError(f"{message.format(where=f'at {count} of {total} states')}")
    return torch.linalg.lu_solve(factors, pivots, rhs)


def _complex(x: Tensor) -> torch.dtype:
    return torch.complex128 if x.dtype == torch.float64 else torch.complex64
