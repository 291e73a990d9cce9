"""The Henon-Heiles system: a star in the plane of a galaxy, the standard two-dimensional chaotic Hamiltonian."""

import torch
from torch import Tensor

from diffsim.fields.hamiltonian import Separable
from diffsim.systems.constants import Constant, check_size, components, match, register_constants

__all__ = ["HenonHeiles"]


class HenonHeiles(Separable):
    """The Henon-Heiles system, H = (px^2 + py^2 + x^2 + y^2) / 2 + coupling (x^2 y - y^3 / 3), without dimensions.

    The state is (x, y, px, py). Orbits of energy below 1 / (6 coupling^2) inside the triangle of the saddle
    points stay there; chaos spreads above an energy of about 1/12 (coupling 1).

    Args:
        coupling: Strength of the cubic terms.

    Source: Henon and Heiles, 1964, Astronomical Journal 69, 73, equation 11.

    Example:
        >>> HenonHeiles().energy(torch.tensor([0.0, 1.0, 0.0, 0.0]))  # a saddle: the energy of escape
        tensor(0.1667)
    """

    coupling: Tensor

    def __init__(self, coupling: Constant = 1.0) -> None:
        super().__init__()
        register_constants(self, coupling=coupling)

    def kinetic(self, p: Tensor) -> Tensor:
        check_size(p, 2, "momenta (second half of the state)")
        return p.square().sum(-1) / 2

    def potential(self, q: Tensor) -> Tensor:
        x, y = components(q, 2, "positions (first half of the state)")
        (coupling,) = match(x, coupling=self.coupling)
        x2, y2 = x.square(), y.square()
        return ((x2 + y2) / 2 + coupling * y * (x2 - y2 / 3)).sum(-1)

    def velocity(self, p: Tensor) -> Tensor:
        check_size(p, 2, "momenta (second half of the state)")
        return p

    def force(self, q: Tensor) -> Tensor:
        x, y = components(q, 2, "positions (first half of the state)")
        (coupling,) = match(x, coupling=self.coupling)
        return torch.cat([-x - 2 * coupling * x * y, -y - coupling * (x.square() - y.square())], dim=-1)
