"""The LNN paper's relativistic particle in a field g: its Lagrangian and the physical one, learned from (q, v, g)."""

from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, uniform
from diffsim import LagrangianField, Solver, Training, Trajectory, VectorField, fit, mlp
from diffsim.systems import relativistic_lagrangian, toy_relativistic_lagrangian

__all__ = ["RapidityMass", "draw", "relativistic", "rounded"]


class _Conditioned(VectorField):
    """The field on (q, v, g) whose g stays: only for this regression, where each sample has its own constant."""

    def __init__(self, net: nn.Module, *, lagrangian: bool) -> None:
        super().__init__()
        self.net = net
        self.lagrangian = lagrangian

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        state, g = y[..., :2], y[..., 2:]

        def function(state: Tensor) -> Tensor:
            return self.net(torch.cat([state[..., :1] / 10, state[..., 1:], g / 10], dim=-1))

        inner = LagrangianField(function, regularisation=1e-3) if self.lagrangian else None
        rate = inner(t, state) if inner else torch.cat([state[..., 1:], function(state)], dim=-1)
        return torch.cat([rate, torch.zeros_like(g)], dim=-1)


class RapidityMass(VectorField):
    """The field of L = K(v) + V(q, g) in one dimension, where no speed reaches 1: a = V_q / K''(v).

    The mass K'' is the exponential of a network of the rapidity artanh v; the force V_q is proportional to g plus a
    network that starts at zero.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.force = mlp(2, 1, (16,), seed=seed, dtype=torch.float64)
        last = self.force[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        self.log_mass = mlp(1, 1, (24, 24), seed=seed + 1, dtype=torch.float64)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        q, v, g = y.split(1, dim=-1)
        force = self.strength * g + self.force(torch.cat([q, g], dim=-1) / 10)
        return torch.cat([v, force * (-self.log_mass(v.atanh())).exp(), torch.zeros_like(g)], dim=-1)


def _errors(field: VectorField, data: Trajectory) -> tuple[Tensor, Tensor]:
    """Errors of accelerations, and their published weights 1 + 1 / sqrt(1 - v^2)."""
    assert data.dy is not None
    error = (field(data.t[0], data.y[0]) - data.dy[0])[:, 1]
    return error, 1 + 1 / (1 - data.y[0, :, 1].square()).clamp(min=1e-5).sqrt()


def _weighted(field: VectorField, data: Trajectory, solver: Solver) -> Tensor:
    error, weight = _errors(field, data)
    return (error.abs() * weight).mean()


def rounded(corner: float) -> Callable[[VectorField, Trajectory, Solver], Tensor]:
    """The weighted L1 with a rounded corner, which L-BFGS needs."""

    def loss(field: VectorField, data: Trajectory, solver: Solver) -> Tensor:
        error, weight = _errors(field, data)
        return (((error.square() + corner**2).sqrt() - corner) * weight).mean()

    return loss


def _accelerations(name: str, y: Tensor) -> Tensor:
    square = 1 - y[:, 1:2] ** 2
    return y[:, 2:] * (square**1.5 if name == "physical" else square**2.5 / (1 + 2 * y[:, 1:2] ** 2))


def draw(name: str, count: int, generator: torch.Generator) -> Trajectory:
    """Random (q, v, g) with their true rates."""
    q = uniform(generator, -10, 10, count, 1)
    v = 0.99999 * torch.tanh(2 * torch.randn(count, 1, generator=generator, dtype=torch.float64))
    g = 10 * torch.randn(count, 1, generator=generator, dtype=torch.float64)
    y = torch.cat([q, v, g], dim=-1)
    dy = torch.cat([v, _accelerations(name, y), torch.zeros_like(g)], dim=-1)
    return Trajectory(torch.zeros(1, dtype=torch.float64), y[None], dy[None])


def relativistic(setting: Setting) -> list[Row]:
    """Accelerations as a function of (q, v, g), the weighted L1 as published."""
    figure = Figure(figsize=(9, 3.5))
    rows: list[Row] = []
    for (name, truth), axes in zip(
        (("toy", toy_relativistic_lagrangian), ("physical", relativistic_lagrangian)),
        figure.subplots(1, 2),
        strict=True,
    ):
        generator = torch.Generator().manual_seed(setting.seed)
        data, test = (draw(name, n, generator) for n in (setting.choose(4000, 1_000_000), 20_000))
        few = data.y[0, :5]
        known = LagrangianField(truth(few[:, 2:]))(data.t[0], few[:, :2])[:, 1:].detach()
        torch.testing.assert_close(known, _accelerations(name, few))
        adam = Training(steps=setting.choose(800, 300_000), batch=512, lr=3e-3)
        models: dict[str, tuple[VectorField, bool]] = {
            "mass of the rapidity": (RapidityMass(setting.seed), True),
            "LNN": (
                _Conditioned(mlp(3, 1, (128, 128), nn.Softplus, seed=setting.seed).double(), lagrangian=True),
                False,
            ),
            "baseline": (_Conditioned(mlp(3, 1, (128, 128), seed=setting.seed).double(), lagrangian=False), False),
        }
        line = torch.linspace(-0.999, 0.999, 201, dtype=torch.float64)
        along = torch.stack([0 * line, line, 0 * line + 10], dim=-1)
        axes.plot(line, _accelerations(name, along), "k", label="truth")
        for model, (field, structured) in models.items():
            with clock() as watch:
                if structured:
                    for corner in (1e-2, 1e-3, 1e-4):
                        fit(field, data, rounded(corner), Training("lbfgs", steps=setting.choose(1000, 5000)))
                else:
                    fit(field, data, _weighted, adam)
            value = float(_weighted(field, test, Solver()).detach())
            published = 7.86e-4 if model != "baseline" and name == "toy" else None
            note = f"{data.n} samples, {watch.seconds:.0f} s"
            if not structured:
                note += f", {adam.steps} steps (the paper: 300 000)"
            rows.append(Row(f"{model}, {name} Lagrangian", "weighted L1", value, published, note))
            axes.plot(line, field(data.t[0], along)[:, 1].detach(), "--", label=model)
        axes.set(xlabel="v", title=f"acceleration at g = 10, {name} Lagrangian")
        axes.legend(fontsize=7)
    setting.save("lnn_relativistic", figure)
    return rows
