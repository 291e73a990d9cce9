"""Does a Gaussian process know what it does not know? Held-out trials: predicted against observed, and coverage."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from studies.randomness import isolated
from studies.report.style import ACCENT, MUTED, POINT, Panel, axis, figure, numbers
from studies.report.view import View
from surrogates.gaussian_process import gaussian_process

__all__ = ["Calibration", "calibrate"]

_LEAST, _MOST = 12, 150
_LEVELS = np.array([0.5, 0.68, 0.8, 0.9, 0.95])


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Predictions of held-out trials.

    Args:
        trials: Which trials, shape [n].
        observed: Their values, shape [n].
        mean: Predicted means, shape [n].
        deviation: Predicted standard deviations of an observation, shape [n].
    """

    trials: NDArray[np.int64]
    observed: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @property
    def coverage(self) -> NDArray[np.float64]:
        """The share of observations inside the central intervals of 50, 68, 80, 90 and 95 %, shape [5]."""
        away = np.abs(self.observed - self.mean) / self.deviation
        return np.array([(away <= norm.ppf(0.5 + level / 2)).mean() for level in _LEVELS])

    @property
    def words(self) -> dict[str, str]:
        """What it amounts to."""
        residual = self.observed - self.mean
        explained = 1 - residual.var() / self.observed.var()
        return {
            "held-out trials": str(len(self.trials)),
            "root mean squared error": f"{np.sqrt((residual**2).mean()):.4g}",
            "explained variance": f"{100 * explained:.0f} %",
            "95 % intervals hold": f"{100 * self.coverage[-1]:.0f} %",
        }

    def panels(self, measure: str) -> list[Panel]:
        """Predicted against observed, and the coverage of intervals."""
        ends = [float(min(self.observed.min(), self.mean.min())), float(max(self.observed.max(), self.mean.max()))]
        points: dict[str, Any] = {
            "type": "scatter",
            "mode": "markers",
            "name": "held-out trials, two standard deviations",
            "x": numbers(self.observed),
            "y": numbers(self.mean),
            "error_y": {"type": "data", "array": numbers(2 * self.deviation), "color": "#c5ccd6", "thickness": 1}
            | {"width": 0},
            "marker": {"color": ACCENT, "size": 6},
            "text": [f"trial {trial}" for trial in self.trials],
            "hovertemplate": "%{text}: predicted %{y:.5g}, observed %{x:.5g}<extra></extra>",
        }
        diagonal = _diagonal(ends)
        layout = figure([diagonal, points], xaxis=axis(f"observed {measure}"), yaxis=axis(f"predicted {measure}"))
        caption = "What a Gaussian process says of each trial that it does not see, from all trials elsewhere."
        predicted = Panel("predicted", "Predicted and observed", caption, layout, height=380)
        covered = {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "observed",
            "x": numbers(100 * _LEVELS),
            "y": numbers(100 * self.coverage),
            "error_y": {"type": "data", "array": numbers(200 * self._spread()), "color": POINT, "thickness": 1},
            "line": {"color": ACCENT, "width": 2},
            "marker": {"size": 8},
            "hovertemplate": "%{x} % intervals hold %{y:.0f} %<extra></extra>",
        }
        layout = figure(
            [_diagonal([40, 100]), covered],
            xaxis=axis("interval [%]", range=[45, 100]),
            yaxis=axis("held-out trials inside [%]", range=[0, 104]),
        )
        caption = "Below the diagonal the model is too sure, above it too careful. Bars: two standard errors."
        return [predicted, Panel("coverage", "Coverage of its intervals", caption, layout, height=380)]

    def _spread(self) -> NDArray[np.float64]:
        return np.sqrt(_LEVELS * (1 - _LEVELS) / len(self.trials))


def calibrate(view: View, seed: int = 0) -> Calibration | None:
    """Predictions of each trial's value from the trials at all other parameters; None where there are too few.

    The process learns its length scales and its noise once, from all of them. Of long studies a random part is taken.

    Source: Rasmussen and Williams, 2006, equation 5.12, for several rows left out together: Ginsbourger and Schaerer,
        2021, arXiv 2101.03108.
    """
    rows = np.flatnonzero(np.isfinite(view.value))
    generator = torch.Generator().manual_seed(seed)
    if len(rows) > _MOST:
        rows = rows[np.sort(torch.randperm(len(rows), generator=generator)[:_MOST].numpy())]
    if len(rows) < _LEAST or not view.value[rows].std() > 0:
        return None
    theta, value = _coordinates(view, rows), torch.from_numpy(view.value[rows])
    _, point = theta.unique(dim=0, return_inverse=True)
    if int(point.max()) + 1 < _LEAST:
        return None
    centre, spread = value.mean(), value.std()
    with isolated(generator), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of jitter and of fits that end early: a user could mend neither
        inverse, residual = _inverse(theta, (value - centre) / spread)
    mean, variance = torch.empty_like(value), torch.empty_like(value)
    for left in range(int(point.max()) + 1):
        out = (point == left).nonzero().squeeze(-1)
        covariance = torch.linalg.inv(inverse[out][:, out])
        mean[out] = value[out] - spread * (covariance @ (inverse @ residual)[out])
        variance[out] = spread.square() * covariance.diagonal()
    return Calibration(rows, value.numpy(), mean.numpy(), variance.clamp_min(0).sqrt().numpy())


def _inverse(theta: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Of standardised observations in the unit cube: the inverse covariance [n, n], and the distance to the mean [n].

    In this cube and scale the transforms of the process change nothing.
    """
    bounds = torch.stack([torch.zeros(theta.shape[1]), torch.ones(theta.shape[1])]).double()
    model = gaussian_process(theta, value, bounds=bounds)
    with torch.no_grad():
        prior: Any = model.likelihood(model.forward(theta))
        return torch.linalg.inv(prior.covariance_matrix), value - prior.mean


def _coordinates(view: View, rows: NDArray[np.int64]) -> Tensor:
    """Parameters on their own scales; a choice is a column for each of its values."""
    columns: list[NDArray[np.float64]] = []
    for i, parameter in enumerate(view.parameters):
        values = view.theta[rows, i]
        if parameter.choices:
            columns += [(values.round() == k).astype(float) for k in range(len(parameter.choices))]
        else:
            columns.append(parameter.to_unit(values))
    return torch.from_numpy(np.stack(columns, 1))


def _diagonal(ends: list[float]) -> dict[str, Any]:
    line = {"color": MUTED, "width": 1, "dash": "dash"}
    trace: dict[str, Any] = {"type": "scatter", "mode": "lines", "name": "as it should be", "x": ends, "y": ends}
    return trace | {"line": line, "hoverinfo": "skip"}
