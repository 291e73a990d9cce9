"""Lagrangian neural networks: the double pendulum, and the time of a training step."""

import time
from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, run_or_nan, uniform
from benchmarks.dynamics_experiments.features import AngleSums, Sloped
from diffsim import (
    AngleFeatures,
    DoublePendulum,
    LagrangianField,
    LagrangianNetwork,
    MechanicalHamiltonian,
    MechanicalLagrangian,
    PositiveMatrix,
    Solver,
    Training,
    Trajectory,
    VectorField,
    fit,
    free_particle,
    mlp,
    odeint,
)

__all__ = ["double_pendulum", "run_in_momenta", "step_time"]

Function = Callable[[Tensor], Tensor]
_GRAVITY = 9.8
_SPEED = 10.0  # rad/s, of the order of the fastest rod
_STRUCTURED = "structured (DeLaN, sums of angles)"
_WORST = 100.0  # what an error of the energy counts at most
_ZERO = torch.zeros(())


def _true_lagrangian(y: Tensor) -> Tensor:
    (a, b), (v, w) = y[..., :2].unbind(-1), y[..., 2:].unbind(-1)
    return v.square() + w.square() / 2 + v * w * (a - b).cos() + _GRAVITY * (2 * a.cos() + b.cos())


def _robust(field: VectorField, data: Trajectory, solver: Solver) -> Tensor:
    """A smooth L1: accelerations reach hundreds where the rods fold."""
    assert data.dy is not None
    error = field(data.t[0], data.y[0]) - data.dy[0]
    return ((1 + error.square()).sqrt() - 1).sum(-1).mean()


def _samples(n: int, seed: int) -> Trajectory:
    """States with their accelerations, 41 along each of n runs of 20 s from rest at random angles."""
    t = torch.linspace(0, 20, 41, dtype=torch.float64)
    with torch.no_grad():
        field, canonical = LagrangianField(_true_lagrangian), DoublePendulum(gravity=_GRAVITY)
        run = odeint(canonical, canonical.from_velocities(*_at_rest(n, seed).chunk(2, -1)), t, Solver("rk4", step=0.01))
        y = torch.cat([run[..., :2], canonical.angular_velocities(run)], dim=-1).flatten(0, 1)
        dy = torch.cat([field(_ZERO, part) for part in y.split(20000)])
    return Trajectory(torch.zeros(1, dtype=torch.float64), y[None], dy[None])


def _every(data: Trajectory, n: int) -> Trajectory:
    assert data.dy is not None
    return Trajectory(data.t, data.y[:, ::n], data.dy[:, ::n])


def _at_rest(n: int, seed: int) -> Tensor:
    """The paper's starts: any angles, almost no rates."""
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([uniform(generator, 0, 2 * torch.pi, n, 2), uniform(generator, 0, 0.1, n, 2)], dim=-1)


class _Straight(nn.Module):
    """A network with a straight way past it."""

    def __init__(self, n_in: int, n_out: int, hidden: tuple[int, ...], seed: int) -> None:
        super().__init__()
        self.net, self.past = mlp(n_in, n_out, hidden, seed=seed), mlp(n_in, n_out, (), seed=seed)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + self.past(x)


