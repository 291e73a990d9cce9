"""`studies run`, `resume` and `work`: studies of scripts and of YAML files, and trials of a shared database."""

import runpy
import sys
import traceback
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from studies.cli.sources import Name, Place, failure, open_source, refusing
from studies.errors import StudyError

if TYPE_CHECKING:
    from studies.history import History
    from studies.study import Study

__all__ = ["resume", "run", "work"]

_DATABASE = b"SQLite format 3\0"
_INTERRUPTED = "Interrupted. What was told is kept; the same command goes on from there."
File = Annotated[Path, typer.Argument(help="A Python script that makes a study and runs it, or a YAML study file.")]
Trials = Annotated[int | None, typer.Option(min=1, help="Trials to reach instead of the file's budget.")]
Rounds = Annotated[int | None, typer.Option(min=1, help="Rounds to reach instead of the file's budget.")]


def run(context: typer.Context, file: File) -> None:
    """Run a script, or the study of a YAML file, with progress. What follows a script's name goes to the script.

    After an interruption the same command goes on where it stopped, if the study has a storage on disk.
    """
    if _is_yaml(file):
        _refuse_more(context)
        _run_yaml(file)
    else:
        _run_script(file, context.args)


def resume(context: typer.Context, file: File, trials: Trials = None, rounds: Rounds = None) -> None:
    """Go on with the study of a YAML file, to its budget or further; a script is run again, which goes on too."""
    if not _is_yaml(file):
        goals = [("--trials", trials), ("--rounds", rounds)]
        _run_script(file, [*(str(part) for goal in goals if goal[1] is not None for part in goal), *context.args])
        return
    _refuse_more(context)
    if trials is not None and rounds is not None:
        raise failure("Give --trials or --rounds, one of them.", code=2)
    with refusing():
        opened = open_source(str(file))
        if opened.file and opened.file.name not in (names := [study.name for study in opened.storage.studies()]):
            raise StudyError(f"There is no study {opened.file.name!r} in {opened.file.storage}; there are {names}.")
    _run_yaml(file, trials=trials, rounds=rounds)


def work(
    source: Place,
    simulator: Annotated[
        str | None, typer.Argument(help="package.module:function; not where SOURCE is a YAML study file.")
    ] = None,
    name: Name = None,
    trials: Annotated[int | None, typer.Option(min=1, help="The study is done when it has so many trials.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="How many calls are made at a time.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds that a call may take.")] = None,
    lease: Annotated[
        float, typer.Option(help="Seconds after which others take over from a worker that is dead.")
    ] = 60.0,
    patience: Annotated[
        float | None, typer.Option(help="End after so many seconds without work; else wait for more.")
    ] = None,
) -> None:
    """Run trials of a shared database on this machine, beside any number of other workers.

    With a YAML study file a worker asks for new trials too, until the budget is spent; with a database it runs what
    others ask.
    """
    with refusing():
        if source.endswith((".yaml", ".yml")):
            from studies.files.study_file import StudyFile

            if simulator or name or trials or workers or timeout:
                raise failure(f"{source} says all but --lease and --patience. Give no more.", code=2)
            job = partial(StudyFile.read(source).work, lease=lease, patience=patience, progress=True)
        else:
            from studies.files.names import named
            from studies.worker import work

            if simulator is None:
                raise failure("Name the simulator, package.module:function, or a YAML study file.", code=2)
            opened = open_source(source)
            call = named(simulator, Path.cwd())
            goal: dict[str, Any] = {"trials": trials, "workers": workers, "timeout": timeout}
            limits: dict[str, Any] = {"lease": lease, "patience": patience, "progress": True}
            job = partial(work, opened.storage, call, name=opened.name(name), **goal, **limits)
        try:
            done = job()
        except KeyboardInterrupt:
            raise failure("Interrupted. What was told is kept; other workers take over the rest.", code=130) from None
    typer.echo(f"This worker ran {done} trials.")


def _is_yaml(file: Path) -> bool:
    if not file.is_file():
        raise failure(f"There is no script {file}." if file.suffix == ".py" else f"There is no file {file}.", code=2)
    with file.open("rb") as opened:
        if opened.read(len(_DATABASE)) == _DATABASE:
            raise failure(f"{file} is a database: it holds no simulator. Name the script or YAML file that made it.", 2)
    return file.suffix in (".yaml", ".yml")


def _refuse_more(context: typer.Context) -> None:
    if context.args:
        raise failure(f"A YAML study file takes no more arguments, got {' '.join(context.args)}.", code=2)


def _run_yaml(file: Path, **goal: Any) -> None:  # noqa: ANN401
    from studies.files.study_file import StudyFile

    with refusing():
        read = StudyFile.read(file)
        try:
            study, history = read.run(progress=True, **goal)
            typer.echo(_summary(study, history))
        except KeyboardInterrupt:
            raise failure(_INTERRUPTED, code=130) from None
    if read.storage != "memory":
        typer.echo(f"All of it: studies show {file}")


def _summary(study: "Study", history: "History") -> str:
    import torch

    from studies.strategies.base import Optimiser

    failed = len(history.failed)
    rows = [f"{study.name}: {len(history)} complete trials{f', {failed} failed' if failed else ''}"]
    rows += [f"stopped: {study.stopped}"] if study.stopped else []
    if isinstance(study.strategy, Optimiser) and len(history):
        theta = study.recommend()
        rows.append("recommended")
        units = getattr(study.space, "units", {})
        for name, value in study.space.to_dict(theta).items():
            shown = f"{value:.6g}" if isinstance(value, float) else value
            rows.append(f"  {name} = {shown} {units.get(name, '')}".rstrip())
        if (estimate := getattr(study.strategy, "estimate", None)) is not None:
            with torch.random.fork_rng(devices=[]):
                mean, deviation, *chance = estimate(history, theta[None])
            rows.append(f"  objective = {float(mean[0]):.6g} +- {float(deviation[0]):.2g}, by the model")
            rows += [f"  constraints met with a chance of {float(share[0]):.2g}, by the model" for share in chance]
    return "\n".join(rows)


def _run_script(script: Path, arguments: list[str]) -> None:
    from studies.progress import default_progress

    default_progress.set(True)
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    except KeyboardInterrupt:
        raise failure(_INTERRUPTED, code=130) from None
    except Exception as error:
        # Our own errors say all; of others the traceback is wanted, without the frames of this command and of runpy.
        trace = error.__traceback__
        while trace and trace.tb_frame.f_code.co_filename != str(script):
            trace = trace.tb_next
        shown = (
            "" if isinstance(error, StudyError) else "".join(traceback.format_exception(error.with_traceback(trace)))
        )
        raise failure(f"{shown}{script} failed. {type(error).__name__}: {error}") from None
