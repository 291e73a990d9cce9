"""What neural surrogates share: standard units, the fit by maximum likelihood, held-out parameters, the network."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError
from diffsim.fields.neural import mlp
from diffsim.training.optimise import optimise
from diffsim.training.report import FitReport
from diffsim.training.settings import Training
from surrogates.generators.pushforward import Pushforward
from surrogates.standardise import Standardisation
from surrogates.surrogate import Surrogate

__all__ = ["ConditionNetwork", "NeuralSurrogate", "hold_out"]


class ConditionNetwork(nn.Module):
    """A multi-layer perceptron plus a linear map; it starts near a constant.

    Args:
        n_in: Number of inputs.
        start: The outputs at the start, shape [n_out].
        hidden: Width of each hidden layer.
        activation: Makes the non-linearity.
        seed: Of the initial weights.
    """

    def __init__(
        self,
        n_in: int,
        start: Tensor,
        hidden: Sequence[int],
        activation: Callable[[], nn.Module] = nn.Tanh,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.curved = mlp(n_in, len(start), hidden, activation, seed=seed)
        self.linear = cast(nn.Linear, nn.utils.skip_init(nn.Linear, n_in, len(start), dtype=torch.float32))
        with torch.no_grad():
            next(reversed(list(self.curved.parameters()))).mul_(0.1 / math.sqrt(len(start)))
            self.linear.weight.zero_()
            self.linear.bias.copy_(start)

    def forward(self, context: Tensor) -> Tensor:
        """Inputs [..., n_in] to outputs [..., n_out]."""
        return self.curved(context) + self.linear(context)


class NeuralSurrogate(Surrogate):
    """A surrogate whose network maps (theta, x) to a distribution in standard units, and is fitted by its likelihood.

    Subclasses implement `distribution` and, for a default `Training` of their own, `fit`.

    Args:
        dim: Number d of parameters.
        n_outcomes: Number m of outcomes.
        n_inputs: Number k of observed random inputs.
        precision: Of the normal prior of the weights, biases left out: a larger one gives a smoother surrogate.

    Raises:
        ArgumentError: `precision` is negative.
    """

    def __init__(self, dim: int, n_outcomes: int = 1, n_inputs: int = 0, *, precision: float = 0.0) -> None:
        super().__init__(dim, n_outcomes, n_inputs)
        if not 0 <= precision < math.inf:
            raise ArgumentError(f"`precision` must be at least 0, got {precision}.")
        self.precision = precision
        self.units = Standardisation(dim + n_inputs)
        self.outcome_units = Standardisation(n_outcomes)

    @abstractmethod
    def distribution(self, context: Tensor) -> Pushforward:
        """The distribution of the outcome in standard units.

        Args:
            context: (theta, x) in standard units and in the dtype of the weights, shape [..., d + k].

        Returns:
            A distribution of batch shape [...] and event shape [m].
        """

    def loss(self, context: Tensor, target: Tensor) -> Tensor:
        """The mean negative log-likelihood of outcomes in standard units, [b, d + k] and [b, m] -> []."""
        return -self.distribution(context).log_prob(target).mean()

    def forward(self, theta: Tensor, x: Tensor | None = None) -> Pushforward:
        theta, x, batch = self._check_call(theta, x)
        condition = theta if x is None else torch.cat([theta.expand(*batch, -1), x.expand(*batch, -1)], dim=-1)
        standard = self.distribution(self.units(condition).to(self._weight()))
        return standard.rescaled(self.outcome_units.shift.to(theta), self.outcome_units.scale.to(theta))

    __call__: Callable[..., Pushforward]

    def fit(
        self, theta: Tensor, outcome: Tensor, x: Tensor | None = None, training: Training = Training()
    ) -> FitReport:
        theta, outcome, x = self._check_data(theta, outcome, x)
        held, kept = hold_out(theta, training)
        context, target = self._learn_units(theta, outcome, x)
        learnt, goal = (context, target) if kept is None else (context[kept], target[kept])

        matrices = [weight for weight in self.parameters() if weight.ndim > 1]

        def loss(index: Tensor | None) -> Tensor:
            fit = self.loss(learnt, goal) if index is None else self.loss(learnt[index], goal[index])
            squares = torch.stack([matrix.square().sum() for matrix in matrices]).sum()
            return fit + 0.5 * self.precision / len(goal) * squares

        judge = None if held is None else lambda: self.loss(context[held], target[held])
        return optimise(loss, list(self.parameters()), training, n_terms=len(goal), held_out=judge)

    def sample(self, theta: Tensor, x: Tensor | None, n: int, generator: torch.Generator) -> Tensor:
        distribution = self(theta, x)
        return distribution.push(self._noise(distribution.n_noise, theta, x, n, generator))

    def _weight(self) -> Tensor:
        return next(self.parameters())

    def _learn_units(self, theta: Tensor, outcome: Tensor, x: Tensor | None) -> tuple[Tensor, Tensor]:
        """Learns the units from data; returns (theta, x), shape [n, d + k], and outcomes, shape [n, m], in these."""
        condition = theta if x is None else torch.cat([theta, x], dim=-1)
        self.units.learn(condition)
        self.outcome_units.learn(outcome)
        weight = self._weight()
        return self.units(condition).to(weight), self.outcome_units(outcome).to(weight)


def hold_out(theta: Tensor, training: Training) -> tuple[Tensor | None, Tensor | None]:
    """Rows that are held out and rows that are learnt from, None if nothing is held out; equal theta stay together.

    Args:
        theta: Parameters, shape [n, d].
        training: Its `holdout` is the share of the distinct parameters that is held out, its `seed` draws them.

    Raises:
        ArgumentError: There are too few distinct parameters.
    """
    if not training.holdout:
        return None, None
    _, group = torch.unique(theta, dim=0, return_inverse=True)
    n_groups = int(group.max()) + 1
    n_held = round(training.holdout * n_groups)
    if not 0 < n_held < n_groups:
        raise ArgumentError(
            f"`holdout` {training.holdout} of {n_groups} distinct theta leaves a part empty. "
            "Pass a Training with holdout=0 and no patience, or simulate at more theta."
        )
    order = torch.randperm(n_groups, generator=torch.Generator().manual_seed(training.seed))
    held = torch.isin(group.cpu(), order[:n_held]).to(theta.device)
    return held.nonzero()[:, 0], (~held).nonzero()[:, 0]
