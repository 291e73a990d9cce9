"""An energy of a function on a periodic grid: a convolutional network of its neighbourhoods, summed over the points."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError
from diffsim.fields.neural import mlp

__all__ = ["GridEnergy"]


class GridEnergy(nn.Module):
    """H(u) = sum_i net(u[i-r], ..., u[i+r]) on a ring of any number of points: a learned energy density.

    It goes into a `DiscreteGradientField` or `GradientHamiltonian` whose matrices are difference operators.

    Args:
        width: Of the two hidden layers.
        reach: r: neighbours on each side.
        n_out: Outputs at a point; the energy is the sum of all.
        activation: Makes the non-linearity.
        seed: Of the initial weights.

    Source: Matsubara, Ishikawa and Yaguchi, 2020, arXiv 1905.08604, section 4.2.

    Example:
        >>> energy = GridEnergy(width=8)
        >>> u = torch.rand(3, 20, generator=torch.Generator().manual_seed(0))
        >>> bool(torch.allclose(energy(u), energy(u.roll(5, -1)), atol=1e-6))  # the same everywhere on the ring
        True
    """

    def __init__(
        self,
        width: int = 200,
        reach: int = 1,
        *,
        n_out: int = 1,
        activation: Callable[[], nn.Module] = nn.Tanh,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if reach < 0:
            raise ArgumentError(f"`reach` must be at least 0, got {reach}.")
        self.reach = reach
        self.net = mlp(2 * reach + 1, n_out, (width, width), activation, seed=seed)

    def density(self, u: Tensor) -> Tensor:
        """The sum of the outputs at each point, [..., n] -> [..., n]."""
        around = [u.roll(-shift, -1) for shift in range(-self.reach, self.reach + 1)]
        return self.net(torch.stack(around, dim=-1)).sum(-1)

    def forward(self, u: Tensor) -> Tensor:
        """The energy, [..., n] -> [...]."""
        return self.density(u).sum(-1)
