"""The Lorenz-63 system: three modes of convection, the standard chaotic attractor."""

import torch
from torch import Tensor

from diffsim.fields.base import VectorField
from diffsim.systems.constants import Constant, components, match, register_positive

__all__ = ["Lorenz63"]


class Lorenz63(VectorField):
    """The Lorenz system, without dimensions; the state is (x, y, z).

    x' = sigma (y - x), y' = x (rho - z) - y, z' = x y - beta z. Above rho = 1 the fixed points are 0 and
    (c, c, rho - 1) with c = +-sqrt(beta (rho - 1)). At the default values the largest Lyapunov exponent is .906.

    Args:
        sigma: Prandtl number.
        rho: Rayleigh number over its critical value.
        beta: Aspect ratio of the convection cells.

    Raises:
        ArgumentError: A constant is not positive.

    Source: Lorenz, 1963, Journal of the Atmospheric Sciences 20, 130, equations 25 to 27.

    Example:
        >>> Lorenz63()(torch.tensor(0.0), torch.tensor([1.0, 1.0, 3.0]))
        tensor([ 0., 24., -7.])
    """

    sigma: Tensor
    rho: Tensor
    beta: Tensor

    def __init__(self, sigma: Constant = 10.0, rho: Constant = 28.0, beta: Constant = 8 / 3) -> None:
        super().__init__()
        register_positive(self, sigma=sigma, rho=rho, beta=beta)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        a, b, c = components(y, 3, "state (x, y, z)")
        sigma, rho, beta = match(a, sigma=self.sigma, rho=self.rho, beta=self.beta)
        return torch.cat([sigma * (b - a), a * (rho - c) - b, a * b - beta * c], dim=-1)
