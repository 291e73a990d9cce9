"""The gradient of an expected objective by a surrogate, beside central differences of the simulator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from surrogates.diagnostics.runs import as_points, check_count, draw_inputs, draw_seed, simulate
from surrogates.simulator import InputSimulator, Simulator
from surrogates.surrogate import Surrogate

__all__ = ["GradientCheck", "check_gradient"]

_PARTS = 8  # independent gradients of a surrogate, whose scatter is its standard error


@dataclass(frozen=True, slots=True, eq=False)
class GradientCheck:
    """The gradient of an expected objective by a surrogate, beside central differences of the simulator.

    Attributes:
        theta: Where, shape [d].
        surrogate: The surrogate's gradient, shape [d].
        surrogate_error: Its standard errors from a finite number of draws, not those of the fit, shape [d].
        simulator: The central differences, shape [d].
        simulator_error: Their standard errors, shape [d].
        n_simulations: How many simulations they took.
        names: The parameters' names.
    """

    theta: Tensor
    surrogate: Tensor
    surrogate_error: Tensor
    simulator: Tensor
    simulator_error: Tensor
    n_simulations: int
    names: tuple[str, ...]

    @property
    def cosine(self) -> float:
        """The cosine of the angle between the two gradients: 1 is the same direction."""
        return float(torch.cosine_similarity(self.surrogate, self.simulator, dim=0, eps=1e-300))

    @property
    def relative_error(self) -> float:
        """The length of their difference, as a share of the simulator's gradient."""
        return float((self.surrogate - self.simulator).norm() / self.simulator.norm())

    @property
    def noise(self) -> float:
        """The relative error that the standard errors alone would make."""
        variance = self.surrogate_error.square() + self.simulator_error.square()
        return float(variance.sum().sqrt() / self.simulator.norm())

    def __str__(self) -> str:
        """A table, one row a parameter."""
        width = max(9, *(len(name) for name in self.names))
        lines = ["parameter".ljust(width) + "surrogate".rjust(24) + "simulator".rjust(24)]
        columns = (self.surrogate, self.surrogate_error), (self.simulator, self.simulator_error)
        for i, name in enumerate(self.names):
            cells = [f"{float(value[i]):.4g} ± {float(error[i]):.2g}" for value, error in columns]
            lines.append(name.ljust(width) + "".join(cell.rjust(24) for cell in cells))
        lines.append(f"cosine {self.cosine:.4f}, relative error {self.relative_error:.2g} ({self.noise:.2g} is noise)")
        return "\n".join([*lines, f"{self.n_simulations} simulations"])


def check_gradient(
    surrogate: Surrogate | Callable[[Tensor], Tensor],
    objective: Callable[..., Tensor],
    simulator: Simulator | InputSimulator,
    theta: Tensor,
    *,
    step: float | Sequence[float],
    n: int = 1000,
    seed: int = 0,
    names: Sequence[str] = (),
) -> GradientCheck:
    """Compare a surrogate's gradient of the expected objective with central differences of the simulator.

    The points of a difference share their inputs and random numbers, so that little noise is left where the simulator
    uses these in the same order. The surrogate gets the same inputs.

    Args:
        surrogate: A fitted surrogate, or a function theta [..., d] -> expected objective [...].
        objective: `objective(outcome)`, or `objective(outcome, x)` where the simulator has inputs:
            [..., m] (, [..., k]) -> [...].
        simulator: The simulator.
        theta: Where, shape [d].
        step: Half the distance of a difference's points, in the parameters' units: one number, or one for each. A small
            one is noisy; the bias of a large one grows with its square.
        n: Simulations of each of the 2 d points, and draws of the surrogate.
        seed: Of all random numbers.
        names: Names of the parameters.

    Raises:
        ArgumentError: A shape is wrong, a number is out of range, fewer than two simulations are finite, there is
            no gradient, or the simulator has inputs and the surrogate has none, or the other way round.

    Example:
        >>> slope = torch.tensor([1.0, -2.0], dtype=torch.float64)
        >>> simulator = lambda theta, generator: (theta @ slope)[:, None]
        >>> check = check_gradient(lambda theta: theta @ slope, lambda y: y[..., 0], simulator, slope, step=0.1)
        >>> check.simulator.round(decimals=6).tolist(), round(check.cosine, 6)
        ([1.0, -2.0], 1.0)
    """
    theta = as_points("theta", theta, 1)
    steps = torch.as_tensor(step, dtype=torch.float64)
    if steps.shape not in ((), theta.shape) or not bool(((steps > 0) & steps.isfinite()).all()):
        raise ArgumentError(f"`step` must be a positive number, or {len(theta)} of them, got {step!r}.")
    check_count(n, _PARTS)
    names = tuple(names) or tuple(f"theta[{i}]" for i in range(len(theta)))
    if len(names) != len(theta):
        raise ArgumentError(f"`names` must hold {len(theta)} names, one for each parameter, got {names}.")
    generator = torch.Generator().manual_seed(seed)
    x = draw_inputs(simulator, n, generator)
    gradient, error = _gradient(surrogate, objective, theta, x, n, generator)
    slopes: list[Tensor] = []
    errors: list[Tensor] = []
    for shift in torch.diag(steps.expand(len(theta))):
        number = draw_seed(generator)
        up, down = (
            _values(objective, simulate(simulator, point.expand(n, -1), x, number), x)
            for point in (theta + shift, theta - shift)
        )
        change = up - down
        change = change[change.isfinite()] / (2 * shift.sum())
        if len(change) < 2:
            raise ArgumentError(
                f"`simulator` must give finite outcomes around {theta.tolist()}, got {len(change)} good of {n} pairs. "
                "Move theta, or take a smaller step."
            )
        slopes.append(change.mean())
        errors.append(change.std() / len(change) ** 0.5)
    differences, noise = torch.stack(slopes), torch.stack(errors)
    return GradientCheck(theta, gradient, error, differences, noise, 2 * len(theta) * n, names)


def _gradient(
    surrogate: Surrogate | Callable[[Tensor], Tensor],
    objective: Callable[..., Tensor],
    theta: Tensor,
    x: Tensor | None,
    n: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """A surrogate's gradient at theta and its standard error, both [d]."""
    parts: list[Tensor] = []
    free = theta.clone().requires_grad_()
    for inputs in [None] * _PARTS if x is None else x.chunk(_PARTS):
        if not isinstance(surrogate, Surrogate):
            value = surrogate(free)
        else:
            draws = n // _PARTS if inputs is None else 1
            value = surrogate.expectation(objective, free, inputs, draws, generator).mean()
        if value.shape != () or not value.requires_grad:
            raise ArgumentError(
                "`surrogate` must be a function of theta that torch can differentiate, one number a row, got "
                f"{value}. Without comparisons, rounding and numpy it has a gradient."
            )
        (slope,) = torch.autograd.grad(value, free)
        parts.append(slope)
    slopes = torch.stack(parts)
    return slopes.mean(0), slopes.std(0) / len(slopes) ** 0.5


def _values(objective: Callable[..., Tensor], outcome: Tensor, x: Tensor | None) -> Tensor:
    with torch.no_grad():
        value = objective(outcome) if x is None else objective(outcome, x)
    if not isinstance(value, Tensor) or value.shape != outcome.shape[:1]:
        got = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ArgumentError(f"`objective` must map outcomes {list(outcome.shape)} to [{len(outcome)}], got {got}.")
    return value.double()
