"""The tasks of the speed benchmark: fields, initial states and times that every library gets alike."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from diffsim import HamiltonianField, NeuralField, SeparableHamiltonian, VectorField, mlp

__all__ = ["CASES", "END", "LEARNING_RATE", "MEMBERS", "N_OUTPUTS", "N_STEPS", "TOLERANCE", "Case", "Contender", "Task"]

System = Literal["mlp", "hamiltonian", "separable", "derivative", "ensemble"]
Mode = Literal["forward", "training"]

END = 10.0
N_STEPS = 200  # of a fixed-step method
N_OUTPUTS = 50
MEMBERS = 8
TOLERANCE = 1e-6  # of an adaptive method, relative and absolute
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Attributes:
        system: `mlp`, a Hamiltonian network, a separable one, one fitted to derivatives (`derivative`)
            or eight MLPs at once (`ensemble`).
        method: `rk4` (3/8 rule), `dopri5`, `leapfrog`, or `adam` for the fit.
        mode: `forward`, or `training`: the mean square over the outputs with its gradient in the weights (of an
            ensemble: in the initial states, as an acquisition function needs it).
        width: Units of both hidden layers.
        batch: Trajectories, or samples of the fit.
    """

    system: System
    method: str
    mode: Mode
    width: int
    batch: int

    @property
    def name(self) -> str:
        """Its key in the records."""
        return f"{self.system}-{self.method}-{self.mode}-h{self.width}-b{self.batch}"


_BATCHES = (1, 32, 1024)
_MODES: tuple[Mode, ...] = ("forward", "training")
CASES = (
    *(Case("mlp", *rest) for rest in itertools.product(("rk4", "dopri5"), _MODES, (64, 200), _BATCHES)),
    *(Case("hamiltonian", "rk4", mode, 200, batch) for mode, batch in itertools.product(_MODES, _BATCHES)),
    *(Case("separable", "leapfrog", mode, 200, batch) for mode, batch in itertools.product(_MODES, _BATCHES)),
    Case("derivative", "adam", "training", 200, 1024),
    *(Case("ensemble", "rk4", mode, 64, batch) for mode, batch in itertools.product(_MODES, (1, 32))),
)


@dataclass(frozen=True)
class Contender:
    """One library in one setting.

    Attributes:
        library: Its name.
        setting: What was chosen in it.
        run: Does the work once and waits for the result.
        read: Makes of a result the states [..., outputs, batch, d] (of a fit: the losses) and the gradient, flat.
        share: By what the time of a run is divided (a fit is many steps).
    """

    library: str
    setting: str
    run: Callable[[], Any]
    read: Callable[[Any], tuple[np.ndarray, np.ndarray | None]]
    share: int = 1


class Task:
    """The numbers of a case: equal for every library.

    Attributes:
        case: What is solved.
        fields: One field, or the members of the ensemble, float32.
        y0: Initial states, or the samples of the fit, shape [batch, 2].
        slopes: Derivatives at the samples, shape [batch, 2].
        t: Times, 0 and the outputs, shape [51].
        target: What the loss compares the states with, shape [50, batch, 2].
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        members = MEMBERS if case.system == "ensemble" else 1
        self.fields = [_field(case, seed) for seed in range(members)]
        generator = torch.Generator().manual_seed(1)
        self.y0 = torch.randn(case.batch, 2, generator=generator)
        self.target = torch.randn(N_OUTPUTS, case.batch, 2, generator=generator)
        self.slopes = torch.stack([self.y0[:, 1], -self.y0[:, 0].sin()], dim=-1)
        self.t = torch.linspace(0, END, N_OUTPUTS + 1)

    @property
    def step(self) -> float:
        """The step of a fixed-step method."""
        return END / N_STEPS

    def loss(self, states: Tensor) -> Tensor:
        """The mean square of states [..., 50, batch, 2] around the target."""
        return (states - self.target.to(states)).square().mean()

    def gradient_of(self, states: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The gradient of the loss in the inputs."""
        return torch.autograd.grad(self.loss(states), inputs)


def _field(case: Case, seed: int) -> VectorField:
    field = _untrained(case, seed)
    if case.system == "derivative":
        return field
    # Fields that move as the pendulum does: an untrained network hardly turns within the span.
    optimiser = torch.optim.Adam(field.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(2 + seed)
    for _ in range(300):
        y = 1.5 * torch.randn(256, 2, generator=generator)
        slopes = torch.stack([y[:, 1], -y[:, 0].sin()], dim=-1)
        optimiser.zero_grad()
        (field(torch.zeros(()), y) - slopes).square().mean().backward()
        optimiser.step()
    return field


def _untrained(case: Case, seed: int) -> VectorField:
    hidden = (case.width, case.width)
    match case.system:
        case "mlp" | "ensemble":
            return NeuralField(mlp(2, 2, hidden, seed=seed))
        case "hamiltonian" | "derivative":
            return HamiltonianField(mlp(2, 1, hidden, seed=seed))
        case "separable":
            return SeparableHamiltonian(mlp(1, 1, hidden, seed=seed), mlp(1, 1, hidden, seed=seed + 1))
