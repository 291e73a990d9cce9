"""Parts of energies that several experiments learn: a quadratic of unknown strength, and any potential of an angle."""

import torch
from torch import Tensor, nn

from diffsim import mlp

__all__ = ["Strength", "Swing"]


class Strength(nn.Module):
    """Unknown strength times x^2 / 2, of one coordinate."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.strength * x.square() / 2


class Swing(nn.Module):
    """A potential of an angle: cosine and sine of unknown strength, and a small network of both."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.tensor([[-1.0], [0.0]], dtype=torch.float64))
        self.net = mlp(2, 1, (width,), seed=seed, dtype=torch.float64)
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        last.weight.data.mul_(0.1)

    def forward(self, q: Tensor) -> Tensor:
        pair = torch.cat([q.cos(), q.sin()], dim=-1)
        return pair @ self.strength + self.net(pair)
