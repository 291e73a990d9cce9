"""The LNN paper's wave on a ring as a sum of local Lagrangians, learned on 10 points and run on 20."""

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, run_or_nan
from diffsim import LagrangianField, MechanicalLagrangian, Solver, Training, Trajectory, VectorField, fit, mlp
from diffsim.fields import RingLagrangian

__all__ = ["RingPotential", "accelerations", "wave"]

_SPACING = 0.1


def accelerations(q: Tensor) -> Tensor:
    """The paper's wave, (q[i-1] - 2 q[i] + q[i+1]) / (2 spacing): the square of the spacing is not in its code."""
    return (q.roll(1, -1) - 2 * q + q.roll(-1, -1)) / (2 * _SPACING)


class _Wave(VectorField):
    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        q, v = y.chunk(2, dim=-1)
        return torch.cat([v, accelerations(q)], dim=-1)


class RingPotential(nn.Module):
    """A potential that is a sum over the points of a ring, of one network of each point and its neighbours."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, q: Tensor) -> Tensor:
        return self.net(torch.stack([q.roll(shift, -1) for shift in (1, 0, -1)], dim=-1)).flatten(-2).sum(-1)


class _Mechanical(nn.Module):
    """Equal masses and a ring potential, on rings of any size."""

    def __init__(self, potential: RingPotential) -> None:
        super().__init__()
        self.potential = potential

    def forward(self, y: Tensor) -> Tensor:
        eye = torch.eye(y.shape[-1] // 2, dtype=y.dtype)
        return MechanicalLagrangian(eye, self.potential)(y)


class _Stencil(VectorField):
    """The baseline: a network of each point, its neighbours and their rates."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        q, v = y.chunk(2, dim=-1)
        around = torch.stack([x.roll(shift, -1) for x in (q, v) for shift in (1, 0, -1)], dim=-1)
        return torch.cat([v, self.net(around)[..., 0]], dim=-1)


def wave(setting: Setting) -> list[Row]:
    """Accelerations at random fields, and a pulse on a ring twice as long over 5 units of time."""
    generator = torch.Generator().manual_seed(setting.seed)

    def normal(n: int) -> Tensor:
        return torch.randn(n, 20, generator=generator, dtype=torch.float64)

    y, test = normal(setting.choose(100, 5000)), normal(200)
    data = Trajectory(torch.zeros(1, dtype=torch.float64), y[None], _Wave()(torch.zeros(()), y)[None])

    def net(n_in: int, activation: type[nn.Module] = nn.Softplus) -> nn.Module:
        return mlp(n_in, 1, (24, 24), activation, seed=setting.seed, dtype=torch.float64)

    models: dict[str, VectorField] = {
        "LNN of masses and a potential": LagrangianField(_Mechanical(RingPotential(net(3)))),
        "LNN": LagrangianField(RingLagrangian(net(6)), regularisation=0.1),
        "baseline": _Stencil(net(6, nn.Tanh)),
    }
    t, x = torch.linspace(0, 5, 51, dtype=torch.float64), torch.arange(20, dtype=torch.float64)
    pulse = torch.cat([torch.exp(-((x - 10) / 2).square()), torch.zeros(20, dtype=torch.float64)])[None]
    solver = Solver("rk4", step=0.05)
    truth = run_or_nan(_Wave(), pulse, t, solver)
    pictures = {"truth": truth}
    rows: list[Row] = []
    for name, field in models.items():
        with clock() as watch:
            fit(field, data, training=Training("lbfgs", steps=setting.choose(150, 2000)))
        with torch.no_grad():
            error = field(t[0], test)[:, 10:] - accelerations(test[:, :10])
        relative = float(error.square().mean().sqrt() / accelerations(test[:, :10]).square().mean().sqrt())
        run = pictures[name] = run_or_nan(field, pulse, t, solver)
        off = float((run - truth)[..., :20].square().mean().sqrt() / truth[..., :20].square().mean().sqrt())
        note = f"{len(y)} fields of 10 points, {watch.seconds:.0f} s"
        rows += [
            Row(name, "relative error of accelerations", relative, None, note),
            Row(name, "relative error of a pulse on 20 points", off, None, note),
        ]
    figure = Figure(figsize=(11, 3))
    for axes, (name, run) in zip(figure.subplots(1, 4), pictures.items(), strict=True):
        axes.imshow(run[:, 0, :20].T, aspect="auto", vmin=-1, vmax=1, extent=(0, 5, 0, 20))
        axes.set(title=name, xlabel="t")
    setting.save("lnn_wave", figure)
    return rows
