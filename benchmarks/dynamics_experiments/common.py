"""What the experiments share: a row of the table, the setting of a run, clocks and roll-outs that survive failure."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from diffsim import IntegrationError, Solver, VectorField, odeint

__all__ = ["Clock", "Experiment", "Row", "Setting", "clock", "run_or_nan", "uniform"]


@dataclass(frozen=True)
class Setting:
    """How a benchmark runs: the full published setting, or a short one for two cores, and where pictures go."""

    full: bool = False
    seed: int = 0
    pictures: Path | None = None

    def choose(self, short: int, full: int) -> int:
        return full if self.full else short

    def save(self, name: str, figure: Figure) -> None:
        """Keep the picture of an experiment with seed 0, small enough for a page of the documentation."""
        if self.pictures is not None and self.seed == 0:
            self.pictures.mkdir(parents=True, exist_ok=True)
            figure.savefig(self.pictures / f"{name}.png", dpi=70, bbox_inches="tight")


@dataclass(frozen=True)
class Row:
    """One figure: what was measured, and what the paper has."""

    model: str
    metric: str
    value: float
    published: float | None = None
    note: str = ""


Experiment = Callable[[Setting], list[Row]]


@dataclass
class Clock:
    """Process seconds of a block."""

    seconds: float = 0.0


@contextmanager
def clock() -> Generator[Clock]:
    watch, start = Clock(), time.process_time()
    yield watch
    watch.seconds = time.process_time() - start


def uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


def run_or_nan(field: VectorField, y0: Tensor, t: Tensor, solver: Solver) -> Tensor:
    """The run, NaN where it fails."""
    with torch.no_grad():
        try:
            return odeint(field, y0, t, solver)
        except IntegrationError:
            return torch.full((len(t), *y0.shape), torch.nan, dtype=y0.dtype)
