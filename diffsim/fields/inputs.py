"""Inputs u(t) of a system: functions of time or piecewise constant, and the matrix g(q) through which they act."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields.matrices import Matrix, MatrixOf

__all__ = ["Input", "PiecewiseConstant", "Signal", "column"]

Signal: TypeAlias = Tensor | Callable[[Tensor], Tensor]
"""A constant input, shape [m] or [n, m], or a function of time [..., 1] -> [..., m]."""


def column(t: Tensor, y: Tensor) -> Tensor:
    """Times of shape [] or [..., 1] as a column that broadcasts with states, in their dtype, shape [..., 1].

    Raises:
        ArgumentError: Another shape.
    """
    if t.ndim == 0:
        return t.to(y)[None]
    if t.shape[-1] != 1:
        raise ArgumentError(f"`t` must have shape [] or [..., 1], got {list(t.shape)}. Pass t[..., None].")
    return t.to(y)


class PiecewiseConstant(nn.Module):
    """An input that holds each value from its time to the next (zero-order hold), and the last one for ever.

    Solvers see the jumps as they are: let steps end on them (`step`, or one `odeint` for each piece); a method that
    evaluates the end of a step, such as RK4, meets the next value there.

    Args:
        t: Times at which the input changes, increasing, shape [K].
        u: Values from these times on, shape [K, m], or [K, n, m] with one input a run.

    Raises:
        ArgumentError: Shapes that do not fit, times out of order, values that are not finite; when called: a time
            before the first one.

    Example:
        >>> u = PiecewiseConstant(torch.tensor([0.0, 1.0]), torch.tensor([[2.0], [-2.0]]))
        >>> u(torch.tensor([0.5])), u(torch.tensor([1.0]))
        (tensor([2.]), tensor([-2.]))
    """

    t: Tensor
    u: Tensor

    def __init__(self, t: Tensor, u: Tensor) -> None:
        super().__init__()
        if t.ndim != 1 or len(t) == 0 or u.ndim < 2 or len(u) != len(t):
            mend = " Pass u[:, None] for one input." if u.ndim == 1 and len(u) == len(t) else ""
            raise ArgumentError(
                f"`t` must have shape [K] and `u` [K, m], one value from each time on, got {list(t.shape)} and "
                f"{list(u.shape)}.{mend}"
            )
        if not bool(torch.isfinite(t).all()) or not bool(torch.isfinite(u).all()):
            raise ArgumentError("`t` and `u` must be finite. Fill the missing times, say with the value before.")
        if not bool((t.diff() > 0).all()):
            raise ArgumentError("`t` must be strictly increasing. Sort the times and drop the repeated ones.")
        self.register_buffer("t", t)
        self.register_buffer("u", u)
        # Solvers compute times with rounding errors.
        self._first = float(t[0]) - 1e-6 * max(float(t[-1] - t[0]), abs(float(t[0])))

    def forward(self, t: Tensor) -> Tensor:
        """The input at times, [..., 1] -> [..., m]."""
        time = t.detach()
        if bool((time < self._first).any()):
            raise ArgumentError(
                f"`t` {float(time.amin()):.6g} lies before the first time {float(self.t[0]):.6g} of the input. "
                "Give the input from the start of the run on."
            )
        resolution = 1e-6 * (self.t[1:] - self.t[:-1]).amin() if len(self.t) > 1 else 0.0
        piece = torch.searchsorted(self.t, time[..., 0].to(self.t) + resolution, right=True) - 1
        return self.u[piece.clamp(min=0)]


class Input(nn.Module):
    """The generalised force g(q) u(t) of an input: what a field takes as its `input`.

    Args:
        u: A constant [m] or [n, m] (one a run), or a function of time, [..., 1] -> [..., m]: your own, a network,
            or `PiecewiseConstant`.
        matrix: g(q), shape [k, m], or a function of the positions, [..., k] -> [..., k, m]; None where the inputs
            are the generalised forces themselves.

    Raises:
        ArgumentTypeError: `u` is neither a tensor nor a function.
        ArgumentError: When called: the number of inputs fits neither the matrix nor the positions.

    Example:
        >>> drive = Input(lambda t: 0.39 * torch.cos(1.4 * t))
        >>> drive(torch.tensor(0.0), torch.zeros(3, 1), torch.zeros(3, 1)).shape
        torch.Size([1])
    """

    constant: Tensor | None

    def __init__(self, u: Signal, matrix: Matrix | None = None) -> None:
        super().__init__()
        if not isinstance(u, Tensor) and not callable(u):
            raise ArgumentTypeError(f"`u` must be a tensor or a function of time, got {type(u).__name__}.")
        self.signal = None if isinstance(u, Tensor) else u
        if isinstance(u, nn.Parameter):
            self.constant = u
        else:
            self.register_buffer("constant", u if isinstance(u, Tensor) else None)
        self.matrix = None if matrix is None else MatrixOf(matrix, "matrix")

    def forward(self, t: Tensor, q: Tensor, v: Tensor) -> Tensor:
        """The generalised force, [], [..., k], [..., k] -> [..., k] (or what broadcasts to it)."""
        u = self.signal(column(t, q)) if self.signal is not None else self.constant
        assert u is not None
        u = u.to(q)
        if u.ndim == 0:
            raise ArgumentError("`u` must have shape [..., m], got []. Pass u[None] for one input.")
        if self.matrix is None:
            if u.shape[-1] != q.shape[-1]:
                raise ArgumentError(
                    f"`u` has {u.shape[-1]} components for {q.shape[-1]} positions. Pass a `matrix` [k, m] that says "
                    "where the inputs act."
                )
            return u
        matrix = self.matrix(q)
        if matrix.shape[-2:] != (q.shape[-1], u.shape[-1]):
            raise ArgumentError(
                f"`matrix` must have shape [..., {q.shape[-1]}, {u.shape[-1]}] for {q.shape[-1]} positions and "
                f"{u.shape[-1]} inputs, got {list(matrix.shape)}."
            )
        return (matrix @ u[..., None])[..., 0]
