"""Holonomic constraints Phi(q) = 0: rods of fixed length and functions of your own, their Jacobians and their check."""

from collections.abc import Callable, Sequence
from numbers import Integral

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError

__all__ = ["Constraints", "Rods", "rows_of_jacobian"]


def rows_of_jacobian(values: Tensor, x: Tensor, create_graph: bool) -> Tensor:
    """The Jacobian of independent rows, values [..., c] of x [..., k] -> [..., c, k]."""
    if not values.requires_grad:
        return values.new_zeros(*values.shape, x.shape[-1])
    rows = [
        torch.autograd.grad(
            values[..., i].sum(), x, retain_graph=True, create_graph=create_graph, materialize_grads=True
        )[0]
        for i in range(values.shape[-1])
    ]
    return torch.stack(rows, dim=-2)


class Rods(nn.Module):
    """Rods of fixed length between particles, or between particles and fixed points: (|r|^2 - length^2) / 2 = 0.

    Args:
        pairs: The two ends of each rod: numbers of particles, or a particle and a fixed point (a sequence of
            coordinates).
        lengths: Of the rods, shape [c], positive.
        n: Number of particles.
        dimension: Of the space.

    Raises:
        ArgumentError: A length is not positive, a particle does not exist, or the counts differ.

    Example:
        >>> chain = Rods([(0, (0.0, 0.0)), (1, 0)], [1.0, 1.0], n=2)  # a double pendulum hung from the origin
        >>> chain(torch.tensor([0.0, -1.0, 1.0, -1.0]))
        tensor([0., 0.])
    """

    incidence: Tensor
    anchor: Tensor
    lengths: Tensor

    def __init__(
        self,
        pairs: Sequence[tuple[int, int | Sequence[float]]],
        lengths: Sequence[float] | Tensor,
        n: int,
        dimension: int = 2,
    ) -> None:
        super().__init__()
        length = torch.as_tensor(lengths, dtype=torch.float64)
        if length.shape != (len(pairs),) or not bool((length > 0).all()):
            raise ArgumentError(f"`lengths` must hold {len(pairs)} positive numbers, got {length.tolist()}.")
        incidence = torch.zeros(len(pairs), n, dtype=torch.float64)
        anchor = torch.zeros(len(pairs), dimension, dtype=torch.float64)
        for i, (a, b) in enumerate(pairs):
            ends = [a] if not isinstance(b, int) else [a, b]
            named = all(isinstance(end, int | Integral) and 0 <= end < n for end in ends)  # pyright: ignore
            if not named or len(set(ends)) < len(ends):
                raise ArgumentError(f"`pairs` must name two of {n} particles or one and a fixed point, got {(a, b)}.")
            incidence[i, a] = 1
            if isinstance(b, int):
                incidence[i, b] = -1
            elif len(b) != dimension:
                raise ArgumentError(f"`pairs`: the fixed point {tuple(b)} must have {dimension} coordinates.")
            else:
                anchor[i] = torch.as_tensor(b, dtype=torch.float64)
        self.register_buffer("incidence", incidence)
        self.register_buffer("anchor", anchor)
        self.register_buffer("lengths", length)

    def _rods(self, q: Tensor) -> Tensor:
        """The vectors along the rods, [..., n dimension] -> [..., c, dimension]."""
        n, dimension = self.incidence.shape[1], self.anchor.shape[1]
        if q.shape[-1] != n * dimension:
            raise ArgumentError(
                f"`q` must have shape [..., {n * dimension}]: {n} particles in {dimension} dimensions, got "
                f"{list(q.shape)}."
            )
        return self.incidence.to(q) @ q.unflatten(-1, (n, dimension)) - self.anchor.to(q)

    def forward(self, q: Tensor) -> Tensor:
        """Half the excess of the squared lengths, [..., n dimension] -> [..., c]."""
        return (self._rods(q).square().sum(-1) - self.lengths.to(q).square()) / 2

    def jacobian(self, q: Tensor) -> Tensor:
        """Its derivative, [..., n dimension] -> [..., c, n dimension]."""
        return (self.incidence.to(q)[:, :, None] * self._rods(q)[..., :, None, :]).flatten(-2)


class Constraints(nn.Module):
    """Constraints of a field, with their Jacobian and the check of a run's start.

    Args:
        function: Phi, maps positions [..., k] to [..., c]; a `jacobian` of its own is used where it has one.
        tolerance: Largest |Phi| and |dPhi/dt| at the start of a run.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], tolerance: float = 1e-3) -> None:
        super().__init__()
        if not tolerance > 0:
            raise ArgumentError(f"`tolerance` must be positive, got {tolerance}.")
        self.function = function
        self.tolerance = tolerance

    def jacobian(self, q: Tensor) -> Tensor:
        """The derivative of Phi in q, [..., k] -> [..., c, k]; differentiable again."""
        own = getattr(self.function, "jacobian", None)
        if own is not None:
            return own(q)
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            x = q if create_graph and q.requires_grad else q.detach().requires_grad_(True)
            return rows_of_jacobian(self.function(x), x, create_graph)

    def check(self, q: Tensor, v: Tensor) -> None:
        """Refuses positions and velocities that break the constraints.

        Raises:
            ArgumentError: |Phi(q)| or |dPhi/dq v| is above the tolerance.
        """
        with torch.no_grad():
            place = self.function(q).abs().amax(-1)
            speed = (self.jacobian(q) @ v[..., None])[..., 0].abs().amax(-1)
        for what, value, mend in (
            ("constraints", place, "the positions off the constraints"),
            ("velocities", speed, "velocities that leave them"),
        ):
            bad = ~(value <= self.tolerance)
            if bool(bad.any()):
                raise ArgumentError(
                    f"`y0` breaks the {what} in {int(bad.sum())} of {bad.numel()} states, by up to "
                    f"{float(value.amax()):.3g} (tolerance {self.tolerance:g}): {mend}. "
                    "Pass field.project(y0), or a larger `tolerance`."
                )

    @torch.no_grad()
    def project(self, q: Tensor, iterations: int = 50) -> Tensor:
        """The nearest positions (Gauss-Newton) that satisfy the constraints, [..., k] -> [..., k]."""
        for _ in range(iterations):
            value, jacobian = self.function(q), self.jacobian(q)
            if float(value.abs().amax()) <= 10 * torch.finfo(q.dtype).eps:
                break
            q = q - (torch.linalg.pinv(jacobian) @ value[..., None])[..., 0]
        return q
