"""The measured pendulum of Schmidt and Lipson (2009): a reader of the record, and a stand-in where it is missing."""

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError

__all__ = ["load_schmidt_lipson", "schmidt_lipson_stand_in"]

_NAMES = ("theta", "omega")
_SPACING = 1 / 6
_START = (1.138, 0.920)
_NOISE = 0.01


def load_schmidt_lipson(path: str | os.PathLike[str]) -> Trajectory:
    """The measured pendulum, `real_pend_h_1.txt`: one decaying run of 556 samples.

    Lines are `trial t theta omega`; those that begin with % are comments. The samples lie 1/6 of the record's
    time unit apart, with ten gaps of two or three times that: derivatives can be estimated, and the losses of
    `fit` work, on such times, but `Trajectory.windows` needs a stretch without gaps.

    Args:
        path: The file, which is part of the paper's supporting material and not of this project.

    Returns:
        One run with state (theta [rad], omega), float64.

    Raises:
        FileNotFoundError: There is no such file.
        ArgumentError: No data, a line that is not four finite numbers, several trials, or times out of order.

    Source: Schmidt and Lipson, 2009, Science 324, 81, supporting material.
    """
    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(
            f"`path`: there is no file {os.fspath(path)!r}. Pass the path of real_pend_h_1.txt, "
            "or use schmidt_lipson_stand_in(seed)."
        )
    rows: list[list[float]] = []
    for number, line in enumerate(source.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        text = line.split("%", 1)[0].split()
        if not text:
            continue
        try:
            row = [float(word) for word in text]
        except ValueError:
            row = []
        if len(row) != 4 or not np.isfinite(row).all():
            raise ArgumentError(
                f"`path` {source.name}, line {number}: expected numbers `trial t theta omega`, got {line.strip()!r}."
            )
        rows.append(row)
    if not rows:
        raise ArgumentError(f"`path` {source.name} holds no data. Expected lines `trial t theta omega`.")
    record = torch.tensor(rows, dtype=torch.float64)
    if bool((record[:, 0] != record[0, 0]).any()):
        raise ArgumentError(
            f"`path` {source.name} holds several trials, expected one. Cut the file by its first column."
        )
    return Trajectory(record[:, 1], record[:, None, 2:], names=_NAMES, units=("rad", ""))


def schmidt_lipson_stand_in(seed: int) -> Trajectory:
    """Synthetic data *in place of* the measured pendulum: a damped pendulum fitted to the record, sampled like it.

    theta' = 1.0454 omega, omega' = -1.2963 sin(theta - 0.0116) - 0.0121 omega, from (1.138, 0.920) at t = 5 to
    t = 99.5 in steps of 1/6 with ten gaps, two of them double: 556 samples, as in the record. Its residual against
    the record is 0.012 (root mean square). It is no measurement: results on it must say that they are.

    Args:
        seed: Of the normal noise of standard deviation 0.01, and of the places of the gaps.

    Returns:
        One run with state (theta [rad], omega), float64.
    """
    generator = torch.Generator().manual_seed(seed)
    t = 5 + _SPACING * np.arange(568)

    def slope(_: float, y: NDArray[np.float64]) -> list[float]:
        return [1.0454 * y[1], -1.2963 * float(np.sin(y[0] - 0.0116)) - 0.0121 * y[1]]

    solution = solve_ivp(slope, (t[0], t[-1]), _START, method="DOP853", t_eval=t, rtol=1e-10, atol=1e-12)
    clean = torch.as_tensor(solution.y.T.copy())[:, None]
    # One gap in each tenth of the record; the first and the last sample stay.
    place = (torch.arange(10) * 56 + torch.randint(2, 54, (10,), generator=generator)).tolist()
    missing = {*place, *(p + 1 for p in place[:2])}
    kept = [i for i in range(len(t)) if i not in missing]
    run = Trajectory(torch.as_tensor(t[kept]), clean[kept], names=_NAMES, units=("rad", ""))
    return run.noise(_NOISE, generator)
