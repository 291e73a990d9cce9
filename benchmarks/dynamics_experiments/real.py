"""The measured pendulum of Schmidt and Lipson, or its stand-in: DGNet's and D-HNN's splits and figures."""

import math
import os
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, run_or_nan
from benchmarks.dynamics_experiments.energies import Strength, Swing
from benchmarks.dynamics_experiments.pictures import states_and_energies
from diffsim import (
    AngleFeatures,
    DerivativeLoss,
    DiscreteGradientField,
    DiscreteGradientLoss,
    DissipativeHamiltonian,
    Hamiltonian,
    HamiltonianField,
    NeuralField,
    OneStepLoss,
    Pendulum,
    RolloutLoss,
    SeparableHamiltonian,
    Solver,
    Training,
    Trajectory,
    VectorField,
    fit,
    mlp,
    odeint,
)
from diffsim.data.real_pendulum import load_schmidt_lipson, schmidt_lipson_stand_in
from diffsim.fields.matrices import canonical_structure
from diffsim.training import optimise

__all__ = ["Damped", "difference", "real_pendulum"]

_SOLVER = Solver("rk4", step=1 / 6, gradient="backprop")
_FINE = Solver("rk4", step=1 / 12)
_LONG = "pendulum of unknown gravity, tilt and friction, one run"
_ENERGY = Pendulum(mass=0.5, length=1.0, gravity=4.8)
_PUBLISHED = {  # DGNet's difference and energy, D-HNN's difference and energy
    "damped pendulum, shooting": (1.38e-3, 5.04e-4, 9.46e-4, 1.07e-3),
    _LONG: (1.38e-3, 5.04e-4, 9.46e-4, 1.07e-3),
    "DGNet": (1.38e-3, 5.04e-4, None, None),
    "D-HNN": (None, None, 9.46e-4, 1.07e-3),
    "HNN": (1.41e-3, 3.44e-3, 1.40e-3, 1.02e-2),
    "NODE": (1.37e-3, 5.88e-4, 1.11e-3, 1.17e-3),
}


class _Friction(nn.Module):
    """The dissipation diag(0, g) of unknown g >= 0."""

    def __init__(self) -> None:
        super().__init__()
        self.log_rate = nn.Parameter(torch.tensor(math.log(0.05), dtype=torch.float64))

    def forward(self, y: Tensor) -> Tensor:
        return torch.diag(torch.stack([torch.zeros_like(self.log_rate), self.log_rate.exp()]))


