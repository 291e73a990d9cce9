"""Penalties: the enormous numbers that some simulators return where they fail."""

import torch
from torch import Tensor

from studies.history import History
from studies.objective import Objective, evaluate_objective

__all__ = ["learnable", "without_penalties"]

_REPEATED = 10  # a gap above the rest, as a multiple of the rest's range
_OTHERS = 1000  # the same for penalties that differ, and for a single one
_CLOSE = 0.5  # of the gap: the range of penalties that differ
_LEAST = 4  # distinct values that are none


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
    if len(levels) <= _LEAST:
        return None
    gap, below, above = levels.diff(), levels[:-1] - levels[0], levels[-1] - levels[1:]
    is_penalty = (gap > _OTHERS * below) & (above <= _CLOSE * gap)
    if len(theta[value == levels[-1]].unique(dim=0)) > 1:
        is_penalty |= (gap > _REPEATED * below) & (above == 0)
    found = is_penalty[_LEAST - 1 :].nonzero()
    return levels[_LEAST + int(found[-1])] if len(found) else None
