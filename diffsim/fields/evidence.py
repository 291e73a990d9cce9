"""Type-II maximum likelihood for linear-Gaussian models whose design matrix depends on length scales."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import OptimizeResult, minimize
from torch import Tensor

__all__ = ["MAX_ROWS", "Evidence", "maximise_evidence"]

_LOG_RATIO_BOUNDS = (math.log(1e-6), math.log(10))  # noise / signal: below, float64 loses the posterior
_PRIOR_WIDTH = 0.5  # of the logarithm of a length scale
MAX_ROWS = 1500


@dataclass(frozen=True, slots=True)
class Evidence:
    """The log evidence of the data (with the prior of the length scales) and the hyper-parameters that reach it."""

    log_evidence: float
    lengthscale: Tensor
    signal: Tensor
    noise: Tensor


def maximise_evidence(
    design: Callable[[Tensor], Tensor], target: Tensor, scale: Tensor, *, steps: int = 40
) -> Evidence:
    """Length scales [m], signal and noise of the largest evidence of target = design(lengthscale) . w + noise.

    The weights have the prior N(0, signal^2); the signal is solved for in closed form;
    the length scales have a log-normal prior around `scale`. Above 1500 rows an evenly spaced part is used.

    Args:
        design: Maps length scales [m] to the design matrix [r, F].
        target: Shape [r].
        scale: Prior medians of the length scales, shape [m].
        steps: Most L-BFGS iterations.

    Source: MacKay, 1992, "Bayesian interpolation", section 4; Rasmussen and Williams, 2006, section 5.4.
    """
    rows = torch.linspace(0, len(target) - 1, min(len(target), MAX_ROWS), dtype=torch.float64).round().long()
    kept = target[rows]

    def objective(free: Tensor) -> tuple[Tensor, Tensor]:
        log_lengthscale, log_ratio = free[:-1], free[-1]
        matrix = design(log_lengthscale.exp())[rows]
        density, signal = _log_evidence(matrix, kept, log_ratio)
        prior = -0.5 * ((log_lengthscale - scale.log()) / _PRIOR_WIDTH).square().sum()
        return -(density + prior), signal

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        free = torch.tensor(x, device=scale.device, requires_grad=True)
        with torch.enable_grad():
            loss, _ = objective(free)
            (gradient,) = torch.autograd.grad(loss, free)
        return loss.item(), gradient.cpu().numpy()

    bounds = [(s - 2.5, s + 2.5) for s in scale.log().tolist()] + [_LOG_RATIO_BOUNDS]

    def climb(x: np.ndarray, most: int) -> OptimizeResult:
        return minimize(value, x, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": most})

    starts = [np.append(scale.log().cpu().numpy(), math.log(ratio)) for ratio in (1e-1, 1e-3)]
    first = min((climb(x, steps // 5) for x in starts), key=lambda result: result.fun)
    best = torch.as_tensor(climb(first.x, steps - steps // 5).x, device=scale.device)
    with torch.no_grad():
        loss, signal = objective(best)
    return Evidence(-float(loss), best[:-1].exp(), signal, signal * best[-1].exp())


def _log_evidence(matrix: Tensor, target: Tensor, log_ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Log evidence up to a constant for noise = signal * ratio, at the best signal, and that signal."""
    n_rows, n_features = matrix.shape
    ratio = log_ratio.exp()
    if n_rows <= n_features:
        cholesky = _cholesky(matrix @ matrix.T + ratio.square() * torch.eye(n_rows).to(matrix))
        quadratic = torch.linalg.solve_triangular(cholesky, target[:, None], upper=False).square().sum()
        half_log_det = cholesky.diagonal().log().sum()
    else:
        cholesky = _cholesky(matrix.T @ matrix + ratio.square() * torch.eye(n_features).to(matrix))
        weights = torch.cholesky_solve((matrix.T @ target)[:, None], cholesky)[:, 0]
        residual = target - matrix @ weights
        quadratic = residual.square().sum() / ratio.square() + weights.square().sum()
        half_log_det = cholesky.diagonal().log().sum() + (n_rows - n_features) * log_ratio
    signal = (quadratic / n_rows).clamp_min(1e-300).sqrt()
    return -n_rows * signal.log() - half_log_det, signal


def _cholesky(matrix: Tensor) -> Tensor:
    jitter = 0.0
    scale = matrix.diagonal().mean().detach()
    for _ in range(12):
        cholesky, info = torch.linalg.cholesky_ex(matrix + jitter * scale * torch.eye(len(matrix)).to(matrix))
        if not bool(info):
            return cholesky
        jitter = max(10 * jitter, 1e-15)
    return torch.linalg.cholesky(matrix)  # raises the library's own error
