"""A field in unit time on rows of states, each with a time of its own or all with one."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from diffsim.fields.base import VectorField

__all__ = ["Dynamics", "dynamics_of"]

Rows = Literal["any", "all", "together"]


class Dynamics:
    """The field as f(s, y), shapes [m], [m, d] -> [m, d], with s from 0 at `start` to 1 after `span`.

    Attributes:
        field: The vector field.
        start: Time at which s is 0.
        span: Length of s's unit, negative backward in time.
        shape: The states' batch shape.
        rows: Which rows a call takes: `any` of them, `all` of them, or all `together` at one time, the latest.
        evaluations: Number of calls so far.
    """

    def __init__(self, field: VectorField, start: float, span: float, shape: torch.Size, rows: Rows) -> None:
        self.field = field
        self.start = start
        self.span = span
        self.shape = shape
        self.rows: Rows = rows
        self.evaluations = 0

    def __call__(self, s: Tensor, y: Tensor) -> Tensor:
        """The derivative in unit time."""
        self.evaluations += 1
        if self.rows == "any":
            return self.field(self.times(s, y)[:, None], y) * self.span
        t = self.times(s.amax(), y) if self.rows == "together" else self.times(s, y).reshape(*self.shape, 1)
        return self.field(t, y.reshape(*self.shape, y.shape[-1])).reshape(y.shape) * self.span

    def times(self, s: Tensor, y: Tensor) -> Tensor:
        """The field's times in the states' dtype."""
        return (s * self.span + self.start).to(y.dtype)


@torch.no_grad()
def dynamics_of(field: VectorField, y0: Tensor, start: float, span: float, *, independent: bool) -> Dynamics:
    """The dynamics of initial states, shape [..., d]: of any rows where the field takes these, else of all.

    Raises:
        ArgumentError: Each row has its own time, and the field does not take these.
    """
    shape = y0.shape[:-1]
    if not independent:
        return Dynamics(field, start, span, shape, "together")
    for share in (0.0, 0.5):
        s = torch.full(shape, share, dtype=torch.float64, device=y0.device)
        together = Dynamics(field, start, span, shape, "together")(s, y0)
        if not _same(lambda s=s: Dynamics(field, start, span, shape, "all")(s, y0), together):
            raise ArgumentError(
                "`field` must take times of shape [..., 1] that broadcast against y where every trajectory has steps "
                f"of its own: at t of shape {[*shape, 1]} it does not return what it returns at t of shape []. "
                "Write it with t as a tensor, or pass independent=False."
            )
    # A field with a constant for each trajectory, or one that mixes them, has to be called with all of them.
    y = y0.reshape(-1, y0.shape[-1])
    some = torch.arange(len(y) - 1, -1, -1, device=y0.device)[: (len(y) + 1) // 2]
    at = torch.zeros(len(some), dtype=torch.float64, device=y0.device)
    whole = Dynamics(field, start, span, shape, "together")(at[:1], y0).reshape(y.shape)[some]
    free = _same(lambda: Dynamics(field, start, span, shape, "any")(at, y[some]), whole)
    return Dynamics(field, start, span, shape, "any" if free else "all")


def _same(call: Callable[[], Tensor], expected: Tensor) -> bool:
    try:
        found = call()
    except (RuntimeError, TypeError, ValueError, IndexError):
        return False
    close = 1e3 * torch.finfo(expected.dtype).eps * expected.abs().amax().nan_to_num()
    return found.shape == expected.shape and torch.allclose(found, expected, 0, float(close), equal_nan=True)
