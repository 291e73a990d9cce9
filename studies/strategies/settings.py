"""Checks of the settings that optimisers share: counts, objectives, boxes, and where they start."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.spaces.base import Rounded, Space, check_theta
from studies.spaces.box import Box

__all__ = ["box_of", "check_asked", "check_count", "check_objective", "is_function", "start_point", "widths_of"]


def check_count(name: str, count: object, least: int = 1) -> None:
    """Raises ArgumentError unless a count is an integer and large enough."""
    if isinstance(count, bool) or not isinstance(count, int) or count < least:
        raise ArgumentError(f"`{name}` must be an integer of at least {least}, got {count!r}.")


def check_asked(theta: Tensor, space: Space, n: int) -> Tensor:
    """Where a model is asked for its estimate, float64, shape [k, d].

    Args:
        theta: As it was given.
        space: The study's space.
        n: The number of trials that the model can learn from.

    Raises:
        ArgumentError: It has the wrong shape, or there is no such trial.
        ArgumentTypeError: It is no tensor.
    """
    if not n:
        raise ArgumentError("`history` must hold a complete trial with a finite objective, got none. Run the study.")
    return check_theta(theta, space.dim).double()


def check_objective(objective: object) -> None:
    """Raises ArgumentTypeError unless an objective is None or callable."""
    if objective is not None and not is_function(objective):
        raise ArgumentTypeError(
            f"`objective` must be None or a function of the outcome, got {objective!r}. Pass `lambda y: y.sum(-1)`."
        )


def is_function(given: object) -> bool:
    """Whether it can be called and is no class."""
    return callable(given) and not isinstance(given, type)


def box_of(space: Space, strategy: object) -> Box:
    """The space, which must be a box of real and logarithmic parameters without constraints.

    Raises:
        ArgumentError: It has other parameters or constraints; the message names strategies that take them.
        ArgumentTypeError: It is no box; the message names the strategy.
    """
    name = type(strategy).__name__
    if not isinstance(space, Box):
        raise ArgumentTypeError(f"`{name}` needs a Box, got {space!r}. Use RandomSearch or ModelBased for this space.")
    others = [name for name, kind in zip(space.names, space.kinds, strict=True) if kind in ("integer", "choice")]
    if others or space.constraints:
        what = f"the integers or choices {others}" if others else f"the constraints {list(space.constraints)}"
        raise ArgumentError(
            f"`{name}` needs a box of real and logarithmic parameters without constraints, got {what}. Use "
            "NoisyExpectedImprovement, RandomSearch or ModelBased for this box."
        )
    return space


def start_point(space: Space, start: Sequence[float] | Tensor | None) -> Tensor:
    """Where an optimiser starts, float64, shape [d]: the given point, or the centre of the bounds.

    The centre of a Log is that of its logarithms. Where the centre is not allowed, it is a point near it.

    Raises:
        ArgumentError: The point has not one number a parameter, or lies outside the space.
        ArgumentTypeError: It is no list of numbers.

    Example:
        >>> start_point(Box({"a": (0, 1), "b": (-1, 5)}), None)
        tensor([0.5000, 2.0000], dtype=torch.float64)
    """
    if start is None:
        middle = torch.full((space.dim,), 0.5, dtype=torch.float64)
        centre = space.from_unit(middle) if isinstance(space, Box) else space.bounds.mean(0)
        return space.round(centre[None])[0] if isinstance(space, Rounded) else centre
    point = _numbers("start", start)
    if point.shape != (space.dim,):
        raise ArgumentError(
            f"`start` must hold {space.dim} numbers, one for each of {list(space.names)}, got {point.tolist()}."
        )
    low, high = space.bounds
    inside = bool(((point >= low) & (point <= high)).all())
    if not inside or (isinstance(space, Rounded) and not bool(space.contains(point[None]).all())):
        raise ArgumentError(f"`start` must lie in {space!r}, got {point.tolist()}. Move it inside, or widen the box.")
    return point.clone()


def widths_of(name: str, width: float | Sequence[float], space: Space) -> Tensor:
    """A positive width for each parameter, float64, shape [d]: one number for all, or one each.

    Widths are in the parameters' units; those of a Log are differences of natural logarithms.

    Raises:
        ArgumentError: A width is not positive and finite, or there is not one for each parameter.
        ArgumentTypeError: It is no number, and no list of numbers.
    """
    widths = _numbers(name, width)
    if widths.shape not in ((), (space.dim,)) or not all(
        math.isfinite(value) and value > 0 for value in widths.flatten()
    ):
        raise ArgumentError(
            f"`{name}` must be a positive number, or {space.dim} of them, one for each of {list(space.names)}, "
            f"got {widths.tolist()}."
        )
    return widths.expand(space.dim)


def _numbers(name: str, given: object) -> Tensor:
    try:
        return torch.as_tensor(given, dtype=torch.float64).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentTypeError(f"`{name}` must be a number, or a list of numbers, got {given!r}.") from None
