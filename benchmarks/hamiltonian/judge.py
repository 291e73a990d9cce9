"""One job of the table: fit a model to a task, and judge it by the published metric and by honest ones."""

import math
import platform
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.hamiltonian.models import fit_model
from benchmarks.hamiltonian.tasks import ACCURATE, Task, make_task
from diffsim.data.trajectory import Trajectory
from diffsim.fields.base import FunctionField, VectorField
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver
from diffsim.metrics import coordinate_error, energy_error, valid_prediction_time
from diffsim.training.losses import DerivativeLoss

__all__ = ["judge", "run_job"]

Result = dict[str, Any]


def run_job(
    experiment: str, model: str, seed: int, scale: float = 1.0, data: Path | None = None, share: float = 1.0
) -> Result:
    """Make the task, fit the model and judge it; a JSON-ready record. Runs in a process of its own, on one thread."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    task = make_task(experiment, seed, data, share)
    data_seconds = time.perf_counter() - start
    field, seconds, steps = fit_model(model, task, seed, scale)
    return {
        "experiment": experiment,
        "model": model,
        "seed": seed,
        "steps": steps,
        "fit_seconds": seconds,
        "data_seconds": data_seconds,
        "source": task.source,
        "machine": _machine(),
        **judge(field, task),
    }


def judge(field: VectorField, task: Task) -> Result:
    """All metrics of a field; a run that diverged has None, its valid time included what held."""
    field = field.double()
    published = _published_energy(field, task)
    if published.shape[1] > 1:
        # As in the paper: the spread of the means of five groups of three states.
        groups = published.mean(0).unflatten(0, (5, -1)).mean(-1)
        spread = groups.std(unbiased=False) / math.sqrt(5)
    else:
        spread = published.std(unbiased=False) / math.sqrt(len(published))
    run = _roll(field, task.truth, ACCURATE)
    return {
        "train": float(_derivative_error(field, task.train)),
        "test": float(_derivative_error(field, task.test)),
        "published_energy": _number(published.mean()),
        "published_energy_spread": _number(spread),
        "published_energy_each": _numbers(published.mean(0)),
        "energy": _numbers(energy_error(task.system, run, task.truth)),
        "coordinates": _numbers(coordinate_error(run, task.truth)),
        "valid_time": _numbers(valid_prediction_time(run, task.truth)),
        "horizon": float(task.truth.t[-1] - task.truth.t[0]),
        "inside": task.inside.tolist(),
    }


def _derivative_error(field: VectorField, data: Trajectory) -> Tensor:
    return DerivativeLoss()(field, data.to(dtype=torch.float64), ACCURATE).detach()


def _roll(field: VectorField, truth: Trajectory, solver: Solver, pace: Tensor | None = None) -> Tensor:
    """States from the first states of the true runs at their times; those of a state may run at a pace of their own."""
    paced = field if pace is None else FunctionField(lambda t, y: pace * field(t, y))
    with torch.no_grad():
        return odeint(paced, truth.y0, truth.t, solver)


def _published_energy(field: VectorField, task: Task) -> Tensor:
    """Squared errors of the published energy, shape [T, n]."""
    truth, run = task.truth.y, _roll(field, task.truth, task.published_solver, task.pace)
    if task.pace is not None:
        truth = _roll(task.system, task.truth, ACCURATE, task.pace)
    return (task.published_energy(run) - task.published_energy(truth)).square()


def _number(value: Tensor) -> float | None:
    return float(value) if bool(value.isfinite()) else None


def _numbers(values: Tensor) -> list[float | None]:
    return [_number(value) for value in values]


def _machine() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    threads = torch.get_num_threads()
    return f"{cpu}, {threads} thread a job, Python {platform.python_version()}, torch {torch.__version__}"
