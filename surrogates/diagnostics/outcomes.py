"""Outcomes that a surrogate draws, beside simulated ones: distances of the distributions, and a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from surrogates.diagnostics.runs import as_points, check_count, draw_inputs, draw_seed, simulate
from surrogates.simulator import InputSimulator, Simulator
from surrogates.surrogate import Surrogate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["OutcomeCheck", "check_outcomes", "outcome_plot"]

_CONSTANT = 1e-12  # of an outcome's largest magnitude: below, its spread is rounding


@dataclass(frozen=True, slots=True, eq=False)
class OutcomeCheck:
    """Outcomes that a surrogate draws, beside simulated ones; `outcome_plot` shows them.

    Attributes:
        theta: Where, shape [p, d].
        predicted: Draws of the surrogate, shape [p, n, m].
        simulated: Outcomes of the simulator that are finite, for each theta, of shape [at most n, m].
    """

    theta: Tensor
    predicted: Tensor
    simulated: tuple[Tensor, ...]

    @property
    def distance(self) -> Tensor:
        """Kolmogorov and Smirnov's distance of each outcome at each theta, from 0 to 1, shape [p, m].

        It is the largest difference of the two distribution functions.
        """
        rows = [
            [_distance(real, drawn) for real, drawn in zip(true.T, made.T, strict=True)]
            for true, made in zip(self.simulated, self.predicted, strict=True)
        ]
        return torch.tensor(rows, dtype=torch.float64)

    @property
    def chance(self) -> Tensor:
        """The distance that equal distributions exceed in one of twenty comparisons, shape [p]."""
        counts = torch.tensor([len(true) for true in self.simulated], dtype=torch.float64)
        return 1.358 * (1 / counts + 1 / self.predicted.shape[1]).sqrt()

    @property
    def energy(self) -> Tensor:
        """The energy distance of the whole outcome vectors, from 0 to 1, shape [p]; it sees correlations too.

        It is (2 E|X - Y| - E|X - X'| - E|Y - Y'|) / 2 E|X - Y|, with outcomes in units of the simulated spread; of the
        spread of both together where the simulated outcomes are all the same.

        Source: Szekely and Rizzo, 2013, Energy statistics, section 3.
        """
        distances: list[Tensor] = []
        for true, made in zip(self.simulated, self.predicted, strict=True):
            spread, both = true.std(0), torch.cat([true, made])
            scale = torch.where(spread > _CONSTANT * true.abs().amax(0), spread, both.std(0))
            shift, scale = both.mean(0), torch.where(scale > 0, scale, 1.0)
            true, made = (true - shift) / scale, (made - shift) / scale
            between = torch.cdist(true, made).mean()
            within = torch.pdist(true).mean() + torch.pdist(made).mean()
            distances.append((1 - within / (2 * between)).clamp_min(0) if between > 0 else between)
        return torch.stack(distances)

    def __str__(self) -> str:
        """A table, one row a theta: distances of each outcome, what chance makes of them, the energy distance."""
        titles = [*(f"outcome {i}" for i in range(self.predicted.shape[-1])), "by chance", "energy"]
        lines = ["theta".ljust(30) + "".join(title.rjust(12) for title in titles)]
        numbers = torch.cat([self.distance, self.chance[:, None], self.energy[:, None]], 1)
        for theta, row in zip(self.theta, numbers.tolist(), strict=True):
            lines.append(_point(theta).ljust(30) + "".join(f"{number:12.3f}" for number in row))
        return "\n".join(lines)


def check_outcomes(
    surrogate: Surrogate, simulator: Simulator | InputSimulator, thetas: Tensor, *, n: int = 1000, seed: int = 0
) -> OutcomeCheck:
    """Compare the outcomes that a surrogate draws with simulated ones, at some theta that it has not seen.

    Args:
        surrogate: A fitted surrogate.
        simulator: The simulator. Where it has inputs, the distributions are over these too.
        thetas: Shape [p, d].
        n: Simulations, and draws, at each theta.
        seed: Of all random numbers.

    Raises:
        ArgumentError: A shape is wrong, or fewer than two simulations at a theta are finite.
    """
    thetas = as_points("thetas", thetas, 2)
    check_count(n, 2)
    generator = torch.Generator().manual_seed(seed)
    predicted: list[Tensor] = []
    simulated: list[Tensor] = []
    for theta in thetas:
        outcome = simulate(simulator, theta.expand(n, -1), draw_inputs(simulator, n, generator), draw_seed(generator))
        outcome = outcome[outcome.isfinite().all(1)]
        if len(outcome) < 2:
            raise ArgumentError(
                f"`simulator` gives {len(outcome)} finite outcomes of {n} at {theta.tolist()}. Move theta."
            )
        if outcome.shape[1] != surrogate.n_outcomes:
            raise ArgumentError(
                f"`surrogate` must have {outcome.shape[1]} outcomes, as the simulator has, got {surrogate.n_outcomes}."
            )
        x = draw_inputs(simulator, n, generator) if surrogate.n_inputs else None  # its own: the samples are independent
        with torch.no_grad():
            draws = surrogate.sample(theta, x, n if x is None else 1, generator)
        predicted.append(draws.reshape(n, -1).double())
        simulated.append(outcome)
    return OutcomeCheck(thetas, torch.stack(predicted), tuple(simulated))


def outcome_plot(
    check: OutcomeCheck, *, names: Sequence[str] = (), units: Sequence[str] = (), bins: int = 40
) -> "Figure":
    """Histograms of simulated outcomes (grey) and of drawn ones (lines): a row for each theta, a column an outcome.

    Args:
        check: What `check_outcomes` returns.
        names: Names of the m outcomes.
        units: Their units.
        bins: Number of bins.

    Raises:
        ArgumentError: There is not one name, or unit, for each outcome.
    """
    from matplotlib import pyplot

    p, _, m = check.predicted.shape
    for what, given in (("names", names), ("units", units)):
        if given and len(given) != m:
            raise ArgumentError(f"`{what}` must have one entry for each of the {m} outcomes, got {tuple(given)}.")
    figure, grid = pyplot.subplots(p, m, figsize=(4.2 * m, 2.6 * p), squeeze=False, layout="constrained")
    distance = check.distance
    for i, (theta, true, made) in enumerate(zip(check.theta, check.simulated, check.predicted, strict=True)):
        for j in range(m):
            both = torch.cat([true[:, j], made[:, j]])
            span = tuple(both.quantile(torch.tensor([0.002, 0.998], dtype=both.dtype)).tolist())
            ax = grid[i, j]
            ax.hist(true[:, j].numpy(), bins, range=span, density=True, color="0.75", label="simulated")
            ax.hist(made[:, j].numpy(), bins, range=span, density=True, color="C0", histtype="step", label="predicted")
            name = names[j] if names else f"outcome[{j}]" if m > 1 else "outcome"
            ax.set_xlabel(f"{name} [{units[j]}]" if units and units[j] else name)
            ax.set_ylabel("density")
            ax.set_title(f"theta = {_point(theta)}, distance {float(distance[i, j]):.3f}", fontsize="small")
    grid[0, 0].legend(frameon=False)
    return figure


def _distance(first: Tensor, second: Tensor) -> float:
    """The largest difference of the distribution functions of two samples, [n] and [r]."""
    values = torch.cat([first, second])
    shares = [torch.searchsorted(part.sort().values, values, right=True) / len(part) for part in (first, second)]
    return float((shares[0] - shares[1]).abs().max())


def _point(theta: Tensor) -> str:
    numbers = [f"{float(value):.3g}" for value in theta[:4]]
    return f"({', '.join(numbers)}{', ...' if len(theta) > 4 else ''})"
