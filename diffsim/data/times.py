"""Comparisons of sampling times, in steps and in what their numbers resolve."""

import torch
from torch import Tensor

__all__ = ["evenly_spaced", "same_times"]

_SHARE = 1e-3  # of a step


def same_times(t: Tensor, other: Tensor) -> bool:
    """Whether two series of times, [T] each, agree to a thousandth of a step, wherever their zero is."""
    if t.shape != other.shape:
        return False
    step = other.double().diff().abs().min() if len(other) > 1 else 0.0
    allowed = _SHARE * step + max(_rounding(t), _rounding(other))
    return bool(((t.double() - other.double()).abs() <= allowed).all())


def evenly_spaced(t: Tensor) -> bool:
    """Whether the spacings of times, [T], agree to a thousandth."""
    step = t.double().diff()
    return len(step) == 0 or bool(((step - step.mean()).abs() <= _SHARE * step.mean().abs() + _rounding(t)).all())


def _rounding(t: Tensor) -> float:
    return 4 * torch.finfo(t.dtype).eps * float(t.detach().abs().max())
