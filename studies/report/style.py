"""How figures look: colours, axes, numbers, and text that is shown as it is written. A figure is a plotly mapping."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ACCENT",
    "AMBER",
    "FAILED",
    "GRID",
    "INK",
    "MUTED",
    "POINT",
    "SCALE",
    "Panel",
    "axis",
    "count_axis",
    "figure",
    "numbers",
    "plain",
    "thinned",
    "to_json",
]

INK, MUTED, GRID = "#1f2937", "#6b7280", "#e8ebf0"
POINT, ACCENT, AMBER, FAILED = "#7b8ba3", "#2456c9", "#c8700a", "#c62828"
SCALE = [[0.0, "#c9d8f5"], [0.5, "#5f88d8"], [1.0, "#12357f"]]
"""From light to dark: from the first to the last trial, or from the worst to the best."""

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_LONGEST = 160  # characters of a text in a figure
MOST = 2000  # points a trace: more make a page slow and show no more


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure with its title and what it says.

    Args:
        key: Its name, unique in a page.
        title: Its title, text.
        caption: What it shows and how to read it, text.
        figure: Plotly's `data` and `layout`.
        wide: Whether it takes the page's whole width.
        height: Its height, pixels.
    """

    key: str
    title: str
    caption: str
    figure: Mapping[str, Any]
    wide: bool = False
    height: int = 320


def figure(data: Sequence[Mapping[str, Any]], **layout: Any) -> dict[str, Any]:  # noqa: ANN401
    """A figure of traces in the style of the house; keywords are plotly's layout."""
    named = sum(trace.get("showlegend", True) for trace in data)
    legend = bool(layout.setdefault("showlegend", named > 1))
    base: dict[str, Any] = {
        "font": {"family": _FONT, "size": 12.5, "color": INK},
        "margin": {"l": 56, "r": 16, "t": 30 if legend else 10, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "#ffffff",
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "#ffffff", "bordercolor": GRID, "font": {"color": INK, "family": _FONT}},
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
        "xaxis": axis(""),
        "yaxis": axis(""),
    }
    return {"data": list(data), "layout": {**base, **layout}}


def axis(title: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """An axis with a title, which is text; keywords are plotly's."""
    return {
        "title": {"text": plain(title), "standoff": 8},
        "automargin": True,
        "gridcolor": GRID,
        "linecolor": "#c5ccd6",
        "showline": True,
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": "#c5ccd6",
        "ticklen": 4,
        **more,
    }


def count_axis(title: str, n: int) -> dict[str, Any]:
    """An axis of n trials or rounds: no tick between two of them."""
    return axis(title, dtick=1) if n <= 10 else axis(title)


def plain(text: object, longest: int = _LONGEST) -> str:
    """A user's text for a figure, where plotly would read tags and entities; whatever it holds is shown as written."""
    words = "".join(char if char.isprintable() else " " for char in str(text))
    words = words if len(words) <= longest else words[: longest - 1] + "…"
    return html.escape(words, quote=False)


def numbers(values: NDArray[np.floating] | NDArray[np.int64] | Sequence[float]) -> list[float | None]:
    """Six digits of each number; None where it is not finite."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in np.asarray(values, float).tolist()]


def thinned(rows: NDArray[np.int64], keep: int | None = None, most: int = MOST) -> NDArray[np.int64]:
    """At most so many of the rows, evenly spaced, and the one to keep."""
    if len(rows) <= most:
        return rows
    even = rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
    return even if keep is None else np.union1d(even, [keep])


def to_json(value: object) -> str:
    """JSON that is safe inside a script element: no tag can begin or end in it."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
