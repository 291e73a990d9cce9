"""When a study should end: rules that look at its history, and say why. Pure functions, so a resumed study agrees."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.history import History
from studies.objective import Objective, evaluate_objective, objective_of
from studies.strategies.base import Strategy
from studies.strategies.search import cover, search_minimum
from studies.strategies.settings import check_count, check_objective

__all__ = ["Budget", "ModelError", "NoImprovement", "RegretBound", "Stop"]


@runtime_checkable
class Stop(Protocol):
    """A rule that ends a study."""

    def reason(self, history: History, strategy: Strategy) -> str | None:
        """Why the study should end now, in a sentence; None: it should go on.

        Args:
            history: All trials so far; it may hold none that is complete.
            strategy: The study's strategy.
        """
        ...


@dataclass(frozen=True, slots=True)
class Budget:
    """Ends a study whose simulations took so long together, over all workers; failed ones count.

    Args:
        seconds: Simulated seconds.

    Raises:
        ArgumentError: The seconds are not positive.
    """

    seconds: float

    def __post_init__(self) -> None:
        _check_number("seconds", self.seconds, positive=True)

    def reason(self, history: History, strategy: Strategy) -> str | None:
        spent = sum(trial.seconds or 0.0 for trial in history.trials)
        return f"The simulations took {spent:.4g} s, of {self.seconds:.4g} s." if spent >= self.seconds else None


@dataclass(frozen=True, slots=True)
class NoImprovement:
    """Ends a study whose best value has not improved for a number of rounds.

    The best value is the smallest mean objective of a point: repetitions are averaged, so that a lucky draw that was
    repeated does not count. Under noise, pass a tolerance of the size of the noise.

    Args:
        rounds: Finished rounds without a gain.
        tolerance: The gain, in units of the objective, that is none.
        objective: What is minimised; None: the strategy's own objective, where its constraints hold, else the outcome.

    Raises:
        ArgumentError: There are no rounds, or the tolerance is negative.
    """

    rounds: int
    tolerance: float = 0.0
    objective: Objective | None = None

    def __post_init__(self) -> None:
        check_count("rounds", self.rounds)
        _check_number("tolerance", self.tolerance)
        check_objective(self.objective)

    def reason(self, history: History, strategy: Strategy) -> str | None:
        waiting = {trial.round for trial in history.trials if trial.state == "pending"}
        finished = sorted({trial.round for trial in history.trials} - waiting)
        if len(finished) <= self.rounds:
            return None
        last = finished[-self.rounds - 1]
        earlier = History(history.space, tuple(trial for trial in history.trials if trial.round <= last))
        objective = self.objective or objective_of(strategy)
        before, now = _best(objective, earlier), _best(objective, history)
        if before - now > self.tolerance or math.isinf(before):
            return None
        return f"The best value, {now:.6g}, improved by {before - now:.3g} in the last {self.rounds} rounds."


@dataclass(frozen=True, slots=True)
class RegretBound:
    """Ends a study whose regret is bounded: nothing is better than the best point by more than a tolerance.

    A Gaussian process is fitted to the mean objectives. The bound is the smallest upper confidence bound of a simulated
    point less the smallest lower one over the space; it is no better than the model.

    Args:
        tolerance: The regret that is good enough, in units of the objective.
        objective: What is minimised; None: the strategy's own objective, where its constraints hold, else the outcome.
        least: Distinct points before the model is asked; 2 (d + 1), at least 10, by default.
        beta: The square of the bounds' width in standard deviations; 0.4 log(d n^2 pi^2 / 0.6) after n points, the
            source's, by default.

    Raises:
        ArgumentError: A number is out of its range.

    Source: Makarova et al., 2022, arXiv 2104.08166, equation 5 and section 5.
    """

    tolerance: float
    objective: Objective | None = None
    least: int | None = None
    beta: float | None = None

    def __post_init__(self) -> None:
        _check_number("tolerance", self.tolerance, positive=True)
        check_objective(self.objective)
        if self.least is not None:
            check_count("least", self.least, least=2)
        if self.beta is not None:
            _check_number("beta", self.beta, positive=True)

    def reason(self, history: History, strategy: Strategy) -> str | None:
        bound = self.bound(history, strategy)
        if bound is None or bound > self.tolerance:
            return None
        return f"The regret is at most {bound:.3g}, by the model's confidence bounds; {self.tolerance:.3g} is enough."

    def bound(self, history: History, strategy: Strategy) -> float | None:
        """The bound of the regret, in units of the objective; None before there are enough points."""
        from studies.strategies.means import mean_objectives
        from studies.strategies.modelling import fit_means, modelling

        means = mean_objectives(self.objective or objective_of(strategy), history)
        n, d = len(means.mean), history.space.dim
        if n < (max(2 * (d + 1), 10) if self.least is None else self.least):
            return None
        unit = float(means.mean.std()) or 1.0  # GPyTorch lets no variance fall below 1e-10
        error = None if means.error is None else means.error / unit
        means = replace(means, mean=means.mean / unit, error=error)
        beta = 0.4 * math.log(d * n**2 * math.pi**2 / 0.6) if self.beta is None else self.beta
        with modelling(torch.Generator().manual_seed(0)):
            model = fit_means(means, history.space)

            def bounds(theta: Tensor) -> tuple[Tensor, Tensor]:
                posterior = model.posterior(theta)
                width = (beta * posterior.variance.squeeze(-1)).sqrt()
                return posterior.mean.squeeze(-1) - width, posterior.mean.squeeze(-1) + width

            with torch.no_grad():
                upper = float(bounds(means.theta)[1].min())
            candidates = torch.cat([means.theta, cover(history.space, 512, seed=0)])
            lower = search_minimum(lambda theta: bounds(theta)[0], candidates, history.space)[1]
        return unit * (upper - lower)


@dataclass(frozen=True, slots=True)
class ModelError:
    """Ends a study whose model is good enough: what active learning stops at.

    Args:
        below: The error that is good enough.
        measure: Gives the error of what was learnt from a history with one complete trial at least.

    Raises:
        ArgumentTypeError: The measure is no function.

    Example:
        >>> from studies.spaces.box import Box
        >>> rule = ModelError(below=0.1, measure=lambda history: 1 / len(history))
        >>> history = History.from_tensors(Box({"a": (0, 1)}), torch.rand(20, 1), torch.zeros(20, 1))
        >>> rule.reason(history, None)
        'The model error is 0.05; 0.1 is enough.'
    """

    below: float
    measure: Callable[[History], float]

    def __post_init__(self) -> None:
        _check_number("below", self.below)
        if isinstance(self.measure, type) or not callable(self.measure):
            raise ArgumentTypeError(f"`measure` must be a function of the history, got {self.measure!r}.")

    def reason(self, history: History, strategy: Strategy) -> str | None:
        error = float(self.measure(history)) if len(history) else math.nan
        return f"The model error is {error:.3g}; {self.below:.3g} is enough." if error <= self.below else None


def _best(objective: Objective | None, history: History) -> float:
    """The smallest mean objective of a point; infinite without any."""
    values = evaluate_objective(objective, history)
    good = values.isfinite()
    if not good.any():
        return math.inf
    _, index = history.theta[good].unique(dim=0, return_inverse=True)
    total = torch.zeros(int(index.max()) + 1, dtype=torch.float64)
    count = total.clone().index_add_(0, index, torch.ones_like(values[good]))
    return float((total.index_add_(0, index, values[good]) / count).min())


def _check_number(name: str, number: object, positive: bool = False) -> None:
    if (
        isinstance(number, bool)
        or not isinstance(number, int | float)
        or not (math.isfinite(number) and number >= 0)
        or (positive and number == 0)
    ):
        kind = "a positive number" if positive else "a number that is not negative"
        raise ArgumentError(f"`{name}` must be {kind}, got {number!r}.")
