"""Runs under a Gaussian-process Hamiltonian: a Gaussian posterior over whole runs, by linearising the roll-out."""

from collections.abc import Callable
from typing import Any

import torch
from botorch.posteriors.gpytorch import GPyTorchPosterior
from gpytorch.distributions import MultitaskMultivariateNormal
from linear_operator.operators import DiagLinearOperator, RootLinearOperator
from torch import Tensor

from diffsim.errors import ArgumentError
from diffsim.fields.gaussian_process import GaussianProcessHamiltonian
from diffsim.integrate.sensitivity import weight_sensitivity
from surrogates.rollout_model import RolloutModel

__all__ = ["RolloutPosterior"]


class RolloutPosterior(RolloutModel):
    """A fitted Gaussian-process Hamiltonian as a BoTorch model of runs.

    The posterior over the weights is Gaussian; runs are linearised in them, so covariances between runs, and what a
    new run would teach about others, are exact to first order.

    Args:
        field: The fitted field.
        t: Output times of the runs, shape [T].
        noise: Standard deviation of the measurement noise; that of the fit by default.
        state: Maps designs [..., k] to initial states [..., d].
        theta: Maps designs [..., k] to system parameters [..., j].
        step: Largest solver step; a quarter of the shortest output interval, at least two hundredths of the span,
            by default.
    """

    def __init__(
        self,
        field: GaussianProcessHamiltonian,
        t: Tensor,
        *,
        noise: float | None = None,
        state: Callable[[Tensor], Tensor] | None = None,
        theta: Callable[[Tensor], Tensor] | None = None,
        step: float | None = None,
    ) -> None:
        if (theta is None) != (field.n_theta == 0):
            raise ArgumentError(f"`theta` must map designs to the field's {field.n_theta} parameters, got {theta}.")
        if step is not None and not step > 0:
            raise ArgumentError(f"`step` must be positive, got {step}.")
        super().__init__(t.to(torch.float64), float(field.noise) if noise is None else noise, state, theta)
        self.field = field
        span, shortest = float((t[-1] - t[0]).abs()), float(t.diff().abs().min())
        self.step = max(shortest / 4, span / 50) if step is None else step

    @property
    def num_outputs(self) -> int:
        """Number of outputs of a run, (T - 1) d."""
        return (len(self.t) - 1) * self.field.dim

    @property
    def batch_shape(self) -> torch.Size:
        """The model is one, not a batch."""
        return torch.Size()

    def response(self, X: Tensor, t: Tensor | None = None) -> Tensor:
        return self._linearise(X, t)[1]

    def posterior(
        self,
        X: Tensor,
        output_indices: list[int] | None = None,
        observation_noise: bool | Tensor = False,
        posterior_transform: Callable[[GPyTorchPosterior], GPyTorchPosterior] | None = None,
    ) -> GPyTorchPosterior:
        """The joint Gaussian of runs, [..., n, k] -> [..., n, (T - 1) d].

        Args:
            X: Designs, shape [..., n, k].
            output_indices: Not supported.
            observation_noise: Whether the measurement noise is included, or the variance to include instead, of a shape
                that broadcasts with [..., n, (T - 1) d].
            posterior_transform: Applied to the posterior.
        """
        if output_indices is not None:
            raise ArgumentError("`output_indices` is not supported: a run is one outcome. Leave it out.")
        mean, response = self._linearise(X, None)
        covariance: Any = RootLinearOperator(response.flatten(-3, -2))
        variance = (
            self.noise**2 * float(observation_noise) if isinstance(observation_noise, bool) else observation_noise
        )
        jitter = 1e-10 * (1 + float(mean.detach().square().mean()))
        diagonal = DiagLinearOperator((torch.as_tensor(variance).to(mean) + jitter).expand(mean.shape).flatten(-2))
        posterior = GPyTorchPosterior(MultitaskMultivariateNormal(mean, covariance + diagonal))
        return posterior if posterior_transform is None else posterior_transform(posterior)

    def _linearise(self, X: Tensor, t: Tensor | None) -> tuple[Tensor, Tensor]:
        times = self.t if t is None else t.to(torch.float64)
        y0, theta = self.launch(X)
        batch = y0.shape[:-1]
        y0, theta = y0.flatten(0, -2), None if theta is None else theta.flatten(0, -2)
        guard = _Guard()
        states, response, _ = weight_sensitivity(
            self.field, guard(y0), times, step=self.step, theta=None if theta is None else guard(theta)
        )
        response = (response[:, 1:] @ self.field.factor).flatten(1, 2)
        states = states[:, 1:].flatten(1)
        finite = guard.finite = torch.isfinite(response).flatten(1).all(1) & torch.isfinite(states).all(1)
        response = torch.where(finite[:, None, None], response, 0.0)
        states = torch.where(finite[:, None], states, 0.0)
        return states.reshape(*batch, -1), response.reshape(*batch, *response.shape[1:])


class _Guard:
    """Keeps the NaN of a run that diverges out of the gradient: its zero response does not depend on the design."""

    finite: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            x = x.view_as(x)
            x.register_hook(lambda gradient: torch.where(self.finite[:, None], gradient, 0.0))
        return x
