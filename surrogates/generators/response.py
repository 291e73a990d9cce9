"""Responses: regressions of the outcome on theta with an exact posterior; linear, quadratic or a Gaussian process."""

import time
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from diffsim.errors import ArgumentError
from diffsim.training.report import FitReport
from diffsim.training.settings import Training
from surrogates.generators.kernel_regression import Kernel, KernelRegression, Shape
from surrogates.standardise import Standardisation
from surrogates.surrogate import Surrogate

__all__ = ["LinearResponse", "ProcessResponse", "QuadraticResponse", "Response"]

_AT_ONCE = 4096  # rows: bounds the memory of many parameters against many inputs


class Response(Surrogate):
    """A normal distribution of the outcome about a mean with a Bayesian posterior, each outcome by itself.

    Inputs x enter as control variates: as a smooth function of their own, in a `ProcessResponse` also with theta.
    A fit takes no steps of training: its hyper-parameters maximise the evidence.

    Args:
        dim: Number d of parameters.
        n_outcomes: Number m of outcomes.
        n_inputs: Number k of observed random inputs.
        directions: Look for so many directions of theta in which the outcome varies most, from the gradients of a
            first fit, and give them scales of their own; None takes the parameters as they are.

    Raises:
        ArgumentError: A number is out of range.
    """

    shape: Shape = "smooth"

    def __init__(self, dim: int, n_outcomes: int = 1, n_inputs: int = 0, directions: int | None = None) -> None:
        super().__init__(dim, n_outcomes, n_inputs)
        if directions is not None and not 1 <= directions < dim:
            raise ArgumentError(f"`directions` must lie between 1 and {dim - 1}, got {directions}.")
        self.directions = directions
        self.units, self.outcome_units = Standardisation(dim), Standardisation(n_outcomes)
        self.input_units = Standardisation(n_inputs)
        self.columns: list[KernelRegression] = []
        self.bases: list[Tensor] = []

    def forward(self, theta: Tensor, x: Tensor | None = None) -> Distribution:
        return Independent(Normal(*self._moments(theta, x)), 1)

    def sample(self, theta: Tensor, x: Tensor | None, n: int, generator: torch.Generator) -> Tensor:
        theta, x, batch = self._check_call(theta, x)
        own = x.shape[:-1] if x is not None else torch.Size()
        outer, inner = batch[: len(batch) - len(own)], batch[len(batch) - len(own) :]
        rows = theta.expand(*batch, self.dim).reshape(outer.numel(), *inner, self.dim)
        parts = [self._moments(part, x) for part in rows.split(max(1, _AT_ONCE // max(own.numel(), 1)))]
        mean, deviation = (torch.cat(moment).reshape(*batch, self.n_outcomes) for moment in zip(*parts, strict=True))
        return mean + deviation * self._noise(self.n_outcomes, theta, x, n, generator)

    def fit(
        self, theta: Tensor, outcome: Tensor, x: Tensor | None = None, training: Training = Training()
    ) -> FitReport:
        started = time.perf_counter()
        z, y, u = self._units_of(theta, outcome, x)
        generator = torch.Generator().manual_seed(training.seed)
        self.columns, self.bases = [], []
        for target in y.T:
            column, basis = self._fit_column(z, u, target, generator)
            self.columns.append(column)
            self.bases.append(basis)
        seconds = time.perf_counter() - started
        return FitReport((), (), (), 0, 0.0, seconds, "steps", sum(column.log.numel() for column in self.columns))

    def condition(self, theta: Tensor, outcome: Tensor, x: Tensor | None = None, seed: int = 0) -> None:
        """The posterior given other data, shapes as for `fit`, with the hyper-parameters and units of that fit."""
        self._check_fitted()
        theta, outcome, x = self._check_data(theta, outcome, x)
        z, y = self.units(theta.double()), self._standard(outcome)
        u = None if x is None else self.input_units(x.double())
        for column, basis, target in zip(self.columns, self.bases, y.T, strict=True):
            column.condition(z @ basis, u, target, torch.Generator().manual_seed(seed))

    def mean(self, theta: Tensor) -> Tensor:
        """The posterior mean outcome, averaged over the inputs that it was fitted to, [..., n, d] -> [..., n, m]."""
        self._check_rows("theta", theta, self.dim, "..., n")
        self._check_fitted()
        z = self.units(theta.double())
        means = [column.mean(z @ basis) for column, basis in zip(self.columns, self.bases, strict=True)]
        return (self.outcome_units.shift + self.outcome_units.scale * torch.stack(means, -1)).to(theta)

    def difference(self, theta: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """The first mean outcome at theta less that at another point: mean and error, [n, d], [d] -> [n]."""
        self._check_fitted()
        column, basis, scale = self.columns[0], self.bases[0], self.outcome_units.scale[0]
        mean, deviation = column.difference(self.units(theta.double()) @ basis, self.units(other.double()) @ basis)
        return scale * mean, scale * deviation

    def get_extra_state(self) -> Any:  # noqa: ANN401 - torch's signature
        """The posterior, for `state_dict`."""
        names = ("log", "noise_slopes", "z", "x", "mean_inputs", "root", "precision", "weights")
        return {
            "bases": self.bases,
            "columns": [{name: getattr(column, name) for name in names} for column in self.columns],
            "directions": [column.kernel.n_directions for column in self.columns],
        }

    def set_extra_state(self, state: Any) -> None:  # noqa: ANN401
        """Takes the posterior that `get_extra_state` gave."""
        self.bases = list(state["bases"])
        kernels = [self._kernel(directions) for directions in state["directions"]]
        self.columns = [
            KernelRegression(kernel, **column) for kernel, column in zip(kernels, state["columns"], strict=True)
        ]

    def _moments(self, theta: Tensor, x: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the outcome, each [..., m]."""
        theta, x, batch = self._check_call(theta, x)
        self._check_fitted()
        z = self.units(theta.double()).expand(*batch, self.dim).reshape(-1, self.dim)
        u = None if x is None else self.input_units(x.double()).expand(*batch, self.n_inputs).reshape(-1, self.n_inputs)
        means: list[Tensor] = []
        deviations: list[Tensor] = []
        for column, basis in zip(self.columns, self.bases, strict=True):
            means.append(column.mean(z @ basis, u))
            deviations.append((column.noise(z @ basis, u) + column.spread(z @ basis, u).square()).sqrt())
        mean, deviation = (torch.stack(part, -1).reshape(*batch, self.n_outcomes) for part in (means, deviations))
        shift, scale = self.outcome_units.shift, self.outcome_units.scale
        return (shift + scale * mean).to(theta), (scale * deviation).to(theta)

    def _kernel(self, directions: int | None) -> Kernel:
        return Kernel(self.shape, self.dim, self.n_inputs, directions)

    def _fit_column(
        self, z: Tensor, u: Tensor | None, y: Tensor, generator: torch.Generator
    ) -> tuple[KernelRegression, Tensor]:
        basis = torch.eye(self.dim, dtype=z.dtype)
        column = KernelRegression(self._kernel(None))
        column.fit(z, u, y, generator)
        if self.directions is None:
            return column, basis
        points = z.clone().requires_grad_()
        (slopes,) = torch.autograd.grad(column.mean(points).sum(), points)
        basis = torch.linalg.eigh(slopes.T @ slopes).eigenvectors.flip(1)
        column = KernelRegression(self._kernel(self.directions))
        column.fit(z @ basis, u, y, generator)
        return column, basis

    def _units_of(self, theta: Tensor, outcome: Tensor, x: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        theta, outcome, x = self._check_data(theta, outcome, x)
        self.units.learn(theta)
        self.units.inverse.div_(3**0.5)  # a uniform sample spans -1 to 1
        self.outcome_units.learn(outcome)
        if x is not None:
            self.input_units.learn(x)
        return self.units(theta.double()), self._standard(outcome), None if x is None else self.input_units(x.double())

    def _standard(self, outcome: Tensor) -> Tensor:
        return cast(Tensor, self.outcome_units(outcome.double()))

    def _check_fitted(self) -> None:
        if not self.columns:
            raise ArgumentError(f"`{type(self).__name__}` must be fitted before it is used. Call fit(theta, outcome).")


class LinearResponse(Response):
    """A mean outcome that is linear in theta.

    Source: Rasmussen and Williams, 2006, section 2.1.
    """

    shape = "linear"


class QuadraticResponse(Response):
    """A mean outcome that is quadratic in theta."""

    shape = "quadratic"


class ProcessResponse(Response):
    """A mean outcome that is a Gaussian process in theta: linear plus smooth; x smooth, and smooth in both together.

    Source: Rasmussen and Williams, 2006, chapters 2 and 8.
    """
