"""Figures of parameters: all of them in parallel coordinates, one at a time against the value, and in pairs."""

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studies.report.progress import value_axis
from studies.report.style import AMBER, FAILED, MUTED, SCALE, Panel, axis, figure, numbers, plain, thinned
from studies.report.view import Parameter, View

__all__ = ["pairs", "parallel", "parameter_axis", "slices"]

_CLASSES = ("#dfe4ec", "#c9d5ec", "#a9c0ec", "#7fa0e0", "#4f79d0", "#1c46a3")  # from the worst sixth to the best
_OTHERS = (
    ("failed", {"color": FAILED, "size": 8, "symbol": "x-thin-open"}),
    ("pending", {"color": MUTED, "size": 7, "symbol": "circle-open"}),
)
_MOST = 24  # parameters that are shown one at a time


def parallel(view: View) -> Panel | None:
    """Each trial as a line across all parameters, dark where its value is small; None with fewer than two."""
    rows = np.flatnonzero(np.isfinite(view.value))
    if len(view.parameters) < 2 or len(rows) < 2 or view.best is None:
        return None
    rows = thinned(rows, view.best, most=800)
    unit = np.stack([p.to_unit(view.theta[rows, i]) for i, p in enumerate(view.parameters)], 1)
    order = np.argsort(-view.value[rows], kind="stable")
    classes = np.array_split(order, len(_CLASSES))
    traces = [_lines(unit[part], colour, 1.0) for part, colour in zip(classes, _CLASSES, strict=True) if len(part)]
    traces.append({**_lines(unit[rows == view.best], AMBER, 3.0), "name": f"trial {view.best}, the smallest value"})
    ticks = list(range(len(view.parameters)))
    notes = [
        {
            "x": i,
            "y": y,
            "text": plain(p.text(bound), 14),
            "showarrow": False,
            "yshift": shift,
            "font": {"color": MUTED},
        }
        for i, p in enumerate(view.parameters)
        for y, bound, shift in ((0, p.low, -10), (1, p.high, 10))
    ]
    names = [plain(parameter.label, 22) for parameter in view.parameters]
    layout = figure(
        [{**trace, "showlegend": "name" in trace} for trace in traces],
        showlegend=True,
        xaxis=axis("", tickvals=ticks, ticktext=names, range=[-0.2, ticks[-1] + 0.2], tickangle=0)
        | {"gridcolor": "#c5ccd6", "showline": False, "ticks": "", "ticklen": 14},
        yaxis={"visible": False, "range": [-0.09, 1.09]},
        annotations=notes,
        hovermode=False,
    )
    caption = f"Dark lines are the sixth of the trials with the smallest {view.measure}, light ones the largest."
    return Panel("parallel", "Parameters together", caption, layout, wide=True, height=360)


def slices(view: View) -> list[Panel]:
    """The value against each parameter."""
    rows = np.flatnonzero(np.isfinite(view.value))
    if not len(rows):
        return []
    rows, failed = thinned(rows, view.best, most=1000), thinned(view.where("failed"), most=500)
    scale, _ = value_axis(view.value[rows], view.measure)
    panels: list[Panel] = []
    for i in _telling(view):
        parameter = view.parameters[i]
        traces = [_points(view, rows, view.theta[rows, i], view.value[rows], rows.astype(float))]
        if view.best is not None:
            best = {"color": "rgba(0,0,0,0)", "size": 13, "line": {"color": AMBER, "width": 2.5}}
            at = {"x": numbers(view.theta[[view.best], i]), "y": numbers(view.value[[view.best]])}
            traces.append({"type": "scatter", "mode": "markers", **at, "marker": best, "hoverinfo": "skip"})
        if len(failed):
            rug = {"color": FAILED, "size": 7, "symbol": "x-thin-open"}
            text = [f"trial {row} failed" for row in failed]
            at = {"x": numbers(view.theta[failed, i]), "y": [0.5] * len(failed), "yaxis": "y2", "text": text}
            traces.append({"type": "scatter", "mode": "markers", **at, "marker": rug, "hoverinfo": "text"})
        layout = figure(
            traces,
            showlegend=False,
            xaxis={**parameter_axis(parameter), "title": {"text": ""}, "anchor": "y2"},
            yaxis={**scale, "domain": [0.09, 1]},
            yaxis2={"domain": [0, 0.06], "range": [0, 1], "visible": False, "fixedrange": True},
        )
        caption = "Light points came early, dark ones late; the ring is the smallest value."
        panels.append(Panel(f"slice-{i}", parameter.label, caption, layout, height=280))
    return panels


