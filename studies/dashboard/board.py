"""What the dashboard tells of a storage, as JSON mappings: its studies, what is new in one, its figures, its trials."""

import threading
from collections.abc import Sequence
from itertools import islice
from typing import Any

from studies.history import Trial
from studies.ledger import Ledger
from studies.report.failures import causes
from studies.report.parameters import pairs, parallel, slices
from studies.report.path import acquisition, notes, region
from studies.report.progress import convergence, durations, timeline
from studies.report.runs import recorded_runs
from studies.report.style import Panel, numbers
from studies.report.view import View, recorded_space, view_of
from studies.spaces.base import Space
from studies.storage.base import Result, Storage, StudyRecord

__all__ = ["Board", "Unknown"]

_SHOWN = 256  # numbers of an outcome


class Unknown(LookupError):
    """There is no such study or trial."""


class Board:
    """The studies of a storage; of each it reads only what is new. Safe for threads.

    Args:
        storage: Holds the studies.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._known: dict[str, tuple[Ledger, Space]] = {}
        self._views: dict[str, tuple[tuple[int, int, int], View]] = {}
        self._lock = threading.Lock()

    def studies(self) -> list[dict[str, Any]]:
        """All studies, the latest first, with the numbers of their trials."""
        listed: list[dict[str, Any]] = []
        for record in self._storage.studies():
            if record.is_log:
                continue
            ledger, space = self._read(record)
            history = ledger.history(space)
            n_failed, n_pending = len(history.failed), len(history.pending)
            counts = {"complete": len(history), "failed": n_failed, "pending": n_pending}
            listed.append({"name": record.name, "created": record.created, **counts})
        return listed[::-1]

    def study(self, name: str, n_rounds: int = 0, n_results: int = 0, column: int = 0) -> dict[str, Any]:
        """A study's head, and the rows of trials that were asked or told since a reader's last visit.

        Args:
            name: The study's name.
            n_rounds: How many rounds the reader has.
            n_results: How many results the reader has.
            column: Which number of the outcome is shown.

        Raises:
            Unknown: There is no such study.
        """
        ledger, view = self._view(name, column)
        history, record = view.history, view.record
        new = {n for round in ledger.rounds[n_rounds:] for n in round.trials} | set(
            islice(ledger.results, n_results, None)
        )
        finished = [trial.started + (trial.seconds or 0.0) for trial in view.trials if trial.started is not None]
        return {
            "name": record.name,
            "strategy": ledger.rounds[-1].strategy if ledger.rounds else record.strategy,
            "seed": record.seed,
            "created": record.created,
            "versions": dict(record.versions),
            "parameters": [{"name": p.name, "unit": p.unit} for p in view.parameters],
            "measure": view.measure,
            "columns": view.n_columns,
            "rounds": len(ledger.rounds),
            "results": len(ledger.results),
            "complete": len(history),
            "failed": len(history.failed),
            "pending": len(history.pending),
            "best": None if view.best is None else {"trial": view.best, "value": _number(view.value[view.best])},
            "last": max(finished, default=None),
            "workers": sorted({lease.worker for lease in self._storage.leases(name) if lease.seconds > 0}),
            "rows": [_row(view, view.trials[number]) for number in sorted(new)],
        }

    def details(self, name: str, column: int = 0) -> dict[str, Any]:
        """A study's figures, in groups, and the causes of its failures.

        Raises:
            Unknown: There is no such study.
        """
        _, view = self._view(name, column)
        sliced = slices(view)
        placed = [] if sliced and len(view.parameters) != 2 else pairs(view)
        groups = {
            "Convergence": [convergence(view)],
            "Parameters": [parallel(view), *sliced, *placed],
            "What the strategy did": [*region(view), acquisition(view), *notes(view)],
            "Recorded runs": recorded_runs(view.history),
            "Time": [durations(view), timeline(view)],
        }
        return {
            "groups": [{"title": title, "panels": _panels(panels)} for title, panels in groups.items()],
            "causes": [
                {"words": c.words, "trials": c.where, "error": c.error, "n": len(c.trials)} for c in causes(view)
            ],
        }

    def trial(self, name: str, number: int) -> dict[str, Any]:
        """All of one trial.

        Raises:
            Unknown: There is no such study or trial.
        """
        ledger, view = self._view(name)
        if not 0 <= number < len(view.trials):
            raise Unknown(f"There is no trial {number}.")
        trial = view.trials[number]
        outcome = None if trial.outcome is None else trial.outcome.flatten()[:_SHOWN].double().numpy()
        return {
            "number": number,
            "round": trial.round,
            "strategy": ledger.rounds[trial.round].strategy,
            "state": trial.state,
            "theta": [[p.label, p.text(v)] for p, v in zip(view.parameters, view.theta[number], strict=True)],
            "shape": None if trial.outcome is None else list(trial.outcome.shape),
            "outcome": None if outcome is None else numbers(outcome),
            "error": trial.error,
            "started": trial.started,
            "seconds": trial.seconds,
            "host": trial.host,
            "seed": None if number not in ledger.results else _text(ledger.results[number].seed),
        }

    def fail(self, name: str, number: int, error: str) -> None:
        """Records a pending trial as failed.

        Raises:
            Unknown: There is no such study or trial.
            ConflictError: The trial was told already.
        """
        _, view = self._view(name)
        if not 0 <= number < len(view.trials):
            raise Unknown(f"There is no trial {number}.")
        self._storage.add_results(name, [Result(number, error=error)])

    def _view(self, name: str, column: int = 0) -> tuple[Ledger, View]:
        record = next((study for study in self._storage.studies() if study.name == name), None)
        if record is None:
            raise Unknown(f"There is no study {name!r}.")
        ledger, space = self._read(record)
        history = ledger.history(space)
        version = (len(ledger.rounds), len(ledger.results), column)
        with self._lock:
            known = self._views.get(name)
        if known is None or known[0] != version:
            known = version, view_of(record, history, column=column)
            with self._lock:
                self._views[name] = known
        return ledger, known[1]

    def _read(self, record: StudyRecord) -> tuple[Ledger, Space]:
        with self._lock:
            if record.name not in self._known:
                self._known[record.name] = Ledger(self._storage, record.name), recorded_space(record.space)
            self._known[record.name][0].read()
            return self._known[record.name]


def _row(view: View, trial: Trial) -> dict[str, Any]:
    lines = (trial.error or "").strip().splitlines()
    return {
        "number": trial.number,
        "state": trial.state,
        "value": _number(view.value[trial.number]),
        "theta": [p.text(v) for p, v in zip(view.parameters, view.theta[trial.number], strict=True)],
        "seconds": trial.seconds,
        "error": lines[-1][:300] if lines else "",
    }


def _panels(panels: Sequence[Panel | None]) -> list[dict[str, Any]]:
    return [
        {
            "key": panel.key,
            "title": panel.title,
            "caption": panel.caption,
            "wide": panel.wide,
            "height": panel.height,
            "figure": panel.figure,
        }
        for panel in panels
        if panel is not None
    ]


def _text(seed: int | None) -> str | None:
    """A seed has more digits than a number of a browser."""
    return None if seed is None else str(seed)


def _number(value: float) -> float | None:
    return numbers([value])[0]
