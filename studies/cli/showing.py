"""`studies show`: one study, its best and last trials and its failures; or one trial with all that is known of it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from studies.cli.sources import Name, Objectives, Place, Source, open_source, plain_console, refusing
from studies.errors import StudyError

if TYPE_CHECKING:
    from rich.table import Table

    from studies.history import Trial
    from studies.report.view import View

__all__ = ["show", "values_text"]


def show(
    source: Place,
    name: Name = None,
    objective: Objectives = None,
    trial: Annotated[int | None, typer.Option(min=0, help="Show all that is known of this trial.")] = None,
    best: Annotated[int, typer.Option(min=0, help="How many of the best trials to show.")] = 5,
    last: Annotated[int, typer.Option(min=0, help="How many of the last trials to show.")] = 10,
    failures: Annotated[int, typer.Option(min=0, help="How many of the last failures to show.")] = 3,
) -> None:
    """Show one study: its space, its best and last trials, and its failures with tracebacks."""
    import numpy as np

    console = plain_console()
    with refusing():
        opened = open_source(source)
        view = opened.view(opened.name(name), objective)
        if trial is not None:
            console.print(_trial_text(opened, view, trial))
            return
    console.print(_head(view))
    ranked = [int(number) for number in np.argsort(view.value, kind="stable") if np.isfinite(view.value[number])]
    if ranked and best and view.measure in ("objective", "outcome"):
        console.print(f"\nbest by {view.measure}, noise included")
        console.print(_table(view, [view.trials[number] for number in ranked[:best]]))
    if last:
        console.print("\nlast")
        console.print(_table(view, view.trials[-last:]))
    failed = [each for each in view.trials if each.error is not None]
    for each in failed[-failures:] if failures else ():
        console.print(f"\ntrial {each.number} failed\n{(each.error or '').rstrip()}")


def values_text(values: Sequence[float], shape: Sequence[int]) -> str:
    """An outcome as people read it: a few numbers, or the shape of many."""
    return " ".join(f"{value:.6g}" for value in values) if len(values) <= 4 else f"{list(shape)}"


def _head(view: "View") -> str:
    record, states = view.record, [trial.state for trial in view.trials]
    told = ", ".join(f"{states.count(state)} {state}" for state in ("complete", "failed", "pending"))
    space = [_parameter_text(view, i) for i in range(len(view.parameters))]
    if view.record.space.get("kind") == "Pool":
        space = [f"{', '.join(view.record.space['names'])}: {len(view.record.space['candidates'])} candidates"]
    versions = ", ".join(f"{package} {version}" for package, version in record.versions.items())
    return "\n".join(
        [
            f"{record.name}: {told} trials",
            *(f"space     {row}" for row in space),
            f"strategy  {record.strategy}",
            f"seed      {record.seed}",
            f"created   {record.created}",
            f"versions  {versions}",
        ]
    )


def _parameter_text(view: "View", position: int) -> str:
    parameter = view.parameters[position]
    if parameter.choices:
        return f"{parameter.name} one of {', '.join(parameter.choices)}"
    kind = {"log": ", logarithmic", "integer": ", whole"}.get(parameter.kind, "")
    low, high = parameter.text(parameter.low), parameter.text(parameter.high)
    return f"{parameter.name} from {low} to {high} {parameter.unit}".rstrip() + kind


def _table(view: "View", trials: "Sequence[Trial]") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    shown = view.measure == "objective"
    names = [parameter.label for parameter in view.parameters]
    titles = ("trial", "round", *names, *(["objective"] if shown else []), "outcome", "seconds")
    table = Table(*titles, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for trial in trials:
        theta = [p.text(value) for p, value in zip(view.parameters, trial.theta.tolist(), strict=True)]
        value = [f"{view.value[trial.number]:.6g}" if trial.state == "complete" else ""] if shown else []
        outcome = trial.state if trial.outcome is None else _outcome_text(trial)
        seconds = "" if trial.seconds is None else f"{trial.seconds:.3g}"
        table.add_row(str(trial.number), str(trial.round), *theta, *value, outcome, seconds)
    return table


def _outcome_text(trial: "Trial") -> str:
    outcome = trial.outcome
    return "" if outcome is None else values_text(outcome.flatten()[:5].tolist(), outcome.shape)


def _trial_text(source: Source, view: "View", number: int) -> str:
    """All that is known of a trial."""
    if number >= len(view.trials):
        raise StudyError(f"There is no trial {number}: the study {view.record.name!r} has {len(view.trials)}.")
    trial = view.trials[number]
    rounds, results = source.storage.read(view.record.name)
    asked = rounds[trial.round]
    result = next((result for result in results if result.trial == number), None)
    rows = [f"trial {number} of {view.record.name}: {trial.state}"]
    for parameter, value in zip(view.parameters, trial.theta.tolist(), strict=True):
        exact = parameter.text(value) if parameter.kind in ("integer", "choice") else repr(value)
        rows.append(f"  {parameter.name} = {exact} {parameter.unit}".rstrip())
    if view.measure == "objective" and trial.state == "complete":
        rows.append(f"objective  {float(view.value[number])!r}")
    if trial.outcome is not None:
        many = trial.outcome.numel() > 64
        rows.append(f"outcome    {list(trial.outcome.shape) if many else trial.outcome.tolist()}")
    if trial.x is not None:
        rows.append(f"inputs x   {trial.x.tolist()}")
    if trial.started is not None:
        rows.append(f"started    {datetime.fromtimestamp(trial.started, UTC).isoformat(timespec='seconds')}")
    rows += [f"seconds    {trial.seconds:.6g}"] if trial.seconds is not None else []
    rows += [f"host       {trial.host}"] if trial.host else []
    rows += [f"seed       {result.seed}"] if result and result.seed is not None else []
    rows += [f"ran with   {result.environment}"] if result and result.environment else []
    rows.append(f"round      {trial.round}, of {len(asked.theta)}, by {asked.strategy}")
    rows += [f"notes      {json.dumps(asked.info)}"] if asked.info else []
    return "\n".join([*rows, *([f"error\n{trial.error}"] if trial.error is not None else [])])
