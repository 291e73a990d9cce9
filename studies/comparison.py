"""Strategies side by side on one simulator: paired seeds, a score after each number of trials, a table, a figure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from diffsim.plots import learning_curve
from studies.evaluate import Simulator
from studies.history import History
from studies.space import Space
from studies.strategies.base import Strategy
from studies.study import Study

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Scores of several strategies after the same numbers of trials; smaller is better.

    Attributes:
        trials: Numbers of trials, k of them.
        scores: For each strategy its scores, shape [seeds, k].
        level: The score that was aimed at, if any.
    """

    trials: tuple[int, ...]
    scores: Mapping[str, Tensor]
    level: float | None = None

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

    def __str__(self) -> str:
        """A table of medians over the seeds, one row a number of trials."""
        names = list(self.scores)
        width = max(12, *(len(name) + 2 for name in names))
        lines = ["trials" + "".join(name.rjust(width) for name in names)]
        for k, n in enumerate(self.trials):
            medians = (self.scores[name][:, k].median().item() for name in names)
            lines.append(f"{n:6d}" + "".join(f"{median:{width}.3g}" for median in medians))
        if self.level is not None:
            medians = (self.trials_to_level(name).median().item() for name in names)
            lines.append(f"Median number of trials until the score stays at or below {self.level:.3g}:")
            lines.append(" " * 6 + "".join(f"{median:{width}g}" for median in medians))
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
    simulator: Simulator,
    score: Callable[[History], float | Tensor],
    *,
    trials: Sequence[int],
    seeds: int = 3,
    level: float | None = None,
    progress: bool | None = None,
) -> Comparison:
    """Run each strategy on the simulator, with the same seeds, and score its history on the way.

    Args:
        space: The design space.
        strategies: The strategies by name.
        simulator: As for `Study.run`.
        score: Maps a history to a number; smaller is better.
        trials: Numbers of trials after which to score, rising.
        seeds: Number of studies for each strategy, with the seeds 0, 1, ...
        level: A score to aim at, shown in the table and the figure.
        progress: False shows no progress bar.

    Raises:
        ArgumentError: No strategies, seeds or trials, or trials that do not rise.
    """
    counts = tuple(trials)
    if not strategies or seeds < 1 or not counts or list(counts) != sorted({n for n in counts if n > 0}):
        raise ArgumentError(
            "`strategies` must not be empty, `seeds` be at least 1 and `trials` rise from at least 1, got "
            f"{list(strategies)}, {seeds} and {list(counts)}."
        )
    from rich.console import Console
    from rich.progress import track

    steps = list(product(strategies, range(seeds), counts))
    scores = {name: torch.empty(seeds, len(counts), dtype=torch.float64) for name in strategies}
    studies = {(name, seed): Study(space, strategies[name], seed=seed) for name, seed, _ in steps}
    for name, seed, n in track(steps, "comparing", console=Console(stderr=True), disable=progress is False):
        history = studies[name, seed].run(simulator, trials=n, progress=False)
        scores[name][seed, counts.index(n)] = float(score(history))
    return Comparison(counts, scores, level)
