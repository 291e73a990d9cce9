"""Discrete gradients on partial differential equations: Korteweg-de Vries and Cahn-Hilliard, learned energies."""

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, run_or_nan
from benchmarks.dynamics_experiments.densities import DensityNet, GaussianDensity
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
    name: str,
    system: KortewegDeVries | CahnHilliard,
    start: Tensor,
    dt: float,
    published: dict[str, tuple[float, float, float]],
    setting: Setting,
    steps: int | None = None,
) -> list[Row]:
    structure = None if system.structure is None else system.structure.constant
    dissipation = None if system.dissipation is None else system.dissipation.constant
    exact = DiscreteGradientField(system.function, structure, dissipation)
    steps = steps or 500
    t = torch.arange(steps + 1, dtype=torch.float64) * dt
    with torch.no_grad():
        runs = Trajectory(t, roll_out(exact, start, t))
    train, test = runs.split(0.9)
    pairs = _pairs(train, setting.choose(200, 5000), setting.seed)
    width = setting.choose(24, 200)
    gaussian = GaussianDensity(train.y, setting.choose(80, 200), setting.seed)
    net = DensityNet(train.y, width, setting.seed)
    models: dict[str, VectorField] = {
        "DGNet, Gaussian-process density": DiscreteGradientField(gaussian, structure, dissipation),
        "DGNet": DiscreteGradientField(net, structure, dissipation),
        "NODE": NeuralField(_GridNet(width, setting.seed).double()),
    }
    rows: list[Row] = []
    made: dict[str, Tensor] = {"truth": test.y[:, 0]}
    for model, field in models.items():
        with clock() as watch:
            if model == "DGNet":
                assert isinstance(field, DiscreteGradientField)
                slopes = field.rate(pairs.y[0], pairs.y[1]).detach().std()
                net.scale = float((pairs.y.diff(dim=0) / dt).std() / slopes)
                fit(field, pairs, DiscreteGradientLoss(), Training("lbfgs", steps=setting.choose(1500, 4000)))
            elif isinstance(field, DiscreteGradientField):
                gaussian.fit(field, pairs.y[0], pairs.y[1], dt)
            else:
                solver = Solver("midpoint", step=dt, gradient="backprop")
                fit(field, pairs, OneStepLoss(), Training(steps=setting.choose(1000, 10_000), batch=200), solver)
        run = _run(field, test.y0, t, dt)
        made[model] = run[:, 0]
        with torch.no_grad():
            error = (field(t[0], test.y) - system(t[0], test.y)).square().mean()
        values = {
            "derivative": error,
            "energy": (system.total_energy(run) - system.total_energy(test.y)).square().mean(),
            "mass": ((run - test.y).sum(-1) * system.spacing).square().mean(),
            "state": (run - test.y).square().mean(),
        }
        note = f"{train.n} and {test.n} runs of {steps} steps, {pairs.n} pairs, fit {watch.seconds:.0f} s"
        known = (*published[model.split(",")[0]], None)
        for (metric, value), figure in zip(values.items(), known, strict=True):
            rows.append(Row(model, f"{metric}, mean squared error", float(value), figure, note))
    setting.save(name, _picture(made, t))
    return rows


def _pairs(runs: Trajectory, n: int, seed: int) -> Trajectory:
    """Neighbouring samples from anywhere in the runs."""
    generator = torch.Generator().manual_seed(seed)
    row = torch.randint(0, len(runs.t) - 1, (n,), generator=generator)
    column = torch.randint(0, runs.n, (n,), generator=generator)
    return Trajectory(runs.t[:2], torch.stack([runs.y[row, column], runs.y[row + 1, column]]))


def _run(field: VectorField, y0: Tensor, t: Tensor, dt: float) -> Tensor:
    if not isinstance(field, DiscreteGradientField):
        return run_or_nan(field, y0, t, Solver("rk4", step=dt))
    with torch.no_grad():
        try:
            return roll_out(field, y0, t)
        except IntegrationError:
            return torch.full((len(t), *y0.shape), torch.nan, dtype=y0.dtype)


def _picture(runs: dict[str, Tensor], t: Tensor) -> Figure:
    """The first test run of each model over space and time."""
    figure = Figure(figsize=(3 * len(runs), 2.6), layout="constrained")
    low, high = float(runs["truth"].min()), float(runs["truth"].max())
    for axis, (name, run) in zip(figure.subplots(1, len(runs), sharey=True), runs.items(), strict=True):
        extent = (0, run.shape[-1], 0, float(t[-1]))
        axis.imshow(run.numpy(), aspect="auto", origin="lower", vmin=low, vmax=high, extent=extent)
        axis.set(title=name, xlabel="point")
    figure.axes[0].set_ylabel("t")
    return figure


def korteweg_de_vries(setting: Setting, count: int | None = None, steps: int | None = None) -> list[Row]:
    """Two solitons on a ring, steps of .001."""
    published = {"DGNet": (1.75e-2, 1.60e-3, 2.55e-4), "NODE": (11.5, 4.57e4, 2.86)}
    start = sample_solitons(count or setting.choose(30, 100), seed=setting.seed)
    return _measure("dgnet_kdv", KortewegDeVries(), start, 1e-3, published, setting, steps)


def cahn_hilliard(setting: Setting, count: int | None = None, steps: int | None = None) -> list[Row]:
    """A mixture that separates, steps of .0001."""
    published = {"DGNet": (7.14, 3.40e-7, 6.96e-5), "NODE": (791.0, 1.43e-2, 0.915)}
    start = sample_mixture(count or setting.choose(30, 100), seed=setting.seed)
    return _measure("dgnet_cahn_hilliard", CahnHilliard(), start, 1e-4, published, setting, steps)
