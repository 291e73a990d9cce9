"""Discrete gradients on ordinary differential equations: spring, pendulum and two bodies, against DGNet's figures."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, run_or_nan
from benchmarks.dynamics_experiments.energies import Strength, Swing
from benchmarks.dynamics_experiments.pictures import states_and_energies
from diffsim import (
    DiscreteGradientField,
    DiscreteGradientLoss,
    GaussianProcessHamiltonian,
    Hamiltonian,
    HamiltonianField,
    MassSpring,
    NBody,
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
from diffsim.fields.matrices import canonical_structure
from diffsim.systems import sample_pendulum, sample_spring, sample_two_body
from diffsim.training import optimise
from diffsim.training.fit_runs import fit_runs

__all__ = ["pendulum", "spring", "two_body"]

_EXACT = Solver("dopri8", rtol=1e-10, atol=1e-11)
_FINE = Solver("rk4", step=0.05)
_NOISE = 0.1


class _Bowl(nn.Module):
    """A network above a quadratic of unknown strength: an energy that grows outside the data."""

    def __init__(self, d: int, width: int, seed: int) -> None:
        super().__init__()
        self.net = mlp(d, 1, (width,), seed=seed, dtype=torch.float64)
        self.strength = nn.Parameter(torch.ones(d, dtype=torch.float64))

    def forward(self, y: Tensor) -> Tensor:
        return self.net(y)[..., 0] + (self.strength * y.square()).sum(-1) / 2


@dataclass(frozen=True)
class _Oscillator:
    """An oscillator of the table: its system, the energy that the paper measures by, and published figures."""

    name: str
    system: Hamiltonian
    start: Callable[[int, int], Tensor]
    faulty: Callable[[Tensor], Tensor] | None
    published: dict[str, tuple[float, float]]
    angle: bool


def _oscillator(case: _Oscillator, setting: Setting) -> list[Row]:
    t = torch.linspace(0, 20, 100, dtype=torch.float64)
    with torch.no_grad():
        clean = odeint(case.system, case.start(50, setting.seed), t, _EXACT)
    noisy = Trajectory(t, clean).noise(_NOISE, seed=setting.seed)
    train = noisy[list(range(25))]
    test, seen = clean[:, 25:], noisy.y[:, 25:]
    structure, width = canonical_structure(1), setting.choose(24, 200)
    gaussian = GaussianProcessHamiltonian(
        2,
        periods=[2 * math.pi, None] if case.angle else None,
        scale=[2.0 if case.angle else 20.0, 20.0],
        n_features=setting.choose(128, 256),
        seed=setting.seed,
    )
    net = HamiltonianField(_Bowl(2, width, setting.seed))
    plain = NeuralField(mlp(2, 2, (width,), seed=setting.seed, dtype=torch.float64))
    training = Training("lbfgs", steps=setting.choose(150, 2000), weight_decay=1e-4)
    rows: list[Row] = []
    made = {"truth": test}
    with torch.no_grad():
        exact = case.system(t[0], test)
        own = float((case.system(t[0], seen) - exact).square().mean())
    shot = SeparableHamiltonian(Strength(), Swing(8, setting.seed) if case.angle else Strength())
    models = {"Gaussian-process Hamiltonian": gaussian, "separable, shooting": shot, "DGNet": net, "NODE": plain}
    for model, field in models.items():
        with clock() as watch:
            if model == "Gaussian-process Hamiltonian":
                fit_runs(gaussian, train.windows(25, 25), initial="free", step=float(t[1]) / 2)
            elif model == "separable, shooting":
                for window in (10, 50):
                    loss = RolloutLoss(window, initial="free", noise=_NOISE)
                    fit(shot, train, loss, training, Solver("rk4", step=float(t[1]), gradient="backprop"))
            elif model == "DGNet":
                fit(DiscreteGradientField(net, structure), train, DiscreteGradientLoss(), training)
            else:
                fit(plain, train, OneStepLoss(), training, Solver("rk4", step=float(t[1]), gradient="backprop"))
        run = run_or_nan(field, test[0], t, _FINE)
        made[model] = run
        with torch.no_grad():
            at_noisy = (field(t[0], seen) - exact).square().mean()
            at_clean = (field(t[0], test) - exact).square().mean()
        values = {"energy": (case.system.energy(run) - case.system.energy(test)).square().mean()}
        if case.faulty is not None:
            values = {"energy": (case.faulty(run) - case.faulty(test)).square().mean(), "true energy": values["energy"]}
        derivative, energy = case.published["NODE" if model == "NODE" else "DGNet"]
        note = f"25 runs, t to 20, {watch.seconds:.0f} s"
        floor = "clean derivatives at noisy states: 4 times the noise's variance, .04, is the truth's own error"
        note_noisy = floor if not case.angle else "clean derivatives at noisy states: the truth errs by the noise"
        rows += [
            Row(model, "derivative, mean squared error", float(at_noisy), derivative, f"{note_noisy}; truth {own:.3g}"),
            Row(model, "derivative at clean states, mean squared error", float(at_clean), None, note),
        ]
        for metric, value in values.items():
            known = energy if metric == "energy" else None
            what = note + ("; q^2 + p^2, as published" if case.faulty and metric == "energy" else "")
            rows.append(Row(model, f"{metric}, mean squared error", float(value), known, what))
        rows.append(Row(model, "state, mean squared error", float((run - test).square().mean()), None, note))
    guess = _mean_rate(shot, train, seen)
    rows.append(
        Row(
            "separable, shooting, mean given the noise",
            "derivative, mean squared error",
            float((guess - exact).square().mean()),
            case.published["DGNet"][0],
            f"the mean rate of all states that a noisy one may come from; truth at noisy states {own:.3g}",
        )
    )
    setting.save(case.name, states_and_energies(made, t, case.system.energy))
    return rows


def _mean_rate(field: VectorField, train: Trajectory, seen: Tensor) -> Tensor:
    """The mean of the field over the states that lie behind noisy ones, [..., d] -> [..., d].

    Fitted runs stand for the states that occur; each counts by the density of the noise between it and what is seen.
    """
    start = nn.Parameter(train.y0.clone())
    step = Solver("rk4", step=float(train.t[1]), gradient="backprop")

    def loss(_: Tensor | None) -> Tensor:
        return (odeint(field, start, train.t, step) - train.y).square().mean()

    optimise(loss, [start], Training("lbfgs", steps=30))
    states = run_or_nan(field, start.detach(), train.t, step).flatten(0, -2)
    flat = seen.flatten(0, -2)
    share = torch.softmax(-torch.cdist(flat, states).square() / (2 * _NOISE**2), dim=-1)
    with torch.no_grad():
        return (share @ field(train.t[0], states)).reshape(seen.shape)


def spring(setting: Setting) -> list[Row]:
    """DGNet's spring: 25 noisy runs of 100 samples, rolled out from 25 clean states."""
    published = {"DGNet": (3.85e-2, 6.17e-4), "NODE": (5.57e-2, 0.574)}
    system = MassSpring(mass=0.5, stiffness=2.0)
    return _oscillator(_Oscillator("dgnet_spring", system, sample_spring, None, published, False), setting)


