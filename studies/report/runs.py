"""Figures of runs: phase portraits, states over time and errors of a learned field beside the truth."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError
from diffsim.fields.base import VectorField
from diffsim.integrate.odeint import simulate
from diffsim.metrics import rmse, valid_prediction_time
from studies.history import History
from studies.report.style import ACCENT, MUTED, Panel, axis, figure, numbers

__all__ = ["Rollouts", "recorded_runs", "rollouts"]

Rollouts = tuple[list[Panel], dict[str, str]]
"""Figures of a learned field's runs, and what they amount to."""

_PORTRAIT, _OVER_TIME, _SAMPLES = 24, 4, 400


def rollouts(field: VectorField, test: Trajectory) -> Rollouts:
    """Runs of a learned field beside true ones from the same first states.

    Args:
        field: The learned field.
        test: True runs.

    Raises:
        ArgumentError: The field's runs are not finite.
    """
    with torch.no_grad():
        run = simulate(field, test.y0, test.t)
    if not bool(run.y.isfinite().all()):
        raise ArgumentError("`field` gave runs that are not finite. Test it on shorter runs.")
    panels = [_portrait(run, test), *(_over_time(run, test, k) for k in range(min(test.d, 4))), _error(run, test)]
    valid = valid_prediction_time(run, test)
    duration = float((test.t[-1] - test.t[0]).abs())
    unit = f" {test.time_unit}" if test.time_unit else ""
    words = {
        "test runs": f"{test.n} of {duration:.4g}{unit}",
        "root mean squared error": f"{float(rmse(run, test)):.4g}",
        "valid prediction time": f"median {float(valid.quantile(0.5)):.4g}{unit}, least {float(valid.min()):.4g}{unit}",
    }
    return panels, words


def recorded_runs(history: History) -> list[Panel]:
    """The outcomes [n, T, d] as runs; nothing where they are none."""
    if len(history) == 0 or history.outcome.ndim != 3 or history.outcome.shape[1] < 2:
        return []
    labels = _state_labels(history)
    y = history.outcome[-_PORTRAIT:].detach().double()
    every = max(1, -(-y.shape[1] // _SAMPLES))
    y, d = y[:, ::every], y.shape[2]
    if d == 1:
        traces = [_line(list(range(0, len(run) * every, every)), run[:, 0], ACCENT, 1.2) for run in y]
        layout = figure(_faded(traces), xaxis=axis("sample"), yaxis=axis(labels[0]), showlegend=False)
    else:
        i, j = _plane(d)
        traces = [_line(run[:, i], run[:, j], ACCENT, 1.2) for run in y]
        layout = figure(_faded(traces), xaxis=axis(labels[i]), yaxis=axis(labels[j]), showlegend=False)
    caption = f"The last {len(y)} complete trials, the latest darkest."
    return [Panel("runs", "Recorded runs", caption, layout, height=400)]


def _state_labels(history: History) -> list[str]:
    """Names of the state: those of the parameters, where these are the runs' first states."""
    first, units = history.outcome[:, 0].double(), history.space.describe().get("units", {})
    if first.shape == history.theta.shape and torch.allclose(first, history.theta, rtol=1e-4, atol=1e-6):
        return [f"{name} [{units[name]}]" if units.get(name) else name for name in history.space.names]
    return [f"y[{component}]" for component in range(first.shape[1])]


def _portrait(run: Trajectory, test: Trajectory) -> Panel:
    i, j = _plane(test.d) if test.d > 1 else (0, 0)
    drawn = range(min(run.n, _PORTRAIT))
    if test.d == 1:
        true = [_line(test.t, test.y[:, k, 0], MUTED, 1.2, "dash") for k in drawn]
        learned = [_line(run.t, run.y[:, k, 0], ACCENT, 1.5) for k in drawn]
    else:
        true = [_line(test.y[:, k, i], test.y[:, k, j], MUTED, 1.2, "dash") for k in drawn]
        learned = [_line(run.y[:, k, i], run.y[:, k, j], ACCENT, 1.5) for k in drawn]
    x = _time_label(test) if test.d == 1 else _label(test, i)
    layout = figure(_named(learned, true), xaxis=axis(x), yaxis=axis(_label(test, j)), showlegend=True)
    caption = f"{len(drawn)} test runs, as the learned field goes and as they truly went."
    return Panel("portrait", "Phase portrait", caption, layout)


def _over_time(run: Trajectory, test: Trajectory, component: int) -> Panel:
    drawn = range(min(run.n, _OVER_TIME))
    true = [_line(test.t, test.y[:, k, component], MUTED, 1.2, "dash") for k in drawn]
    learned = [_line(run.t, run.y[:, k, component], ACCENT, 1.5) for k in drawn]
    layout = figure(
        _named(learned, true), xaxis=axis(_time_label(test)), yaxis=axis(_label(test, component)), showlegend=True
    )
    title = f"Roll-outs: {test.names[component] if test.names else f'y[{component}]'}"
    return Panel(f"rollout-{component}", title, f"The first {len(drawn)} test runs.", layout)


def _error(run: Trajectory, test: Trajectory) -> Panel:
    error = (run.y - test.y).square().mean(-1).sqrt().double()  # [T, n]
    low, median, high = error.quantile(torch.tensor([0.25, 0.5, 0.75]).double(), dim=1)
    floor = float(error[error > 0].min()) if bool((error > 0).any()) else 1e-12
    low, median, high = (part.clamp_min(floor) for part in (low, median, high))
    band = _line(torch.cat([test.t, test.t.flip(0)]), torch.cat([high, low.flip(0)]), "rgba(0,0,0,0)", 0)
    traces = [
        {**band, "fill": "toself", "fillcolor": "rgba(36, 86, 201, 0.18)", "name": "quartiles"},
        {**_line(test.t, median, ACCENT, 2.0), "name": "median"},
    ]
    scale = axis("error of the state", type="log", exponentformat="power")
    layout = figure(traces, xaxis=axis(_time_label(test)), yaxis=scale)
    caption = f"Root mean squared error over the components, over {test.n} test runs."
    return Panel("error", "Error over time", caption, layout)


def _plane(d: int) -> tuple[int, int]:
    """The first position and its momentum."""
    return 0, max(d // 2, 1)


def _line(x: Tensor | Sequence[float], y: Tensor, colour: str, width: float, dash: str = "solid") -> dict[str, Any]:
    columns = np.asarray(torch.as_tensor(x).detach().double()), np.asarray(y.detach().double())
    return {
        "type": "scatter",
        "mode": "lines",
        "x": numbers(columns[0]),
        "y": numbers(columns[1]),
        "line": {"color": colour, "width": width, "dash": dash},
        "hoverinfo": "skip",
    }


def _named(learned: list[dict[str, Any]], true: list[dict[str, Any]]) -> list[dict[str, Any]]:
    parts = ((true, "truth"), (learned, "learned field"))
    return [
        {**trace, "name": name, "legendgroup": name, "showlegend": k == 0}
        for part, name in parts
        for k, trace in enumerate(part)
    ]


def _faded(traces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**trace, "opacity": min(0.2 + 0.8 * (k + 1) / len(traces), 1.0)} for k, trace in enumerate(traces)]


def _label(test: Trajectory, component: int) -> str:
    name = test.names[component] if test.names else f"y[{component}]"
    return f"{name} [{test.units[component]}]" if test.units and test.units[component] else name


def _time_label(test: Trajectory) -> str:
    return f"t [{test.time_unit}]" if test.time_unit else "t"
