"""The models of the table: the paper's two as published, and our own, which learn from noisy states alone."""

import math

import torch
from torch import Tensor, nn

from benchmarks.hamiltonian.tasks import Task
from diffsim.data.trajectory import Trajectory
from diffsim.fields.base import VectorField
from diffsim.fields.gaussian_process import GaussianProcessHamiltonian
from diffsim.fields.hamiltonian import HamiltonianField, SeparableHamiltonian
from diffsim.fields.neural import NeuralField, mlp
from diffsim.integrate.solver import Solver
from diffsim.systems.oscillators import Pendulum
from diffsim.training.fit import fit
from diffsim.training.fit_runs import fit_runs
from diffsim.training.losses import DerivativeLoss, RolloutLoss
from diffsim.training.settings import Training

__all__ = ["MODELS", "Damped", "Oscillation", "fit_model", "models_of"]

MODELS = ("baseline", "hnn", "baseline-decay", "hnn-decay", "gp", "separable", "mechanical", "damped")


class Oscillation(nn.Module):
    """An energy of k positions or k momenta: a quadratic of unknown strength, plus a network if there is one."""

    def __init__(self, k: int, net: nn.Module | None = None) -> None:
        super().__init__()
        self.excess = nn.Parameter(torch.zeros(k, dtype=torch.float64))
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        quadratic = ((1 + self.excess) * x.square() / 2).sum(-1, keepdim=True)
        return quadratic if self.net is None else quadratic + self.net(x)


class Damped(VectorField):
    """Canonical equations with friction: dp/dt = -dH/dq - rate p, of unknown rate."""

    def __init__(self, hamiltonian: SeparableHamiltonian) -> None:
        super().__init__()
        self.hamiltonian = hamiltonian
        self.rate = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        _, p = y.chunk(2, dim=-1)
        return self.hamiltonian(t, y) - self.rate * torch.cat([torch.zeros_like(p), p], dim=-1)


def models_of(experiment: str) -> tuple[str, ...]:
    """The models that are fitted in an experiment: ours where the states are noisy, a decaying rate where not."""
    if experiment in ("two_body", "three_body"):
        return MODELS[:4]
    skipped = "gp" if experiment == "real" else "damped"
    return tuple(model for model in (*MODELS[:2], *MODELS[4:]) if model != skipped)


def fit_model(model: str, task: Task, seed: int, scale: float = 1.0) -> tuple[VectorField, float, int]:
    """A fitted field, the seconds that the fit took, and its number of steps.

    Args:
        model: One of `MODELS`.
        task: What to learn from.
        seed: Of the first weights and of the mini-batches.
        scale: Factor on the numbers of steps.
    """
    if model in MODELS[:4]:
        return _published(model, task, seed, scale)
    if model == "gp":
        return _gaussian_process(task, seed)
    return _ours(model, task, seed, scale)


def _published(model: str, task: Task, seed: int, scale: float) -> tuple[VectorField, float, int]:
    d = task.train.d
    plain = model.startswith("baseline")
    field = NeuralField(mlp(d, d, seed=seed)) if plain else HamiltonianField(mlp(d, 1, seed=seed))
    ours = model.endswith("-decay")  # the rate that `Training` has by default
    training = Training(
        steps=round(task.steps * scale) + 1,  # the paper counts from 0 to `steps`
        lr=None if ours else 1e-3,
        batch=task.batch,
        weight_decay=task.weight_decay,
        schedule="cosine" if ours else "constant",
        seed=seed,
    )
    report = fit(field, task.train, DerivativeLoss(), training)
    return field, report.seconds, report.steps


def _gaussian_process(task: Task, seed: int) -> tuple[VectorField, float, int]:
    """The Gaussian-process energy given the noisy states; the noise and the initial states are unknown.

    Prior length scales say that an energy is nearly quadratic (20 times the data), and that an angle has a period.
    """
    angle = isinstance(task.system, Pendulum)
    field = GaussianProcessHamiltonian(
        task.train.d,
        periods=[2 * math.pi, None] if angle else None,
        scale=[2.0 if angle else 20.0, 20.0],
        seed=seed,
    )
    states = Trajectory(task.train.t, task.train.y)
    report = fit_runs(field, states, initial="free", step=float(states.t.diff().min()))
    return field, report.seconds, report.iterations


def _ours(model: str, task: Task, seed: int, scale: float) -> tuple[VectorField, float, int]:
    """The most probable separable energy and initial states given the noisy states, all weights N(0, 1) before.

    A short fit of smoothed derivatives finds where to start.
    """
    states = Trajectory(task.train.t, task.train.y)  # without the published derivatives, which a laboratory lacks
    k = states.d // 2
    potential = Oscillation(k, mlp(k, 1, (32,), seed=2 * seed + 1, dtype=torch.float64))
    kinetic = Oscillation(k, mlp(k, 1, (32,), seed=2 * seed, dtype=torch.float64) if model == "separable" else None)
    energy = SeparableHamiltonian(kinetic, potential)
    field = Damped(energy) if model == "damped" else energy
    # A mean of squares and an L2 term: twice the negative log posterior, divided by the number of numbers.
    prior = 2 / states.y.numel()
    warm = Training(steps=max(1, round(500 * scale)), lr=3e-3, batch="all", weight_decay=prior)
    start = fit(field, states, DerivativeLoss("smoothing"), warm)
    # The long record of the real pendulum is cut: a conservative energy cannot follow all of its decay. It is slower.
    window, step = (None, 0.15) if states.n > 1 else (30, 0.3)
    end = fit(
        field,
        states,
        RolloutLoss(window, initial="free", noise=task.noise),
        Training("lbfgs", steps=max(1, round(80 * scale)), weight_decay=prior),
        Solver("rk4", step=step, gradient="backprop"),
    )
    return field, start.seconds + end.seconds, start.steps + end.steps
