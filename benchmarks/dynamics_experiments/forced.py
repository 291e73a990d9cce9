"""Forced and damped systems of the port-HNN paper: a port-Hamiltonian network with a force of unknown frequencies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, run_or_nan, uniform
from diffsim import (
    Duffing,
    Input,
    MassSpring,
    PortHamiltonian,
    SeparableHamiltonian,
    Solver,
    Training,
    Trajectory,
    VectorField,
    fit,
    mlp,
    odeint,
)
from diffsim.systems import RelativisticOscillator, SpringChain

__all__ = [
    "OfTime",
    "Quadratic",
    "Sines",
    "coupled_springs",
    "fit_in_time",
    "port_network",
    "port_systems",
    "rollout_in_time",
]

_HOW = {"port-HNN": "quadratic forms + networks, twelve sines of learned frequencies", "baseline": "network of (y, t)"}
_EXACT = Solver("dopri8", rtol=1e-9, atol=1e-10)


class Sines(nn.Module):
    """A force of time, a sum of sines whose frequencies, phases and amplitudes are learned."""

    def __init__(self, n_out: int, frequencies: Sequence[float]) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.tensor(frequencies, dtype=torch.float64))
        self.amplitudes = nn.Parameter(torch.full((n_out, 2 * len(frequencies)), 1e-2, dtype=torch.float64))

    def forward(self, t: Tensor) -> Tensor:
        phase = t * self.frequencies
        return torch.cat([phase.cos(), phase.sin()], dim=-1) @ self.amplitudes.mT


class Quadratic(nn.Module):
    """An energy that is a quadratic form to be learned plus a network that starts at zero."""

    def __init__(self, n: int, net: nn.Sequential) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(n, dtype=torch.float64))
        self.slope = nn.Parameter(torch.zeros(n, 1, dtype=torch.float64))
        self.net = net
        last = net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.matrix * x).sum(-1, keepdim=True) / 2 + x @ self.slope + self.net(x)


class _Late(VectorField):
    """A field whose clock starts at a time of its own for each trajectory, [..., 1]."""

    def __init__(self, field: VectorField, start: Tensor) -> None:
        super().__init__()
        self.field, self.start = field, start

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.field(t + self.start, y)


class OfTime(VectorField):
    """The baseline: a network of state and time."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.net(torch.cat([y, t.expand(*y.shape[:-1], 1).to(y)], dim=-1))


def _derivative_error(field: VectorField, data: Trajectory, solver: Solver) -> Tensor:
    assert data.dy is not None
    return (field(data.t[:, None, None], data.y) - data.dy).square().mean()


def rollout_in_time(window: int, stride: int) -> Callable[[VectorField, Trajectory, Solver], Tensor]:
    """Multiple shooting on evenly sampled runs, all windows in one solve although the field depends on time."""

    def loss(field: VectorField, data: Trajectory, solver: Solver) -> Tensor:
        starts = torch.arange(0, len(data.t) - window + 1, stride)
        y = data.y[starts + torch.arange(window)[:, None]]  # [L, w, n, d]
        late = _Late(field, data.t[starts][:, None, None])
        run = odeint(late, y[0], data.t[:window] - data.t[0], solver)
        return (run - y)[1:].square().mean()

    return loss


def fit_in_time(field: VectorField, data: Trajectory, steps: tuple[int, int], every: int, step: float) -> float:
    """Fit derivatives of splines at every few samples, then solutions over 4 intervals; the process seconds."""
    rates = data.derivatives("spline").dy
    assert rates is not None
    thinned = Trajectory(data.t[::every], data.y[::every], rates[::every])
    with clock() as watch:
        fit(field, thinned, _derivative_error, Training("lbfgs", steps=steps[0], batch="all"))
        roll = Solver("rk4", step=step, gradient="backprop")
        fit(field, data, rollout_in_time(5, 4 * every), Training("lbfgs", steps=steps[1], batch="all"), roll)
    return watch.seconds


def _net(n_in: int, n_out: int, seed: int) -> nn.Sequential:
    return mlp(n_in, n_out, (24, 24), seed=seed, dtype=torch.float64)


def port_network(k: int, force: nn.Module, seed: int) -> PortHamiltonian:
    """The learned system: quadratic forms and networks of p and of q, one damping coefficient, a force of time."""
    damping = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))
    energy = SeparableHamiltonian(Quadratic(k, _net(k, 1, seed)), Quadratic(k, _net(k, 1, seed + 1)))
    return PortHamiltonian(energy, dissipation=damping, input=Input(force))


@dataclass(frozen=True)
class _System:
    name: str
    truth: PortHamiltonian
    start: Callable[[torch.Generator, int], Tensor]
    runs: int
    times: int
    dt: float
    published: Mapping[str, tuple[float, float]]


