"""The base of conditional generative surrogates: a callable from parameters to a distribution of outcomes."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.training.report import FitReport
from diffsim.training.settings import Training
from surrogates.seeding import seeded

__all__ = ["Surrogate", "lacks_gradient"]


class Surrogate(nn.Module, ABC):
    """What stands in for a simulator: theta, and its observed random inputs x, give the distribution of the outcome.

    Subclasses implement `forward` and `fit`; `sample` and `expectation` follow, and are overridden where there is
    something better. Weights and standardisation are parameters and buffers, so that `state_dict` is all there is
    to save. Equal constructions and equal data give equal fits; a second `fit` goes on from the weights of the first.

    Args:
        dim: Number d of parameters.
        n_outcomes: Number m of outcomes.
        n_inputs: Number k of observed random inputs of the simulator.

    Raises:
        ArgumentError: A number is out of range.
    """

    def __init__(self, dim: int, n_outcomes: int = 1, n_inputs: int = 0) -> None:
        super().__init__()
        for name, value, least in (("dim", dim, 1), ("n_outcomes", n_outcomes, 1), ("n_inputs", n_inputs, 0)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise ArgumentTypeError(f"`{name}` must be an int, got {type(value).__name__}.")
            if value < least:
                raise ArgumentError(f"`{name}` must be at least {least}, got {value}.")
        self.dim, self.n_outcomes, self.n_inputs = dim, n_outcomes, n_inputs

    @abstractmethod
    def forward(self, theta: Tensor, x: Tensor | None = None) -> Distribution:
        """The distribution of the outcome; its `rsample` is differentiable in theta.

        Args:
            theta: Parameters, shape [..., d].
            x: Inputs, shape [..., k], which broadcasts with theta; for surrogates with inputs, and only for them.

        Returns:
            A distribution of batch shape [...] and event shape [m].
        """

    __call__: Callable[..., Distribution]

    @abstractmethod
    def fit(
        self, theta: Tensor, outcome: Tensor, x: Tensor | None = None, training: Training = Training()
    ) -> FitReport:
        """Learn from simulations, in place.

        Args:
            theta: Parameters, shape [n, d]; rows may repeat.
            outcome: One simulation's outcome for each, shape [n, m].
            x: The simulations' inputs, shape [n, k].
            training: How; early stopping judges on held-out parameters, never on other draws at those learnt from.

        Returns:
            The record of the fit.

        Raises:
            ArgumentError: Shapes do not agree, values are not finite, or there are too few rows.
            TrainingError: The loss is not finite.
        """

    def sample(self, theta: Tensor, x: Tensor | None, n: int, generator: torch.Generator) -> Tensor:
        """Reparameterised draws, with common random numbers.

        Equal generator states give draws that are a smooth function of theta. Batch dimensions of x have random
        numbers of their own; further leading ones, those of theta alone, share them.

        Args:
            theta: Parameters, shape [..., d].
            x: Inputs, shape [..., k], or None.
            n: Number of draws.
            generator: Source of the random numbers.

        Returns:
            Draws, shape [n, ..., m].
        """
        theta, x, batch = self._check_call(theta, x)
        own = x.shape[:-1] if x is not None else torch.Size()
        rows = theta.expand(*batch, self.dim).reshape(-1, *batch[len(batch) - len(own) :], self.dim)
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        draws: list[Tensor] = []
        for row in rows:
            with seeded(seed):
                draws.append(self(row, x).rsample((n,)))
        return torch.stack(draws, dim=1).reshape(n, *batch, self.n_outcomes)

    def expectation(
        self,
        objective: Callable[..., Tensor],
        theta: Tensor,
        x: Tensor | None,
        n: int,
        generator: torch.Generator,
    ) -> Tensor:
        """The expected objective, differentiable in theta: the mean over n draws of `sample`.

        The gradient of an objective that has none itself, such as whether an outcome is above a limit, is that of the
        score function, E[objective dlog p / dtheta].

        Args:
            objective: `objective(outcome)`, or `objective(outcome, x)` for a surrogate with inputs; outcomes have
                shape [..., m], x broadcasts with them, values have shape [...].
            theta: Parameters, shape [..., d].
            x: Inputs, shape [..., k], or None; broadcast theta[..., None, :] against x [N, k] and take the mean for
                the expectation over x as well.
            n: Number of draws.
            generator: Source of the random numbers; equal states give a smooth function of theta.

        Returns:
            Expectations, shape [...].
        """
        if n < 1:
            raise ArgumentError(f"`n` must be at least 1, got {n}: the mean of no draws is not defined.")
        outcome = self.sample(theta, x, n, generator)
        values = self._values(objective, outcome, x)
        if lacks_gradient(values, theta):
            try:
                score = self(theta, x).log_prob(outcome.detach())
            except NotImplementedError:
                raise ArgumentError(
                    f"`objective` must be differentiable in the outcome: {type(self).__name__} has no density. "
                    "Take torch.sigmoid of a difference instead of a comparison."
                ) from None
            values = self._scored(values, score, self._others(values))
        return values.mean(0)

    def _scored(self, values: Tensor, score: Tensor, baseline: Tensor) -> Tensor:
        """Values, [n, ...], whose mean gets its gradient from that of their log densities, less a baseline."""
        return values + (values - baseline) * (score - score.detach())

    def _others(self, values: Tensor) -> Tensor:
        """The mean of the other draws, [n, ...] each: a baseline that leaves the gradient without bias; 0 for one."""
        return (values.sum(0) - values) / max(len(values) - 1, 1)

    def _noise(self, width: int, theta: Tensor, x: Tensor | None, n: int, generator: torch.Generator) -> Tensor:
        """Standard normal numbers that rows of x do not share and rows of theta do, [n, 1, ..., *x's batch, width]."""
        _, x, batch = self._check_call(theta, x)
        own = x.shape[:-1] if x is not None else torch.Size()
        noise = torch.randn(n, *own, width, dtype=torch.float64, generator=generator, device=generator.device)
        return noise.to(theta).reshape(n, *[1] * (len(batch) - len(own)), *own, width)

    def _values(self, objective: Callable[..., Tensor], outcome: Tensor, x: Tensor | None) -> Tensor:
        """The objective of outcomes [..., m], shape [...]."""
        values = objective(outcome) if x is None else objective(outcome, x.expand(*outcome.shape[:-1], x.shape[-1]))
        if not isinstance(values, Tensor) or values.shape != outcome.shape[:-1]:
            got = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ArgumentError(
                f"`objective` must map outcomes {list(outcome.shape)} to values {list(outcome.shape[:-1])}, got {got}. "
                "Reduce the last dimension, for example with outcome[..., 0]."
            )
        return values.to(outcome)

    def _check_call(self, theta: Tensor, x: Tensor | None) -> tuple[Tensor, Tensor | None, torch.Size]:
        """Refuses parameters or inputs of a wrong shape; returns them with their common batch shape."""
        self._check_rows("theta", theta, self.dim, "...")
        if x is None:
            if self.n_inputs:
                raise ArgumentError(f"`x` must be given, shape [..., {self.n_inputs}]: the surrogate has inputs.")
            return theta, None, theta.shape[:-1]
        if not self.n_inputs:
            raise ArgumentError("`x` must be left out: the surrogate has no inputs. Make it with `n_inputs`.")
        self._check_rows("x", x, self.n_inputs, "...")
        try:
            return theta, x.to(theta), torch.broadcast_shapes(theta.shape[:-1], x.shape[:-1])
        except RuntimeError as error:
            raise ArgumentError(
                f"`theta` {list(theta.shape)} and `x` {list(x.shape)} must broadcast up to their last dimension. "
                "Pass theta[..., None, :] for one row of parameters against many of inputs."
            ) from error

    def _check_data(
        self, theta: Tensor, outcome: Tensor, x: Tensor | None, *, least: int = 2
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Refuses data of wrong shapes, with values that are not finite, or with fewer rows than `least`.

        Returns:
            The data without a graph, in theta's dtype and on its device.
        """
        if (x is None) != (self.n_inputs == 0):
            wanted = f"given, shape [n, {self.n_inputs}]" if self.n_inputs else "left out, or `n_inputs` set"
            raise ArgumentError(f"`x` must be {wanted}: the surrogate has {self.n_inputs} inputs.")
        columns = {"theta": (theta, self.dim), "outcome": (outcome, self.n_outcomes)}
        if x is not None:
            columns["x"] = (x, self.n_inputs)
        for name, (value, width) in columns.items():
            self._check_rows(name, value, width, "n")
            if value.ndim != 2 or len(value) != len(theta):
                raise ArgumentError(f"`{name}` must have shape [{len(theta)}, {width}], got {list(value.shape)}.")
            bad = int((~torch.isfinite(value)).any(-1).sum())
            if bad:
                raise ArgumentError(
                    f"`{name}` must be finite, got {bad} of {len(value)} rows with NaN or infinity. "
                    "Leave these simulations out."
                )
        if len(theta) < least:
            raise ArgumentError(f"`theta` must have at least {least} rows, got {len(theta)}. Simulate more.")
        theta = theta.detach()
        return theta, outcome.detach().to(theta), None if x is None else x.detach().to(theta)

    def _check_rows(self, name: str, value: Tensor, width: int, rows: str) -> None:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            mend = f"Pass {name}.double()." if isinstance(value, Tensor) else f"Pass torch.as_tensor({name})."
            raise ArgumentTypeError(f"`{name}` must be a floating-point tensor, got {kind}. {mend}")
        if value.ndim == 0 or value.shape[-1] != width:
            mend = f" Pass {name}[:, None]." if value.ndim == 1 and width == 1 and rows == "n" else ""
            raise ArgumentError(f"`{name}` must have shape [{rows}, {width}], got {list(value.shape)}.{mend}")


def lacks_gradient(values: Tensor, theta: Tensor) -> bool:
    """Whether a gradient in theta is asked for, and an objective's values have none in the outcome."""
    return torch.is_grad_enabled() and theta.requires_grad and not values.requires_grad
