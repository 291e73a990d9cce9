"""The command `studies`: runs study scripts, and shows what a storage holds."""

import runpy
import sys
import traceback
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studies.errors import StudyError

if TYPE_CHECKING:
    from studies.storage.base import Result, RoundRecord
    from studies.storage.sqlite import SQLiteStorage

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Run studies, and show what they recorded.")

File = Annotated[str, typer.Argument(help="An SQLite file, or its URL: sqlite:///runs.db.")]


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(
    context: typer.Context,
    script: Annotated[Path, typer.Argument(help="A Python script that makes a study and runs it.")],
) -> None:
    """Run a script, with the progress of its studies. What follows its name goes to the script.

    After an interruption the same command goes on where it stopped, if the study has a storage on disk.
    """
    from studies.progress import default_progress

    if not script.is_file():
        raise _failure(f"There is no script {script}.", code=2)
    default_progress.set(True)
    sys.argv = [str(script), *context.args]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    except KeyboardInterrupt:
        raise _failure("Interrupted. What was told is kept; the same command goes on from there.", code=130) from None
    except Exception as error:
        # Our own errors say all; of others the traceback is wanted, without the frames of this command and of runpy.
        trace = error.__traceback__
        while trace and trace.tb_frame.f_code.co_filename != str(script):
            trace = trace.tb_next
        shown = (
            "" if isinstance(error, StudyError) else "".join(traceback.format_exception(error.with_traceback(trace)))
        )
        raise _failure(f"{shown}{script} failed. {type(error).__name__}: {error}") from None


@app.command("list")
def list_studies(file: File) -> None:
    """List the studies in a file."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from studies.storage.base import settled

    counts = (Column(title, justify="right") for title in ("complete", "failed", "pending", "rounds", "seed"))
    table = Table("name", *counts, Column("strategy", overflow="fold"), Column("created", no_wrap=True))
    with _refusing():
        storage = _open(file)
        for study in storage.studies():
            rounds, results = storage.read(study.name)
            cells = (*_counts(rounds, settled(results)), len(rounds), study.seed)
            table.add_row(escape(study.name), *map(str, cells), escape(study.strategy), study.created[:10])
    Console().print(table)


@app.command()
def show(
    file: File,
    name: Annotated[str, typer.Argument(help="The study's name.")] = "study",
    last: Annotated[int, typer.Option(min=1, help="How many of the last trials to show.")] = 10,
    failures: Annotated[int, typer.Option(min=1, help="How many of the last failures to show.")] = 3,
) -> None:
    """Show one study: its space, its last trials, the smallest outcome, and its failures with tracebacks."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from studies.storage.base import settled

    with _refusing():
        storage = _open(file)
        rounds, results = storage.read(name)
        study = next(study for study in storage.studies() if study.name == name)
    told = settled(results)
    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print("{}: {} complete, {} failed, {} pending trials".format(name, *_counts(rounds, told)))
    for row in _space_rows(study.space):
        console.print(f"space     {row}")
    console.print(f"strategy  {study.strategy}\nseed      {study.seed}\ncreated   {study.created}")
    console.print("versions  " + ", ".join(f"{package} {version}" for package, version in study.versions.items()))
    values = {number: result.outcome for number, result in told.items() if result.outcome is not None}
    if values and all(outcome.size == 1 for outcome in values.values()):
        best = min(values, key=lambda number: values[number].item())
        console.print(f"smallest  {values[best].item():.6g} in trial {best}, noise included")
    table = Table("trial", "round", *(escape(name) for name in study.space["names"]), "outcome", "seconds")
    rows = [
        (number, round.number, theta)
        for round in rounds
        for number, theta in zip(round.trials, round.theta, strict=True)
    ]
    for number, round_number, theta in rows[-last:]:
        cells = (f"{value:.6g}" for value in theta)
        table.add_row(str(number), str(round_number), *cells, *_outcome_cells(told.get(number)))
    console.print(table)
    for result in [result for result in told.values() if result.error is not None][-failures:]:
        console.print(f"trial {result.trial} failed\n{result.error}")


def _open(file: str) -> "SQLiteStorage":
    from studies.storage.sqlite import SQLiteStorage

    return SQLiteStorage(Path(file.removeprefix("sqlite:///")), create=False)


def _counts(rounds: "Sequence[RoundRecord]", told: "Mapping[int, Result]") -> tuple[int, int, int]:
    """Complete, failed and pending trials."""
    failed = sum(result.error is not None for result in told.values())
    return len(told) - failed, failed, sum(len(round.theta) for round in rounds) - len(told)


def _space_rows(space: Mapping[str, Any]) -> list[str]:
    if "low" not in space:
        return [f"{', '.join(space['names'])}: {len(space.get('candidates', ()))} candidates"]
    bounds = zip(space["names"], space["low"], space["high"], strict=True)
    return [f"{name} from {low:g} to {high:g} {space['units'].get(name, '')}".rstrip() for name, low, high in bounds]


def _outcome_cells(result: "Result | None") -> tuple[str, str]:
    if result is None:
        return "pending", ""
    seconds = "" if result.seconds is None else f"{result.seconds:.3g}"
    if result.outcome is None:
        return "failed", seconds
    short = result.outcome.size <= 4
    return " ".join(
        f"{value:.6g}" for value in result.outcome.flat
    ) if short else f"{list(result.outcome.shape)}", seconds


@contextmanager
def _refusing() -> Generator[None]:
    try:
        yield
    except StudyError as error:
        raise _failure(str(error)) from None


def _failure(message: str, code: int = 1) -> typer.Exit:
    typer.echo(message, err=True)
    return typer.Exit(code)
