"""Explicit symplectic solvers of separable Hamiltonians: leapfrog, and Yoshida's composition of fourth order."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields.base import VectorField
from diffsim.fields.hamiltonian import Hamiltonian, Separable

__all__ = ["COMPOSITION", "Splitting", "check_separable", "move"]

_W = 1 / (2 - 2 ** (1 / 3))
COMPOSITION = {"leapfrog": (1.0,), "yoshida4": (_W, 1 - 2 * _W, _W)}


def check_separable(field: VectorField, method: str) -> Separable:
    """The field, if an explicit symplectic method can solve it.

    Raises:
        ArgumentTypeError: It is no separable Hamiltonian.
        ArgumentError: It is one that adds to the canonical equations, such as friction.
    """
    if not isinstance(field, Separable):
        raise ArgumentTypeError(
            f"`field` must be Separable (an energy T(p) + V(q)) for {method!r}, got {type(field).__name__}. "
            "Use 'implicit_midpoint' for any other field."
        )
    if type(field).forward is not Hamiltonian.forward:
        raise ArgumentError(
            f"`field` must follow the canonical equations for {method!r}, but {type(field).__name__} has a `forward` "
            "of its own, which the method would not see. Use 'implicit_midpoint'."
        )
    return field


def move(
    field: Separable, q: Tensor, p: Tensor, drift: float | Tensor, kick: float | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Positions and momenta after a drift and a kick, and the force, each [..., k]."""
    q = q + drift * field.velocity(p)
    force = field.force(q)
    return q, p + kick * force, force


class Splitting:
    """Leapfrog steps (kick, drift, kick), or compositions of them; neighbouring kicks are merged.

    Args:
        field: A separable Hamiltonian.
        method: "leapfrog", of second order, or "yoshida4", of fourth.
        rate: The step, or the step of each trajectory, shape [..., 1].
        move: Takes a move; `move` of this module, or a compiled form of it.

    Source: Yoshida, 1990, Phys. Lett. A 150, 262, equations 2.11 and 4.1.
    """

    def __init__(
        self,
        field: Separable,
        method: str,
        rate: float | Tensor,
        move: Callable[..., tuple[Tensor, Tensor, Tensor]] = move,
    ) -> None:
        self.field = field
        self._arguments = field, method, rate
        self._move = move
        weights = COMPOSITION[method]
        self._half_kick = rate * (weights[0] / 2)
        self._moves = [
            (rate * drift, rate * ((drift + following) / 2)) for drift, following in pairwise((*weights, weights[0]))
        ]

    def reversed(self) -> "Splitting":
        """The same steps backward: each one undoes one of these but for rounding."""
        field, method, rate = self._arguments
        return Splitting(field, method, -rate, self._move)

    def advance(self, y: Tensor, first: int, last: int) -> Tensor:
        """The state at step number `last` from that at `first`."""
        q, p = y.chunk(2, dim=-1)
        f = self.field.force(q)
        p = p + self._half_kick * f
        for _ in range(last - first):
            for drift, kick in self._moves:
                q, p, f = self._move(self.field, q, p, drift, kick)
        # The last kick went on into the step that follows.
        return torch.cat([q, p - self._half_kick * f], dim=-1)
