"""`studies export`, `report` and `dashboard`: what a storage holds, as tables, as a page, and live."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from studies.cli.sources import Name, Objectives, Place, failure, open_source, refusing

if TYPE_CHECKING:
    from studies.history import History

__all__ = ["dashboard", "export", "report"]

_TABLES = (".csv", ".jsonl", ".parquet")
_ARRAYS = (".nc", ".zarr")


def export(
    source: Place,
    path: Annotated[Path, typer.Argument(help="The new file: .csv, .jsonl, .parquet (tables), .nc, .zarr (arrays).")],
    name: Name = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write all trials of a study to a file; its suffix says how."""
    if path.suffix not in (*_TABLES, *_ARRAYS):
        raise failure(f"{path} must end with one of {', '.join((*_TABLES, *_ARRAYS))}.", code=2)
    if path.exists() and not force:
        raise failure(f"{path} is there already. Pass --force to replace it.")
    with refusing():
        opened = open_source(source)
        history = opened.history(opened.name(name))
        try:
            _write(history, path)
        except (OSError, ImportError) as error:
            raise failure(f"{path} cannot be written: {error}") from None
    typer.echo(f"{path}: {len(history.trials)} trials")


def report(
    source: Place,
    path: Annotated[Path, typer.Argument(help="The HTML file; one that is there is replaced.")],
    name: Name = None,
    objective: Objectives = None,
) -> None:
    """Write a report of a study: one HTML file, which needs no network."""
    with refusing():
        from studies.report.write import write_report

        opened = open_source(source)
        study = opened.name(name)
        command = f"studies run {source}" if opened.file else None
        write_report(opened.storage, study, path, objective=opened.objective(objective, study), command=command)
    typer.echo(str(path))


def dashboard(
    source: Place,
    host: Annotated[
        str, typer.Option(help="The address to listen on; the default is this machine's own.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on.")] = 8000,
    token: Annotated[
        str | None, typer.Option(envvar="STUDIES_TOKEN", show_envvar=True, help="Whoever has it may do more than look.")
    ] = None,
) -> None:
    """Show the studies of a database in a browser, live while they run."""
    with refusing():
        from studies.dashboard.serve import serve

        serve(open_source(source).storage, host, port, token)


def _write(history: "History", path: Path) -> None:
    if path.suffix == ".nc":
        history.to_xarray().to_netcdf(path, engine="h5netcdf")
    elif path.suffix == ".zarr":
        history.to_zarr(path)
    elif path.suffix == ".csv":
        history.to_csv(path)
    elif path.suffix == ".jsonl":
        table = history.to_pandas().reset_index().astype(object)
        rows = table.where(table.notna(), None).to_dict("records")
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        history.to_pandas().to_parquet(path)
