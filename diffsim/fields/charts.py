"""Coordinate charts: angles as (cos, sin), fields on such states, and the way between velocities and momenta."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError
from diffsim.fields.base import VectorField
from diffsim.fields.hamiltonian import split_state
from diffsim.fields.lagrangian import LagrangianField

__all__ = ["AngleFeatures", "EmbeddedField", "to_momenta"]


class AngleFeatures(nn.Module):
    """Angles as (cos, sin), other coordinates as they are: what a network should see of positions that wrap.

    Put before a network it makes a function of period 2 pi: `nn.Sequential(AngleFeatures(2, [0]), mlp(3, 1))`.

    Args:
        n: Number of coordinates.
        angles: Which of them are angles, rad; None for all.

    Raises:
        ArgumentError: An angle does not exist or is named twice.

    Example:
        >>> AngleFeatures(2, [1])(torch.tensor([3.0, 0.0]))  # the other coordinates, then cosines, then sines
        tensor([3., 1., 0.])
    """

    def __init__(self, n: int, angles: Sequence[int] | None = None) -> None:
        super().__init__()
        chosen = list(range(n)) if angles is None else list(angles)
        if len(set(chosen)) != len(chosen) or any(not 0 <= a < n for a in chosen):
            raise ArgumentError(f"`angles` must be different numbers from 0 to {n - 1}, got {chosen}.")
        self.n = n
        self.angles = chosen
        self.others = [i for i in range(n) if i not in chosen]

    @property
    def n_out(self) -> int:
        """Number of features."""
        return len(self.others) + 2 * len(self.angles)

    def forward(self, q: Tensor) -> Tensor:
        """The features, [..., n] -> [..., n + number of angles]: others, cosines, sines."""
        if q.ndim == 0 or q.shape[-1] != self.n:
            raise ArgumentError(f"`q` must have shape [..., {self.n}], got {list(q.shape)}.")
        angle = q[..., self.angles] if self.others else q
        return torch.cat([q[..., self.others], angle.cos(), angle.sin()], dim=-1)

    def pull(self, q: Tensor, gradient: Tensor) -> Tensor:
        """The gradient in q of a function of the features, from its gradient in them, [..., n_out] -> [..., n]."""
        m, k = len(self.others), len(self.angles)
        angle = q[..., self.angles] if self.others else q
        turn = gradient[..., m + k :] * angle.cos() - gradient[..., m : m + k] * angle.sin()
        order = [(self.others + self.angles).index(i) for i in range(self.n)]
        return torch.cat([gradient[..., :m], turn], dim=-1)[..., order]

    def inverse(self, x: Tensor) -> Tensor:
        """The coordinates, angles in (-pi, pi], [..., n + number of angles] -> [..., n]."""
        if x.ndim == 0 or x.shape[-1] != self.n_out:
            raise ArgumentError(f"`x` must have shape [..., {self.n_out}], got {list(x.shape)}.")
        m, k = len(self.others), len(self.angles)
        angle = torch.atan2(x[..., m + k :], x[..., m : m + k])
        parts = {**dict(zip(self.others, x[..., :m].unbind(-1), strict=True))}
        parts |= dict(zip(self.angles, angle.unbind(-1), strict=True))
        return torch.stack([parts[i] for i in range(self.n)], dim=-1)


class EmbeddedField(VectorField):
    """A field of (q, v) seen in the coordinates (others, cos, sin, v), as cameras and robots report them.

    The given field must be of period 2 pi in its angles (`AngleFeatures` before its networks) and have dq/dt = v.

    Args:
        field: A field on states (q, v), [..., 2n].
        chart: Which positions are angles.

    Source: Zhong, Dey and Chakraborty, 2020, arXiv 1909.12077, section 3.3.
    """

    def __init__(self, field: VectorField, chart: AngleFeatures) -> None:
        super().__init__()
        self.field = field
        self.chart = chart

    def embed(self, y: Tensor) -> Tensor:
        """States (q, v) in the chart, [..., 2n] -> [..., 2n + number of angles]."""
        q, v = split_state(y)
        return torch.cat([self.chart(q), v], dim=-1)

    def recover(self, x: Tensor) -> Tensor:
        """The inverse of `embed`, up to whole turns, [..., 2n + number of angles] -> [..., 2n]."""
        n = self.chart.n_out
        if x.shape[-1] != n + self.chart.n:
            raise ArgumentError(f"`y` must have shape [..., {n + self.chart.n}], got {list(x.shape)}.")
        return torch.cat([self.chart.inverse(x[..., :n]), x[..., n:]], dim=-1)

    def energy(self, x: Tensor) -> Tensor:
        """The energy of the field in the chart, [..., 2n + number of angles] -> [...]."""
        energy = getattr(self.field, "energy", None)
        if energy is None:
            raise ArgumentError(f"{type(self.field).__name__} has no energy.")
        return energy(self.recover(x))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        state = self.recover(y)
        rate, acceleration = self.field(t, state).chunk(2, dim=-1)
        m, k = len(self.chart.others), len(self.chart.angles)
        cos, sin = y[..., m : m + k], y[..., m + k : m + 2 * k]
        turn = rate[..., self.chart.angles]
        return torch.cat([rate[..., self.chart.others], -sin * turn, cos * turn, acceleration], dim=-1)


def to_momenta(field: LagrangianField, y: Tensor) -> Tensor:
    """States (q, v) as (q, p), p = dL/dv: the data that a Hamiltonian field needs, [..., 2k] -> [..., 2k]."""
    q, _ = split_state(y)
    return torch.cat([q, field.momentum(y)], dim=-1)
