"""Figures of how a study went: values and the best so far, and when and how long trials ran."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studies.report.style import (
    ACCENT,
    AMBER,
    FAILED,
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

__all__ = ["Estimate", "convergence", "durations", "estimates", "timeline", "value_axis"]

Estimate = tuple[int, float, float | None]
"""After which trial a strategy thought what of its answer: mean and standard deviation, where it has one."""

_LOG = 100  # a ratio of values from which a linear axis shows nothing of the small ones
_STATES = (("complete", ACCENT), ("failed", FAILED))


def convergence(view: View, answers: list[Estimate] | None = None) -> Panel | None:
    """Each trial's value, the smallest so far, and the strategy's own estimate; None where trials have no value.

    Args:
        view: The study.
        answers: The strategy's estimates; those in its notes by default.
    """
    rows = np.flatnonzero(np.isfinite(view.value))
    if not len(rows):
        return None
    values = view.value[rows]
    shown = thinned(rows, view.best)
    text = [f"trial {row}: {view.value[row]:.6g}" for row in shown]
    best = np.minimum.accumulate(values)
    changes = np.flatnonzero(np.r_[True, np.diff(best) < 0])
    steps, levels = [*rows[changes], len(view.trials) - 1], [*best[changes], best[-1]]
    traces: list[dict[str, Any]] = [
        _markers("trials", numbers(shown), numbers(view.value[shown]), text, POINT, opacity=0.6),
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best so far",
            "x": numbers(steps),
            "y": numbers(levels),
            "line": {"shape": "hv", "color": ACCENT, "width": 2.5},
            "hovertemplate": "best after trial %{x}: %{y:.6g}<extra></extra>",
        },
    ]
    if found := estimates(view) if answers is None else answers:
        traces.append(_estimated(found))
    if len(failed := thinned(view.where("failed"))):
        text = [f"trial {row} failed" for row in failed]
        rug = _markers("failed", numbers(failed), [0.5] * len(failed), text, FAILED, symbol="x-thin-open", size=7)
        traces.append({**rug, "yaxis": "y2"})
    scale, note = value_axis(values, view.measure)
    caption = "Best so far is the smallest value observed, noise included: under noise it is lucky, not good." + note
    layout = figure(
        traces,
        xaxis={**count_axis("trial", len(view.trials)), "rangemode": "tozero", "anchor": "y2"},
        yaxis={**scale, "domain": [0.09, 1]},
        yaxis2={"domain": [0, 0.05], "range": [0, 1], "visible": False, "fixedrange": True},
    )
    return Panel("convergence", "Values and the best so far", caption, layout, wide=True, height=400)


def value_axis(values: NDArray[np.floating], title: str) -> tuple[dict[str, Any], str]:
    """An axis on which the small values can be told apart, and what a caption says of the others."""
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    if low > 0 and high > _LOG * low:
        return axis(title, type="log", exponentformat="power"), ""
    reach = float(np.quantile(values, 0.9)) - low
    if not 0 < 5 * reach < high - low:
        return axis(title), ""
    top = low + 1.5 * reach
    above = int((values > top).sum())
    return axis(title, range=[low - 0.06 * reach, top]), f" {above} larger values lie above the picture."


def estimates(view: View) -> list[Estimate]:
    """What the strategy noted of its answer, round by round: `{"estimate": [mean, standard deviation]}`."""
    found: list[Estimate] = []
    first = view.first_trials()
    for number, info in enumerate(view.history.info):
        noted = info.get("estimate")
        values = list(noted.values()) if isinstance(noted, Mapping) else noted
        if isinstance(values, list) and 1 <= len(values) <= 2 and all(isinstance(v, int | float) for v in values):
            found.append((first.get(number, 0), float(values[0]), float(values[1]) if len(values) == 2 else None))
    return found


def durations(view: View) -> Panel | None:
    """How long each trial took; None where that was not recorded."""
    timed = [trial for trial in view.trials if trial.seconds is not None]
    if not timed:
        return None
    traces: list[dict[str, Any]] = []
    for state, colour in _STATES:
        rows = thinned(np.array([trial.number for trial in timed if trial.state == state], dtype=np.int64))
        seconds = [view.trials[row].seconds or 0.0 for row in rows]
        text = [f"trial {row}: {value:.4g} s" for row, value in zip(rows, seconds, strict=True)]
        if len(rows):
            traces.append(_markers(state, numbers(rows), numbers(seconds), text, colour, opacity=0.7))
    everything = np.array([trial.seconds for trial in timed], dtype=float)
    scale = value_axis(np.maximum(everything, 1e-6), "seconds")[0]
    caption = f"Median {np.median(everything):.3g} s; {everything.sum():.4g} s of simulation in all."
    return Panel(
        "durations",
        "Duration of trials",
        caption,
        figure(traces, xaxis=count_axis("trial", len(view.trials)), yaxis=scale),
    )


def timeline(view: View) -> Panel | None:
    """Which worker ran when; None unless there were several."""
    timed = [t for t in view.trials if t.started is not None and t.seconds is not None]
    timed = sorted(timed, key=lambda trial: trial.started or 0.0)[-1000:]
    hosts = {host: lane for lane, host in enumerate(sorted({str(trial.host) for trial in timed}))}
    if len(hosts) < 2:
        return None
    traces: list[dict[str, Any]] = []
    for state, colour in _STATES:
        x: list[str | None] = []
        y: list[int | None] = []
        for trial in timed:
            if trial.state == state:
                begin = trial.started or 0.0
                x += [_clock(begin), _clock(begin + (trial.seconds or 0.0)), None]
                y += [hosts[str(trial.host)]] * 2 + [None]
        if x:
            line = {"color": colour, "width": 9}
            traces.append(
                {"type": "scatter", "mode": "lines", "name": state, "x": x, "y": y, "line": line, "hoverinfo": "x"}
            )
    lanes = axis("", tickvals=list(hosts.values()), ticktext=[plain(host, 28) for host in hosts])
    layout = figure(traces, xaxis=axis("time, UTC", type="date"), yaxis=lanes)
    caption = f"{len(hosts)} workers; a gap is a worker that waits."
    return Panel("timeline", "Workers", caption, layout, wide=True, height=min(140 + 18 * len(hosts), 560))


def _markers(name: str, x: list[Any], y: list[Any], text: list[str], colour: str, **marker: Any) -> dict[str, Any]:  # noqa: ANN401
    opacity = marker.pop("opacity", 1.0)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": x,
        "y": y,
        "text": text,
        "hoverinfo": "text",
        "marker": {"color": colour, "size": 6, "opacity": opacity, **marker},
    }


def _estimated(found: list[Estimate]) -> dict[str, Any]:
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers" if len(found) > 1 else "markers",
        "name": "the strategy's estimate of its answer",
        "x": [trial for trial, _, _ in found],
        "y": numbers([mean for _, mean, _ in found]),
        "line": {"color": AMBER, "width": 1.5},
        "marker": {"color": AMBER, "size": 7, "symbol": "diamond", "line": {"color": "#ffffff", "width": 1}},
        "hovertemplate": "estimate after trial %{x}: %{y:.6g}<extra></extra>",
    }
    if any(deviation for _, _, deviation in found):
        spread = numbers([2 * (deviation or 0.0) for _, _, deviation in found])
        trace["error_y"] = {"type": "data", "array": spread, "color": MUTED, "thickness": 1, "width": 3}
    return trace


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