def pairs(view: View, most: int = 4) -> list[Panel]:
    """Where trials were placed: each pair of the first parameters."""
    valued = bool(np.isfinite(view.value).any())
    rows = thinned(np.flatnonzero(np.isfinite(view.value)) if valued else view.where("complete"), view.best)
    colour, title = (view.value[rows], view.measure) if valued else (rows.astype(float), "trial")
    panels: list[Panel] = []
    for i, j in combinations(range(min(len(view.parameters), most)), 2):
        x, y = view.parameters[i], view.parameters[j]
        traces = [_points(view, rows, view.theta[rows, i], view.theta[rows, j], colour, title, valued)]
        for state, marker in _OTHERS:
            if len(others := thinned(view.where(state), most=500)):
                at = {"x": numbers(view.theta[others, i]), "y": numbers(view.theta[others, j])}
                text = [f"trial {row} {'failed' if state == 'failed' else 'is pending'}" for row in others]
                traces.append(
                    {"type": "scatter", "mode": "markers", "name": state, **at, "marker": marker}
                    | {"text": text, "hoverinfo": "text"}
                )
        layout = figure(
            [{**trace, "showlegend": "name" in trace} for trace in traces],
            showlegend=len(traces) > 1,
            xaxis=parameter_axis(x),
            yaxis=parameter_axis(y),
        )
        caption = f"Each trial, dark where {f'the {title} is small' if valued else 'it came late'}."
        panels.append(Panel(f"pair-{i}-{j}", f"{x.name} and {y.name}", caption, layout, height=280))
    return panels


def parameter_axis(parameter: Parameter) -> dict[str, Any]:
    """The axis of a parameter, over its bounds, on its own scale."""
    if parameter.choices:
        names = [plain(name, 24) for name in parameter.choices]
        return axis(parameter.label, tickvals=list(range(len(names))), ticktext=names, range=[-0.5, len(names) - 0.5])
    low, high = parameter.low, parameter.high
    if parameter.kind == "log":
        return axis(parameter.label, type="log", range=[float(np.log10(low)) - 0.02, float(np.log10(high)) + 0.02])
    margin = 0.03 * (high - low)
    return axis(parameter.label, range=[low - margin, high + margin])


def _telling(view: View) -> list[int]:
    """The parameters, or those whose ranks go most with the ranks of the value."""
    d = len(view.parameters)
    if d <= _MOST:
        return list(range(d))
    rows = np.flatnonzero(np.isfinite(view.value))
    ranks = np.argsort(np.argsort(np.column_stack([view.theta[rows], view.value[rows]]), axis=0), axis=0)
    centred = ranks - ranks.mean(0)
    together = np.abs(centred[:, :-1].T @ centred[:, -1])
    return sorted(np.argsort(-together, kind="stable")[:_MOST].tolist())


def _lines(unit: NDArray[np.float64], colour: str, width: float) -> dict[str, Any]:
    gaps = np.column_stack([unit, np.full(len(unit), np.nan)])
    x = [*range(unit.shape[1]), None] * len(unit)
    line = {"color": colour, "width": width}
    return {"type": "scatter", "mode": "lines", "x": x, "y": numbers(gaps.ravel()), "line": line, "hoverinfo": "skip"}


def _points(
    view: View,
    rows: NDArray[np.int64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    colour: NDArray[np.float64],
    title: str = "",
    small_is_dark: bool = False,
) -> dict[str, Any]:
    limits: dict[str, float] = {}
    if len(colour):
        limits = {
            "cmin": float(colour.min()),
            "cmax": float(np.quantile(colour, 0.9) if small_is_dark else colour.max()),
        }
    bar = {"title": {"text": plain(title, 20), "side": "right"}, "thickness": 10, "outlinewidth": 0}
    text = [f"trial {row}: {view.value[row]:.6g}" if np.isfinite(view.value[row]) else f"trial {row}" for row in rows]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": numbers(x),
        "y": numbers(y),
        "text": text,
        "hoverinfo": "text",
        "marker": {
            "size": 7,
            "color": numbers(colour),
            "colorscale": SCALE,
            "reversescale": small_is_dark,
            "showscale": bool(title),
            "colorbar": bar,
            "line": {"color": "#ffffff", "width": 0.6},
            **limits,
        },
    }
