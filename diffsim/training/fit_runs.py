"""The posterior of a Gaussian-process Hamiltonian given measured runs: integral-form start, then Gauss-Newton."""

import math
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.interpolate import make_interp_spline
from torch import Tensor

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, TrainingError
from diffsim.fields.evidence import MAX_ROWS, maximise_evidence
from diffsim.fields.gaussian_process import GaussianProcessHamiltonian
from diffsim.integrate.sensitivity import runge_kutta, weight_sensitivity

__all__ = ["RunFit", "fit_runs"]

_NODES = 3  # Gauss-Legendre points in each sampling interval
_DAMPING = [3.0**-i for i in range(8)]  # of a Gauss-Newton step
_NOISE_FLOOR = 1e-5  # of the runs' spread: below, the solver's error is larger


@dataclass(frozen=True, slots=True)
class RunFit:
    """The record of `fit_runs`.

    Attributes:
        noise: Standard deviation of the measurement noise, given or estimated.
        residual: Root mean square of measured minus fitted states.
        iterations: Gauss-Newton steps taken.
        converged: Whether the last step changed the objective by less than one thousandth.
        seconds: Wall-clock time.
    """

    noise: float
    residual: float
    iterations: int
    converged: bool
    seconds: float


@torch.no_grad()
def fit_runs(
    field: GaussianProcessHamiltonian,
    runs: Trajectory,
    *,
    theta: Tensor | None = None,
    noise: float | None = None,
    initial: Literal["fixed", "free"] = "fixed",
    step: float | None = None,
    iterations: int = 10,
) -> RunFit:
    """Fit a Gaussian-process Hamiltonian to whole runs: the likelihood of the states, not of their derivatives.

    Length scales, signal and noise maximise the evidence of the integral form y(t) = y(0) + integral f(y) dt along
    a spline through the samples; Gauss-Newton steps on the roll-outs then give the posterior mode, and its
    linearisation the posterior covariance of the weights (Laplace).

    Args:
        field: The field to fit; it gets the posterior.
        runs: Measured runs, [T] and [T, n, d].
        theta: System parameters of each run, shape [n, k], where the field depends on them.
        noise: Standard deviation of the measurement noise; estimated if not given.
        initial: Whether the first sample is the exact initial state (``fixed``), or measured like the others and
            the initial state is unknown (``free``).
        step: Largest step of the solver; an eighth of the median sampling interval, or less, by default.
        iterations: Most Gauss-Newton steps.

    Raises:
        ArgumentError: Shapes do not agree, or a value is out of its range.
        TrainingError: There are fewer than two samples a run.

    Source: Bock, 1983 (multiple shooting, Gauss-Newton); MacKay, 1992 (evidence).
    """
    started = time.perf_counter()
    t, y = _check(field, runs, theta, noise, initial, step, iterations)
    theta = None if theta is None else theta.to(y)
    step = _default_step(t) if step is None else step
    known_noise = None if noise is None else max(noise, _NOISE_FLOOR * float(y.std()))
    _start_from_integrals(field, t, y, theta, initial)
    sigma = float(field.noise) if known_noise is None else known_noise
    sigma = max(sigma, _NOISE_FLOOR * float(y.std()))

    weights, y0 = field.weights, y[:, 0]
    shot = _Shot(field, t, y, theta, step, initial)
    objective = shot.objective(weights, y0, sigma)
    converged, taken = False, 0
    while not converged and taken < iterations:
        taken += 1
        design, target = shot.linearise(weights, y0)
        field.condition(design, target, sigma)
        change = field.weights - weights
        shift = shot.initial_shift(change)
        for scale in _DAMPING:
            trial = weights + scale * change, y0 + scale * shift
            value = shot.objective(*trial, sigma)
            if value < objective:
                converged = objective - value < 1e-3 + 1e-6 * value
                (weights, y0), objective = trial, value
                break
        else:
            converged = math.isfinite(objective)
            break
        if known_noise is None:
            sigma = max(shot.noise(weights, y0, sigma, field), _NOISE_FLOOR * float(y.std()))
            objective = shot.objective(weights, y0, sigma)
    design, target = shot.linearise(weights, y0)
    field.condition(design, target, sigma)
    field.weights = weights
    field.noise = torch.as_tensor(sigma, dtype=torch.float64).to(weights)
    return RunFit(sigma, shot.residual(weights, y0), taken, converged, time.perf_counter() - started)


