"""What a test problem is: a simulator with an objective, its exact expectation and its minimum; a view without x."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from surrogates.simulator import Cost

__all__ = ["HiddenInputs", "Problem", "hide_inputs"]


@runtime_checkable
class Problem(Protocol):
    """A simulator with observed inputs, made to judge optimisers by: smaller is better."""

    @property
    def space_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Lower and upper bound of each of the d parameters, by name; for `Box`."""
        ...

    @property
    def start(self) -> tuple[float, ...]:
        """Where optimisers start, d numbers."""
        ...

    @property
    def minimum(self) -> float:
        """The smallest exact objective."""
        ...

    @property
    def cost(self) -> Cost:
        """What a simulation costs."""
        ...

    @property
    def needs_inputs(self) -> bool:
        """Whether the objective depends on x beside y."""
        ...

    def inputs(self, n: int, generator: torch.Generator) -> Tensor:
        """Random inputs, float64, shape [n, k]."""
        ...

    def __call__(self, theta: Tensor, x: Tensor, generator: torch.Generator, /) -> Tensor:
        """Outcomes at theta, shape [n, d], and x, shape [n, k] -> [n, m]."""
        ...

    def objective(self, y: Tensor, x: Tensor | None) -> Tensor:
        """What is minimised in expectation: outcomes [..., m], inputs [..., k] -> [...]."""
        ...

    def exact(self, theta: Tensor) -> Tensor:
        """The expected objective, shape [..., d] -> [...]; differentiable."""
        ...


@dataclass(frozen=True, slots=True)
class HiddenInputs:
    """A problem whose inputs are drawn inside and not shown: a plain simulator.

    Args:
        problem: The problem.
    """

    problem: Problem

    @property
    def space_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Lower and upper bound of each parameter, by name."""
        return self.problem.space_bounds

    @property
    def start(self) -> tuple[float, ...]:
        """Where optimisers start."""
        return self.problem.start

    @property
    def minimum(self) -> float:
        """The smallest exact objective."""
        return self.problem.minimum

    @property
    def cost(self) -> Cost:
        """What a simulation costs."""
        return self.problem.cost

    def __call__(self, theta: Tensor, generator: torch.Generator, /) -> Tensor:
        """Outcomes at theta, shape [n, d] -> [n, m]."""
        return self.problem(theta, self.problem.inputs(len(theta), generator), generator)

    def objective(self, y: Tensor) -> Tensor:
        """What is minimised in expectation: outcomes [..., m] -> [...]."""
        return self.problem.objective(y, None)

    def exact(self, theta: Tensor) -> Tensor:
        """The expected objective, shape [..., d] -> [...]; differentiable."""
        return self.problem.exact(theta)


def hide_inputs(problem: Problem) -> HiddenInputs:
    """A problem as a plain simulator, which draws its inputs itself.

    Raises:
        ArgumentError: The problem's objective needs the inputs.

    Example:
        >>> from surrogates.problems.hump import Hump2
        >>> hide_inputs(Hump2())(torch.zeros(3, 2), torch.Generator()).shape
        torch.Size([3, 1])
    """
    if problem.needs_inputs:
        raise ArgumentError(f"The objective of {problem!r} depends on its inputs x. Pass the problem itself.")
    return HiddenInputs(problem)
