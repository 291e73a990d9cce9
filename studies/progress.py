"""Progress of a run, its best value, failures and time left: a bar in a terminal, a few lines of text elsewhere."""

import itertools
import os
import sys
import time
from collections.abc import Callable, Collection
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from studies.storage.base import Result

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Progress", "default_objective", "default_progress", "duration", "note"]

default_progress: ContextVar[bool | None] = ContextVar("default_progress", default=None)
"""What `progress=None` means: True and False force it; None is a bar where stderr is a terminal, else nothing."""

default_objective: "ContextVar[Callable[..., Tensor] | None]" = ContextVar("default_objective", default=None)
"""What is best where the strategy has no objective."""

_current: ContextVar["Progress | None"] = ContextVar("_current", default=None)
_PAUSE = 0.1  # seconds between two looks at the results


def note(**numbers: float) -> None:
    """Shows numbers beside the progress of the study that runs, until they are given anew; else does nothing.

    A script calls it where it learns them, in the function that fits a model, say.

    Example:
        >>> note(model_error=0.031)
    """
    if (running := _current.get()) is not None:
        running.note(**numbers)


def duration(seconds: float) -> str:
    """A number of seconds as people say it.

    Example:
        >>> [duration(seconds) for seconds in (0.25, 42, 100, 7300, 200_000)]
        ['0.25 s', '42 s', '1 min 40 s', '2 h 1 min', '2 d 7 h']
    """
    if seconds < 60:
        return f"{seconds:.2g} s"
    for size, unit, smaller in ((86400, "d", "h"), (3600, "h", "min"), (60, "min", "s")):
        if seconds >= size:
            part = {"h": 3600, "min": 60, "s": 1}[smaller]
            return f"{int(seconds // size)} {unit} {int(seconds % size // part)} {smaller}"
    raise AssertionError(seconds)


class Progress:
    """A progress display; a context manager.

    Args:
        name: The study's name.
        show: True, False, or None for `default_progress`.
        objective: What the study minimises; None: `default_objective`, or its outcome, where that is one number.
    """

    def __init__(self, name: str, show: bool | None = None, objective: "Callable[..., Tensor] | None" = None) -> None:
        terminal = sys.stderr.isatty()
        show = default_progress.get() if show is None else show
        self._name, self._process = name, os.getpid()
        self._objective = objective or default_objective.get()
        self._total, self._printed, self._last = 0, -1, -np.inf
        self._seen, self._failed, self._best = 0, 0, np.inf
        self._first: tuple[float, int] | None = None  # when the first results were seen, and how many
        self._notes: dict[str, float] = {}
        self._lines = bool(show) and not terminal
        self._bar = self._task = None
        if terminal and show is not False:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
            left = (TimeRemainingColumn(compact=True), TextColumn("{task.fields[note]}", markup=False))
            self._bar = Progress(*columns, *left, console=Console(stderr=True))

    def __enter__(self) -> "Progress":
        self._token = _current.set(self)
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(self._name, total=None, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _current.reset(self._token)
        if self._bar:
            self._bar.stop()

    @property
    def shown(self) -> bool:
        """Whether anything is shown."""
        return self._bar is not None or self._lines

    def say(self, text: str) -> None:
        """Shows a line of text."""
        if self._bar:
            self._bar.console.print(f"{self._name}: {text}", markup=False, highlight=False)
        elif self._lines:
            print(f"{self._name}: {text}", file=sys.stderr)

    def note(self, **numbers: float) -> None:
        """Shows numbers beside the progress; in a process forked from that of the display it does nothing."""
        if os.getpid() != self._process:
            return
        self._notes |= numbers
        if self._bar and self._task is not None:
            self._bar.update(self._task, note=", ".join(self._told()))

    def update(self, results: Collection[Result], total: int | None = None) -> None:
        """Shows how many trials have been told, of how many (as last given), and what came of them.

        Args:
            results: All results so far, in the order they were told.
            total: How many there will be.
        """
        self._total = self._total if total is None else total
        if not self.shown or (time.monotonic() - self._last < _PAUSE and len(results) < self._total):
            return
        self._last = time.monotonic()
        self._first = self._first or (self._last, len(results))
        self._look(list(itertools.islice(results, self._seen, None)))
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=len(results), total=self._total, note=", ".join(self._told()))
        elif self._total and (tenth := 10 * len(results) // self._total) > self._printed:
            self._printed = tenth
            self.say(", ".join([f"{len(results)} of {self._total} trials", *self._told(), *self._left()]))

    def _look(self, new: list[Result]) -> None:
        self._seen += len(new)
        self._failed += sum(result.error is not None for result in new)
        complete = [result for result in new if result.outcome is not None]
        if complete and (values := _values(complete, self._objective)) is not None and np.isfinite(values).any():
            self._best = min(self._best, float(np.nanmin(values)))

    def _told(self) -> list[str]:
        best = [f"best {self._best:.6g}"] if self._best < np.inf else []
        notes = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in self._notes.items()]
        return [*best, *notes, *([f"{self._failed} failed"] if self._failed else [])]

    def _left(self) -> list[str]:
        when, count = self._first or (0.0, 0)
        done, left = self._seen - count, self._total - self._seen
        return [f"{duration((self._last - when) / done * left)} left"] if done > 0 and left > 0 else []


def _values(complete: list[Result], objective: "Callable[..., Tensor] | None") -> np.ndarray | None:
    """The objectives of complete trials; None where their outcomes are no numbers that could be one."""
    import torch

    from studies.objective import apply_objective

    rows = [result.outcome for result in complete if result.outcome is not None]
    if any(row.shape != rows[0].shape for row in rows) or (objective is None and rows[0].size != 1):
        return None
    inputs = [result.x for result in complete if result.x is not None]
    x = torch.tensor(np.stack(inputs)) if len(inputs) == len(rows) else None
    outcome = torch.tensor(np.stack(rows))
    try:
        return apply_objective(objective, outcome if objective else outcome.reshape(-1), x).numpy()
    except Exception:  # the strategy will say it: a display has no say in whether a study goes on
        return None
