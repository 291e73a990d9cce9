"""What a report says of a study, section by section, and the file that it is written to."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError
from diffsim.fields.base import VectorField
from studies.errors import StudyError
from studies.history import History
from studies.ledger import Ledger
from studies.objective import Objective, objective_of
from studies.report.calibration import calibrate
from studies.report.failures import causes
from studies.report.front import Fronted, fronts
from studies.report.origin import origin_sections
from studies.report.page import Card, Page, Section, Table, render
from studies.report.parameters import pairs, parallel, slices
from studies.report.path import acquisition, notes, region, steps
from studies.report.progress import Estimate, convergence, durations, estimates, timeline
from studies.report.runs import recorded_runs, rollouts
from studies.report.style import Panel
from studies.report.view import View, read_view
from studies.storage.base import Storage
from studies.storage.resolve import open_storage
from studies.strategies.base import Optimiser
from studies.study import Study

__all__ = ["report", "write_report"]


@runtime_checkable
class _Estimator(Optimiser, Protocol):
    def estimate(self, history: History, theta: Tensor) -> tuple[Tensor, ...]: ...


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a strategy recommends, what its model thinks of it, or why there is nothing."""

    theta: list[float] | None = None
    mean: float | None = None
    deviation: float | None = None
    problem: str = ""


def report(
    study: Study,
    path: str | os.PathLike[str],
    *,
    field: VectorField | None = None,
    test: Trajectory | None = None,
    command: str | None = None,
) -> Path:
    """Writes a report of a study, with its strategy's objective and recommendation.

    Args:
        study: The study.
        path: The HTML file; its folder must exist. A file that is there is replaced.
        field: A field that was learned from the study's runs.
        test: True runs that it was not learned from: the report shows both from the same first states.
        command: How the study was started, for the part on reproducing it.

    Returns:
        The file.

    Raises:
        ArgumentError: Of `field` and `test` only one is given, or the folder does not exist.
        StudyError: The extra `web` is not installed.
    """
    target = _target(path, field, test)
    view, ledger = read_view(study.storage, study.name, objective_of(study.strategy), study.space)
    front = fronts(view, study.strategy) if isinstance(study.strategy, Fronted) else []
    return _write(target, _page(view, ledger, _answer(study, view), front, field, test, command))


def write_report(
    storage: str | os.PathLike[str] | Storage,
    name: str,
    path: str | os.PathLike[str],
    *,
    objective: Objective | None = None,
    field: VectorField | None = None,
    test: Trajectory | None = None,
    command: str | None = None,
) -> Path:
    """Writes a report of a recorded study: one HTML file that needs no network and runs nothing but our own scripts.

    Args:
        storage: Holds the study: a storage, its URL or its file.
        name: The study's name.
        path: The HTML file; its folder must exist. A file that is there is replaced.
        objective: What was minimised; None: the outcome, its first number where it has several.
        field: A field that was learned from the study's runs.
        test: True runs that it was not learned from: the report shows both from the same first states.
        command: How the study was started, for the part on reproducing it.

    Returns:
        The file.

    Raises:
        ArgumentError: Of `field` and `test` only one is given, or the folder does not exist.
        StorageError: There is no such study, or the storage cannot be read.
        StudyError: The extra `web` is not installed.
    """
    target = _target(path, field, test)
    view, ledger = read_view(open_storage(storage, create=False), name, objective)
    return _write(target, _page(view, ledger, _Answer(), [], field, test, command))


def _target(path: str | os.PathLike[str], field: VectorField | None, test: Trajectory | None) -> Path:
    if (field is None) != (test is None):
        raise ArgumentError("Give `field` and `test` both, or neither: a learned field is shown against true runs.")
    target = Path(path)
    if not target.absolute().parent.is_dir():
        raise ArgumentError(f"`path` must lie in a folder that exists, got {str(path)!r}. Make {target.parent} first.")
    return target