def real_pendulum(setting: Setting, steps: int | None = None) -> list[Row]:
    """DGNet's split and D-HNN's, a sample apart; REAL_PENDULUM names the file, else its stand-in is used.

    DGNet tests on the last 110 pairs of neighbours, runs start at the first of their samples, and differences are
    forward; D-HNN tests on the 111 samples that follow it, with the mean of both differences at each of them.
    """
    path = Path(os.environ.get("REAL_PENDULUM", "real_pend_h_1.txt"))
    record = load_schmidt_lipson(path) if path.is_file() else schmidt_lipson_stand_in(setting.seed)
    source = "measured" if path.is_file() else "stand-in"
    cut = int(0.8 * (len(record.t) - 1))
    train = Trajectory(record.t[: cut + 1], record.y[: cut + 1])
    test = Trajectory(record.t[cut:], record.y[cut:])
    width, seed, budget = setting.choose(24, 200), setting.seed, steps or setting.choose(150, 2000)
    structure = canonical_structure(1)
    net = lambda n: mlp(2, n, (width,), seed=seed, dtype=torch.float64)  # noqa: E731
    discrete = DiscreteGradientField(HamiltonianField(net(1)), structure, _Friction())
    models: dict[str, VectorField] = {
        "damped pendulum, shooting": _damped(Swing(8, seed)),
        _LONG: _damped(_tilted()),
        "DGNet": discrete,
        "D-HNN": DissipativeHamiltonian(
            HamiltonianField(net(1)), mlp(2, 1, (width,), seed=seed + 1, dtype=torch.float64)
        ),
        "HNN": HamiltonianField(net(1)),
        "NODE": NeuralField(net(2)),
    }
    training = Training("lbfgs", steps=budget, weight_decay=1e-5)
    rows: list[Row] = []
    made = {"truth": test.y[:-1]}
    for name, field in models.items():
        with clock() as watch:
            if name == _LONG:
                for loss in (DerivativeLoss("central"), RolloutLoss(8, initial="free", noise=0.01)):
                    fit(field, train, loss, Training("lbfgs", steps=budget // 3), _SOLVER)
                rows += _continued(name, field, train, test)
            elif "shooting" in name:
                # Gaps make windows that cannot be solved together: few steps.
                for window, share in ((8, 3), (30, 6)):
                    loss = RolloutLoss(window, initial="free", noise=0.01)
                    fit(field, train, loss, Training("lbfgs", steps=budget // share, weight_decay=1e-3), _SOLVER)
            elif name == "DGNet":
                fit(field, train, DiscreteGradientLoss(), training)
            elif name == "NODE":
                fit(field, train, OneStepLoss(), training, _SOLVER)
            else:
                fit(field, train, DerivativeLoss("central"), training)
        made[name] = run_or_nan(field, test.y0, test.t[:-1], _FINE)
        values = _values(field, test, made[name], run_or_nan(field, test.y[1], test.t[1:], _FINE))
        for (metric, value), known in zip(values.items(), (*_PUBLISHED[name], None), strict=True):
            rows.append(Row(name, metric, value, known, f"{source}, {watch.seconds:.0f} s"))
    floor = _floor(models[_LONG], test)
    setting.save("real_pendulum", states_and_energies(made, test.t[:-1], _ENERGY.energy))
    return [
        replace(row, note=f"{row.note}; floor {floor[row.metric]:.3g}") if row.metric in floor else row for row in rows
    ]


def _values(field: VectorField, test: Trajectory, run: Tensor, next_run: Tensor) -> dict[str, float]:
    values = {
        "difference": difference(field, test),
        "energy": _energy_error(run, test.y[:-1]),
        "central difference": _central_difference(field, test),
        "energy from the next sample": _energy_error(next_run, test.y[1:]),
        "state": (run - test.y[:-1]).square().mean(),
    }
    return {f"{metric}, mean squared error": float(value) for metric, value in values.items()}


def _continued(name: str, field: VectorField, train: Trajectory, test: Trajectory) -> list[Row]:
    """Fits the field to the training samples as one run, and follows that run into the test."""
    end = run_or_nan(field, _start(field, train), train.t, _SOLVER)[-1]
    run = run_or_nan(field, end, test.t[:-1], _FINE)
    errors = {"energy": _energy_error(run, test.y[:-1]), "state": (run - test.y[:-1]).square().mean()}
    note = "no sample of the test as a start"
    return [
        Row(name, f"{metric} of the training run continued, mean squared error", float(error), None, note)
        for metric, error in errors.items()
    ]


def _floor(field: VectorField, test: Trajectory) -> dict[str, float]:
    """What noise leaves: the figures of a pendulum that is fitted to the test samples themselves."""
    start = _start(field, test)
    run = run_or_nan(field, start, test.t, _FINE)
    return _values(field, test, run[:-1], run[1:])


def _damped(potential: nn.Module) -> "Damped":
    friction = nn.Parameter(torch.tensor(0.01, dtype=torch.float64))
    return Damped(SeparableHamiltonian(Strength(), potential), friction)


def _tilted() -> nn.Module:
    """A cosine and a sine of the angle: gravity of unknown strength and direction."""
    return nn.Sequential(AngleFeatures(1), nn.Linear(2, 1, bias=False, dtype=torch.float64))


def _energy_error(run: Tensor, measured: Tensor) -> Tensor:
    return (_ENERGY.energy(run) - _ENERGY.energy(measured)).square().mean()


def _start(field: VectorField, samples: Trajectory) -> Tensor:
    """The most probable first state of a run; the field is fitted with it."""
    start = nn.Parameter(samples.y0.clone())

    def loss(_: Tensor | None) -> Tensor:
        return (odeint(field, start, samples.t, _SOLVER) - samples.y).square().mean()

    optimise(loss, [start, *field.parameters()], Training("lbfgs", steps=40))
    return start.detach()


class Damped(VectorField):
    """A Hamiltonian with friction: dp/dt = -dH/dq - c p of unknown c."""

    def __init__(self, hamiltonian: Hamiltonian, rate: nn.Parameter) -> None:
        super().__init__()
        self.hamiltonian, self.rate = hamiltonian, rate

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        friction = self.rate * y.chunk(2, dim=-1)[1]
        return self.hamiltonian(t, y) - torch.cat([torch.zeros_like(friction), friction], dim=-1)


def difference(field: VectorField, test: Trajectory) -> Tensor:
    """The squared error of (y' - y) / h from each sample to the next: both samples known, or by rk4."""
    step = test.t.diff()[:, None]
    change = test.y.diff(dim=0)[:, 0] / step
    before, after = test.y[:-1, 0], test.y[1:, 0]
    with torch.no_grad():
        if isinstance(field, DiscreteGradientField):
            return (field.rate(before, after) - change).square().mean()
        total = torch.zeros((), dtype=change.dtype)
        for h in torch.unique(step.round(decimals=6)):
            rows = (step[:, 0] - h).abs() < 1e-3
            solver = Solver("rk4", step=float(h) / 2)
            end = odeint(field, before[rows], torch.stack([torch.zeros_like(h), h]), solver)[1]
            total = total + ((end - before[rows]) / h - change[rows]).square().sum()
        return total / change.numel()


def _central_difference(field: VectorField, test: Trajectory) -> Tensor:
    """The squared error of rates at all samples but the first, against the mean of the differences to neighbours."""
    change = test.y.diff(dim=0) / test.t.diff()[:, None, None]
    change = torch.cat([(change[:-1] + change[1:]) / 2, change[-1:]])
    with torch.no_grad():
        return (field(test.t[0], test.y[1:]) - change).square().mean()
