"""Distributions that are images of standard normal noise, under maps that are differentiable in their parameters."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.constraints import Constraint

__all__ = ["Pushforward", "Rescaled"]


class Pushforward(Distribution, ABC):
    """A distribution y = g(z) with z standard normal: equal noise gives draws that vary smoothly with the parameters.

    Args:
        noise: Number of the random numbers z of a draw.
        batch_shape: Shape of the batch, [...].
        n_outcomes: Number m of components of y.
        like: A tensor of the dtype and device of the noise.
    """

    has_rsample = True
    arg_constraints: ClassVar[dict[str, Constraint]] = {}  # pyright: ignore[reportIncompatibleMethodOverride]

    def __init__(self, noise: int, batch_shape: torch.Size, n_outcomes: int, like: Tensor) -> None:
        super().__init__(batch_shape, torch.Size([n_outcomes]), validate_args=False)
        self.n_noise = noise
        self._like = like.new_empty(0)

    @property
    def support(self) -> Any:  # noqa: ANN401 (the stubs know no common type)
        """All real vectors."""
        return constraints.real_vector

    @abstractmethod
    def push(self, noise: Tensor) -> Tensor:
        """The map g.

        Args:
            noise: Standard normal numbers, shape [s, ..., n_noise] with [...] broadcasting to the batch shape.

        Returns:
            Draws, shape [s, ..., m], differentiable in the parameters.
        """

    def rescaled(self, shift: Tensor, scale: Tensor) -> "Pushforward":
        """The distribution of shift + scale * y, in the dtype of the shift; both of shape [m], the scale above 0."""
        return Rescaled(self, shift, scale)

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: ANN401, B008 (torch's own signature)
        shape = torch.Size(sample_shape)
        noise = torch.randn(
            shape.numel(), *self.batch_shape, self.n_noise, dtype=self._like.dtype, device=self._like.device
        )
        return self.push(noise).reshape(*shape, *self.batch_shape, *self.event_shape)


class Rescaled(Pushforward):
    """The distribution of shift + scale * y, in the dtype of the shift.

    Args:
        base: The distribution of y.
        shift: Shape [m] or [..., m].
        scale: Above 0, of the same shape.
    """

    def __init__(self, base: Pushforward, shift: Tensor, scale: Tensor) -> None:
        super().__init__(base.n_noise, base.batch_shape, base.event_shape.numel(), base._like)
        self.base, self.shift, self.scale = base, shift, scale

    def push(self, noise: Tensor) -> Tensor:
        return self.shift + self.scale * self.base.push(noise.to(self._like)).to(self.shift)

    def log_prob(self, value: Tensor) -> Tensor:
        standard = ((value - self.shift) / self.scale).to(self._like)
        return self.base.log_prob(standard).to(self.shift) - self.scale.log().sum(-1)
