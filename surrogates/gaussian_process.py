"""A Gaussian process on a simulator's outcomes: BoTorch's single-task model, fitted, with sensible transforms."""

from typing import cast

import torch
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Normalize, Standardize
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError

__all__ = ["gaussian_process"]

_CONSTANT = 1e-12  # of a column's largest magnitude: below, its spread is rounding


def gaussian_process(
    theta: Tensor, outcome: Tensor, *, bounds: Tensor | None = None, noise: Tensor | float | None = None
) -> SingleTaskGP:
    """A Gaussian process fitted by marginal likelihood, one independent output a column.

    Its mean and covariance are in the outcome's unit, whatever that is; GPyTorch reports no `variance` below 1e-10.

    Args:
        theta: Parameters, shape [n, d].
        outcome: Outcomes, shape [n] or [n, m].
        bounds: Bounds of the parameters, shape [2, d]; the data's own range by default.
        noise: Known standard deviation of the outcomes, shape [], [n] or [n, m]; estimated by default.

    Returns:
        A BoTorch model in evaluation mode, float64.

    Raises:
        ArgumentError: Shapes do not agree, there are no data, values are not finite, or the noise is negative.
        ArgumentTypeError: Theta or outcomes are no tensor.

    Source: Rasmussen and Williams, 2006, chapter 2; priors of Hvarfner, Hellsten and Nardi, 2024, arXiv 2402.02229.
    """
    for name, value in (("theta", theta), ("outcome", outcome)):
        if not isinstance(value, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(value).__name__
            raise ArgumentTypeError(f"`{name}` must be a tensor, got {kind}. Pass torch.as_tensor({name}).")
    theta, outcome = theta.to(torch.float64), outcome.to(torch.float64)
    outcome = outcome[:, None] if outcome.ndim == 1 else outcome
    if theta.ndim != 2 or outcome.ndim != 2 or len(theta) != len(outcome) or len(theta) == 0:
        raise ArgumentError(
            f"`theta` and `outcome` must have shapes [n, d] and [n, m] with n > 0, got {list(theta.shape)} and "
            f"{list(outcome.shape)}."
        )
    if not bool(torch.isfinite(theta).all() and torch.isfinite(outcome).all()):
        raise ArgumentError("`theta` and `outcome` must be finite. Leave the failed trials out.")
    if bounds is None:  # BoTorch takes a range below 1e-8 for none, whatever the unit
        low, high = theta.aminmax(dim=0)
        varies = high - low > _CONSTANT * theta.abs().amax(0)
        bounds = torch.stack([low, torch.where(varies, high, low + 1)])
    if bounds.shape != (2, theta.shape[1]):
        raise ArgumentError(f"`bounds` must have shape [2, {theta.shape[1]}], got {list(bounds.shape)}.")
    variance = None
    if noise is not None:
        deviation = torch.as_tensor(noise, dtype=torch.float64)
        if deviation.shape not in ((), outcome.shape[:1], outcome.shape) or not bool((deviation >= 0).all()):
            raise ArgumentError(
                f"`noise` must be at least 0, of shape [], [{len(outcome)}] or {list(outcome.shape)}, got "
                f"{deviation.tolist()}."
            )
        deviation = deviation[:, None] if deviation.ndim == 1 else deviation
        variance = deviation.square().expand_as(outcome).clone()
    # BoTorch takes a spread below 1e-8 for none, whatever the unit; here it is one that may be rounding.
    least = _CONSTANT * outcome.abs().amax(0, keepdim=True).clamp_min(torch.finfo(outcome.dtype).tiny)
    model = SingleTaskGP(
        theta,
        outcome,
        variance,
        input_transform=Normalize(theta.shape[1], bounds=bounds.to(torch.float64)),
        outcome_transform=Standardize(outcome.shape[1], min_stdv=cast(float, least)),
    )
    if len(theta) > 1:  # one row says nothing about length scales
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model.eval()