class _Accelerations(VectorField):
    """The baseline: accelerations from the network of the LNN's inputs."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.chart = AngleFeatures(2)
        self.net = net

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        x = torch.cat([self.chart(y[..., :2]), y[..., 2:] / _SPEED], dim=-1)
        return torch.cat([y[..., 2:], _SPEED * self.net(x)], dim=-1)


def double_pendulum(setting: Setting) -> list[Row]:
    """Energy error after 100 s from rest, in units of the maximal potential energy."""
    seed = setting.seed
    data = _samples(setting.choose(5000, 50_000), seed + 11)
    hidden = (setting.choose(64, 600),) * setting.choose(2, 3)
    angles, narrow = AngleSums(AngleFeatures(2)), (setting.choose(32, 64),) * 2
    mass = PositiveMatrix(2, nn.Sequential(angles, _Straight(angles.n_out, 3, narrow, seed)), floor=0.05)
    potential = nn.Sequential(angles, Sloped(angles.n_out, mlp(angles.n_out, 1, (16,), seed=seed + 1)))
    learned = LagrangianNetwork(mlp(6, 1, hidden, nn.Tanh, seed=seed + 11), AngleFeatures(2), speed=_SPEED)
    fields: dict[str, VectorField] = {
        _STRUCTURED: LagrangianField(MechanicalLagrangian(mass, potential)).double(),
        "LNN": learned,
        "baseline": _Accelerations(mlp(6, 2, hidden, nn.Tanh, seed=seed + 11)),
    }
    published = {_STRUCTURED: 0.00426, "LNN": 0.00426, "baseline": 0.0736}
    adam = Training(steps=setting.choose(12_000, 300_000), batch=512, lr=1e-2, schedule="one_cycle", clip=1.0)
    polish = Training("lbfgs", steps=setting.choose(400, 1000))
    t, y0 = torch.linspace(0, 100, 101, dtype=torch.float64), _at_rest(40, 4321)
    figure = Figure(figsize=(6, 3.5))
    axes = figure.subplots()
    rows: list[Row] = []
    for name, field in fields.items():
        with clock() as watch:
            if name == _STRUCTURED:
                report = fit(field, _every(data, 70), _robust, Training("lbfgs", steps=setting.choose(1300, 5000)))
                steps = f"{report.steps} steps"
            else:
                if field is learned:
                    fit(field, data, free_particle, Training(steps=300))
                fit(field, data, _robust, adam)
                report = fit(field.double(), _every(data, 20), _robust, polish)
                steps = f"{adam.steps} steps of Adam, {report.steps} of L-BFGS"
        if name == _STRUCTURED:
            run = run_in_momenta(mass, potential, y0, t)
        else:
            run = run_or_nan(field, y0, t, Solver("rk4", step=0.0125, on_divergence="nan"))
        with torch.no_grad():
            energy = LagrangianField(_true_lagrangian).energy(run)
        errors = ((energy - energy[0]).abs() / (3 * _GRAVITY)).nan_to_num(_WORST).clamp(max=_WORST)
        axes.semilogy(t[1:], errors[1:].mean(-1), label=name)
        error = errors[-1]
        note = f"{steps}, {watch.seconds:.0f} s, {len(y0)} starts, worst {float(error.max()):.2g}"
        rows += [
            Row(name, "energy error at t = 100, mean", float(error.mean()), published[name], note),
            Row(name, "energy error at t = 100, median", float(error.median()), None, note),
        ]
    axes.set(xlabel="t [s]", ylabel="mean |E - E(0)| / maximal potential", title="double pendulum, from rest")
    axes.legend()
    setting.save("lnn_double_pendulum", figure)
    return rows


def run_in_momenta(mass: Function, potential: Function, y0: Tensor, t: Tensor) -> Tensor:
    """Runs of L = v M(q) v / 2 - V(q) by its Hamiltonian, which needs one gradient a step.

    The true pendulum drifts by .009 of the maximal potential with steps of .02, and by .001 with these.
    """
    energy = MechanicalHamiltonian(lambda q: torch.linalg.inv(mass(q)), potential)
    q, v = y0.chunk(2, dim=-1)
    with torch.no_grad():
        start = torch.cat([q, (mass(q) @ v[..., None])[..., 0]], dim=-1)
        run = run_or_nan(energy, start, t, Solver("rk4", step=0.0125, on_divergence="nan"))
        return torch.cat([run[..., :2], energy.velocity(run)], dim=-1)


def step_time(setting: Setting) -> list[Row]:
    """Process seconds of a training step: ours against vmapped Hessians with a pseudo-inverse, in turn."""
    rows: list[Row] = []
    for layers, width, batch in ((2, 128, 100), (3, 600, 512)):
        net = mlp(4, 1, (width,) * layers, nn.Softplus, seed=0)
        field = LagrangianField(net, regularisation=1e-3)
        y = torch.randn(batch, 4, generator=torch.Generator().manual_seed(0))

        def ours(field: VectorField = field, y: Tensor = y) -> Tensor:
            return field(_ZERO, y)[:, 2:].abs().sum()

        def theirs(net: nn.Module = net, y: Tensor = y) -> Tensor:
            def acceleration(state: Tensor) -> Tensor:
                f = lambda q, v: net(torch.cat([q, v])).squeeze()  # noqa: E731
                q, v = state[:2], state[2:]
                mass = torch.func.hessian(f, 1)(q, v)
                mixed = torch.func.jacrev(torch.func.jacrev(f, 1), 0)(q, v)
                return torch.linalg.pinv(mass) @ (torch.func.grad(f, 0)(q, v) - mixed @ v)

            return torch.func.vmap(acceleration)(y).abs().sum()

        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(setting.choose(5, 20)):
            for name, loss in (("ours", ours), ("theirs", theirs)):
                start = time.process_time()
                net.zero_grad()
                loss().backward()
                seconds[name].append(time.process_time() - start)
        mine, other = (sorted(seconds[name])[len(seconds[name]) // 2] for name in ("ours", "theirs"))
        note = f"{1e3 * mine:.0f} against {1e3 * other:.0f} ms of the process, median"
        rows.append(Row(f"{layers} x {width}, batch {batch}", "times faster (goal 3)", other / mine, 3.0, note))
    return rows
