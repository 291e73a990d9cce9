"""Bayesian regression of one outcome on theta and observed inputs: a sum of kernels, noise that may vary, evidence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

__all__ = ["Kernel", "KernelRegression"]

Shape = Literal["linear", "quadratic", "smooth"]

N_EVIDENCE = 300  # rows that the hyper-parameters are fitted to
N_INDUCING = 500  # rows that span the posterior; with fewer data it is exact
N_SEPARATE = 10  # up to as many parameters have a length scale each, more share one
_UNLIKE = 0.5  # standard deviation of log length scales from their mean
_JITTER = 1e-6
_LENGTHS = (-4.0, 8.0)  # bounds of log length scales
_AMPLITUDES = (-16.0, 8.0)  # of log variances, in units of the outcome's


def _squared_distance(a: Tensor, b: Tensor) -> Tensor:
    cross = a @ b.transpose(-1, -2)
    return (a.square().sum(-1)[..., :, None] + b.square().sum(-1)[..., None, :] - 2 * cross).clamp_min(0)


@dataclass(frozen=True, slots=True)
class Kernel:
    """The covariance of the mean outcome: a part of theta, a part of x, and for smooth shapes a part of both.

    Args:
        shape: Of the part of theta: linear, linear + quadratic, or linear + Gaussian.
        dim: Number d of parameters.
        n_inputs: Number k of inputs.
        n_directions: The first so many parameters have scales of their own, the rest share one; None: `N_SEPARATE`
            decides.
    """

    shape: Shape
    dim: int
    n_inputs: int
    n_directions: int | None = None

    @property
    def groups(self) -> Tensor:
        """Which length scale each parameter has, shape [d]."""
        separate = (self.dim if self.dim <= N_SEPARATE else 0) if self.n_directions is None else self.n_directions
        return torch.arange(self.dim).clamp_max(separate)

    @property
    def n_scales(self) -> int:
        """The number of length scales of theta."""
        return int(self.groups[-1]) + 1 if self.shape == "smooth" else 0

    @property
    def initial(self) -> list[float]:
        """Logarithms of the prior's medians: scales of theta and x, then variances, the noise's last."""
        scales = [math.log(2 * math.sqrt(self.dim))] * self.n_scales + [math.log(2)] * self.n_inputs
        theta = [-4.0] + [-4.0] * (self.n_directions is not None) + [-2.0] * (self.shape != "linear")
        inputs = ([-2.0] + [-4.0] * (self.shape == "smooth")) if self.n_inputs else []
        return [*scales, *theta, *inputs, -0.5]

    @property
    def n_lengths(self) -> int:
        """The number of all length scales."""
        return self.n_scales + self.n_inputs

    def penalty(self, log: Tensor) -> Tensor:
        """Minus the log prior density of hyper-parameters, up to a constant; wide, with long scales in many dimensions.

        Separate length scales of theta are alike unless the rows say otherwise: were each free, those of which noisy
        rows say little would be long, and the posterior sure that nothing bends there. Few directions have free ones.

        Source: for the level of the length scales Hvarfner, Hellsten and Nardi, 2024, arXiv 2402.02229.
        """
        scales, inputs = log[: self.n_scales], log[self.n_scales : self.n_lengths]
        variances = log[self.n_lengths :] - torch.tensor(self.initial[self.n_lengths :], dtype=log.dtype)
        total = (inputs - math.log(2)).square().sum() / 2 + variances.square().sum() / 18
        expected = math.sqrt(2) + math.log(self.dim) / 2
        if self.n_directions is not None or not self.n_scales:
            return total + (scales - expected).square().sum() / 6
        level = scales.mean()
        return total + (level - expected).square() / 6 + (scales - level).square().sum() / (2 * _UNLIKE**2)

    def inputs(self, x: Tensor, other: Tensor, log: Tensor) -> Tensor:
        """Covariance of inputs, [a, k], [b, k] -> [a, b]."""
        lengths = log[self.n_scales : self.n_lengths].exp()
        return torch.exp(-_squared_distance(x / lengths, other / lengths) / 2)

    def diagonal(self, z: Tensor, log: Tensor) -> Tensor:
        """The variance of the mean at parameters [n, d], shape [n]."""
        one = torch.ones(1, 1, dtype=z.dtype) if self.n_inputs else None
        return self(z[:, None], z[:, None], one, log)[:, 0, 0]

    def __call__(self, z: Tensor, other: Tensor, inputs: Tensor | None, log: Tensor) -> Tensor:
        """Covariance of means at [..., a, d] and [..., b, d], where their inputs have the covariance `inputs`."""
        variances = iter(log[self.n_lengths :].exp())
        lead = self.n_directions or 0
        turned = other.transpose(-1, -2)
        cross = z[..., lead:] @ turned[..., lead:, :] / max(self.dim - lead, 1) * 3
        total = 1 + next(variances) * cross  # the intercept has the variance of the outcomes
        if lead:
            total = total + next(variances) * (z[..., :lead] @ turned[..., :lead, :] / lead * 3)
        bump: Tensor | None = None
        if self.shape == "quadratic":
            total = total + next(variances) * (z @ turned / self.dim * 3).square()
        elif self.shape == "smooth":
            lengths = log[: self.n_scales].exp()[self.groups]
            bump = torch.exp(-_squared_distance(z / lengths, other / lengths) / 2)
            total = total + next(variances) * bump
        if inputs is not None:
            total = total + next(variances) * inputs
            if bump is not None:
                total = total + next(variances) * bump * inputs
        return total


@dataclass(slots=True)
class KernelRegression:
    """The posterior of the mean outcome under a kernel, given rows in standard units.

    Hyper-parameters maximise the evidence of some rows; the posterior rests on all of them through inducing rows
    (fully independent training conditional). The noise's log variance is linear in x, |x|, x^2 (and in theta
    where that has few dimensions), if the residuals say so.

    Args:
        kernel: The covariance.

    Source: Rasmussen and Williams, 2006, chapter 2; Snelson and Ghahramani, 2005, for the inducing rows.
    """

    kernel: Kernel
    log: Tensor = field(default_factory=lambda: torch.empty(0))
    noise_slopes: Tensor | None = None
    z: Tensor = field(default_factory=lambda: torch.empty(0))
    x: Tensor | None = None
    mean_inputs: Tensor | None = None
    root: Tensor = field(default_factory=lambda: torch.empty(0))
    precision: Tensor = field(default_factory=lambda: torch.empty(0))
    weights: Tensor = field(default_factory=lambda: torch.empty(0))

    def fit(self, z: Tensor, x: Tensor | None, y: Tensor, generator: torch.Generator) -> None:
        """Hyper-parameters by the evidence, then `condition`; z [n, d], x [n, k], y [n]."""
        order = torch.randperm(len(y), generator=generator)[:N_EVIDENCE]
        self.log, self.noise_slopes = torch.tensor(self.kernel.initial, dtype=y.dtype), None
        for steps in (25, 10):
            self._maximise(z[order], None if x is None else x[order], y[order], steps)
            self.condition(z, x, y, generator)
            if self.noise_slopes is not None or not self._learn_noise(z, x, y):
                return

    def condition(self, z: Tensor, x: Tensor | None, y: Tensor, generator: torch.Generator) -> None:
        """The posterior given rows, with the hyper-parameters of now."""
        chosen = torch.randperm(len(y), generator=generator)[:N_INDUCING]
        self.z, self.x = z[chosen], None if x is None else x[chosen]
        eye = torch.eye(len(chosen), dtype=y.dtype)
        cross = self._covariance(z, x)
        own = cross[chosen]
        self.root = _cholesky(own + _JITTER * own.diagonal().mean().clamp_min(1e-12) * eye)
        features = torch.linalg.solve_triangular(self.root, cross.T, upper=False).T
        unseen = (self.kernel.diagonal(z, self.log) - features.square().sum(1)).clamp_min(0)
        scaled = features / (self.noise(z, x) + unseen)[:, None]
        self.precision = _cholesky(features.T @ scaled + eye)
        slopes = torch.cholesky_solve((scaled.T @ y)[:, None], self.precision)
        self.weights = torch.linalg.solve_triangular(self.root.T, slopes, upper=True)[:, 0]
        if x is not None and self.x is not None:
            self.mean_inputs = self.kernel.inputs(x, self.x, self.log).mean(0)

    def mean(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """The posterior mean at parameters [..., a, d] and inputs [a, k], or averaged over the inputs, -> [..., a]."""
        return self._covariance(z, x) @ self.weights

    def spread(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        """The posterior standard deviation of `mean`, shape [..., a, d] -> [..., a]."""
        return self._deviation(self._covariance(z, x))

    def difference(self, z: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of mean(z) - mean(other), [n, d], [d] -> [n], [n]."""
        rows = self._covariance(z, None) - self._covariance(other[None], None)
        return rows @ self.weights, self._deviation(rows)

    def noise(self, z: Tensor, x: Tensor | None) -> Tensor:
        """The variance of the outcome about its mean, [..., d] (, [..., k]) -> [...]."""
        level = self.log[-1].exp()
        if self.noise_slopes is None:
            return level.expand(z.shape[:-1])
        slopes = self.noise_slopes
        return level * (self._noise_columns(z, x) @ slopes[1:] + slopes[0]).clamp(-4.0, 4.0).exp()

    def _covariance(self, z: Tensor, x: Tensor | None) -> Tensor:
        if self.x is None:
            return self.kernel(z, self.z, None, self.log)
        inputs = self.mean_inputs if x is None else self.kernel.inputs(x, self.x, self.log)
        return self.kernel(z, self.z, inputs, self.log)

    def _deviation(self, rows: Tensor) -> Tensor:
        features = torch.linalg.solve_triangular(self.root, rows.transpose(-1, -2), upper=False)
        return torch.linalg.solve_triangular(self.precision, features, upper=False).square().sum(-2).sqrt()

    def _maximise(self, z: Tensor, x: Tensor | None, y: Tensor, steps: int) -> None:
        """L-BFGS on the evidence times the prior."""
        weight = torch.ones_like(y) if self.noise_slopes is None else self.noise(z, x) / self.log[-1].exp()
        jitter = _JITTER * torch.ones_like(y)

        def evaluate(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            log = torch.tensor(values, dtype=y.dtype, requires_grad=True)
            inputs = None if x is None else self.kernel.inputs(x, x, log)
            covariance = self.kernel(z, z, inputs, log) + torch.diag(log[-1].exp() * weight + jitter)
            root, failed = torch.linalg.cholesky_ex(covariance.detach())
            if int(failed):
                return 1e10, np.zeros_like(values)
            inverse = torch.cholesky_inverse(root)
            weights, penalty = inverse @ y, self.kernel.penalty(log)
            loss = y @ weights / 2 + root.diagonal().log().sum() + penalty.detach()
            pull = (inverse - weights[:, None] * weights) / 2  # the slope of the loss in the covariance
            (gradient,) = torch.autograd.grad((covariance, penalty), log, (pull, torch.ones_like(penalty)))
            return float(loss), gradient.double().numpy()

        lengths = self.kernel.n_lengths
        bounds: Sequence[tuple[float, float]] = [_LENGTHS] * lengths + [_AMPLITUDES] * (len(self.log) - lengths)
        found = minimize(
            evaluate, self.log.numpy(), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps}
        )
        self.log = torch.tensor(cast("NDArray[np.float64]", found.x), dtype=y.dtype)

    def _noise_columns(self, z: Tensor, x: Tensor | None) -> Tensor:
        columns = [z] if self.kernel.dim <= N_SEPARATE else []
        if x is not None:
            columns += [x, x.abs(), x.square()]
        return torch.cat(columns, -1) if columns else z[..., :0]

    def _learn_noise(self, z: Tensor, x: Tensor | None, y: Tensor) -> bool:
        """A ridge regression of the log squared residuals, kept where it makes the residuals clearly more likely."""
        columns = self._noise_columns(z, x)
        if columns.shape[-1] == 0:
            return False
        squares = (y - self.mean(z, x)).square()
        level = squares.mean()
        columns = torch.cat([torch.ones_like(columns[:, :1]), columns], 1)
        ridge = torch.diag(torch.tensor([1e-9] + [20.0] * (columns.shape[1] - 1), dtype=y.dtype))
        logs = (squares + 1e-2 * level + 1e-300).log()
        slopes = torch.linalg.solve(columns.T @ columns + ridge, columns.T @ logs)
        variance = (columns @ slopes).clamp(-60, 60).exp()
        variance = variance * (squares / variance).mean()
        gain = (level.log() - variance.log()).sum() / 2
        if not bool(gain > 10):
            return False
        slopes[0] = slopes[0] - (columns @ slopes).mean()
        self.noise_slopes = slopes
        return True


def _cholesky(matrix: Tensor) -> Tensor:
    """The Cholesky factor, with as much jitter as it needs."""
    scale = matrix.diagonal().mean()
    for power in range(-12, 0):
        root, failed = torch.linalg.cholesky_ex(matrix)
        if not int(failed):
            return root
        matrix = matrix + 10.0**power * scale * torch.eye(len(matrix), dtype=matrix.dtype)
    return torch.linalg.cholesky(matrix)
