"""What a round's simulations say of the step before it: the accept test of a local descent, with standard errors."""

import math

import torch
from torch import Tensor

from studies.strategies.local_models import Rows
from studies.strategies.trust_region import Evidence, Region
from surrogates.generators.response import Response

__all__ = ["difference", "evidence_of"]


def difference(response: Response, unit: Tensor, other: Tensor) -> tuple[float, float]:
    """How the mean at one point differs from that at another, both [d], and its standard error."""
    mean, error = response.difference(unit[None], other)
    return float(mean), float(error)


def evidence_of(response: Response, rows: Rows, new: Tensor, region: Region) -> Evidence:
    """What the rows of the last round say of the model without them, and of the step to their centre."""
    assert region.previous is not None
    before = torch.tensor(region.previous, dtype=torch.float64)
    old, fresh = rows.take(~new), rows.take(new)
    response.condition(old.unit, old.value[:, None], old.x, region.seed)
    predicted = response(fresh.unit, fresh.x)
    mean, weight = predicted.mean[:, 0], 1 / predicted.variance[:, 0]
    trend_of = response.mean(fresh.unit)[:, 0]
    _, step_error = difference(response, region.middle, before)
    total = weight.sum()
    surprise = float((weight * (fresh.value - mean)).sum() / total)
    # Outcomes without what the inputs explain, against the predicted mean: a slope of one is a perfect model.
    left = fresh.value - (mean - trend_of)
    left, trend_of = left - (weight * left).sum() / total, trend_of - (weight * trend_of).sum() / total
    size = (weight * trend_of.square()).sum().clamp_min(1e-300)
    slope = (weight * trend_of * left).sum() / size
    variance = (weight * (left - slope * trend_of).square()).sum() / len(fresh)
    trend = float(slope / (variance / size).sqrt().clamp_min(1e-300))
    error = math.sqrt(float(variance / total) + step_error**2)
    response.condition(rows.unit, rows.value[:, None], rows.x, region.seed)
    change, change_error = difference(response, region.middle, before)
    return Evidence(change, change_error, trend, surprise, error)
