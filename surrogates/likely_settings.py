"""Settings of a Gaussian process that the data make likely: modes of their density, and draws around them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from surrogates.evidence import Array, Evidence

__all__ = ["likely_settings"]

_ITERATIONS = 60
_STEP = 1e-3  # of finite differences
_FLATTEST = 0.15  # least curvature of the log posterior along an axis of its Gaussian approximation
_UNLIKELY, _MUCH_LESS = 7.0, 4.0  # modes, and draws beside a mode, that are left out: less likely by e^-7, e^-4
_SAME = 0.3  # modes with logarithms of settings closer than this are one


@dataclass(frozen=True, slots=True, eq=False)
class _Mode:
    """A maximum of the posterior density, and the Gaussian approximation there: curvatures along axes, log mass."""

    evidence: Evidence
    settings: Array
    value: float
    curvature: Array
    axes: Array
    mass: float


def likely_settings(evidence: Evidence, normal: Array, starts: Sequence[Array] | None = None) -> list[Array]:
    """Equally weighted settings: a mixture as the data make it likely.

    L-BFGS-B finds the modes of the posterior density. Each gets a share of the settings by the mass of its Gaussian
    approximation: the mode itself, and draws around it.

    Args:
        evidence: What was observed.
        normal: Standard normal numbers, shape [m, p + 2], for m settings at most; one is the best mode alone.
        starts: Settings from which modes are sought; the evidence's own if None.

    Returns:
        Settings, each of shape [p + 2]; the best mode first, unless another has nearly all of the mass.

    Source: MacKay, 1992, Neural Computation 4 (Gaussian approximations of the evidence); Snoek, Larochelle and Adams,
    2012, arXiv 1206.2944 (expected improvement averaged over settings).
    """
    found = sorted(_modes(evidence, evidence.starts() if starts is None else starts), key=lambda row: row[1])
    best = found[0]
    if len(normal) == 1:
        return [best[0]]
    modes = [_approximate(evidence, *row) for row in found if row[1] - best[1] < _UNLIKELY]
    masses = np.array([mode.mass for mode in modes])
    shares = np.exp(masses - masses.max()).cumsum()
    picked = np.searchsorted(shares / shares[-1], (np.arange(len(normal)) + 0.5) / len(normal))
    settings: list[Array] = []
    for number, mode in enumerate(modes):
        rows = normal[picked == number]
        settings += _draws(mode, rows) if len(rows) else []
    return settings


def _modes(evidence: Evidence, starts: Sequence[Array]) -> list[tuple[Array, float]]:
    low, high = evidence.bounds
    modes: list[tuple[Array, float]] = []
    for start in starts:
        end: Any = minimize(
            evidence,
            start.clip(low, high),
            jac=True,
            method="L-BFGS-B",
            bounds=np.stack([low, high], 1),
            options={"maxiter": _ITERATIONS},
        )
        settings = np.asarray(end.x)
        if all(np.abs(settings - other)[:-1].max() > _SAME for other, _ in modes):
            modes.append((settings, float(end.fun)))
    return modes


def _approximate(evidence: Evidence, settings: Array, value: float) -> _Mode:
    steps = _STEP * np.eye(len(settings))
    bend = np.stack([evidence(settings + step)[1] - evidence(settings - step)[1] for step in steps]) / (2 * _STEP)
    curvature, axes = np.linalg.eigh((bend + bend.T) / 2)
    curvature = curvature.clip(_FLATTEST)
    return _Mode(evidence, settings, value, curvature, axes, -value - 0.5 * float(np.log(curvature).sum()))


def _draws(mode: _Mode, normal: Array) -> list[Array]:
    """The mode, and draws of its approximation for all rows but one, less those that turn out to be unlikely."""
    low, high = mode.evidence.bounds
    draws = (mode.settings + normal[1:] / np.sqrt(mode.curvature) @ mode.axes.T).clip(low, high)
    expected = 0.5 * (normal[1:] ** 2).sum(1)
    lost = np.array([mode.evidence(row)[0] - mode.value for row in draws]) - expected
    return [mode.settings, *draws[lost < _MUCH_LESS]]
