"""Strategies side by side on one simulator: paired seeds, a score after each number of trials, a table, a figure."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.plots import learning_curve
from studies.errors import StudyError
from studies.executors.job import Job, run_job
from studies.history import History
from studies.objective import Objective, apply_objective
from studies.spaces.base import Space
from studies.strategies.base import Optimiser, Strategy
from studies.study import Study
from surrogates.simulator import InputSimulator, Simulator

__all__ = ["Comparison", "compare", "measured"]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Scores of several strategies after the same numbers of trials; smaller is better.

    Attributes:
        trials: Numbers of trials, each of one simulation, k of them.
        scores: For each strategy its scores, shape [seeds, k].
        level: The score that was aimed at, if any.
        points: For each strategy how many distinct theta it tried by then, shape [seeds, k].
        seconds: For each strategy the CPU seconds that its studies took without the simulator, shape [seeds].
    """

    trials: tuple[int, ...]
    scores: Mapping[str, Tensor]
    level: float | None = None
    points: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    seconds: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    def trials_to_level(self, name: str) -> Tensor:
        """For each seed the number of trials from which on the score stays at or below the level, shape [seeds].

        Infinite where it does not: a score that dips below the level by luck does not count.

        Raises:
            ArgumentError: There is no level.
        """
        if self.level is None:
            raise ArgumentError("`level` is needed to count trials to it, got None. Pass compare(..., level=0.01).")
        counts = torch.tensor(self.trials, dtype=torch.float64).expand_as(self.scores[name])
        good = (self.scores[name] <= self.level).flip(1).cummin(1).values.flip(1)
        return counts.masked_fill(~good, torch.inf).amin(1)

    def quartiles(self, name: str) -> Tensor:
        """Lower quartile, median and upper quartile of the scores over the seeds, shape [3, k]."""
        return self.scores[name].nanquantile(torch.tensor([0.25, 0.5, 0.75], dtype=self.scores[name].dtype), dim=0)

    def __str__(self) -> str:
        """A table of medians over the seeds, one row a number of trials; below it quartiles, and what it cost."""
        names = list(self.scores)
        width = max(12, *(len(name) + 2 for name in names))
        lines = ["trials" + "".join(name.rjust(width) for name in names)]
        for k, n in enumerate(self.trials):
            lines.append(f"{n:6d}" + _row([self.scores[name][:, k] for name in names], f"{width}.3g"))
        if self.level is not None:
            lines.append(f"Median number of trials until the score stays at or below {self.level:.3g}:")
            lines.append(" " * 6 + _row([self.trials_to_level(name) for name in names], f"{width}g"))
        if all(len(self.scores[name]) > 1 for name in names):
            lines.append(f"Quartiles of the score after {self.trials[-1]} trials:")
            for quarter in (0, 2):
                lines.append(" " * 6 + "".join(f"{self.quartiles(name)[quarter, -1]:{width}.3g}" for name in names))
        if any(bool((points[:, -1] < self.trials[-1]).any()) for points in self.points.values()):
            lines.append("Median number of distinct theta in them:")
            lines.append(" " * 6 + _row([self.points[name][:, -1] for name in names], f"{width}g"))
        if self.seconds:
            lines.append("Median CPU seconds of a study, without the simulator:")
            lines.append(" " * 6 + _row([self.seconds[name] for name in names], f"{width}.2g"))
        return "\n".join(lines)

    def figure(self, path: str | Path, score_label: str = "score") -> Path:
        """Draw median and quartiles against the number of trials into a file; returns its path."""
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(5, 3.6))
        learning_curve(
            self.trials, self.scores, cost_label="trials", error_label=score_label, level=self.level, ax=axes
        )
        figure.tight_layout()
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
        plt.close(figure)
        return Path(path)


