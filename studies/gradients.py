"""Simulators that know their gradient: an outcome's first column is the value, the others its gradient in theta."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.history import History
from studies.spaces.base import Space
from studies.spaces.box import Box

__all__ = ["WithGradient", "smooth_box", "split_outcome", "to_unit_gradient", "value_of", "with_gradient"]


@dataclass(frozen=True, slots=True)
class WithGradient:
    """A simulator that returns the values of a function and their gradient; see `with_gradient`.

    Args:
        function: Maps theta, shape [n, d], to values, shape [n] or [n, 1], differentiably.
    """

    function: Callable[[Tensor], Tensor]

    def __call__(self, theta: Tensor, generator: torch.Generator, /) -> Tensor:
        n = len(theta)
        theta = theta.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            value = self.function(theta)
            if not isinstance(value, Tensor):
                raise ArgumentTypeError(f"`function` must return a tensor of shape [{n}], got {value!r}.")
            if value.shape not in ((n,), (n, 1)):
                raise ArgumentError(f"`function` must return shape [{n}] or [{n}, 1], got {list(value.shape)}.")
            if not value.requires_grad:
                raise ArgumentError(
                    "`function` must be differentiable in theta, and its value does not depend on theta. Leave out "
                    "`torch.no_grad()`, `.detach()` and conversions to numpy."
                )
            gradient = torch.autograd.grad(value.sum(), theta)[0]
        return torch.cat([value.detach().double().reshape(n, 1), gradient], 1)


def with_gradient(function: Callable[[Tensor], Tensor]) -> WithGradient:
    """A simulator that returns the values of a differentiable function and their gradient, shape [n, 1 + d].

    Args:
        function: Maps theta, float64, shape [n, d], to values, shape [n] or [n, 1]. PyTorch must be able to
            differentiate it; a row of theta acts on its own value only. It may call `diffsim.odeint`.

    Example:
        >>> simulator = with_gradient(lambda theta: theta.square().sum(-1))
        >>> simulator(torch.tensor([[1.0, 2.0]]).double(), torch.Generator())
        tensor([[5., 2., 4.]], dtype=torch.float64)
    """
    if isinstance(function, type) or not callable(function):
        raise ArgumentTypeError(f"`function` must be a function of theta, got {function!r}.")
    return WithGradient(function)


def value_of(outcome: Tensor) -> Tensor:
    """The values of a simulator with gradient, shape [n, 1 + d] -> [n]: what its strategies minimise."""
    return outcome[:, 0]


def split_outcome(history: History) -> tuple[Tensor, Tensor]:
    """Values and gradients of the complete trials, float64, shape [n] and [n, d].

    Raises:
        ArgumentError: The outcomes are not of shape [n, 1 + d].
    """
    d = history.space.dim
    if len(history) == 0:
        return torch.empty(0, dtype=torch.float64), torch.empty(0, d, dtype=torch.float64)
    if history.outcome.shape != (len(history), 1 + d):
        raise ArgumentError(
            f"Outcomes must have shape [n, {1 + d}], values and then gradients, got {list(history.outcome.shape)}. "
            "Make the simulator by `with_gradient(function)`."
        )
    outcome = history.outcome.double()
    return outcome[:, 0], outcome[:, 1:]


def smooth_box(space: Space, strategy: object) -> Box:
    """The space, which must be a box of real parameters without constraints.

    Raises:
        ArgumentTypeError: It is none; the message names the strategy.
    """
    if not (isinstance(space, Box) and space.is_continuous and not space.constraints):
        raise ArgumentTypeError(
            f"`{type(strategy).__name__}` needs a Box of real parameters without constraints, got {space!r}. Use "
            "NoisyExpectedImprovement or ModelBased."
        )
    return space


def to_unit_gradient(box: Box, theta: Tensor, gradient: Tensor) -> Tensor:
    """Gradients in theta [n, d] as gradients in the unit cube's coordinates, shape [n, d]."""
    theta = theta.detach().requires_grad_(True)
    with torch.enable_grad():  # not by `from_unit`, which clamps: a Log's bound may lie beyond it by rounding
        slopes = torch.autograd.grad(box.to_unit(theta).sum(), theta)[0]
    return gradient / slopes
