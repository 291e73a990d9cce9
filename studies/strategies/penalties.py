"""Penalties: the enormous numbers that some simulators return where they fail."""

import torch
from torch import Tensor

from studies.history import History
from studies.objective import Objective, evaluate_objective

__all__ = ["learnable", "without_penalties"]

_CONSTANT = (10, 2)  # a gap, as a multiple of the rest's range, and the rest's least number of distinct values
_VARYING = (1000, 4)  # the same for penalties that differ, and for a single one
_CLOSE = 0.5  # of the gap: the range of penalties that differ


def learnable(objective: Objective | None, history: History) -> Tensor:
    """The objective of each complete trial, shape [n]; NaN where it is not finite, or a penalty."""
    return without_penalties(evaluate_objective(objective, history), history.theta)


def without_penalties(value: Tensor, theta: Tensor) -> Tensor:
    """NaN for penalties: large values that lie together, a gap above the rest that dwarfs the range of the rest.

    To a model of the objective such a cliff is all there is; as failures they teach where not to go. A gap of ten
    ranges does where the same value was seen at two parameters or more, else one of a thousand.

    Args:
        value: Objectives, shape [n].
        theta: Their parameters, shape [n, d].
    """
    value = value.clone()
    while (least := _least_penalty(value, theta)) is not None:
        value[value >= least] = torch.nan
    return value


def _least_penalty(value: Tensor, theta: Tensor) -> Tensor | None:
    """The least of the topmost penalties, if there are any."""
    levels = value[value.isfinite()].unique()
    if len(levels) < 2:
        return None
    gap, below, above = levels.diff(), levels[:-1] - levels[0], levels[-1] - levels[1:]
    below_number = torch.arange(1, len(levels))
    varying = (gap > _VARYING[0] * below) & (below_number >= _VARYING[1]) & (above <= _CLOSE * gap)
    constant = (gap > _CONSTANT[0] * below) & (below_number >= _CONSTANT[1]) & (above == 0)
    if len(theta[value == levels[-1]].unique(dim=0)) < 2:
        constant = torch.zeros_like(constant)
    found = (varying | constant).nonzero()
    return levels[1 + int(found[-1])] if len(found) else None
