"""Forced and damped systems: port-Hamiltonian networks on springs and the chaotic Duffing oscillator; D-HNN."""

import math

import torch
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, run_or_nan, uniform
from diffsim import (
    DissipativeHamiltonian,
    ForcedDuffing,
    HamiltonianField,
    Input,
    MassSpring,
    MechanicalHamiltonian,
    NeuralField,
    PortHamiltonian,
    PositiveMatrix,
    RolloutLoss,
    Solver,
    Training,
    Trajectory,
    VectorField,
    fit,
    mlp,
    odeint,
)
from diffsim.systems import SpringChain

__all__ = ["chaotic_duffing", "coupled_springs", "damped_spring"]

_EXACT = Solver("dopri8", rtol=1e-9, atol=1e-10)


class _Periodic(nn.Module):
    """A network of the phase of a drive whose frequency is known."""

    def __init__(self, net: nn.Module, frequency: float) -> None:
        super().__init__()
        self.net, self.frequency = net, frequency

    def forward(self, t: Tensor) -> Tensor:
        phase = self.frequency * t
        return self.net(torch.cat([phase.cos(), phase.sin()], dim=-1).to(next(self.net.parameters())))


class _Driven(VectorField):
    """The baseline: a network of the state and the phase of the drive."""

    def __init__(self, net: nn.Module, frequency: float) -> None:
        super().__init__()
        self.net, self.frequency = net, frequency

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        phase = self.frequency * t.to(y)
        return self.net(torch.cat([y, torch.stack([phase.cos(), phase.sin()], -1).expand(*y.shape[:-1], 2)], dim=-1))


def _net(n_in: int, n_out: int, seed: int, width: int = 24) -> nn.Module:
    return mlp(n_in, n_out, (width, width), seed=seed, dtype=torch.float64)


def _fit(field: VectorField, data: Trajectory, setting: Setting, step: float) -> float:
    with clock() as watch:
        fit(field, data, training=Training("lbfgs", steps=setting.choose(200, 3000)))
        roll = Solver("rk4", step=step, gradient="backprop")
        fit(field, data, RolloutLoss(5), Training("lbfgs", steps=setting.choose(20, 300)), roll)
    return watch.seconds


def coupled_springs(setting: Setting) -> list[Row]:
    """Two masses between walls, m = 2, k = 3, a force cos t on the first: mean squared errors of states and energy."""
    chain = SpringChain([2.0, 2.0], [3.0, 3.0, 3.0])
    truth = PortHamiltonian(chain, input=Input(lambda t: torch.cat([t.cos(), 0 * t], dim=-1)))
    generator = torch.Generator().manual_seed(setting.seed)
    t = torch.arange(51, dtype=torch.float64) * 0.1

    def runs(n: int) -> Trajectory:
        start = [uniform(generator, -0.5, 0.5, n, 2), 2 * uniform(generator, -0.2, 0.2, n, 2)]
        return Trajectory(t, odeint(truth, torch.cat(start, dim=-1), t, _EXACT).detach())

    data, test = runs(20), runs(25)
    energy = MechanicalHamiltonian(PositiveMatrix(2).double(), _net(2, 1, setting.seed))
    models: dict[str, tuple[VectorField, float | None, float | None]] = {
        "port-HNN": (PortHamiltonian(energy, input=Input(_Periodic(_net(2, 2, 1), 1.0))), 7.34e-4, 2.72e-5),
        "baseline": (_Driven(_net(6, 4, setting.seed), 1.0), 1.51e-3, 5.08e-5),
    }
    rows: list[Row] = []
    for name, (field, published, published_energy) in models.items():
        seconds = _fit(field, data, setting, 0.1)
        run = run_or_nan(field, test.y0, t, Solver("rk4", step=0.05))
        states = float((run - test.y).square().mean())
        energies = float((chain.energy(run) - chain.energy(test.y)).square().mean())
        rows += [
            Row(name, "state, mean squared error", states, published, f"{seconds:.0f} s"),
            Row(name, "energy, mean squared error", energies, published_energy, f"{seconds:.0f} s"),
        ]
    return rows


