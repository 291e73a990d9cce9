"""Chains of pendula in Cartesian coordinates: constrained networks against a neural ODE, errors of roll-outs."""

import torch
from torch import Tensor

from benchmarks.dynamics_experiments.common import Row, Setting, clock, run_or_nan
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
from diffsim.systems import random_pendulum_chain, sample_pendulum_chain
from diffsim.systems.pendulum_chain import chain_rods

__all__ = ["chain_1", "chain_2", "chain_3", "chain_5"]

_PUBLISHED = {1: (5.2e-5, 3.8e-4), 2: (1.1e-4, 6.5e-2), 3: (3.3e-4, 0.27), 5: (9.3e-4, 0.44)}
_DT = 0.03


def _chain(n: int, setting: Setting) -> list[Row]:
    """The error |x - x'| / |x + x'| of states (x, v), geometric mean over 100 steps and the test runs."""
    chain = random_pendulum_chain(n, setting.seed)
    t = torch.arange(101, dtype=torch.float64) * _DT

    def runs(count: int, seed: int) -> Trajectory:
        y0 = sample_pendulum_chain(chain, count, seed=seed)
        with torch.no_grad():
            run = odeint(chain, y0, t, Solver("dopri8", rtol=1e-8, atol=1e-9))
            dy = torch.stack([chain(t[0], y) for y in run])
            return Trajectory(t, chain.velocities(run), chain.velocities(dy))

    train, test = runs(setting.choose(20, 800), 1), runs(setting.choose(10, 100), 2)
    data = Trajectory(t[::5], train.y[::5], derivatives(train)[::5])
    masses = ParticleMasses(torch.ones(n)).double()
    potential = mlp(2 * n, 1, (48,), seed=setting.seed, dtype=torch.float64)
    constrained = LagrangianField(
        MechanicalLagrangian(masses, potential), constraints=chain_rods(chain.rods.lengths), tolerance=1.0
    )
    models: dict[str, tuple[VectorField, float]] = {
        "constrained Lagrangian": (constrained, _PUBLISHED[n][0]),
        "baseline": (NeuralField(mlp(4 * n, 4 * n, (128, 128), seed=0, dtype=torch.float64)), _PUBLISHED[n][1]),
    }
    rows: list[Row] = []
    for name, (field, published) in models.items():
        with clock() as watch:
            fit(field, data, training=Training("lbfgs", steps=setting.choose(250, 1000)))
            if setting.full:
                roll = Solver("rk4", step=_DT, gradient="backprop")
                fit(field, train, RolloutLoss(5), Training("lbfgs", steps=200), roll)
        run = run_or_nan(field, test.y0, t, Solver("rk4", step=_DT / 3))
        error = (run - test.y)[1:].norm(dim=-1) / (run + test.y)[1:].norm(dim=-1)
        value = float(error.clamp(min=1e-12).log().mean().exp())
        note = f"{train.n} training runs, derivatives estimated from samples, {watch.seconds:.0f} s"
        rows.append(Row(name, "relative error, geometric mean", value, published, note))
    return rows


def derivatives(runs: Trajectory) -> Tensor:
    """Rates estimated from the samples alone, shape [T, n, d]."""
    estimated = Trajectory(runs.t, runs.y).derivatives("spline").dy
    assert estimated is not None
    return estimated


def chain_1(setting: Setting) -> list[Row]:
    return _chain(1, setting)


def chain_2(setting: Setting) -> list[Row]:
    return _chain(2, setting)


def chain_3(setting: Setting) -> list[Row]:
    return _chain(3, setting)


def chain_5(setting: Setting) -> list[Row]:
    return _chain(5, setting)