def compare(
    space: Space,
    strategies: Mapping[str, Strategy],
    simulator: Simulator | InputSimulator,
    score: Callable[[History], float | Tensor] | None = None,
    *,
    exact: Callable[[Tensor], float | Tensor] | None = None,
    trials: Sequence[int],
    seeds: int = 3,
    level: float | None = None,
    vectorized: bool = False,
    progress: bool | None = None,
) -> Comparison:
    """Run each strategy on the simulator, with the same seeds, and score it on the way.

    Each strategy asks for rounds of its own size, if it has one (see `Batched`); a trial is one simulation.

    Args:
        space: The design space.
        strategies: The strategies by name.
        simulator: As for `Study.run`.
        score: Maps a history to a number; smaller is better.
        exact: Instead of `score`: maps a strategy's recommendation, shape [d], to its objective. Where no formula is
            known, `measured(simulator, objective)`.
        trials: Numbers of trials after which to score, rising.
        seeds: Number of studies for each strategy, with the seeds 0, 1, ...
        level: A score to aim at, shown in the table and the figure.
        vectorized: As for `Study.run`: the simulator is called once a round.
        progress: False shows no progress bar.

    Raises:
        ArgumentError: No strategies, seeds or trials; trials that do not rise; neither or both of `score` and `exact`,
            or `exact` with a strategy that recommends nothing.
        ArgumentTypeError: `trials` is no sequence, or `strategies` no mapping.

    Example:
        >>> from studies import Box, RandomSearch
        >>> rivals = {"one": RandomSearch(), "four": RandomSearch(repeats=4)}
        >>> simulator = lambda theta, generator: theta.square() + torch.randn(theta.shape, generator=generator)
        >>> result = compare(Box({"a": (-3, 3)}), rivals, simulator, exact=lambda a: a.square().sum(), trials=(20, 40))
        >>> result.scores["four"].shape, result.points["four"][0].tolist()
        (torch.Size([3, 2]), [5.0, 10.0])
    """
    if not isinstance(strategies, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        kind = type(strategies).__name__
        raise ArgumentTypeError(f'`strategies` must map names to strategies, got a {kind}. Pass {{"local": ...}}, say.')
    if not isinstance(trials, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentTypeError(f"`trials` must be a list of numbers, got {trials!r}. Pass (20, 40), say.")
    counts = tuple(trials)
    if not strategies or seeds < 1 or not counts or list(counts) != sorted({n for n in counts if n > 0}):
        raise ArgumentError(
            "`strategies` must not be empty, `seeds` be at least 1 and `trials` rise from at least 1, got "
            f"{list(strategies)}, {seeds} and {list(counts)}."
        )
    if (score is None) == (exact is None):
        raise ArgumentError("Give `score`, of a history, or `exact`, of a recommendation, one of them.")
    if exact and (silent := [name for name, rival in strategies.items() if not isinstance(rival, Optimiser)]):
        raise ArgumentError(f"`exact` scores recommendations, and {silent} have no `recommend`. Pass `score` instead.")
    from rich.console import Console
    from rich.progress import track

    steps = list(product(strategies, range(seeds), counts))
    scores, points = (
        {name: torch.empty(seeds, len(counts), dtype=torch.float64) for name in strategies} for _ in range(2)
    )
    seconds = {name: torch.zeros(seeds, dtype=torch.float64) for name in strategies}
    studies = {(name, seed): Study(space, strategies[name], seed=seed) for name, seed, _ in steps}
    timed = _TimedInputs(simulator) if isinstance(simulator, InputSimulator) else _Timed(simulator)
    for name, seed, n in track(steps, "comparing", console=Console(stderr=True), disable=progress is False):
        study, clock, simulated = studies[name, seed], time.process_time(), timed.seconds
        history = study.run(timed, trials=n, executor="here", vectorized=vectorized, progress=False)
        answer = None if exact is None else study.recommend()
        seconds[name][seed] += time.process_time() - clock - (timed.seconds - simulated)
        value = exact(answer) if exact and answer is not None else score(history) if score else torch.nan
        if isinstance(value, Tensor) and value.numel() != 1:
            called = "exact(theta)" if exact else "score(history)"
            raise ArgumentError(f"`{called}` must be one number, got shape {list(value.shape)}. Reduce it.")
        scores[name][seed, counts.index(n)] = float(value)
        points[name][seed, counts.index(n)] = len(history.tried.unique(dim=0))
    return Comparison(counts, scores, level, points, seconds)


def measured(
    simulator: Simulator | InputSimulator, objective: Objective | None = None, n: int = 1000, seed: int = 0
) -> Callable[[Tensor], Tensor]:
    """The mean objective of n simulations, as `exact` for `compare` where no formula is known.

    All recommendations are simulated with the same random numbers, which no study uses.

    Args:
        simulator: Called with theta of shape [n, d].
        objective: Of the outcome (and the inputs x, where observed); None: the outcome itself.
        n: Simulations.
        seed: Of their random numbers.

    Returns:
        A function theta [d] -> []. It raises StudyError where the simulator fails; rows that are not finite are left
        out.
    """

    def mean(theta: Tensor) -> Tensor:
        if theta.ndim != 1:
            raise ArgumentError(f"`theta` must have shape [d], got {list(theta.shape)}. Pass one row, theta[0].")
        rows = theta.detach().double().expand(n, -1).numpy()
        results = run_job(simulator, Job(tuple(range(n)), rows, seed))
        complete = [result for result in results if result.outcome is not None]
        if not complete:
            raise StudyError(f"The simulator fails at {theta.tolist()}, which was recommended:\n{results[0].error}")
        outcome = torch.stack([torch.as_tensor(result.outcome) for result in complete])
        inputs = [torch.as_tensor(result.x) for result in complete if result.x is not None]
        return apply_objective(objective, outcome, torch.stack(inputs) if inputs else None).nanmean()

    return mean


class _Timed:
    """A simulator with the CPU seconds it has taken."""

    def __init__(self, simulator: Simulator | InputSimulator) -> None:
        self.simulator: Callable[..., object] = simulator
        self.seconds = 0.0

    def __call__(self, *arguments: Tensor | torch.Generator) -> object:
        return self._time(self.simulator, *arguments)

    def _time(self, call: Callable[..., object], *arguments: object) -> object:
        clock = time.process_time()
        try:
            return call(*arguments)
        finally:
            self.seconds += time.process_time() - clock


class _TimedInputs(_Timed):
    def __init__(self, simulator: InputSimulator) -> None:
        super().__init__(simulator)
        self._inputs = simulator.inputs

    def inputs(self, n: int, generator: torch.Generator) -> object:
        return self._time(self._inputs, n, generator)


def _row(values: Sequence[Tensor], format: str) -> str:
    return "".join(f"{_median(value):{format}}" for value in values)


def _median(value: Tensor) -> float:
    """The median, of an even number the mean of the middle two: torch's is the lower one; infinite where one is."""
    ordered = value.sort().values
    return float(ordered[(len(value) - 1) // 2] + ordered[len(value) // 2]) / 2
