"""Structured mechanics with inputs, of the SymODEN paper: the protocol of all its tasks; pendula and their swing-up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, run_or_nan, uniform
from benchmarks.dynamics_experiments.features import AngleSums, Sloped
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
    fit,
    mlp,
    odeint,
)

__all__ = ["Budget", "Learned", "Task", "embed_start", "learn_embedded", "measure", "pendulum", "pendulum_embedded"]

_EXACT = Solver("dopri8", rtol=1e-9, atol=1e-10)
Model = Callable[[Tensor], VectorField]
"""A field for its inputs, one a run, shape [n, m]."""


@dataclass(frozen=True)
class Task:
    """A system, its starts, the constant inputs that it is driven with, its sampling, and the published figures."""

    name: str
    truth: Model
    start: Callable[[torch.Generator, int], Tensor]
    inputs: Sequence[Sequence[float]]
    dt: float
    times: int
    published: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True)
class Budget:
    """Starts for each input (half of them to learn from), and steps of the fits to derivatives and to solutions."""

    starts: int
    derivative_steps: int
    rollout_steps: int


class _Driven(VectorField):
    """The baseline: a network of state, its angle (if any) in a chart, and input."""

    def __init__(self, net: nn.Module, u: Tensor, chart: AngleFeatures | None = None) -> None:
        super().__init__()
        self.net = net
        self.chart = chart
        self.register_buffer("u", u)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        u = self.get_buffer("u").to(y)
        x = y if self.chart is None else torch.cat([self.chart(y[..., : self.chart.n]), y[..., self.chart.n :]], dim=-1)
        return self.net(torch.cat([x, u.expand(*y.shape[:-1], -1)], dim=-1))


def measure(task: Task, models: Mapping[str, Model], budget: Budget, setting: Setting) -> list[Row]:
    """Squared errors of whole runs, summed over times and components: on the runs learned from, others, and u = 0."""
    generator = torch.Generator().manual_seed(setting.seed)
    half = budget.starts // 2
    runs_each = half * len(task.inputs)  # from other starts for each input: fewer runs tell as much
    learned, other, fresh = (task.start(generator, n) for n in (runs_each, runs_each, 64))
    t, long = (torch.arange(n, dtype=torch.float64) * task.dt for n in (task.times, 41))
    levels = torch.tensor(task.inputs, dtype=torch.float64)
    u, none = levels.repeat_interleave(half, 0), torch.zeros(1, levels.shape[1], dtype=torch.float64)
    with torch.no_grad():
        train, test = (odeint(task.truth(u), y0, t, _EXACT) for y0 in (learned, other))
        truth = odeint(task.truth(none), fresh, long, _EXACT)
    step = Solver("rk4", step=task.dt / 2, gradient="backprop")
    rows: list[Row] = []
    runs = {"truth": truth}
    for name, model in models.items():
        field, data = model(u), Trajectory(t, train)
        with clock() as watch:
            if name == "baseline":
                adam = Training(steps=setting.choose(3000, 20_000), lr=1e-2, batch="all", schedule="one_cycle")
                fit(field, data.derivatives("spline"), training=adam)
            fit(field, data.derivatives("spline"), training=Training("lbfgs", steps=budget.derivative_steps))
            fit(field, data, RolloutLoss(4), Training("lbfgs", steps=budget.rollout_steps), step)
        runs[name] = run_or_nan(model(none), truth[0], long, step)
        parts = {
            "train": run_or_nan(field, train[0], t, step) - train,
            "test": run_or_nan(field, test[0], t, step) - test,
            "prediction": runs[name] - truth,
        }
        known = task.published.get(name, (None, None, None))
        for (part, error), published in zip(parts.items(), known, strict=True):
            value = error.square().sum((0, 2))
            note = f"median {float(value.median()):.3g}, {runs_each} training runs, {watch.seconds:.0f} s"
            rows.append(Row(name, f"{part}, summed squares a run, mean", float(value.mean()), published, note))
    setting.save(task.name, _picture(task.name, long, runs))
    return rows


def _picture(name: str, t: Tensor, runs: Mapping[str, Tensor]) -> Figure:
    figure = Figure(figsize=(9, 3.5))
    for axes, component in zip(figure.subplots(1, 2), (0, -1), strict=True):
        for model, run in runs.items():
            axes.plot(t, run[:, :3, component], {"truth": "k", "SymODEN": "C0--"}.get(model, "C1:"))
        values = runs["truth"][:, :3, component]
        axes.set(xlabel="t [s]", ylim=(float(values.min()) - 1, float(values.max()) + 1))
        axes.set_title(f"{name}, {'first' if component == 0 else 'last'} component, u = 0", fontsize=9)
    figure.text(0.5, -0.03, "black: truth; dashed: SymODEN; dotted: baseline", ha="center")
    return figure


def _small(n_in: int, n_out: int, seed: int) -> nn.Sequential:
    return mlp(n_in, n_out, (32, 32), seed=seed, dtype=torch.float64)


class _Behind(nn.Module):
    """A network behind a chart and the sums of its angles, its outputs in a shape."""

    def __init__(self, chart: AngleFeatures, shape: Sequence[int], seed: int, *, sloped: bool = False) -> None:
        super().__init__()
        self.features, self.shape = AngleSums(chart), shape
        n = self.features.n_out
        self.net = Sloped(n, _small(n, 1, seed)) if sloped else _small(n, torch.Size(shape).numel(), seed)

    def forward(self, q: Tensor) -> Tensor:
        return self.net(self.features(q)).unflatten(-1, self.shape)


def pendulum(setting: Setting) -> list[Row]:
    """T1: (q, p), H = 5 (1 - cos q) + 1.5 p^2, force u on p."""
    system = Pendulum(mass=1 / 3, length=1.0, gravity=15.0)
    chart = AngleFeatures(1)
    energy = MechanicalHamiltonian(
        PositiveMatrix(1, _Behind(chart, (1,), setting.seed), floor=0.01), _Behind(chart, (1,), setting.seed + 1)
    )
    matrix, net = _Behind(chart, (1, 1), setting.seed + 2), _small(4, 2, setting.seed)
    task = Task(
        "symoden_pendulum",
        lambda u: PortHamiltonian(system, input=Input(u)),
        lambda generator, n: uniform(generator, -torch.pi, 2 * torch.pi, n, 2),
        [[-2.0], [-1.0], [0.0], [1.0], [2.0]],
        0.05,
        45,
        {"SymODEN": (0.0796, 0.0725, 4.31), "baseline": (0.918, 0.884, 19.9)},
    )
    models: dict[str, Model] = {
        "SymODEN": lambda u: PortHamiltonian(energy, input=Input(u, matrix)),
        "baseline": lambda u: _Driven(net, u, chart),  # q passes 40 rad
    }
    budget = Budget(setting.choose(12, 50), setting.choose(150, 2000), setting.choose(20, 500))
    return measure(task, models, budget, setting)


@dataclass(frozen=True)
class Learned:
    """What a fit has learned of a mechanism, up to a factor that mass, potential and input matrix have in common."""

    mass: Callable[[Tensor], Tensor]
    potential: Callable[[Tensor], Tensor]
    matrix: Callable[[Tensor], Tensor]

    @torch.no_grad()
    def unit(self, q: Tensor) -> float:
        """The common factor where the motors' true matrix has norm 1, at positions [k]."""
        return float(torch.linalg.matrix_norm(self.matrix(q), 2))