def _measure(system: _System, setting: Setting) -> tuple[list[Row], Trajectory, dict[str, Tensor]]:
    """Mean squared errors of states and energy over 25 runs from other starts."""
    generator = torch.Generator().manual_seed(setting.seed)
    t = torch.arange(system.times, dtype=torch.float64) * system.dt
    with torch.no_grad():
        data, test = (
            Trajectory(t, odeint(system.truth, system.start(generator, n), t, _EXACT)) for n in (system.runs, 25)
        )
    k = data.d // 2
    force = Sines(k, [0.8 * i for i in range(1, 13)])
    models: dict[str, VectorField] = {
        "port-HNN": port_network(k, force, setting.seed),
        "baseline": OfTime(_net(data.d + 1, data.d, setting.seed)),
    }
    every = max(1, round(0.05 / system.dt))
    rows: list[Row] = []
    runs: dict[str, Tensor] = {}
    for name, field in models.items():
        steps = setting.choose(300, 3000), setting.choose(30, 300)
        seconds = fit_in_time(field, data, steps, every, min(system.dt, 0.05))
        run = runs[name] = run_or_nan(field, test.y0, t, Solver("rk4", step=min(0.05, 2 * system.dt)))
        errors = (run - test.y, system.truth.energy(run) - system.truth.energy(test.y))
        known = system.published.get(name, (None, None))
        for what, error, published in zip(("state", "energy"), errors, known, strict=True):
            value = float(error.square().mean())
            note = f"{system.runs} runs, {_HOW[name]}, {seconds:.0f} s"
            rows.append(Row(name, f"{what}, mean squared error", value, published, note))
    return rows, test, runs


def _draw(axes: Axes, name: str, test: Trajectory, runs: Mapping[str, Tensor]) -> None:
    k = test.d // 2
    for model, run in {"truth": test.y, **runs}.items():
        style = {"truth": "k", "port-HNN": "C0--"}.get(model, "C1:")
        axes.plot(run[:, 0, 0], run[:, 0, k], style, label=model)
    axes.set(xlabel="q", ylabel="p", title=name)


def coupled_springs(setting: Setting) -> list[Row]:
    """Two masses between walls, m = 2, k = 3, a force cos t on the first."""
    chain = SpringChain([2.0, 2.0], [3.0, 3.0, 3.0])
    system = _System(
        "coupled springs",
        PortHamiltonian(chain, input=Input(lambda t: torch.cat([t.cos(), 0 * t], dim=-1))),
        lambda g, n: torch.cat([uniform(g, -0.5, 0.5, n, 2), 2 * uniform(g, -0.2, 0.2, n, 2)], dim=-1),
        20,
        51,
        0.1,
        {"port-HNN": (7.34e-4, 2.72e-5), "baseline": (1.51e-3, 5.08e-5)},
    )
    rows, test, runs = _measure(system, setting)
    figure = Figure(figsize=(4.5, 4))
    axes = figure.subplots()
    _draw(axes, system.name, test, runs)
    axes.legend()
    setting.save("port_coupled_springs", figure)
    return rows


def _ring(generator: torch.Generator, n: int) -> Tensor:
    """Starts with |y|^2 uniform in (1, 4.5)."""
    angle, square = uniform(generator, 0, 2 * torch.pi, n), uniform(generator, 1, 4.5, n)
    return square.sqrt()[:, None] * torch.stack([angle.cos(), angle.sin()], dim=-1)


def _box(low: float, high: float) -> Callable[[torch.Generator, int], Tensor]:
    return lambda generator, n: uniform(generator, low, high, n, 2)


def port_systems(setting: Setting) -> list[Row]:
    """The paper's systems of one degree of freedom, their sampling and starts as published."""
    spring = MassSpring()
    soft, stiff = Duffing(-1.0, 1.0), RelativisticOscillator(linear=1.0, cubic=1.0)

    def drive(t: Tensor) -> Tensor:
        return 0.2 * (1.2 * t).sin()

    def beat(t: Tensor) -> Tensor:
        return (3 * t).sin() * (6 * t).sin()

    systems = (
        _System("mass spring", PortHamiltonian(spring), _ring, 10, 62, 0.05, {}),
        _System("damped", PortHamiltonian(spring, dissipation=0.3), _box(-1, 1), 25, 302, 0.1, {}),
        _System("forced1", PortHamiltonian(spring, input=Input(lambda t: (3 * t).sin())), _ring, 20, 1002, 0.01, {}),
        _System("forced2", PortHamiltonian(spring, input=Input(beat)), _ring, 20, 1002, 0.01, {}),
        _System(
            "duffing1", PortHamiltonian(soft, dissipation=0.3, input=Input(drive)), _box(-2.5, 2.5), 10, 1002, 0.01, {}
        ),
        _System("relativistic Duffing", PortHamiltonian(stiff, input=Input(drive)), _box(0, 2), 5, 2002, 0.01, {}),
    )
    rows: list[Row] = []
    figure = Figure(figsize=(11, 7))
    for system, axes in zip(systems, figure.subplots(2, 3).flat, strict=True):
        own, test, runs = _measure(system, setting)
        rows += [Row(f"{row.model}, {system.name}", row.metric, row.value, row.published, row.note) for row in own]
        _draw(axes, system.name, test, runs)
    figure.axes[0].legend()
    setting.save("port_systems", figure)
    return rows
