"""A mixture density network: the weights, means and spreads of normal components are outputs of a network."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from diffsim.training.report import FitReport
from diffsim.training.settings import Training
from surrogates.generators.gaussian_mixture import GaussianMixture
from surrogates.generators.neural import ConditionNetwork, NeuralSurrogate
from surrogates.surrogate import lacks_gradient

__all__ = ["MixtureDensityNetwork"]

_FLOOR = 1e-3  # smallest standard deviation, in units of the data's
_NODES = 16  # least number of nodes within a component
_REACH = 6.0  # of the nodes, in standard deviations


class MixtureDensityNetwork(NeuralSurrogate):
    """A surrogate with outcomes from a mixture of normal distributions; expectations are sums over its components.

    With several outcomes the components' covariances are diagonal: correlation comes from the mixture.

    Args:
        dim: Number d of parameters.
        n_outcomes: Number m of outcomes.
        n_inputs: Number k of observed random inputs.
        components: Number K of components.
        hidden: Width of each hidden layer.
        precision: Of the normal prior of the weights: a larger one gives a smoother surrogate.
        seed: Of the initial weights.

    Raises:
        ArgumentError: `components` is no integer, or below 1.

    Source: Bishop, 1994, Mixture density networks, equations 22 to 29.

    Example:
        >>> surrogate = MixtureDensityNetwork(2, components=3)
        >>> surrogate(torch.zeros(5, 2)).rsample((7,)).shape
        torch.Size([7, 5, 1])
    """

    def __init__(
        self,
        dim: int,
        n_outcomes: int = 1,
        n_inputs: int = 0,
        *,
        components: int = 5,
        hidden: Sequence[int] = (32, 32),
        precision: float = 10.0,
        seed: int = 0,
    ) -> None:
        super().__init__(dim, n_outcomes, n_inputs, precision=precision)
        if isinstance(components, bool) or not isinstance(components, int) or components < 1:
            raise ArgumentError(f"`components` must be an integer of at least 1, got {components!r}.")
        self.components = components
        # The components start side by side, along the diagonal of the outcomes.
        middles = torch.special.ndtri((torch.arange(components) + 0.5) / components)
        locs = middles[:, None].expand(-1, n_outcomes).flatten()
        log_scales = torch.full_like(locs, 0.0 if components == 1 else -0.4)
        start = torch.cat([torch.zeros(2 * n_outcomes + components), locs, log_scales])
        self.network = ConditionNetwork(dim + n_inputs, start, hidden, seed=seed)

    def distribution(self, context: Tensor) -> GaussianMixture:
        k, m = self.components, self.n_outcomes
        shift, log_unit, log_weight, loc, log_scale = self.network(context).split([m, m, k, k * m, k * m], dim=-1)
        # A shift and a unit that the components share let all of them move as one.
        unit = log_unit.exp()[..., None, :]
        loc = shift[..., None, :] + unit * loc.unflatten(-1, (k, m))
        return GaussianMixture(log_weight, loc, _FLOOR + unit * log_scale.exp().unflatten(-1, (k, m)))

    def fit(
        self,
        theta: Tensor,
        outcome: Tensor,
        x: Tensor | None = None,
        training: Training = Training(steps=300, lr=1e-2, batch=256),
    ) -> FitReport:
        return super().fit(theta, outcome, x, training)

    def expectation(
        self,
        objective: Callable[..., Tensor],
        theta: Tensor,
        x: Tensor | None,
        n: int,
        generator: torch.Generator,
    ) -> Tensor:
        """The expected objective, summed exactly over the components.

        Within a component of one outcome it is a sum over n nodes (16 at least), without random numbers; of several,
        the mean over n draws, common to the components and to theta.
        """
        mixture = self(theta, x)
        assert isinstance(mixture, GaussianMixture)
        if self.n_outcomes == 1:
            nodes = torch.linspace(-_REACH, _REACH, max(n, _NODES), dtype=theta.dtype, device=theta.device)
            share = torch.softmax(-0.5 * nodes.square(), 0)
            noise = nodes.reshape(-1, *[1] * (mixture.loc.ndim - 1))
        else:
            noise, share = self._noise(self.n_outcomes, theta, x, n, generator), torch.full((n,), 1 / n).to(theta)
        outcome = mixture.loc + mixture.scale * noise[..., None, :]
        values = self._values(objective, outcome, None if x is None else x.to(theta)[..., None, :])
        if lacks_gradient(values, theta):
            distance = (outcome.detach() - mixture.loc) / mixture.scale
            baseline = values.mean(0) if self.n_outcomes == 1 else self._others(values)
            values = self._scored(values, -(0.5 * distance.square() + mixture.scale.log()).sum(-1), baseline)
        return torch.tensordot(share, (mixture.weight * values).sum(-1), dims=1)