def _page(
    view: View,
    ledger: Ledger,
    answer: _Answer,
    front: list[Panel],
    field: VectorField | None,
    test: Trajectory | None,
    command: str | None,
) -> Page:
    learned, amounts = ([], {}) if field is None or test is None else rollouts(field, test)
    calibration = calibrate(view)
    record = view.record
    sections = [
        Section("convergence", "Convergence", panels=_present(convergence(view, _estimates(view, answer)))),
        Section("front", "Pareto front", panels=front),
        Section(
            "best", "Best parameters", [answer.problem] if answer.problem else (), tables=_best_tables(view, answer)
        ),
        Section("parameters", "Parameters", panels=[*_present(parallel(view)), *_placed(view)]),
        Section(
            "strategy",
            "What the strategy did",
            panels=[*region(view), *_present(acquisition(view)), *notes(view)],
            tables=_step_tables(view),
        ),
        Section("field", "Learned field", facts=amounts, panels=learned),
        Section("runs", "Recorded runs", panels=recorded_runs(view.history)),
        Section(
            "calibration",
            "Calibration",
            facts={} if calibration is None else calibration.words,
            panels=[] if calibration is None else calibration.panels(view.measure),
        ),
        Section("time", "Time", panels=_present(durations(view), timeline(view))),
        Section("failures", "Failures", causes=causes(view)),
        *origin_sections(view, ledger, command),
    ]
    under = f"{len(view.parameters)} parameters · seed {record.seed} · created {record.created}"
    footer = f"Written {datetime.now(UTC).isoformat(sep=' ', timespec='seconds')} by diffsim-studies."
    return Page(record.name, under, _cards(view, answer), sections, footer)


def _answer(study: Study, view: View) -> _Answer:
    if not isinstance(study.strategy, Optimiser) or not len(view.history):
        return _Answer()
    try:
        theta = study.recommend()
        if not isinstance(study.strategy, _Estimator):
            return _Answer(theta.tolist())
        mean, deviation, *_ = study.strategy.estimate(view.history, theta[None])
        return _Answer(theta.tolist(), float(mean[0]), float(deviation[0]))
    except (ArgumentError, StudyError) as error:
        return _Answer(problem=f"The strategy has no recommendation: {error}")


def _estimates(view: View, answer: _Answer) -> list[Estimate]:
    found = estimates(view)
    return found if answer.mean is None else [*found, (len(view.trials) - 1, answer.mean, answer.deviation)]


def _cards(view: View, answer: _Answer) -> list[Card]:
    n_failed, n_pending = len(view.where("failed")), len(view.where("pending"))
    cards = [Card("complete trials", str(len(view.history)), f"in {view.history.n_rounds} rounds")]
    if view.best is not None:
        cards.append(
            Card(f"smallest {view.measure}", f"{view.value[view.best]:.5g}", f"trial {view.best}, noise included")
        )
    if answer.mean is not None:
        cards.append(
            Card("recommended", f"{answer.mean:.4g}", f"± {answer.deviation:.2g}, by the strategy's model", "main")
        )
    share = f"{100 * n_failed / max(len(view.trials), 1):.0f} % of all" if n_failed else "none"
    cards.append(Card("failed", str(n_failed), share, "bad" if n_failed else ""))
    cards.append(Card("pending", str(n_pending)))
    seconds = np.array([trial.seconds or 0.0 for trial in view.trials])
    cards.append(Card("simulation", _duration(float(seconds.sum())), "all workers together"))
    return cards


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.3g} s"


def _best_tables(view: View, answer: _Answer) -> list[Table]:
    if view.best is None and answer.theta is None:
        return []
    head, columns = ["parameter", "from", "to", "unit"], list[list[float]]()
    if answer.theta is not None:
        head.append("recommended")
        columns.append(answer.theta)
    if view.best is not None:
        head.append(f"smallest seen (trial {view.best})")
        columns.append(view.theta[view.best].tolist())
    rows = [
        [p.name, p.text(p.low), p.text(p.high), p.unit, *(p.text(column[i]) for column in columns)]
        for i, p in enumerate(view.parameters)
    ]
    return [Table(head, rows)]


def _placed(view: View) -> list[Panel]:
    """The value against each parameter; pairs of parameters where there is no value, or where a pair is all."""
    found = slices(view)
    return [*found, *pairs(view)] if not found or len(view.parameters) == 2 else found


def _step_tables(view: View, most: int = 60) -> list[Table]:
    path = steps(view)[-most:]
    head = ["round", "decision", "by", "half-width", "simulations", "predicted change", "held-out errors"]
    rows = [
        [
            str(step.round),
            step.decision,
            step.rung,
            f"{step.radius:.3g}",
            str(step.size),
            f"{step.gain:.3g} ± {step.error:.2g}" if step.error > 0 else "",
            ", ".join(f"{name} {score:.2g}" for name, score in step.scores.items()),
        ]
        for step in path
    ]
    return [Table(head, rows, "Decisions, the latest last")] if rows else []


def _present(*panels: Panel | None) -> list[Panel]:
    return [panel for panel in panels if panel is not None]


def _write(path: Path, page: Page) -> Path:
    """Whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(render(page), encoding="utf-8", errors="replace")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path