def pendulum(setting: Setting) -> list[Row]:
    """DGNet's pendulum, likewise; the published energy is q^2 + p^2, not the Hamiltonian."""
    published = {"DGNet": (3.93e-2, 1.08e-2), "NODE": (5.54e-2, 4.62)}
    system = Pendulum(mass=0.5, length=1.0, gravity=6.0)
    case = _Oscillator("dgnet_pendulum", system, sample_pendulum, lambda y: y.square().sum(-1), published, True)
    return _oscillator(case, setting)


class _Pair(nn.Module):
    """Kinetic energy of bodies of mass one, and a potential of their distance."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.net = mlp(1, 1, (width,), seed=seed, dtype=torch.float64)

    def forward(self, y: Tensor) -> Tensor:
        q, p = y.chunk(2, dim=-1)
        distance = (q[..., :2] - q[..., 2:]).norm(dim=-1, keepdim=True)
        return p.square().sum(-1) / 2 + self.net(distance)[..., 0]


def two_body(setting: Setting) -> list[Row]:
    """Two bodies that attract each other, without noise: rates at samples from 15 states, and energies of runs."""
    t = torch.linspace(0, 25, 500, dtype=torch.float64)
    step = float(t[1])
    system = NBody([1.0, 1.0])
    with torch.no_grad():
        runs = Trajectory(t, odeint(system, sample_two_body(setting.choose(20, 1000), setting.seed), t, _EXACT))
        y0 = torch.cat([sample_two_body(1, seed) for seed in range(15)])
        test = odeint(system, y0, t, _EXACT)
    every = setting.choose(4, 1)
    pairs = runs.windows(2, every)
    structure, width = canonical_structure(4), setting.choose(32, 200)
    pair, flat = _Pair(width, setting.seed), mlp(8, 8, (width, width), seed=setting.seed, dtype=torch.float64)
    black = HamiltonianField(mlp(8, 1, (width, width), seed=setting.seed, dtype=torch.float64))
    models = {
        "DGNet, potential of the distance": DiscreteGradientField(pair, structure),
        "DGNet": DiscreteGradientField(black, structure),
        "NODE": NeuralField(flat),
    }
    published = {"DGNet": (7.80e-6, 8.10e-5), "NODE": (2.07e-5, 0.183)}
    training = Training("lbfgs", steps=setting.choose(1000, 10_000))
    rows: list[Row] = []
    made = {"truth": test}
    for name, field in models.items():
        with clock() as watch:
            if isinstance(field, DiscreteGradientField):
                fit(field, pairs, DiscreteGradientLoss(), training)
            else:
                fit(field, pairs, OneStepLoss(), training, Solver("rk4", step=step, gradient="backprop"))
        run = run_or_nan(field, y0, t, Solver("rk4", step=step / 2))
        made[name] = run
        with torch.no_grad():
            error = (field(t[0], test) - system(t[0], test)).square().mean()
        known = published[name.split(",")[0]]
        note = f"{runs.n} runs, {pairs.n} pairs, width {width}, {watch.seconds:.0f} s"
        energy = (system.energy(run) - system.energy(test)).square().mean(0)
        rows += [
            Row(name, "derivative, mean squared error", float(error), known[0], note),
            Row(
                name,
                "energy, mean squared error",
                float(energy.mean()),
                known[1],
                f"median {float(energy.median()):.3g}",
            ),
            Row(name, "state, mean squared error", float((run - test).square().mean()), None, note),
        ]
    setting.save("dgnet_two_body", states_and_energies(made, t, system.energy))
    return rows
