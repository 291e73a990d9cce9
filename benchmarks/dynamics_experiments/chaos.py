"""The chaotic Duffing oscillator learned from one period of its drive: the histogram of its Poincare section."""

import math

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, run_or_nan, uniform
from benchmarks.dynamics_experiments.forced import fit_in_time, port_network
from diffsim import ForcedDuffing, Solver, Trajectory, VectorField, mlp, odeint

__all__ = ["PhaseForce", "chaotic_duffing"]

_FREQUENCY = 1.4
_PERIOD = 2 * math.pi / _FREQUENCY


def _phase(t: Tensor) -> Tensor:
    return torch.cat([(_FREQUENCY * t).cos(), (_FREQUENCY * t).sin()], dim=-1)


class PhaseForce(nn.Module):
    """A network of the phase of a drive whose period is known: beyond the data its time is taken modulo the period."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, t: Tensor) -> Tensor:
        return self.net(_phase(t).to(next(self.net.parameters())))


class _Driven(VectorField):
    """The baseline: a network of the state and the phase of the drive."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        phase = _phase(t.to(y) if t.ndim else t.to(y)[None])
        return self.net(torch.cat([y, phase.expand(*y.shape[:-1], 2)], dim=-1))


def _truth(damping: float) -> ForcedDuffing:
    return ForcedDuffing(-1.0, 1.0, damping=damping, amplitude=0.39, frequency=_FREQUENCY)


def sections(field: VectorField, starts: Tensor, count: int) -> Tensor:
    """Points of the Poincare section, one a period after 20 of them, shape [points, 2]."""
    times = torch.arange(count + 20, dtype=torch.float64) * _PERIOD
    run = run_or_nan(field, starts, times, Solver("rk4", step=_PERIOD / 60, on_divergence="nan"))[20:]
    return run[torch.isfinite(run).all(-1)]


def histogram(points: Tensor) -> Tensor:
    """The density on 30 x 30 cells of [-2, 2] x [-2, 2]."""
    return torch.histogramdd(points, bins=[30, 30], range=[-2.0, 2.0, -2.0, 2.0], density=True).hist


def chaotic_duffing(setting: Setting) -> list[Row]:
    """The oscillator q'' = q - q^3 - .1 q' + .39 cos 1.4 t from 20 runs over one period, 100 samples each.

    The paper does not state the cells of its histogram: its figures compare roughly, and the truth beside itself with
    another damping gives the floor of ours.
    """
    generator = torch.Generator().manual_seed(setting.seed)
    t = torch.linspace(0, _PERIOD, 100, dtype=torch.float64)
    with torch.no_grad():
        y0 = uniform(generator, -1, 1, 20, 2)
        data = Trajectory(t, odeint(_truth(0.1), y0, t, Solver("dopri8", rtol=1e-9, atol=1e-10)))
    force = PhaseForce(mlp(2, 1, (16,), seed=setting.seed + 2, dtype=torch.float64))
    net = mlp(4, 2, (24, 24), seed=setting.seed, dtype=torch.float64)
    models: dict[str, tuple[VectorField, float]] = {
        "port-HNN": (port_network(1, force, setting.seed), 0.1105),
        "baseline": (_Driven(net), 0.287),
    }
    count = setting.choose(150, 4000)
    # From (0, 0) as published; others beside it fill the histogram in a shorter time.
    first = torch.cat([torch.zeros(1, 2, dtype=torch.float64), uniform(generator, -0.5, 0.5, 31, 2)])
    points = {"truth": sections(_truth(0.1), first, count)}
    known = histogram(points["truth"])
    again = float((histogram(sections(_truth(0.1001), first, count)) - known).square().mean())
    rows: list[Row] = []
    for name, (field, published) in models.items():
        seconds = fit_in_time(field, data, (setting.choose(300, 3000), setting.choose(30, 300)), 1, _PERIOD / 99)
        points[name] = sections(field, first, count)
        value = float((histogram(points[name]) - known).square().mean())
        note = f"30 x 30 densities, 32 x {count} points; truth with damping .1001: {again:.3g}; {seconds:.0f} s"
        rows.append(Row(name, "Poincare histogram, mean squared error", value, published, note))
    figure = Figure(figsize=(10, 3.5))
    for axes, (name, section) in zip(figure.subplots(1, 3), points.items(), strict=True):
        axes.plot(section[:, 0], section[:, 1], ",k")
        axes.set(xlabel="q", ylabel="p", title=name, xlim=(-2, 2), ylim=(-2, 2))
    setting.save("port_chaotic_duffing", figure)
    return rows