class _Shot:
    """Roll-outs against measured runs, and their linearisation at given weights and initial states."""

    def __init__(
        self, field: GaussianProcessHamiltonian, t: Tensor, y: Tensor, theta: Tensor | None, step: float, initial: str
    ) -> None:
        self.field, self.t, self.y, self.theta, self.step = field, t, y, theta, step
        self.free = initial == "free"
        self.first = 0 if self.free else 1

    def residuals(self, weights: Tensor, y0: Tensor) -> Tensor:
        """Measured minus rolled-out states, [n, T or T - 1, d]."""
        self.field.weights = weights
        zero = torch.zeros((), dtype=y0.dtype, device=y0.device)
        states = runge_kutta(lambda y: self.field(zero, y, self.theta), y0, self.t, self.step)
        return (self.y - states)[:, self.first :]

    def residual(self, weights: Tensor, y0: Tensor) -> float:
        return float(self.residuals(weights, y0).square().mean().sqrt())

    def objective(self, weights: Tensor, y0: Tensor, sigma: float) -> float:
        misfit = (self.residuals(weights, y0) / sigma).square().sum()
        value = float(misfit + (weights / self.field.signal).square().sum())
        return value if math.isfinite(value) else math.inf

    def linearise(self, weights: Tensor, y0: Tensor) -> tuple[Tensor, Tensor]:
        """Design [r, F] and target [r] with target = design . w + noise; the initial states projected out."""
        self.field.weights = weights
        states, s, s0 = weight_sensitivity(self.field, y0, self.t, step=self.step, theta=self.theta)
        design = s[:, self.first :].flatten(1, 2)
        error = (self.y - states)[:, self.first :].flatten(1, 2)
        good = torch.isfinite(design).flatten(1).all(1) & torch.isfinite(error).all(1)
        design, error = design[good], error[good]
        if self.free:
            basis, upper = torch.linalg.qr(s0.flatten(1, 2)[good])
            self._initial = (good, upper, basis, error, design)
            project = lambda a: a - basis @ (basis.mT @ a)  # noqa: E731
            design, error = project(design), project(error[..., None])[..., 0]
        design, error = design.flatten(0, 1), error.flatten()
        return design, error + design @ weights

    def initial_shift(self, change: Tensor) -> Tensor:
        """How the best initial states move with a change of the weights, [n, d]."""
        shift = torch.zeros_like(self.y[:, 0])
        if self.free:
            good, upper, basis, error, design = self._initial
            rest = error - design @ change
            shift[good] = torch.linalg.solve_triangular(upper, basis.mT @ rest[..., None], upper=True)[..., 0]
        return shift

    def noise(self, weights: Tensor, y0: Tensor, sigma: float, field: GaussianProcessHamiltonian) -> float:
        """The noise from the residuals and the effective number of parameters."""
        residuals = self.residuals(weights, y0)
        shrunk = (field.factor.square().sum() / field.signal.square()).item()  # trace of posterior / prior variance
        effective = field.factor.shape[-1] - shrunk + (y0.numel() if self.free else 0)
        return float((residuals.square().sum() / max(residuals.numel() - effective, 0.1 * residuals.numel())).sqrt())


