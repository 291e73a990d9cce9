"""Symplectic recurrent networks: a chain of 20 masses and three bodies from noisy samples, initial states fitted."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, run_or_nan
from benchmarks.dynamics_experiments.features import stretched
from benchmarks.dynamics_experiments.pictures import states_and_energies
from diffsim import (
    Hamiltonian,
    NBody,
    NeuralField,
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
from diffsim.systems import sample_spring_chain, sample_three_body

__all__ = ["chain", "three_body"]

_EXACT = Solver("dopri8", rtol=1e-9, atol=1e-10)


class _Quadratic(nn.Module):
    """x . A x / 2 with any A: the energy of small oscillations, all of them unknown."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(d, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return ((x @ self.matrix) * x).sum(-1, keepdim=True) / 2


class _Pairs(nn.Module):
    """One unknown potential of the distance, summed over all pairs of bodies in the plane."""

    def __init__(self, bodies: int, width: int, seed: int) -> None:
        super().__init__()
        self.first, self.second = torch.triu_indices(bodies, bodies, offset=1)
        self.net = mlp(2, 1, (width,), seed=seed, dtype=torch.float64)

    def forward(self, q: Tensor) -> Tensor:
        place = q.unflatten(-1, (-1, 2))
        distance = (place[..., self.first, :] - place[..., self.second, :]).norm(dim=-1, keepdim=True)
        return self.net(torch.cat([distance, 1 / distance], dim=-1)).sum(-2)


class _Masses(nn.Module):
    """Kinetic energy of bodies of unknown masses."""

    def __init__(self, bodies: int) -> None:
        super().__init__()
        self.inverse = nn.Parameter(torch.ones(bodies, 1, dtype=torch.float64))

    def forward(self, p: Tensor) -> Tensor:
        return (self.inverse * p.unflatten(-1, (-1, 2)).square()).sum((-2, -1))[..., None] / 2


def _compare(
    name: str,
    system: Hamiltonian,
    noisy: Trajectory,
    test: Trajectory,
    structured: Callable[[], VectorField],
    noise: float,
    window: int,
    step: float,
    setting: Setting,
    training: Training,
    *,
    scale: float = 1.0,
    first: Training | None = None,
) -> list[Row]:
    """The same net with and without fitted initial states, a structured energy, and a neural ODE.

    Networks see states in units of `scale`; `first`, if any, fits their derivatives before their solutions.
    """
    d, width = noisy.d, setting.choose(96, 2048)

    def net() -> VectorField:
        parts = (mlp(d // 2, 1, (width,), seed=setting.seed + i, dtype=torch.float64) for i in range(2))
        return SeparableHamiltonian(*(stretched(part, scale, scale**2) for part in parts))

    plain = NeuralField(stretched(mlp(d, d, (width,), seed=setting.seed, dtype=torch.float64), scale, scale))
    models: dict[str, tuple[VectorField, bool]] = {
        "SRNN, fitted initial states": (net(), True),
        "SRNN, first samples": (net(), False),
        "structured, fitted initial states": (structured(), True),
        "structured, first samples": (structured(), False),
        "NODE": (plain, False),
    }
    rows: list[Row] = []
    made = {"truth": test.y}
    for model, (field, free) in models.items():
        method = "rk4" if model == "NODE" else "leapfrog"
        solver = Solver(method, step=step, gradient="backprop")
        with clock() as watch:
            if first is not None and "structured" not in model:
                fit(field, noisy, training=first)
            fit(field, noisy, RolloutLoss(window, initial="free" if free else "fixed", noise=noise), training, solver)
        run = run_or_nan(field, test.y0, test.t, solver)
        made[model] = run
        note = f"{noisy.n} runs of {len(noisy.t)} samples, noise {noise}, {watch.seconds:.0f} s"
        energy = (system.energy(run) - system.energy(test.y)).square().mean()
        rows += [
            Row(model, "state, mean squared error", float((run - test.y).square().mean()), None, note),
            Row(model, "energy, mean squared error", float(energy), None, note),
        ]
    setting.save(name, states_and_energies(made, test.t, system.energy))
    return rows


def chain(setting: Setting, count: int | None = None, steps: int | None = None) -> list[Row]:
    """Twenty masses between walls, noise .2: 100 steps of .1 from 32 exact states; no figures of the paper at hand."""
    n = count or setting.choose(120, 1000)
    system, y0 = sample_spring_chain(n + 32, seed=setting.seed)
    t = torch.arange(101, dtype=torch.float64) * 0.1
    with torch.no_grad():
        runs = Trajectory(t, odeint(system, y0, t, Solver("yoshida4", step=0.02)))
    train, test = runs[list(range(n))], runs[list(range(n, n + 32))]
    noisy = Trajectory(t[:21], train.y[:21]).noise(0.2, seed=setting.seed)
    small = lambda: SeparableHamiltonian(_Quadratic(20), _Quadratic(20))  # noqa: E731
    training = Training("lbfgs", steps=steps or setting.choose(1000, 5000))
    # States reach 10, where tanh is flat, and a random potential of 20 masses is unstable somewhere.
    first = Training(steps=4 * training.steps, lr=1e-2, schedule="one_cycle")
    return _compare(
        "srnn_chain", system, noisy, test, small, 0.2, 11, 0.05, setting, training, scale=100.0, first=first
    )


def three_body(setting: Setting, count: int | None = None, steps: int | None = None) -> list[Row]:
    """Three bodies, noise .05, samples every .2 up to 2 (the paper: every 1 up to 10); 15 exact states to t = 3."""
    system = NBody([1.0, 1.0, 1.0])
    t = torch.arange(16, dtype=torch.float64) * 0.2
    width = setting.choose(16, 64)
    with torch.no_grad():
        start = sample_three_body(count or setting.choose(60, 1000), setting.seed + 100)
        noisy = Trajectory(t[:11], odeint(system, start, t[:11], _EXACT)).noise(0.05, seed=setting.seed)
        y0 = torch.cat([sample_three_body(1, seed) for seed in range(15)])
        test = Trajectory(t, odeint(system, y0, t, _EXACT))
    pairs = lambda: SeparableHamiltonian(_Masses(3), _Pairs(3, width, setting.seed))  # noqa: E731
    training = Training("lbfgs", steps=steps or setting.choose(400, 5000), weight_decay=1e-6)
    return _compare("srnn_three_body", system, noisy, test, pairs, 0.05, 6, 0.05, setting, training)
