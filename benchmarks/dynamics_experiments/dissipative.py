"""The D-HNN paper's damped spring: a Hamiltonian and a dissipative network against one of them, and a network alone."""

import torch
from matplotlib.figure import Figure
from torch import nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, run_or_nan
from diffsim import (
    DissipativeHamiltonian,
    HamiltonianField,
    MassSpring,
    NeuralField,
    Solver,
    Training,
    Trajectory,
    VectorField,
    fit,
    mlp,
    odeint,
)

__all__ = ["damped_spring"]

_EXACT = Solver("dopri8", rtol=1e-9, atol=1e-10)


def _net(n_in: int, n_out: int, seed: int) -> nn.Module:
    return mlp(n_in, n_out, (24, 24), seed=seed, dtype=torch.float64)


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
    states = odeint(truth, y0, t, _EXACT).detach()
    energy = spring.energy(states)
    figure = Figure(figsize=(4.5, 4))
    axes = figure.subplots()
    axes.plot(*states[:, 0].T, "k", label="truth")
    rows: list[Row] = []
    for name, (field, published) in models.items():
        with clock() as watch:
            fit(field, data, training=Training("lbfgs", steps=setting.choose(1500, 3000)))
        with torch.no_grad():
            errors = [float((field(t[0], y[part]) - dy[part]).square().mean()) for part in (train, test)]
        run = run_or_nan(field, y0, t, _EXACT)
        axes.plot(*run[:, 0].T, "--", label=name)
        errors.append(float((spring.energy(run) - energy).square().mean()))
        for metric, value, known in zip(("train", "test", "energy along a run"), errors, published, strict=True):
            rows.append(Row(name, f"{metric}, mean squared error", value, known, f"{watch.seconds:.0f} s"))
    axes.set(xlabel="q", ylabel="p", title="damped spring")
    axes.legend()
    setting.save("dhnn_damped_spring", figure)
    return rows
