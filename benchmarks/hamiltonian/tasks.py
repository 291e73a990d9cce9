"""The experiments of the Hamiltonian neural network paper as published: data, set-up, evaluation and figures."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from diffsim.data.real_pendulum import load_schmidt_lipson, schmidt_lipson_stand_in
from diffsim.data.trajectory import Trajectory
from diffsim.fields.hamiltonian import Hamiltonian
from diffsim.integrate.odeint import simulate
from diffsim.integrate.solver import Solver
from diffsim.systems.hnn_data import (
    HNNData,
    hnn_pendulum_data,
    hnn_spring_data,
    hnn_three_body_data,
    hnn_two_body_data,
)
from diffsim.systems.initial_states import sample_square, sample_three_body, sample_two_body
from diffsim.systems.oscillators import Pendulum

__all__ = ["ACCURATE", "EXPERIMENTS", "PUBLISHED", "Figures", "Task", "make_task"]

ACCURATE = Solver("dopri8", rtol=1e-8, atol=1e-8, on_divergence="nan")
EXPERIMENTS = ("spring", "pendulum", "real", "two_body", "three_body")


@dataclass(frozen=True, slots=True)
class Figures:
    """Published figures: mean squared error of the derivatives on both parts, and of the energy, with its +-."""

    train: float
    test: float
    energy: float
    spread: float


# Source: Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563, table 1 and its notebooks.
PUBLISHED = {
    ("spring", "baseline"): Figures(3.7134e-2, 3.6656e-2, 1.7077e-1, 2.06e-2),
    ("spring", "hnn"): Figures(3.6933e-2, 3.5928e-2, 3.8416e-4, 6.53e-5),
    ("pendulum", "baseline"): Figures(3.2606e-2, 3.5273e-2, 4.1519e-2, 9.62e-3),
    ("pendulum", "hnn"): Figures(3.2787e-2, 3.5586e-2, 2.4852e-2, 5.42e-3),
    ("real", "baseline"): Figures(2.7455e-3, 2.1864e-3, 3.8564e-1, 6.92e-2),
    ("real", "hnn"): Figures(9.2376e-3, 5.9584e-3, 1.4477e-2, 4.65e-3),
    ("two_body", "baseline"): Figures(3.2682e-5, 2.9575e-5, 6.3276e-2, 3.36e-2),
    ("two_body", "hnn"): Figures(2.9959e-6, 2.8218e-6, 3.8751e-5, 5.04e-6),
    ("three_body", "baseline"): Figures(9.5573e-2, 3.8000e-1, 1.0906e2, 7.7e1),
    ("three_body", "hnn"): Figures(8.0346e-2, 4.8809e-1, 4.1926e-2, 3.39e-2),
}


@dataclass(frozen=True, slots=True)
class Task:
    """One experiment at one seed: what to learn from, how the paper does it, and what to judge by.

    Attributes:
        train: Observed runs, with the derivatives that the paper trains on.
        test: The same of the test part.
        noise: Standard deviation of the observations; 0 for none.
        batch: Of the published fit.
        steps: Of the published fit.
        weight_decay: Of the published fit.
        system: Has the true energy; of the measured pendulum the energy that the paper assumes.
        truth: True (or measured) runs from the evaluation states, at the fixed horizon.
        inside: Whether the energy of each evaluation state lies between those of the training states, shape [n].
        published_energy: The energy of the published error.
        pace: Factors on the times of the published error, shape [n, 1]: its horizon may differ from state to state.
        published_solver: The solver of the published error.
        source: Where the data come from.
    """

    train: Trajectory
    test: Trajectory
    noise: float
    batch: int | Literal["all"]
    steps: int
    weight_decay: float
    system: Hamiltonian
    truth: Trajectory
    inside: Tensor
    published_energy: Callable[[Tensor], Tensor]
    pace: Tensor | None = None
    published_solver: Solver = ACCURATE
    source: str = "simulated"


def make_task(experiment: str, seed: int, data: Path | None = None, share: float = 1.0) -> Task:
    """The task of an experiment.

    Args:
        experiment: One of `EXPERIMENTS`.
        seed: Of the training data; 0 redraws the published ones.
        data: The file of the measured pendulum; a synthetic stand-in takes its place where it is missing.
        share: Of the number of training runs of two and three bodies, for a quick look.
    """
    if experiment == "spring":
        return _spring(seed)
    if experiment == "pendulum":
        return _pendulum(seed)
    if experiment == "real":
        return _real(seed, data)
    if experiment == "two_body":
        runs = hnn_two_body_data(round(1000 * share), seed)
        y0 = torch.cat([sample_two_body(1, i) for i in range(15)])
        return _bodies(runs, y0, horizon=25.0, batch=200, weight_decay=0.0)
    if experiment == "three_body":
        runs = hnn_three_body_data(round(5000 * share), seed)
        y0 = torch.cat([sample_three_body(1, i) for i in range(15)])
        return _bodies(runs, y0, horizon=3.0, batch=600, weight_decay=1e-4)
    raise ValueError(f"`experiment` must be one of {', '.join(EXPERIMENTS)}, got {experiment!r}.")


def _times(horizon: float, n: int) -> Tensor:
    return torch.linspace(0, horizon, n, dtype=torch.float64)


def _parts(data: HNNData) -> tuple[Trajectory, Trajectory]:
    train, test = (Trajectory(data.t, data.y_noisy[:, part], data.dy[:, part]) for part in (data.train, data.test))
    return train, test


def _inside(system: Hamiltonian, y0: Tensor, training_states: Tensor) -> Tensor:
    energy, seen = system.energy(y0), system.energy(training_states)
    return (energy >= seen.min()) & (energy <= seen.max())


def _squared_radius(y: Tensor) -> Tensor:
    return y.square().sum(-1)


def _spring(seed: int) -> Task:
    data = hnn_spring_data(seed=seed)
    # The published horizon grows by 1.09 with each evaluation state, from 23.8 to 79.4.
    pace = 1.09 ** torch.arange(2, 17, dtype=torch.float64)[:, None]
    return replace(_oscillator(data, data.field.energy), pace=pace)


def _pendulum(seed: int) -> Task:
    # The published "energy" is the spring's.
    return _oscillator(hnn_pendulum_data(seed=seed), _squared_radius)


def _oscillator(data: HNNData, published_energy: Callable[[Tensor], Tensor]) -> Task:
    train, test = _parts(data)
    y0 = sample_square()
    return Task(
        train=train,
        test=test,
        noise=0.1,
        batch="all",
        steps=2000,
        weight_decay=1e-4,
        system=data.field,
        truth=simulate(data.field, y0, _times(20.0, 100), ACCURATE),
        inside=_inside(data.field, y0, data.y_clean[0, data.train]),
        published_energy=published_energy,
    )


def _real(seed: int, data: Path | None) -> Task:
    if data is not None and data.is_file():
        record, source = load_schmidt_lipson(data), f"measured, {data.name}"
    else:
        record, source = schmidt_lipson_stand_in(seed), "synthetic stand-in of the measured pendulum"
    rows = record.derivatives("forward")
    cut = round(0.8 * len(record.t))
    assert rows.dy is not None
    train = Trajectory(rows.t[:cut], rows.y[:cut], rows.dy[:cut])
    test = Trajectory(rows.t[cut:], rows.y[cut:], rows.dy[cut:])
    system = Pendulum(mass=0.5, length=1.0, gravity=4.8)
    return Task(
        train=train,
        test=test,
        noise=0.01,
        batch="all",
        steps=2000,
        weight_decay=1e-5,
        system=system,
        truth=Trajectory(test.t, test.y),
        inside=_inside(system, test.y0, train.y),
        published_energy=system.energy,
        published_solver=Solver("dopri5", rtol=1e-3, atol=1e-6, on_divergence="nan"),
        source=source,
    )


def _bodies(data: HNNData, y0: Tensor, horizon: float, batch: int, weight_decay: float) -> Task:
    train, test = _parts(data)
    return Task(
        train=train,
        test=test,
        noise=0.0,
        batch=batch,
        steps=10_000,
        weight_decay=weight_decay,
        system=data.field,
        truth=simulate(data.field, y0, _times(horizon, 500), ACCURATE),
        inside=_inside(data.field, y0, data.y_clean[0, data.train]),
        published_energy=data.field.energy,
    )