def learn_embedded(
    task: Task, chart: AngleFeatures, budget: Budget, setting: Setting, *, baseline: bool = True
) -> tuple[list[Row], Learned]:
    """The rows of a task in (others, cos, sin, rates), and the mechanism learned."""
    n, seed, m = chart.n, setting.seed, len(task.inputs[0])
    mass = PositiveMatrix(n, _Behind(chart, (n * (n + 1) // 2,), seed), floor=0.01)
    learned = Learned(mass, _Behind(chart, (1,), seed + 1, sloped=True), _Behind(chart, (n, m), seed + 2))
    lagrangian = MechanicalLagrangian(learned.mass, learned.potential)
    net = _small(chart.n_out + n + m, chart.n_out + n, seed)
    models: dict[str, Model] = {
        "SymODEN": lambda u: EmbeddedField(LagrangianField(lagrangian, input=Input(u, learned.matrix)), chart)
    }
    if baseline:
        models["baseline"] = lambda u: _Driven(net, u)
    return measure(task, models, budget, setting), learned


def embed_start(chart: AngleFeatures, *ranges: float) -> Callable[[torch.Generator, int], Tensor]:
    """Starts uniform in +- the ranges of (q, v), in the chart."""

    def start(generator: torch.Generator, n: int) -> Tensor:
        y = torch.stack([uniform(generator, -r, r, n) for r in ranges], dim=-1)
        return torch.cat([chart(y[:, : chart.n]), y[:, chart.n :]], dim=-1)

    return start


def pendulum_embedded(setting: Setting) -> list[Row]:
    """T2: (cos, sin, rate), q'' = 15 sin q + 3 u from upright; then the swing-up by the learned energy."""
    chart, eye = AngleFeatures(1), torch.eye(1, dtype=torch.float64)
    # M = 1/3, V = 5 cos q: upright is q = 0, as in gym.
    true = MechanicalLagrangian(eye / 3, lambda q: 5 * q.cos())
    task = Task(
        "symoden_pendulum_embedded",
        lambda u: EmbeddedField(LagrangianField(true, input=Input(u)), chart),
        embed_start(chart, torch.pi, 1.0),
        [[0.0], [-1.0], [1.0], [-2.0], [2.0]],
        0.05,
        20,
        {"SymODEN": (0.0325, 0.0242, 0.0948), "baseline": (5.68, 5.86, 221.0)},
    )
    budget = Budget(setting.choose(32, 128), setting.choose(150, 2000), setting.choose(20, 500))
    rows, learned = learn_embedded(task, chart, budget, setting)
    shaping = EnergyShaping(
        learned.potential,
        lambda q: -learned.potential(q),
        damping=3 * learned.unit(torch.zeros(1, dtype=torch.float64)),
        matrix=learned.matrix,
        limit=5.0,
        plant=eye,
    )
    t = torch.linspace(0, 10, 101, dtype=torch.float64)
    start = torch.tensor([[3.14, 0.0]], dtype=torch.float64)
    run = run_or_nan(LagrangianField(true, input=shaping), start, t, Solver("rk4", step=0.02))[:, 0]
    off = float((torch.remainder(run[:, 0] + torch.pi, 2 * torch.pi) - torch.pi).abs()[-1])
    rows.append(Row("SymODEN", "swing-up: angle from upright after 10 s, rad", off, None, "torque at most 5, k_d = 3"))
    figure = Figure(figsize=(6, 3.5))
    axes = figure.subplots()
    axes.plot(t, run, label=["angle from upright [rad]", "rate [rad/s]"])
    axes.plot(t, torch.stack([shaping.control(y[:1], y[1:]) for y in run]).detach(), label="torque, at most 5")
    axes.set(xlabel="t [s]", title="swing-up by the learned energy")
    axes.legend()
    setting.save("symoden_swing_up", figure)
    return rows
