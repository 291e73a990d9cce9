"""The Cramer GAN of the reference algorithm: draws without a density, learnt against a critic."""

import math
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError, TrainingError
from diffsim.training.report import FitReport
from diffsim.training.settings import Training
from surrogates.generators.neural import NeuralSurrogate
from surrogates.generators.pushforward import Pushforward
from surrogates.seeding import seeded

__all__ = ["CramerGAN"]

_LATENT = 150
_FEATURES = 256
_INSTANCE_NOISE = 0.01
_PENALTY = 10.0
_BETAS = (0.5, 0.999)
_EPOCHS = 15


class _GeneratorDistribution(Pushforward):
    """What the generator makes at given conditions, shape [..., d + k]."""

    def __init__(self, generator: nn.Module, context: Tensor, n_outcomes: int) -> None:
        super().__init__(_LATENT, context.shape[:-1], n_outcomes, context)
        self.generator, self.context = generator, context

    def push(self, noise: Tensor) -> Tensor:
        shape = (len(noise), *self.batch_shape)
        return self.generator(torch.cat([noise.expand(*shape, -1), self.context.expand(*shape, -1)], dim=-1))


class CramerGAN(NeuralSurrogate):
    """The generative adversarial network of L-GSO, with its widths, losses and rates; it has draws, but no density.

    Generator: (z, theta, x) -> 100 tanh -> 100 tanh -> 100 leaky ReLU -> y, with 150 normal numbers z. Critic:
    (y, theta, x) -> 100 tanh -> 100 leaky ReLU -> 256.

    Args:
        dim: Number d of parameters.
        n_outcomes: Number m of outcomes.
        n_inputs: Number k of observed random inputs.
        seed: Of the initial weights.

    Source: Shirobokov et al., 2020, arXiv 2002.04632, appendix; Bellemare et al., 2017, arXiv 1705.10743, algorithm 1.

    Example:
        >>> CramerGAN(2)(torch.zeros(5, 2)).rsample((7,)).shape
        torch.Size([7, 5, 1])
    """

    def __init__(self, dim: int, n_outcomes: int = 1, n_inputs: int = 0, *, seed: int = 0) -> None:
        super().__init__(dim, n_outcomes, n_inputs)
        given = dim + n_inputs
        with seeded(seed):
            self.generator = nn.Sequential(
                nn.Linear(_LATENT + given, 100),
                nn.Tanh(),
                nn.Linear(100, 100),
                nn.Tanh(),
                nn.Linear(100, 100),
                nn.LeakyReLU(),
                nn.Linear(100, n_outcomes),
            ).float()
            self.critic = nn.Sequential(
                nn.Linear(n_outcomes + given, 100),
                nn.Tanh(),
                nn.Linear(100, 100),
                nn.LeakyReLU(),
                nn.Linear(100, _FEATURES),
            ).float()

    def distribution(self, context: Tensor) -> Pushforward:
        return _GeneratorDistribution(self.generator, context, self.n_outcomes)

    def fit(
        self,
        theta: Tensor,
        outcome: Tensor,
        x: Tensor | None = None,
        training: Training = Training(steps=100_000, lr=8e-4, batch=512, schedule="constant"),
    ) -> FitReport:
        """Learn from simulations, in place: 15 epochs, or `training.steps` steps if these are fewer.

        A GAN's losses are no scores, so nothing is held out and nothing stops it early: of `training` only `steps`,
        `lr`, `batch` and `seed` count.

        Args:
            theta: Parameters, shape [n, d]; rows may repeat.
            outcome: One simulation's outcome for each, shape [n, m].
            x: The simulations' inputs, shape [n, k].
            training: How.

        Returns:
            The record of the fit; its losses are the generator's, the critic's estimate of the distance.

        Raises:
            ArgumentError: Shapes do not agree, values are not finite, there are too few rows, or `training` asks for
                L-BFGS or a held-out part.
            TrainingError: The loss is not finite.
        """
        if training.optimizer == "lbfgs" or training.holdout or training.patience:
            raise ArgumentError("`training` of a GAN must have `optimizer` 'adam', no `holdout` and no `patience`.")
        start = time.perf_counter()
        context, target = self._learn_units(*self._check_data(theta, outcome, x))
        makers, critics = list(self.generator.parameters()), list(self.critic.parameters())
        lr = 8e-4 if training.lr is None else training.lr
        make = torch.optim.Adam(makers, lr=lr, betas=_BETAS, foreach=True)
        judge = torch.optim.Adam(critics, lr=lr, betas=_BETAS, foreach=True)
        random = torch.Generator(context.device).manual_seed(training.seed)
        size = min(training.batch_size or len(target), len(target))
        losses: list[float] = []
        for index in _batches(len(target), size, random):
            if len(losses) == training.steps:
                break
            given, real = context[index], target[index]
            judge.zero_grad()
            (self._penalty(given, real, random) - self._distance(given, real, random)).backward(inputs=critics)
            judge.step()
            make.zero_grad()
            loss = self._distance(given, real, random)
            loss.backward(inputs=makers)
            make.step()
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise TrainingError(f"At step {len(losses) - 1} the loss became {losses[-1]}. Lower `lr`.")
        return FitReport(
            losses=tuple(losses),
            held_out_losses=(),
            held_out_steps=(),
            best_step=len(losses),
            best_loss=losses[-1],
            seconds=time.perf_counter() - start,
            stopped_because="steps",
            n_parameters=sum(p.numel() for p in self.parameters()),
        )

    def _generate(self, context: Tensor, random: torch.Generator) -> Tensor:
        return self.generator(torch.cat([_normal(context, _LATENT, random), context], dim=-1))

    def _features(self, outcome: Tensor, context: Tensor, random: torch.Generator) -> Tensor:
        noisy = outcome + _INSTANCE_NOISE * _normal(outcome, self.n_outcomes, random)
        return self.critic(torch.cat([noisy, context], dim=-1))

    def _distance(self, context: Tensor, real: Tensor, random: torch.Generator) -> Tensor:
        """The critic's estimate of the distance of generated outcomes from real ones; a scalar."""
        given = self._features(real, context, random)
        made, partner = (self._features(self._generate(context, random), context, random) for _ in range(2))
        return (_score(given, partner) - _score(made, partner)).mean()

    def _penalty(self, context: Tensor, real: Tensor, random: torch.Generator) -> Tensor:
        """How much steeper than 1 the critic's score is between generated outcomes and real ones; a scalar."""
        with torch.no_grad():
            made, partner = self._generate(context, random), self._generate(context, random)
            share = torch.rand(len(real), 1, dtype=real.dtype, device=real.device, generator=random)
        between = (share * real + (1 - share) * made).requires_grad_(True)
        features = self.critic(torch.cat([between, context], dim=-1))
        score = _score(features, self.critic(torch.cat([partner, context], dim=-1)))
        (slope,) = torch.autograd.grad(score.sum(), between, create_graph=True)
        return _PENALTY * (slope.norm(dim=-1) - 1).clamp_min(0).square().mean()


def _score(features: Tensor, partner: Tensor) -> Tensor:
    return (features - partner).norm(dim=-1) - features.norm(dim=-1)


def _normal(like: Tensor, width: int, random: torch.Generator) -> Tensor:
    return torch.randn(len(like), width, dtype=like.dtype, device=like.device, generator=random)


def _batches(n: int, size: int, random: torch.Generator) -> Iterator[Tensor]:
    for _ in range(_EPOCHS):
        order = torch.randperm(n, generator=random, device=random.device)
        yield from order[: n - n % size].split(size)
