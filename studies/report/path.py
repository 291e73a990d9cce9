"""Figures of a strategy's way: its trust region, the acquisition at what it chose, and the numbers that it noted."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np

from studies.report.parameters import parameter_axis
from studies.report.style import (
    ACCENT,
    AMBER,
    FAILED,
    INK,
    MUTED,
    POINT,
    Panel,
    axis,
    count_axis,
    figure,
    numbers,
    plain,
    thinned,
)
from studies.report.view import View

__all__ = ["Step", "acquisition", "notes", "region", "steps"]

_SHOWN = 30  # regions that are drawn as squares
_COLOURS = {"kept": ACCENT, "grown": "#2e7d32", "shrunk": AMBER, "rejected": FAILED, "restarted": "#7b3fb5"}
_ELSEWHERE = {"local", "acquisition", "estimate", "sobol"}  # notes with figures of their own, or with nothing to say


@dataclass(frozen=True, slots=True)
class Step:
    """A trust region, as `LocalDescent` noted it.

    Args:
        round: The round that it began in.
        first: That round's first trial.
        center: Shape [d], in units of the box.
        radius: Half-width, in units of the box.
        size: Its number of simulations.
        decision: What was decided, and why.
        rung: The surrogate that led here.
        gain: The predicted change of the objective; negative is better.
        error: Its standard error.
        scores: Held-out error of each surrogate, as a share of the variance.
    """

    round: int
    first: int
    center: tuple[float, ...]
    radius: float
    size: int
    decision: str
    rung: str
    gain: float
    error: float
    scores: Mapping[str, float]

    @property
    def kind(self) -> str:
        """The first word of the decision."""
        return self.decision.partition(":")[0]


def steps(view: View) -> list[Step]:
    """The trust regions of a study; none where its strategy has none."""
    first, found = view.first_trials(), list[Step]()
    for number, info in enumerate(view.history.info):
        note: Any = info.get("local")
        try:  # a note is what some strategy wrote there
            center = tuple(float(value) for value in note["center"])
            radius, size, gain, error = (float(note[key]) for key in ("radius", "size", "gain", "error"))
            scores = {str(name): float(score) for name, score in (note["scores"] or {}).items()}
            words = str(note["decision"]), str(note["rung"])
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
        if len(center) == len(view.parameters) and all(map(math.isfinite, (*center, radius))) and radius > 0:
            found.append(Step(number, first.get(number, 0), center, radius, int(size), *words, gain, error, scores))
    return found


def region(view: View) -> list[Panel]:
    """The way of the trust region through the two parameters in which it went furthest, its size, and its steps."""
    path = steps(view)
    if not path:
        return []
    centers = np.array([step.center for step in path])
    text = [_words(step) for step in path]
    colours = [_COLOURS.get(step.kind, MUTED) for step in path]
    panels = [] if len(view.parameters) < 2 else [_map(view, path, centers, text, colours)]
    rounds = [step.round for step in path]
    width = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": rounds,
        "y": numbers([step.radius for step in path]),
        "text": text,
        "hoverinfo": "text",
        "line": {"color": "#b8c2d0", "width": 1.5},
        "marker": {"color": colours, "size": 9},
    }
    kinds = [
        {"type": "scatter", "mode": "markers", "name": plain(kind, 20), "x": [None], "y": [None]}
        | {"marker": {"color": _COLOURS.get(kind, MUTED), "size": 9}}
        for kind in dict.fromkeys(step.kind for step in path)
    ]
    layout = figure(
        [{**width, "showlegend": False}, *kinds],
        xaxis=count_axis("round", view.history.n_rounds),
        yaxis=axis("half-width, share of the box", type="log", exponentformat="power"),
        showlegend=True,
    )
    caption = "It grows where a gain was measured or nothing is seen, and shrinks where the model was too hopeful."
    panels.append(Panel("radius", "Size of the trust region", caption, layout))
    taken = [step for step in path if step.error > 0]
    if taken:
        predicted = {
            "type": "scatter",
            "mode": "markers",
            "x": [step.round for step in taken],
            "y": numbers([step.gain for step in taken]),
            "error_y": {"type": "data", "array": numbers([2 * step.error for step in taken]), "color": MUTED},
            "marker": {"color": ACCENT, "size": 7},
            "hovertemplate": "round %{x}: %{y:.4g}<extra></extra>",
        }
        layout = figure(
            [predicted], xaxis=count_axis("round", view.history.n_rounds), yaxis=axis("predicted change", zeroline=True)
        )
        caption = "What each step promised, with two standard errors; below zero is better."
        panels.append(Panel("gain", "Predicted change of each step", caption, layout))
    return panels


def acquisition(view: View) -> Panel | None:
    """The acquisition at each trial that a model chose; None where there is none."""
    first = view.first_trials()
    at: list[int] = []
    values: list[float] = []
    for number, info in enumerate(view.history.info):
        noted = info.get("acquisition")
        if isinstance(noted, list) and all(isinstance(value, int | float) for value in noted):
            at += range(first.get(number, 0), first.get(number, 0) + len(noted))
            values += cast(list[float], noted)
    if not at:
        return None
    rows = thinned(np.arange(len(at)))
    trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [at[row] for row in rows],
        "y": numbers([values[row] for row in rows]),
        "line": {"color": ACCENT, "width": 1.2},
        "marker": {"color": ACCENT, "size": 5},
        "hovertemplate": "trial %{x}: %{y:.5g}<extra></extra>",
    }
    layout = figure([trace], xaxis=count_axis("trial", len(view.trials)), yaxis=axis("acquisition"))
    caption = "The acquisition at what was chosen. Where it no longer falls, or is small, there is little left to gain."
    return Panel("acquisition", "Acquisition", caption, layout)


def notes(view: View, most: int = 6) -> list[Panel]:
    """The numbers that a strategy noted round by round, those that changed."""
    series: dict[str, tuple[list[int], list[float]]] = {}
    for number, info in enumerate(view.history.info):
        for name, note in info.items():
            values = cast(dict[str, Any], note if isinstance(note, Mapping) else {"": note})
            for key, value in values.items() if name not in _ELSEWHERE else ():
                if isinstance(value, int | float) and not isinstance(value, bool) and key not in ("seed", "repeats"):
                    rounds, column = series.setdefault(f"{name} {key}".strip(), ([], []))
                    rounds.append(number)
                    column.append(value)
    panels: list[Panel] = []
    for name, (rounds, values) in series.items():
        if len(panels) < most and any(one != other for one, other in pairwise(values)):
            at = thinned(np.arange(len(rounds)))
            trace = {
                "type": "scatter",
                "mode": "lines",
                "x": [rounds[row] for row in at],
                "y": numbers([values[row] for row in at]),
                "line": {"color": ACCENT, "width": 1.5, "shape": "hv"},
            }
            layout = figure([trace], xaxis=count_axis("round", view.history.n_rounds), yaxis=axis(name))
            panels.append(Panel(f"note-{len(panels)}", name, "A note of the strategy.", layout, height=260))
    return panels


def _map(view: View, path: list[Step], centers: Any, text: list[str], colours: list[str]) -> Panel:  # noqa: ANN401
    furthest = np.sort(np.argsort(-np.ptp(centers, axis=0), kind="stable")[:2])
    i, j = (int(k) for k in furthest)
    x, y = view.parameters[i], view.parameters[j]

    def place(step: Step, sign_x: float = 0.0, sign_y: float = 0.0) -> tuple[float, float]:
        u, v = step.center[i] + sign_x * step.radius, step.center[j] + sign_y * step.radius
        return x.from_unit(min(max(u, 0.0), 1.0)), y.from_unit(min(max(v, 0.0), 1.0))

    trace: list[dict[str, Any]] = []
    rows = thinned(np.arange(len(view.trials)))
    dots = {"color": POINT, "size": 4, "opacity": 0.35}
    at = {"x": numbers(view.theta[rows, i]), "y": numbers(view.theta[rows, j])}
    trace.append({"type": "scatter", "mode": "markers", **at, "marker": dots, "hoverinfo": "skip"})
    for share, step in enumerate(path[-_SHOWN:]):
        (left, low), (right, high) = place(step, -1, -1), place(step, 1, 1)
        faint = 0.15 + 0.55 * share / _SHOWN
        line = {"color": f"rgba(36, 86, 201, {faint:.2f})", "width": 1}
        corners = {"x": numbers([left, right, right, left, left]), "y": numbers([low, low, high, high, low])}
        trace.append({"type": "scatter", "mode": "lines", **corners, "line": line, "hoverinfo": "skip"})
    middles = [place(step) for step in path]
    trace.append(
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": numbers([u for u, _ in middles]),
            "y": numbers([v for _, v in middles]),
            "text": text,
            "hoverinfo": "text",
            "line": {"color": INK, "width": 1.5},
            "marker": {"color": colours, "size": 9, "line": {"color": "#ffffff", "width": 1}},
        }
    )
    layout = figure(trace, xaxis=parameter_axis(x), yaxis=parameter_axis(y), showlegend=False)
    caption = f"Its centre from round to round in the two parameters in which it went furthest, the last {_SHOWN} "
    caption += "regions, and all trials. Point at a centre to read what was decided there."
    return Panel("region", "Way of the trust region", caption, layout, wide=True, height=460)


def _words(step: Step) -> str:
    lines = [
        f"round {step.round}, from trial {step.first}",
        plain(step.decision),
        f"half-width {step.radius:.3g}, {step.size} simulations",
    ]
    if step.rung:
        lines.append(f"by {plain(step.rung, 40)}: {step.gain:.3g} ± {step.error:.2g}")
    return "<br>".join(lines)
