"""What commands read: a database, or a YAML study file that names one; and how they refuse."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studies.errors import StorageError, StudyError

if TYPE_CHECKING:
    from rich.console import Console

    from studies.files.study_file import StudyFile
    from studies.history import History
    from studies.objective import Objective
    from studies.report.view import View
    from studies.storage.base import Storage

__all__ = ["Name", "Objectives", "Place", "Source", "failure", "open_source", "plain_console", "refusing"]

_WIDE = 200

Place = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="An SQLite file, a URL (sqlite:///runs.db, postgresql://host/name), or a YAML study file.",
    ),
]
Name = Annotated[str | None, typer.Argument(help="The study's name; not needed where there is one.")]
Objectives = Annotated[
    str | None,
    typer.Option(
        "--objective",
        "-o",
        metavar="FORMULA",
        help="What is best: a formula of the outcome's numbers y0, y1, ... (or y).",
    ),
]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A storage that was named on the command line.

    Args:
        text: What it was named.
        storage: The storage.
        file: The YAML study file, where one was named.
    """

    text: str
    storage: "Storage"
    file: "StudyFile | None" = None

    def name(self, given: str | None = None) -> str:
        """The study's name: the given one, the file's, or that of the only study.

        Raises:
            StorageError: There are several, or none.
        """
        if given is not None or self.file is not None:
            return given or (self.file.name if self.file else "")
        names = [study.name for study in self.storage.studies() if not study.is_log]
        if len(names) == 1:
            return names[0]
        raise StorageError(f"{self.text} holds {f'the studies {names}. Name one' if names else 'no study'}.")

    def objective(self, formula: str | None, name: str) -> "Objective | None":
        """What is minimised: a formula of the command line, else the file's objective, else None."""
        if formula is None:
            if not self.file or self.file.name != name:
                return None
            from studies.objective import objective_of

            constrained = "constraints" in self.file.schema.strategy.settings
            return objective_of(self.file.strategy()) if constrained else self.file.objective()
        from studies.files.expression import Expression

        outcome = next((result.outcome for result in self.storage.read(name)[1] if result.outcome is not None), None)
        single = outcome is None or outcome.size == 1 or outcome.ndim > 1
        numbered = ("y",) if single or outcome is None else tuple(f"y{i}" for i in range(outcome.size))
        return Expression(formula, self.file.schema.simulator.output_names if self.file else numbered)

    def view(self, name: str, formula: str | None = None) -> "View":
        """A study as it is shown; without an objective, values are there only where outcomes are single numbers."""
        from studies.report.view import read_view

        space = self.file.space() if self.file and self.file.name == name else None
        return read_view(self.storage, name, self.objective(formula, name), space)[0]

    def history(self, name: str) -> "History":
        """A study's trials."""
        return self.view(name).history


def open_source(text: str) -> Source:
    """Opens what exists.

    Raises:
        ArgumentError: The YAML file is wrong.
        StorageError: There is no such database, or it cannot be read.
    """
    from studies.storage.resolve import open_storage

    if not text.endswith((".yaml", ".yml")):
        return Source(text, open_storage(text if "://" in text else Path(text), create=False))
    from studies.files.study_file import StudyFile

    file = StudyFile.read(text)
    if file.storage == "memory":
        raise StorageError(f"{text} keeps its study in memory. Give it a `storage` to see it later.")
    return Source(text, open_storage(file.storage, create=False), file)


def plain_console() -> "Console":
    """Where tables are printed, without markup: in a file or a pipe they are as wide as they need."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDE
    return Console(markup=False, highlight=False, soft_wrap=True, width=width)


@contextmanager
def refusing() -> Generator[None]:
    """A block whose errors of ours are told without a traceback."""
    from diffsim.errors import ArgumentError, ArgumentTypeError

    try:
        yield
    except (StudyError, ArgumentError, ArgumentTypeError) as error:
        raise failure(str(error)) from None


def failure(message: str, code: int = 1) -> typer.Exit:
    """Tells what is wrong; to be raised."""
    typer.echo(message, err=True)
    return typer.Exit(code)