def _start_from_integrals(
    field: GaussianProcessHamiltonian, t: Tensor, y: Tensor, theta: Tensor | None, initial: str
) -> None:
    """Hyper-parameters (from some of many runs) and weights, by the integral form along a spline through the samples.

    Its noise is estimated even where the measurement's is known: the spline's error is part of it.
    """
    nodes, weights = _quadrature(t)
    degree = min(3, len(t) - 1)
    order = t.argsort()
    spline = make_interp_spline(t[order].cpu().numpy(), y[:, order].cpu().numpy(), k=degree, axis=1)
    path = torch.as_tensor(spline(nodes.flatten().cpu().numpy())).to(y)  # [n, (T - 1) * nodes, d]
    at_nodes = None if theta is None else theta[:, None]

    def integrate(rates: Tensor) -> Tensor:
        """Cumulative integrals from the first sample, [n, (T - 1) * nodes, ...] -> [n, T, ...]."""
        parts = rates.unflatten(1, nodes.shape) * weights.reshape(*weights.shape, *[1] * (rates.ndim - 2))
        sums = parts.sum(2).cumsum(1)
        return torch.cat([torch.zeros_like(sums[:, :1]), sums], dim=1)

    def centre(values: Tensor) -> Tensor:
        """Remove the unknown initial state: exactly, where it is fixed, else with the mean of the run."""
        return values[:, 1:] if initial == "fixed" else values - values.mean(1, keepdim=True)

    moved = y - y[:, :1]
    if field.known is not None:
        moved = moved - integrate(field.known(torch.zeros(()).to(y), path))
    target = centre(moved).flatten(1)

    def design(lengthscale: Tensor, chosen: Tensor) -> Tensor:
        parameters = None if at_nodes is None else at_nodes[chosen]
        return centre(integrate(field.at(lengthscale).design(path[chosen], parameters))).flatten(0, 2)

    n_runs = min(max(MAX_ROWS // target.shape[1], 1), len(y))
    some = torch.linspace(0, len(y) - 1, n_runs).round().long()
    evidence = maximise_evidence(lambda scales: design(scales, some), target[some].flatten(), field.scale)
    field.adopt(evidence)
    field.condition(design(field.lengthscale, torch.arange(len(y))), target.flatten(), evidence.noise)


def _quadrature(t: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights in each interval, [T - 1, nodes] each."""
    x, w = (torch.as_tensor(a).to(t) for a in np.polynomial.legendre.leggauss(_NODES))
    middle, half = (t[1:] + t[:-1])[:, None] / 2, t.diff()[:, None] / 2
    return middle + half * x, half * w


def _default_step(t: Tensor) -> float:
    return float(t.diff().abs().median()) / 8


def _check(
    field: GaussianProcessHamiltonian,
    runs: Trajectory,
    theta: Tensor | None,
    noise: float | None,
    initial: str,
    step: float | None,
    iterations: int,
) -> tuple[Tensor, Tensor]:
    t, y = (x.detach().to(field.weights) for x in (runs.t, runs.y.transpose(0, 1)))
    if y.shape[-1] != field.dim:
        raise ArgumentError(f"`runs` must hold states of dimension {field.dim}, got {y.shape[-1]}.")
    given = None if theta is None else list(theta.shape)
    if given != ([len(y), field.n_theta] if field.n_theta else None):
        wanted = f"have shape [{len(y)}, {field.n_theta}]" if field.n_theta else "be left out"
        raise ArgumentError(f"`theta` must {wanted}, got {given}.")
    if theta is not None and not bool(torch.isfinite(theta).all()):
        raise ArgumentError("`theta` must be finite. Leave the failed runs out.")
    if noise is not None and not 0 <= noise < math.inf:
        raise ArgumentError(f"`noise` must be finite and not negative, got {noise}. Leave it out to estimate it.")
    if step is not None and not step > 0:
        raise ArgumentError(f"`step` must be positive, got {step}.")
    if initial not in ("fixed", "free"):
        raise ArgumentError(f"`initial` must be 'fixed' or 'free', got {initial!r}.")
    if iterations < 1:
        raise ArgumentError(f"`iterations` must be at least 1, got {iterations}.")
    if len(t) < 2:
        raise TrainingError(f"`runs` must hold at least two samples a run, got {len(t)}.")
    return t, y
