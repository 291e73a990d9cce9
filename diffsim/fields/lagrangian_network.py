"""The Lagrangian neural network of a mechanism whose positions may be angles, its derivatives written out."""

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields.charts import AngleFeatures
from diffsim.fields.hamiltonian import split_state
from diffsim.fields.lagrangian import LagrangianField
from diffsim.fields.perceptron import is_perceptron, second_derivatives

__all__ = ["LagrangianNetwork"]


class _Scaled(nn.Module):
    """speed^2 net(chart(q), v / speed), and its derivatives."""

    def __init__(self, net: nn.Sequential, chart: AngleFeatures, speed: float) -> None:
        super().__init__()
        self.net = net
        self.chart = chart
        self.speed = speed

    def features(self, y: Tensor) -> Tensor:
        q, v = split_state(y)
        return torch.cat([self.chart(q), v / self.speed], dim=-1)

    def forward(self, y: Tensor) -> Tensor:
        return self.speed**2 * self.net(self.features(y))

    def derivatives(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient [..., 2k], and the velocities' rows of the Hessian [..., k, 2k]."""
        q, _ = split_state(y)
        gradient, rows = second_derivatives(self.net, self.features(y), q.shape[-1])
        m, s = self.chart.n_out, self.speed
        return (
            torch.cat([s**2 * self.chart.pull(q, gradient[..., :m]), s * gradient[..., m:]], dim=-1),
            torch.cat([s * self.chart.pull(q[..., None, :], rows[..., :m]), rows[..., m:]], dim=-1),
        )


class LagrangianNetwork(LagrangianField):
    """The field of L(q, v) = speed^2 net(chart(q), v / speed): a plain network of all positions and velocities.

    Nothing says that the mass matrix is positive: fit with the loss `free_particle` before accelerations.

    Args:
        net: A perceptron as `mlp` makes it, of the chart's features and the velocities, with one output.
        chart: Which positions are angles: the network sees their cosines and sines.
        speed: What velocities are divided by, so that the network sees numbers of order one.
        regularisation: e: eigenvalues s of the mass matrix are inverted as s / (s^2 + e^2).

    Raises:
        ArgumentError: A value is out of its range, or the network has other inputs or outputs.
        ArgumentTypeError: The network is no plain perceptron with a smooth activation.

    Source: Cranmer, Greydanus, Hoyer, Battaglia, Spergel and Ho, 2020, arXiv 2003.04630, equation 6.

    Example:
        >>> from diffsim.fields.neural import mlp
        >>> field = LagrangianNetwork(mlp(3, 1, (8,), nn.Softplus), AngleFeatures(1))
        >>> field(torch.tensor(0.0), torch.zeros(5, 2)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self, net: nn.Sequential, chart: AngleFeatures, *, speed: float = 1.0, regularisation: float = 1e-3
    ) -> None:
        if not is_perceptron(net):
            raise ArgumentTypeError("`net` must be linear layers with one smooth activation between. Pass an `mlp`.")
        n_in, n_out = chart.n_out + chart.n, net[-1].out_features
        if net[0].in_features != n_in or n_out != 1:
            raise ArgumentError(
                f"`net` must have {n_in} inputs, the features and the velocities, and one output, "
                f"got {net[0].in_features} and {n_out}."
            )
        if not 0 < speed < float("inf"):
            raise ArgumentError(f"`speed` must be above 0, got {speed}.")
        network = _Scaled(net, chart, speed)
        super().__init__(network, regularisation=regularisation)
        self.network = network

    def _derivatives(self, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.derivatives(y)
