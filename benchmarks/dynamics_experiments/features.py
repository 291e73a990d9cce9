"""What a user may know of a mechanism without its equations: sums of angles, a simple potential first, its scale."""

import torch
from torch import Tensor, nn

from diffsim import AngleFeatures

__all__ = ["AngleSums", "Scaled", "Sloped", "stretched"]


class AngleSums(nn.Module):
    """Coordinates that do not wrap, then cosines and sines of the angles, their sums and their differences in pairs."""

    def __init__(self, chart: AngleFeatures) -> None:
        super().__init__()
        self.chart = chart
        self.pairs = torch.combinations(torch.arange(len(chart.angles)), 2).T
        self.n_out = len(chart.others) + 2 * (len(chart.angles) + 2 * self.pairs.shape[1])

    def forward(self, q: Tensor) -> Tensor:
        angles = q[..., self.chart.angles]
        first, second = angles[..., self.pairs[0]], angles[..., self.pairs[1]]
        turns = torch.cat([angles, first + second, first - second], dim=-1)
        return torch.cat([q[..., self.chart.others], turns.cos(), turns.sin()], dim=-1)


class Sloped(nn.Module):
    """A potential that is a slope to be learned plus a network that starts at zero: the simplest one comes first."""

    def __init__(self, n: int, net: nn.Sequential) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(n, 1, dtype=torch.float64))
        self.net = net
        last = net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)

    def forward(self, q: Tensor) -> Tensor:
        return q @ self.slope + self.net(q)


class Scaled(nn.Module):
    """A plain network that sees x / scale and gives scale times its output: almost straight at the start."""

    def __init__(self, net: nn.Module, scale: float) -> None:
        super().__init__()
        self.net = net
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * self.net(x / self.scale)


def stretched(net: nn.Sequential, inputs: float, outputs: float) -> nn.Sequential:
    """The perceptron `outputs * net(x / inputs)`, still one: with large inputs it is almost a polynomial at first."""
    first, last = net[0], net[-1]
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    with torch.no_grad():
        first.weight /= inputs
        last.weight *= outputs
    return net
