"""The figure of several objectives: the simulated trials, and the front that a strategy's model makes of them."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from studies.history import History
from studies.objective import Objective, evaluate_objective
from studies.report.style import ACCENT, MUTED, POINT, Panel, axis, figure, numbers, thinned
from studies.report.view import View

__all__ = ["Fronted", "fronts"]


class _Front(Protocol):
    @property
    def mean(self) -> Tensor: ...

    @property
    def deviation(self) -> Tensor: ...

    @property
    def volume(self) -> float: ...


@runtime_checkable
class Fronted(Protocol):
    """A strategy of several objectives, whose answer is a front."""

    @property
    def objectives(self) -> Sequence[Objective]:
        """What is minimised, m functions."""
        ...

    def front(self, history: History) -> _Front:
        """The means and deviations of the objectives of points that no other dominates, shapes [k, m]."""
        ...


def fronts(view: View, strategy: Fronted) -> list[Panel]:
    """The plane of each two objectives; none where no trial is complete."""
    if not len(view.history):
        return []
    values = np.stack([evaluate_objective(each, view.history).numpy() for each in strategy.objectives], 1)
    complete = np.array([trial.number for trial in view.trials if trial.state == "complete"], dtype=np.int64)
    front = strategy.front(view.history)
    mean, deviation = front.mean.numpy(), front.deviation.numpy()
    shown = thinned(np.flatnonzero(np.isfinite(values).all(1)))
    panels: list[Panel] = []
    for i, j in combinations(range(values.shape[1]), 2):
        trials: dict[str, Any] = {
            "type": "scatter",
            "mode": "markers",
            "name": "trials",
            "x": numbers(values[shown, i]),
            "y": numbers(values[shown, j]),
            "text": [f"trial {complete[row]}" for row in shown],
            "hoverinfo": "text",
            "marker": {"color": POINT, "size": 6, "opacity": 0.6},
        }
        best: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines+markers" if values.shape[1] == 2 else "markers",
            "name": "front, by the model",
            "x": numbers(mean[:, i]),
            "y": numbers(mean[:, j]),
            "error_x": _bars(deviation[:, i]),
            "error_y": _bars(deviation[:, j]),
            "line": {"shape": "hv", "color": ACCENT, "width": 1.5},
            "marker": {"color": ACCENT, "size": 7},
        }
        layout = figure([trials, best], xaxis=axis(f"objective {i}"), yaxis=axis(f"objective {j}"))
        caption = (
            "No point of the front is better than another in all objectives; bars are two standard deviations. "
            f"The volume between the front and the reference is {front.volume:.4g}."
        )
        panels.append(Panel(f"front-{i}-{j}", f"Objectives {i} and {j}", caption, layout, wide=values.shape[1] == 2))
    return panels


def _bars(deviation: NDArray[np.float64]) -> dict[str, Any]:
    return {"type": "data", "array": numbers(2 * deviation), "color": MUTED, "thickness": 1, "width": 2}
