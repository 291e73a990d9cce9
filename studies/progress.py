"""Progress of a run: a bar in a terminal, a few lines of text elsewhere."""

import sys
from collections.abc import Collection
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import TaskID

from studies.storage.base import Result

__all__ = ["Progress", "default_progress"]

default_progress: ContextVar[bool | None] = ContextVar("default_progress", default=None)
"""What `progress=None` means: True and False force it; None is a bar where stderr is a terminal, else nothing."""


class Progress:
    """A progress display; a context manager.

    Args:
        name: The study's name.
        show: True, False, or None for `default_progress`.
    """

    def __init__(self, name: str, show: bool | None = None) -> None:
        terminal = sys.stderr.isatty()
        show = default_progress.get() if show is None else show
        self._name, self._total, self._printed = name, 0, -1
        self._lines = bool(show) and not terminal
        self._task: TaskID | None = None
        self._bar = None
        if terminal and show is not False:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True))

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(self._name, total=None, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, results: Collection[Result], total: int | None = None) -> None:
        """Shows how many trials have been told, of how many (as last given)."""
        if not (self._bar or self._lines):
            return
        self._total = self._total if total is None else total
        failed = sum(result.error is not None for result in results)
        note = f"{failed} failed" if failed else ""
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=len(results), total=self._total, note=note)
        elif self._total and (tenth := 10 * len(results) // self._total) > self._printed:
            self._printed = tenth
            text = f"{self._name}: {len(results)} of {self._total} trials"
            print(f"{text}, {note}" if note else text, file=sys.stderr)