def chaotic_duffing(setting: Setting) -> list[Row]:
    """Chaos, q'' = q - q^3 - .1 q' + .39 cos 1.4 t, learned from one period: the histogram of the Poincare section."""
    frequency = 1.4
    truth = ForcedDuffing(-1.0, 1.0, damping=0.1, amplitude=0.39, frequency=frequency)
    period = 2 * math.pi / frequency
    generator = torch.Generator().manual_seed(setting.seed)
    t = torch.linspace(0, period, 100, dtype=torch.float64)
    y0 = uniform(generator, -1, 1, 20, 2)
    data = Trajectory(t, odeint(truth, y0, t, _EXACT).detach())
    energy = MechanicalHamiltonian(torch.eye(1, dtype=torch.float64), _net(1, 1, setting.seed))
    models: dict[str, tuple[VectorField, float]] = {
        "port-HNN": (
            PortHamiltonian(
                energy, dissipation=PositiveMatrix(1).double(), input=Input(_Periodic(_net(2, 1, 1), frequency))
            ),
            0.11,
        ),
        "baseline": (_Driven(_net(4, 2, setting.seed), frequency), 0.287),
    }
    starts, sections = 32, setting.choose(150, 4000)
    times = torch.arange(sections + 1, dtype=torch.float64) * period
    first = uniform(generator, -0.5, 0.5, starts, 2)

    def histogram(field: VectorField) -> Tensor:
        run = run_or_nan(field, first, times, Solver("rk4", step=period / 60, on_divergence="nan"))[20:]
        points = run[torch.isfinite(run).all(-1)]
        return torch.histogramdd(points, bins=[30, 30], range=[-2.0, 2.0, -2.0, 2.0], density=True).hist

    known, rows = histogram(truth), []
    again = (histogram(ForcedDuffing(-1.0, 1.0, damping=0.1001, amplitude=0.39, frequency=frequency)) - known).square()
    for name, (field, published) in models.items():
        seconds = _fit(field, data, setting, period / 99)
        value = float((histogram(field) - known).square().mean())
        note = (
            f"30 x 30 densities, {starts} x {sections - 19} points; truth with damping .1001: {float(again.mean()):.3g}"
        )
        rows.append(Row(name, "Poincare histogram, mean squared error", value, published, f"{note}; {seconds:.0f} s"))
    return rows


def damped_spring(setting: Setting) -> list[Row]:
    """The D-HNN grid: H = q^2 + p^2 with damping on dq/dt; derivative losses and the energy along a run."""
    axis = torch.linspace(-1.2, 1.2, 25, dtype=torch.float64)
    y = torch.cartesian_prod(axis, axis)
    spring = MassSpring(0.5, 2.0)
    truth = DissipativeHamiltonian(spring, lambda y: -y[..., 0].square())
    dy = truth(torch.zeros(()), y).detach()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(setting.seed))
    train, test = order[: int(0.85 * len(y))], order[int(0.85 * len(y)) :]
    data = Trajectory(torch.zeros(1, dtype=torch.float64), y[train][None], dy[train][None])
    models: dict[str, tuple[VectorField, tuple[float, float, float]]] = {
        "D-HNN": (
            DissipativeHamiltonian(_net(2, 1, setting.seed), _net(2, 1, setting.seed + 1)),
            (1.15e-4, 5.75e-5, 3.6e-6),
        ),
        "HNN": (HamiltonianField(_net(2, 1, setting.seed)), (0.453, 0.626, 0.290)),
        "baseline": (NeuralField(_net(2, 2, setting.seed)), (5.47e-5, 9.86e-5, 6.0e-6)),
    }
    t = torch.linspace(0, 4, 101, dtype=torch.float64)
    y0 = torch.tensor([[0.85, 0.25]], dtype=torch.float64)
    energy = spring.energy(odeint(truth, y0, t, _EXACT)).detach()
    rows: list[Row] = []
    for name, (field, published) in models.items():
        with clock() as watch:
            fit(field, data, training=Training("lbfgs", steps=setting.choose(1500, 3000)))
        with torch.no_grad():
            errors = [float((field(t[0], y[part]) - dy[part]).square().mean()) for part in (train, test)]
        run = run_or_nan(field, y0, t, _EXACT)
        errors.append(float((spring.energy(run) - energy).square().mean()))
        for metric, value, known in zip(("train", "test", "energy along a run"), errors, published, strict=True):
            rows.append(Row(name, f"{metric}, mean squared error", value, known, f"{watch.seconds:.0f} s"))
    return rows
