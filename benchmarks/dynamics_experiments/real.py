"""The measured pendulum of Schmidt and Lipson, or its stand-in: DGNet's and D-HNN's splits and figures."""

import math
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, run_or_nan
from benchmarks.dynamics_experiments.energies import Strength, Swing
from benchmarks.dynamics_experiments.pictures import states_and_energies
from diffsim import (
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
_ENERGY = Pendulum(mass=0.5, length=1.0, gravity=4.8)


class _Friction(nn.Module):
    """The dissipation diag(0, g) of unknown g >= 0."""

    def __init__(self) -> None:
        super().__init__()
        self.log_rate = nn.Parameter(torch.tensor(math.log(0.05), dtype=torch.float64))

    def forward(self, y: Tensor) -> Tensor:
        return torch.diag(torch.stack([torch.zeros_like(self.log_rate), self.log_rate.exp()]))


def _pendulum(width: int, seed: int) -> Hamiltonian:
    return SeparableHamiltonian(Strength(), Swing(width, seed))


def real_pendulum(setting: Setting, steps: int | None = None) -> list[Row]:
    """The first 445 samples train, the last 111 test; REAL_PENDULUM names the file, else its stand-in is used."""
    path = Path(os.environ.get("REAL_PENDULUM", "real_pend_h_1.txt"))
    record = load_schmidt_lipson(path) if path.is_file() else schmidt_lipson_stand_in(setting.seed)
    source = "measured" if path.is_file() else "stand-in"
    cut = round(0.8 * len(record.t))
    train = Trajectory(record.t[:cut], record.y[:cut])
    test = Trajectory(record.t[cut:], record.y[cut:])
    width, seed, budget = setting.choose(24, 200), setting.seed, steps or setting.choose(150, 2000)
    structure = canonical_structure(1)
    net = lambda n: mlp(2, n, (width,), seed=seed, dtype=torch.float64)  # noqa: E731
    discrete = DiscreteGradientField(HamiltonianField(net(1)), structure, _Friction())
    damping = nn.Parameter(torch.tensor(0.01, dtype=torch.float64))
    models: dict[str, VectorField] = {
        "damped pendulum, shooting": Damped(_pendulum(8, seed), damping),
        "DGNet": discrete,
        "D-HNN": DissipativeHamiltonian(
            HamiltonianField(net(1)), mlp(2, 1, (width,), seed=seed + 1, dtype=torch.float64)
        ),
        "HNN": HamiltonianField(net(1)),
        "NODE": NeuralField(net(2)),
    }
    published = {
        "damped pendulum, shooting": (1.38e-3, 5.04e-4),
        "DGNet": (1.38e-3, 5.04e-4),
        "D-HNN": (9.46e-4, 1.07e-3),
        "HNN": (1.41e-3, 3.44e-3),
        "NODE": (1.37e-3, 5.88e-4),
    }
    training = Training("lbfgs", steps=budget, weight_decay=1e-5)
    rows: list[Row] = []
    made = {"truth": test.y}
    for name, field in models.items():
        with clock() as watch:
            if "shooting" in name:
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
        note = f"{source}, {watch.seconds:.0f} s"
        starts = {name: test.y0}
        if "shooting" in name:
            earlier = slice(cut - 39, cut + 1)
            starts[f"{name}, start from 40 samples"] = _start(field, record.t[earlier], record.y[earlier])
        for model, y0 in starts.items():
            made[model] = run = run_or_nan(field, y0, test.t, Solver("rk4", step=1 / 12))
            values = (
                ("difference", difference(field, test)),
                ("energy", (_ENERGY.energy(run) - _ENERGY.energy(test.y)).square().mean()),
                ("state", (run - test.y).square().mean()),
            )
            for (metric, value), known in zip(values, (*published[name], None), strict=True):
                rows.append(Row(model, f"{metric}, mean squared error", float(value), known, note))
    setting.save("real_pendulum", states_and_energies(made, test.t, _ENERGY.energy))
    return rows


def _start(field: VectorField, t: Tensor, y: Tensor) -> Tensor:
    """The most probable state at the last of some samples, by running the field back through all of them."""
    start = nn.Parameter(y[-1].clone())

    def loss(_: Tensor | None) -> Tensor:
        return (odeint(field, start, t.flip(0), _SOLVER) - y.flip(0)).square().mean()

    optimise(loss, [start], Training("lbfgs", steps=30))
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
    """The squared error of (y' - y) / h from each sample to the next, by the field's own step or by rk4."""
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
