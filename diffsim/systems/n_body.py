"""Bodies under their mutual gravity, in any number and any spatial dimension, and the usual small configurations."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from diffsim.fields.hamiltonian import Separable
from diffsim.systems.constants import Constant, match, register_nonnegative, register_positive

__all__ = ["NBody", "bodies_first", "coordinates_first", "figure_eight"]


class NBody(Separable):
    """N bodies that attract each other, H = sum_i p_i^2 / (2 m_i) - sum_{i<j} G m_i m_j / sqrt(r_ij^2 + softening^2).

    The state is (q, p), body after body: in the plane (x1, y1, x2, y2, ..., px1, py1, px2, py2, ...), with
    momenta p_i = m_i dq_i/dt. Published data with all x before all y are converted by `bodies_first`.

    Args:
        masses: Shape [N], or [n, N] for one row a state; kg, or without dimensions.
        dimension: Of the space.
        gravitation: The constant G; 6.6743e-11 m^3 / (kg s^2) in SI units.
        softening: Length below which the attraction is weakened (Plummer); 0 for points.

    Raises:
        ArgumentError: A mass is not positive, fewer than two bodies, or the softening is negative.

    Source: Binney and Tremaine, Galactic Dynamics, 2nd edition, 2008, sections 2.9.1 and 3.4.

    Example:
        >>> pair = NBody([1.0, 1.0])
        >>> pair.energy(torch.tensor([-1.0, 0.0, 1.0, 0.0, 0.0, 0.5, 0.0, -0.5]))
        tensor(-0.2500)
    """

    masses: Tensor
    gravitation: Tensor
    softening: Tensor
    incidence: Tensor
    first: Tensor
    second: Tensor

    def __init__(
        self,
        masses: Sequence[float] | Tensor = (1.0, 1.0),
        dimension: int = 2,
        gravitation: Constant = 1.0,
        softening: Constant = 0.0,
    ) -> None:
        super().__init__()
        register_positive(self, masses=masses, gravitation=gravitation)
        register_nonnegative(self, softening=softening)
        if self.masses.ndim == 0 or self.masses.shape[-1] < 2:
            raise ArgumentError(f"`masses` must have shape [N] with N >= 2, got {list(self.masses.shape)}.")
        if dimension < 1:
            raise ArgumentError(f"`dimension` must be at least 1, got {dimension}.")
        self.dimension = dimension
        self.n_bodies = self.masses.shape[-1]
        first, second = torch.triu_indices(self.n_bodies, self.n_bodies, offset=1)
        eye = torch.eye(self.n_bodies, dtype=torch.float64)
        # Its transpose takes positions to q_i - q_j of each pair; it adds equal and opposite forces to the two bodies.
        incidence = torch.kron(eye[first] - eye[second], torch.eye(dimension, dtype=torch.float64))
        self.register_buffer("incidence", incidence, persistent=False)
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("second", second, persistent=False)

    def _masses(self, x: Tensor) -> Tensor:
        size = self.n_bodies * self.dimension
        if x.ndim == 0 or x.shape[-1] != size:
            raise ArgumentError(
                f"The state must have shape [..., {2 * size}]: positions of {self.n_bodies} bodies in "
                f"{self.dimension} dimensions, then momenta, got {list(x.shape[:-1])} + [{2 * x.shape[-1]}]."
            )
        (masses,) = match(x[..., :: self.dimension], masses=self.masses)
        return masses

    def _pairs(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Strengths G m_i m_j [..., pairs], displacements [..., pairs, dimension], softened distances [..., pairs]."""
        masses = self._masses(q)
        gravitation, softening = match(q[..., :1], gravitation=self.gravitation, softening=self.softening)
        displacement = (q @ self.incidence.to(q).T).unflatten(-1, (-1, self.dimension))
        distance = (displacement.square().sum(-1) + softening.square()).sqrt()
        strength = gravitation * masses.index_select(-1, self.first) * masses.index_select(-1, self.second)
        return strength, displacement, distance

    def kinetic(self, p: Tensor) -> Tensor:
        return (self.velocity(p) * p / 2).sum(-1)

    def potential(self, q: Tensor) -> Tensor:
        strength, _, distance = self._pairs(q)
        return -(strength / distance).sum(-1)

    def velocity(self, p: Tensor) -> Tensor:
        return (p.unflatten(-1, (-1, self.dimension)) / self._masses(p).unsqueeze(-1)).flatten(-2)

    def force(self, q: Tensor) -> Tensor:
        strength, displacement, distance = self._pairs(q)
        pull = (strength / distance**3).unsqueeze(-1) * displacement
        return -pull.flatten(-2) @ self.incidence.to(q)


def _check_dimension(y: Tensor, dimension: int) -> None:
    if dimension < 1 or y.ndim == 0 or y.shape[-1] % (2 * dimension):
        raise ArgumentError(
            f"`y` must have shape [..., 2 N `dimension`] with `dimension` {dimension}, got {list(y.shape)}."
        )


def bodies_first(y: Tensor, dimension: int = 2) -> Tensor:
    """States (x1, x2, ..., y1, y2, ..., vx1, vx2, ..., vy1, ...) in the order of `NBody`, (x1, y1, x2, y2, ...).

    The HNN paper's code writes its two- and three-body states so (with unit masses, so that v = p).

    Args:
        y: Shape [..., 2 N dimension].
        dimension: Of the space.

    Raises:
        ArgumentError: The size of the state is no multiple of 2 dimension.

    Example:
        >>> bodies_first(torch.tensor([1, 2, 10, 20, 3, 4, 30, 40]))
        tensor([ 1, 10,  2, 20,  3, 30,  4, 40])
    """
    _check_dimension(y, dimension)
    return y.unflatten(-1, (2, dimension, -1)).transpose(-1, -2).flatten(-3)


def coordinates_first(y: Tensor, dimension: int = 2) -> Tensor:
    """The inverse of `bodies_first`: all x, then all y, as in the HNN paper's code.

    Args:
        y: Shape [..., 2 N dimension].
        dimension: Of the space.

    Raises:
        ArgumentError: The size of the state is no multiple of 2 dimension.
    """
    _check_dimension(y, dimension)
    return y.unflatten(-1, (2, -1, dimension)).transpose(-1, -2).flatten(-3)


def figure_eight() -> Tensor:
    """The state of three equal masses that chase each other on a figure eight; G = m = 1, period 6.32591398.

    Returns:
        Shape [12], float64; the order of `NBody`.

    Source: Chenciner and Montgomery, 2000, Annals of Mathematics 152, 881 (initial state by C. Simo).
    """
    q = torch.tensor([0.97000436, -0.24308753], dtype=torch.float64)
    v = torch.tensor([-0.93240737, -0.86473146], dtype=torch.float64)
    return torch.cat([q, -q, torch.zeros_like(q), -v / 2, -v / 2, v])
