"""Structured mechanics with inputs: pendulum, embedded pendulum, cart-pole and acrobot of the SymODEN paper."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, run_or_nan, uniform
from diffsim import (
    AngleFeatures,
    EmbeddedField,
    EnergyShaping,
    Input,
    LagrangianField,
    MechanicalHamiltonian,
    MechanicalLagrangian,
    Pendulum,
    PortHamiltonian,
    PositiveMatrix,
    RolloutLoss,
    Solver,
    Training,
    Trajectory,
    VectorField,
    fit_experiments,
    mlp,
    odeint,
)
from diffsim.systems import Acrobot, CartPole
from diffsim.training import Experiment

__all__ = ["acrobot", "cart_pole", "pendulum", "pendulum_embedded"]

_EXACT = Solver("dopri8", rtol=1e-9, atol=1e-10)


@dataclass(frozen=True)
class _Task:
    truth: Callable[[Tensor], VectorField]
    start: Callable[[torch.Generator, int], Tensor]
    inputs: tuple[float, ...]
    dt: float
    n: int
    times: int
    published: dict[str, tuple[float, float, float]]


class _Driven(VectorField):
    """The baseline: a network of state and input."""

    def __init__(self, net: nn.Module, u: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("u", u)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        u = self.get_buffer("u").to(y)
        return self.net(torch.cat([y, u.expand(*y.shape[:-1], -1)], dim=-1))


def _measure(task: _Task, models: dict[str, Callable[[Tensor], VectorField]], setting: Setting) -> list[Row]:
    generator = torch.Generator().manual_seed(setting.seed)
    n = setting.choose(task.n // 4, task.n)
    y0, fresh = task.start(generator, n), task.start(generator, 64)
    t = torch.arange(task.times, dtype=torch.float64) * task.dt
    long = torch.arange(41, dtype=torch.float64) * task.dt
    levels = [torch.tensor([u], dtype=torch.float64) for u in task.inputs]
    with torch.no_grad():
        runs = [Trajectory(t, odeint(task.truth(u), y0, t, _EXACT)) for u in levels]
        truth = odeint(task.truth(torch.zeros(1, dtype=torch.float64)), fresh, long, _EXACT)
    half, step = n // 2, Solver("rk4", step=task.dt, gradient="backprop")
    rows: list[Row] = []
    for name, model in models.items():
        experiments = [Experiment(model(u), run[:half]) for u, run in zip(levels, runs, strict=True)]
        with clock() as watch:
            fit_experiments(experiments, training=Training("lbfgs", steps=setting.choose(150, 2000)))
            fit_experiments(experiments, RolloutLoss(4), Training("lbfgs", steps=setting.choose(20, 500)), step)

        def error(field: VectorField, states: Tensor, times: Tensor) -> Tensor:
            run = run_or_nan(field, states[0], times, step)
            return (run - states).square().sum((0, 2))

        parts = {
            "train": [error(e.field, run.y[:, :half], t) for e, run in zip(experiments, runs, strict=True)],
            "test": [error(e.field, run.y[:, half:], t) for e, run in zip(experiments, runs, strict=True)],
            "prediction": [error(model(torch.zeros(1, dtype=torch.float64)), truth, long)],
        }
        known = task.published.get(name, (None, None, None))
        for (part, errors), published in zip(parts.items(), known, strict=True):
            value = torch.cat(errors)
            note = f"median {float(value.median()):.3g}, {n} starts, {watch.seconds:.0f} s"
            rows.append(Row(name, f"{part}, summed squares a run, mean", float(value.mean()), published, note))
    return rows


def _small(n_in: int, n_out: int, seed: int) -> nn.Module:
    return mlp(n_in, n_out, (32, 32), seed=seed, dtype=torch.float64)


def pendulum(setting: Setting) -> list[Row]:
    """T1: (q, p), H = 5 (1 - cos q) + 1.5 p^2, force u on p."""
    system = Pendulum(mass=1 / 3, length=1.0, gravity=15.0)

    def start(generator: torch.Generator, n: int) -> Tensor:
        return uniform(generator, -torch.pi, 2 * torch.pi, n, 2)

    task = _Task(
        lambda u: PortHamiltonian(system, input=Input(u)),
        start,
        (-2.0, -1.0, 0.0, 1.0, 2.0),
        0.05,
        50,
        45,
        {"SymODEN": (0.0796, 0.0725, 4.31), "baseline": (0.918, 0.884, 19.9)},
    )
    chart = AngleFeatures(1)
    energy = MechanicalHamiltonian(
        PositiveMatrix(1, nn.Sequential(chart, _small(2, 1, setting.seed)), floor=0.01),
        nn.Sequential(chart, _small(2, 1, setting.seed + 1)),
    )
    matrix = _Behind(chart, _small(2, 1, setting.seed + 2), column=True)
    net = _small(3, 2, setting.seed)
    return _measure(
        task,
        {
            "SymODEN": lambda u: PortHamiltonian(energy, input=Input(u, matrix)),
            "baseline": lambda u: _Driven(net, u),
        },
        setting,
    )


def _embedded(task: _Task, chart: AngleFeatures, setting: Setting) -> tuple[list[Row], LagrangianField, nn.Module]:
    n, seed = chart.n, setting.seed
    entries = n * (n + 1) // 2
    mass = PositiveMatrix(n, _Behind(chart, _small(chart.n_out, entries, seed)), floor=0.01)
    potential = _Behind(chart, _small(chart.n_out, 1, seed + 1))
    matrix = _Behind(chart, _small(chart.n_out, n, seed + 2), column=True)
    lagrangian = MechanicalLagrangian(mass, potential)
    net = _small(chart.n_out + n + 1, chart.n_out + n, seed)
    rows = _measure(
        task,
        {
            "SymODEN": lambda u: EmbeddedField(LagrangianField(lagrangian, input=Input(u, matrix)), chart),
            "baseline": lambda u: _Driven(net, u),
        },
        setting,
    )
    return rows, LagrangianField(lagrangian), matrix


class _Behind(nn.Module):
    """A network behind a chart; as a column for an input matrix."""

    def __init__(self, chart: AngleFeatures, net: nn.Module, *, column: bool = False) -> None:
        super().__init__()
        self.chart, self.net, self.column = chart, net, column

    def forward(self, q: Tensor) -> Tensor:
        out = self.net(self.chart(q))
        return out[..., None] if self.column else out


def _embed_start(chart: AngleFeatures, *ranges: float) -> Callable[[torch.Generator, int], Tensor]:
    def start(generator: torch.Generator, n: int) -> Tensor:
        columns = [uniform(generator, -r, r, n) for r in ranges]
        y = torch.stack(columns, dim=-1)
        return torch.cat([chart(y[:, : chart.n]), y[:, chart.n :]], dim=-1)

    return start


def pendulum_embedded(setting: Setting) -> list[Row]:
    """T2: (cos, sin, rate), q'' = 15 sin q + 3 u from upright; then the swing-up by the learned energy."""
    chart = AngleFeatures(1)

    def truth(u: Tensor) -> VectorField:
        # M = 1/3, V = 5 cos q: upright is q = 0, as in gym.
        lagrangian = MechanicalLagrangian(torch.eye(1, dtype=torch.float64) / 3, lambda q: 5 * q.cos())
        return EmbeddedField(LagrangianField(lagrangian, input=Input(u)), chart)

    task = _Task(
        truth,
        _embed_start(chart, torch.pi, 1.0),
        (0.0, -1.0, 1.0, -2.0, 2.0),
        0.05,
        128,
        20,
        {"SymODEN": (0.0325, 0.0242, 0.0948), "baseline": (5.68, 5.86, 221.0)},
    )
    rows, model, matrix = _embedded(task, chart, setting)
    potential = model.function.get_submodule("function")  # pyright: ignore
    # Mass, potential and input matrix are learned up to a common factor: damping in units of the motor's.
    with torch.no_grad():
        damping = float(matrix(torch.zeros(1, dtype=torch.float64)).abs())
    shaping = EnergyShaping(
        potential,
        lambda q: -potential(q),
        damping=damping,
        matrix=matrix,
        limit=5.0,
        plant=torch.eye(1, dtype=torch.float64),
    )
    true = MechanicalLagrangian(torch.eye(1, dtype=torch.float64) / 3, lambda q: 5 * q.cos())
    start = torch.tensor([[3.14, 0.0]], dtype=torch.float64)
    t = torch.linspace(0, 10, 101, dtype=torch.float64)
    run = run_or_nan(LagrangianField(true, input=shaping), start, t, Solver("rk4", step=0.02))
    off = torch.remainder(run[-1, 0, 0] + torch.pi, 2 * torch.pi) - torch.pi
    rows.append(Row("SymODEN", "swing-up: angle from upright after 10 s, rad", abs(float(off)), None, "limit 5"))
    return rows


def cart_pole(setting: Setting) -> list[Row]:
    """T3: (x, cos, sin, rates), a force on the cart."""
    chart = AngleFeatures(2, [1])
    task = _Task(
        lambda u: EmbeddedField(CartPole(u=u), chart),
        _embed_start(chart, 0.5, 3.14, 0.05, 3.0),
        (0.0, -1.0, 1.0, -2.0, 2.0),
        0.02,
        128,
        20,
        {"SymODEN": (0.200, 0.191, 4.16), "baseline": (0.285, 0.284, 37.3)},
    )
    return _embedded(task, chart, setting)[0]


def acrobot(setting: Setting) -> list[Row]:
    """T4: (cosines, sines, rates), a torque at the elbow."""
    chart = AngleFeatures(2)
    task = _Task(
        lambda u: EmbeddedField(Acrobot(u=u), chart),
        _embed_start(chart, 3.14, 3.14, 3.14, 3.14),
        (0.0, -1.0, 1.0, -2.0, 2.0),
        0.05,
        128,
        20,
        {"SymODEN": (0.0473, 0.0483, 0.809), "baseline": (0.185, 0.204, 39.0)},
    )
    return _embedded(task, chart, setting)[0]
