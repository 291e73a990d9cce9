"""Chains of pendula in Cartesian coordinates: constrained Lagrangians against a neural ODE, errors of roll-outs."""

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, run_or_nan
from benchmarks.dynamics_experiments.features import Scaled, Sloped
from diffsim import (
    LagrangianField,
    MechanicalLagrangian,
    NeuralField,
    RolloutLoss,
    Solver,
    Training,
    Trajectory,
    VectorField,
    fit,
    mlp,
    odeint,
)
from diffsim.fields import ParticleMasses
from diffsim.systems import PendulumChain, random_pendulum_chain, sample_pendulum_chain
from diffsim.systems.pendulum_chain import chain_rods

__all__ = ["chain", "chain_1", "chain_2", "chain_3", "chain_5", "fit_chain"]

_PUBLISHED = {1: (5.2e-5, 3.8e-4), 2: (1.1e-4, 6.5e-2), 3: (3.3e-4, 0.27), 5: (9.3e-4, 0.44)}
_DT = 0.03  # s
_EXACT = Solver("dopri8", rtol=1e-10, atol=1e-11)


def chain(n: int, setting: Setting, runs: int, tests: int, steps: int) -> list[Row]:
    """The error |x - x'| / |x + x'| of states (x, v), geometric mean over 100 steps and the test runs."""
    truth = random_pendulum_chain(n, setting.seed)
    train, test = _runs(truth, runs, 2 * setting.seed + 1), _runs(truth, tests, 2 * setting.seed + 2)

    def constrained(potential: nn.Module) -> LagrangianField:
        lagrangian = MechanicalLagrangian(ParticleMasses(torch.ones(n)).double(), potential)
        return LagrangianField(lagrangian, constraints=chain_rods(truth.rods.lengths), tolerance=1.0)

    net = Scaled(mlp(2 * n, 1, (48,), seed=setting.seed, dtype=torch.float64), 3000.0)
    sloped = Sloped(2 * n, mlp(2 * n, 1, (16,), seed=setting.seed, dtype=torch.float64))
    black_box = NeuralField(mlp(4 * n, 4 * n, (128, 128), seed=setting.seed, dtype=torch.float64))
    known = _PUBLISHED[n]
    models: dict[str, tuple[VectorField, nn.Module | None, float]] = {
        "constrained Lagrangian, slope + network": (constrained(sloped), sloped.net, known[0]),
        "constrained Lagrangian": (constrained(net), None, known[0]),
        "baseline": (black_box, None, known[1]),
    }
    rows: list[Row] = []
    errors: dict[str, Tensor] = {}
    paths = {"truth": test.y}
    for name, (field, correction, published) in models.items():
        with clock() as watch:
            fit_chain(field, train, steps, correction)
        run = run_or_nan(field, test.y0, test.t, Solver("rk4", step=_DT / 6))
        error = ((run - test.y).norm(dim=-1) / (run + test.y).norm(dim=-1))[1:].clamp(min=1e-12).log()
        errors[name], paths[name] = error.mean(-1).exp(), run
        note = f"{runs} training runs (the paper: 800), {watch.seconds:.0f} s"
        rows.append(Row(name, "relative error, geometric mean", float(error.mean().exp()), published, note))
    setting.save(f"chnn_{n}", _picture(n, train.t[1:], errors, paths))
    return rows


def _runs(truth: PendulumChain, count: int, seed: int) -> Trajectory:
    """Runs of states (x, v)."""
    y0 = sample_pendulum_chain(truth, count, seed=seed)
    t = torch.arange(101, dtype=torch.float64) * _DT
    with torch.no_grad():
        return Trajectory(t, truth.velocities(odeint(truth, y0, t, _EXACT)))


def fit_chain(field: VectorField, train: Trajectory, steps: int, correction: nn.Module | None) -> None:
    """Fit derivatives of splines through the samples, then solutions over two intervals; a correction last."""
    if correction is not None:
        correction.requires_grad_(False)
    rates = Trajectory(train.t, train.y).derivatives("spline").dy
    assert rates is not None
    fit(field, Trajectory(train.t[::2], train.y[::2], rates[::2]), training=Training("lbfgs", steps=5 * steps))
    for parts, share in ((2, 2), (4, 1)):
        _fit_solutions(field, train, share * steps, parts)
    if correction is not None:
        correction.requires_grad_(True)
        _fit_solutions(field, train, steps, 4)


def _fit_solutions(field: VectorField, train: Trajectory, steps: int, parts: int) -> None:
    # Samples are exact: two intervals tell as much as many, and their loss is the best conditioned.
    solver = Solver("rk4", step=_DT / parts, gradient="backprop")
    fit(field, train, RolloutLoss(3), Training("lbfgs", steps=steps), solver)


def _picture(n: int, t: Tensor, errors: dict[str, Tensor], paths: dict[str, Tensor]) -> Figure:
    figure = Figure(figsize=(9, 3.5))
    left, right = figure.subplots(1, 2)
    for name, error in errors.items():
        left.semilogy(t, error, label=name)
    left.set(xlabel="t [s]", ylabel="relative error of (x, v)", title=f"chain of {n}, test runs")
    left.legend(fontsize=7)
    for name, run in paths.items():
        right.plot(run[:, 0, 2 * n - 2], run[:, 0, 2 * n - 1], "k" if name == "truth" else "--", label=name)
    limit = 1.2 * float(paths["truth"][:, 0, : 2 * n].abs().amax())
    right.set(xlabel="x [m]", ylabel="y [m]", title="last bob, 3 s", xlim=(-limit, limit), ylim=(-limit, limit))
    right.set_aspect("equal")
    return figure


def _setting(n: int, setting: Setting) -> list[Row]:
    return chain(n, setting, setting.choose(10, 800), setting.choose(20, 100), setting.choose(30, 100))


def chain_1(setting: Setting) -> list[Row]:
    return _setting(1, setting)


def chain_2(setting: Setting) -> list[Row]:
    return _setting(2, setting)


def chain_3(setting: Setting) -> list[Row]:
    return _setting(3, setting)


def chain_5(setting: Setting) -> list[Row]:
    return _setting(5, setting)
