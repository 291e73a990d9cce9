"""Discrete gradients on partial differential equations: Korteweg-de Vries and Cahn-Hilliard, learned energies."""

import torch
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock
from diffsim import (
    DiscreteGradientField,
    DiscreteGradientLoss,
    IntegrationError,
    NeuralField,
    OneStepLoss,
    Solver,
    Training,
    Trajectory,
    VectorField,
    fit,
    odeint,
    roll_out,
)
from diffsim.fields import GridEnergy
from diffsim.systems import CahnHilliard, KortewegDeVries, sample_mixture, sample_solitons

__all__ = ["cahn_hilliard", "korteweg_de_vries"]


class _GridNet(nn.Module):
    """The baseline: a convolutional network of the rates."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.density = GridEnergy(width, n_out=1, seed=seed)

    def forward(self, u: Tensor) -> Tensor:
        return self.density.density(u)


def _measure(
    system: KortewegDeVries | CahnHilliard,
    start: Tensor,
    dt: float,
    published: dict[str, tuple[float, float, float]],
    setting: Setting,
) -> list[Row]:
    structure = None if system.structure is None else system.structure.constant
    dissipation = None if system.dissipation is None else system.dissipation.constant
    exact = DiscreteGradientField(system.function, structure, dissipation)
    steps = setting.choose(100, 500)
    t = torch.arange(steps + 1, dtype=torch.float64) * dt
    with torch.no_grad():
        runs = Trajectory(t, roll_out(exact, start, t))
    train, test = runs.split(0.9 if setting.full else 0.75)
    every = setting.choose(4, 1)
    pairs = Trajectory(t, train.y) if every == 1 else train.windows(2, every)
    width = setting.choose(32, 200)
    energy = GridEnergy(width, seed=setting.seed).double()
    models: dict[str, VectorField] = {
        "DGNet": DiscreteGradientField(energy, structure, dissipation),
        "NODE": NeuralField(_GridNet(width, setting.seed).double()),
    }
    rows: list[Row] = []
    for name, field in models.items():
        with clock() as watch:
            if isinstance(field, DiscreteGradientField):
                fit(field, pairs, DiscreteGradientLoss(), Training("lbfgs", steps=setting.choose(60, 2000)))
            else:
                solver = Solver("midpoint", step=dt, gradient="backprop")
                fit(field, pairs, OneStepLoss(), Training(steps=setting.choose(150, 10_000), batch=200), solver)
        with torch.no_grad():
            change = test.y.diff(dim=0) / dt
            rate = (
                field.rate(test.y[:-1], test.y[1:])
                if isinstance(field, DiscreteGradientField)
                else field(t[0], test.y[:-1])
            )
            try:
                run = (
                    roll_out(field, test.y0, t)
                    if isinstance(field, DiscreteGradientField)
                    else odeint(field, test.y0, t, Solver("rk4", step=dt))
                )
            except IntegrationError:
                run = torch.full_like(test.y, torch.nan)
        values = {
            "derivative": (rate - change).square().mean(),
            "energy": (system.total_energy(run) - system.total_energy(test.y)).square().mean(),
            "mass": ((run - test.y).sum(-1) * system.spacing).square().mean(),
        }
        note = f"{train.n} runs of {steps} steps, width {width}, {watch.seconds:.0f} s"
        for (metric, value), known in zip(values.items(), published[name], strict=True):
            rows.append(Row(name, f"{metric}, mean squared error", float(value), known, note))
    return rows


def korteweg_de_vries(setting: Setting) -> list[Row]:
    """Two solitons on a ring, steps of .001."""
    published = {"DGNet": (1.75e-2, 1.60e-3, 2.55e-4), "NODE": (11.5, 4.57e4, 2.86)}
    start = sample_solitons(setting.choose(8, 100), seed=setting.seed)
    return _measure(KortewegDeVries(), start, 1e-3, published, setting)


def cahn_hilliard(setting: Setting) -> list[Row]:
    """A mixture that separates, steps of .0001."""
    published = {"DGNet": (7.14, 3.40e-7, 6.96e-5), "NODE": (791.0, 1.43e-2, 0.915)}
    start = sample_mixture(setting.choose(8, 100), seed=setting.seed)
    return _measure(CahnHilliard(), start, 1e-4, published, setting)
