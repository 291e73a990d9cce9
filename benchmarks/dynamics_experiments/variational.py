"""The VIGN paper's systems: separable energies with symplectic steps beside any energy, and any field, with rk4."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, run_or_nan, uniform
from diffsim import (
    Graph,
    GraphEnergy,
    GraphField,
    GraphNetwork,
    Hamiltonian,
    HamiltonianField,
    HenonHeiles,
    MassSpring,
    NeuralField,
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
from diffsim.systems import ParticleSprings

__all__ = ["vign_systems"]

_EXACT = Solver("dopri8", rtol=1e-9, atol=1e-10)
_STEP, _WINDOW = 0.1, 11
_PARTICLES = 5


@dataclass(frozen=True)
class _Case:
    """A system of the paper: runs of `duration` from `start(n)`; graphs know that its particles are alike."""

    system: Hamiltonian
    start: Callable[[torch.Generator, int], Tensor]
    runs: int
    duration: float
    graph: bool = False


def _ring(low: float, high: float) -> Callable[[torch.Generator, int], Tensor]:
    """States (q, p) of a squared radius in an interval."""

    def start(generator: torch.Generator, n: int) -> Tensor:
        radius, angle = uniform(generator, low, high, n).sqrt(), uniform(generator, 0, 2 * torch.pi, n)
        return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)

    return start


def _cloud(generator: torch.Generator, n: int) -> Tensor:
    size = 2 * _PARTICLES
    return torch.cat([uniform(generator, -1, 1, n, size), uniform(generator, -3, 3, n, size)], dim=-1)


def _bound(generator: torch.Generator, n: int) -> Tensor:
    """States of the paper's box whose orbits cannot escape."""
    y = uniform(generator, -0.5, 0.5, 20 * n, 4)
    return y[HenonHeiles().energy(y) < 1 / 6][:n]


_ALIKE = torch.ones(_PARTICLES, dtype=torch.float64)
_CASES = {
    "mass on a spring": _Case(MassSpring(), _ring(0.5, 4.5), 25, 3.0),
    "pendulum": _Case(Pendulum(gravity=9.81), _ring(1.3**2, 2.3**2), 25, 3.0),
    "Henon-Heiles": _Case(HenonHeiles(), _bound, 100, 4.0),
    # Ordered pairs count twice: half the stiffness is that of one spring between two particles.
    "five springs": _Case(ParticleSprings(_ALIKE, _ALIKE / 2**0.5), _cloud, 100, 4.0, graph=True),
}


def vign_systems(setting: Setting, count: int | None = None, steps: int | None = None) -> list[Row]:
    """Runs of steps of .1, clean and with noise .1; errors of 25 runs twice as long, from exact states."""
    rows: list[Row] = []
    figure = Figure(figsize=(4 * len(_CASES), 3), layout="constrained")
    for (name, case), axis in zip(_CASES.items(), figure.subplots(1, len(_CASES)), strict=True):
        generator = torch.Generator().manual_seed(setting.seed)
        t = torch.arange(round(2 * case.duration / _STEP) + 1, dtype=torch.float64) * _STEP
        half, n = len(t) // 2 + 1, count or setting.choose(25, case.runs)
        with torch.no_grad():
            clean = Trajectory(t[:half], odeint(case.system, case.start(generator, n), t[:half], _EXACT))
            test = odeint(case.system, case.start(generator, 25), t, _EXACT)
        for noise in (0.0, 0.1):
            train = clean.noise(noise, seed=setting.seed) if noise else clean
            for model, (field, solver) in _models(case, setting).items():
                initial = "free" if "fitted" in model else "fixed"
                # A step on a graph takes twenty times as long.
                budget = steps or setting.choose(60 if case.graph else 300, 2000)
                training = Training("lbfgs", steps=budget, weight_decay=1e-6)
                with clock() as watch:
                    fit(field, train, RolloutLoss(_WINDOW, initial=initial), training, solver)
                run = run_or_nan(field, test[0], t, solver)
                errors = {
                    "state": (run - test).square().mean(),
                    "energy": (case.system.energy(run) - case.system.energy(test)).square().mean(),
                }
                note = f"{n} runs, {watch.seconds:.0f} s"
                for metric, error in errors.items():
                    what = f"{name}, noise {noise:g}: {metric}, mean squared error"
                    rows.append(Row(model, what, float(error), None, note))
                if noise:
                    axis.semilogy(t[1:], (run - test)[1:].square().mean((1, 2)), lw=1, label=model)
        axis.axvline(case.duration, color="0.8", zorder=0)
        axis.set(title=f"{name}, noise 0.1", xlabel="t")
    figure.axes[0].set_ylabel("squared error of states")
    figure.axes[0].legend(fontsize=7)
    setting.save("vign_systems", figure)
    return rows


def _models(case: _Case, setting: Setting) -> dict[str, tuple[VectorField, Solver]]:
    """Fields and the steps that they are fitted and run with."""
    rk4 = Solver("rk4", step=_STEP, gradient="backprop")
    symplectic = Solver("yoshida4", step=_STEP, gradient="backprop")
    return {
        "VIGN": (_separable(case, setting), symplectic),
        "VIGN, fitted initial states": (_separable(case, setting), symplectic),
        "HOGN" if case.graph else "HNN": (_energy(case, setting), rk4),
        "NODE": (_rates(case, setting), rk4),
    }


def _net(n_in: int, n_out: int, setting: Setting, seed: int = 0) -> nn.Module:
    width = setting.choose(32, 200)
    return mlp(n_in, n_out, (width, width), nn.Softplus, seed=setting.seed + seed, dtype=torch.float64)


def _network(n_features: int, n_out: int, setting: Setting) -> GraphNetwork:
    width = setting.choose(20, 30)
    hidden = (width, width)
    return GraphNetwork(
        n_features, n_out, hidden=hidden, n_messages=width, activation=nn.Softplus, seed=setting.seed
    ).double()


def _separable(case: _Case, setting: Setting) -> VectorField:
    k = len(case.start(torch.Generator(), 1)[0]) // 2
    if case.graph:
        potential = GraphEnergy(_network(0, 1, setting), Graph(_PARTICLES), momenta=False)
        return SeparableHamiltonian(_Each(_net(2, 1, setting, seed=1)), potential)
    return SeparableHamiltonian(_net(k, 1, setting, seed=1), _net(k, 1, setting))


def _energy(case: _Case, setting: Setting) -> VectorField:
    if case.graph:
        return HamiltonianField(GraphEnergy(_network(2, 1, setting), Graph(_PARTICLES)))
    return HamiltonianField(_net(len(case.start(torch.Generator(), 1)[0]), 1, setting))


def _rates(case: _Case, setting: Setting) -> VectorField:
    if case.graph:
        return GraphField(_network(2, 4, setting), Graph(_PARTICLES))
    d = len(case.start(torch.Generator(), 1)[0])
    return NeuralField(_net(d, d, setting))


class _Each(nn.Module):
    """One kinetic energy of a momentum in the plane, summed over particles."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, p: Tensor) -> Tensor:
        return self.net(p.unflatten(-1, (-1, 2))).sum(-2)
