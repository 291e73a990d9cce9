"""`studies compare`: several studies, of one or several databases, in one table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from studies.cli.sources import Objectives, Source, open_source, plain_console, refusing
from studies.errors import StorageError

if TYPE_CHECKING:
    from studies.report.view import View

__all__ = ["compare"]

Sources = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE...", help="Databases, all of whose studies are shown, or YAML study files."),
]


def compare(
    sources: Sources,
    objective: Objectives = None,
    name: Annotated[list[str] | None, typer.Option(help="Only studies of this name; may be given again.")] = None,
) -> None:
    """Compare studies: their trials, the best value after equal numbers of trials, and the time they took."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    with refusing():
        opened = [open_source(text) for text in sources]
        views = [(source, source.view(each, objective)) for source in opened for each in _names(source, name)]
        if not views:
            raise StorageError("There is no study to compare.")
    fewest = min((len(view.trials) for _, view in views if len(view.trials)), default=0)
    marks = sorted({count for count in (fewest // 4, fewest // 2, fewest) if count})
    titles = (*(f"best of {count}" for count in marks), "best of all", "complete", "failed", "s a trial", "seed")
    columns = (Column(title, justify="right") for title in titles)
    several = len(sources) > 1
    table = Table("study", *(["in"] if several else []), *columns, Column("strategy", overflow="fold"), box=SIMPLE_HEAD)
    for source, view in views:
        states = [trial.state for trial in view.trials]
        seconds = [trial.seconds for trial in view.trials if trial.seconds is not None]
        cells = [_best(view, count) for count in (*marks, len(view.trials))]
        cells += [str(states.count("complete")), str(states.count("failed"))]
        cells += [f"{sum(seconds) / len(seconds):.3g}" if seconds else "", str(view.record.seed)]
        place = [source.text] if several else []
        table.add_row(view.record.name, *place, *cells, view.record.strategy)
    plain_console().print(table)


def _names(source: Source, wanted: Sequence[str] | None) -> list[str]:
    if source.file is not None:
        return [source.file.name]
    return [study.name for study in source.storage.studies() if not wanted or study.name in wanted]


def _best(view: "View", count: int) -> str:
    """The smallest value of the first trials, failed and pending ones included in the count."""
    import numpy as np

    values = view.value[:count]
    single = view.measure in ("objective", "outcome")
    return f"{np.nanmin(values):.6g}" if single and np.isfinite(values).any() else ""
