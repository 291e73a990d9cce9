"""Noise and little data: variational integrators, energies with forces, a trajectory GAN."""

from collections.abc import Callable, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, run_or_nan, uniform
from benchmarks.dynamics_experiments.pictures import states_and_energies
from benchmarks.dynamics_experiments.shooting import Basis, Harmonics, Powers, fit_potential
from diffsim import (
    AngleFeatures,
    HamiltonianField,
    HenonHeiles,
    MassSpring,
    NeuralField,
    RolloutLoss,
    Solver,
    Training,
    Trajectory,
    VariationalField,
    VectorField,
    fit,
    fit_energy,
    mlp,
    odeint,
    roll_out,
)
from surrogates import CramerGAN

__all__ = ["Oscillator", "gradient_learning", "noisy_pendulum", "noisy_spring", "trajectory_gan"]

_EXACT = Solver("dopri8", rtol=1e-9, atol=1e-10)


class Oscillator(VectorField):
    """d2q/dt2 = force(q); the state is (q, v)."""

    def __init__(self, force: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.force = force

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        q, v = y.chunk(2, dim=-1)
        return torch.cat([v, self.force(q)], dim=-1)


def _sides(generator: torch.Generator, n: int) -> Tensor:
    return torch.where(torch.rand(n, 1, generator=generator) < 0.5, -1.0, 1.0).double()


def noisy_pendulum(setting: Setting) -> list[Row]:
    """VIN: one run of 150 noisy samples (.33), then 100 steps from three exact states."""
    generator = torch.Generator().manual_seed(setting.seed)

    def start(n: int) -> Tensor:
        q = _sides(generator, n) * (torch.pi - uniform(generator, 0.1, torch.pi / 2, n, 1))
        return torch.cat([q, uniform(generator, -1, 1, n, 1)], dim=-1)

    width = setting.choose(24, 200)
    nets: dict[str, VectorField] = {
        f"VIN, {scheme}": VariationalField(
            nn.Sequential(AngleFeatures(1), mlp(2, 1, (width,), seed=setting.seed, dtype=torch.float64)), scheme=scheme
        )
        for scheme in ("velocity", "stoermer", "rotation")
    }
    ours = {
        "shooting, any potential": Harmonics(5),
        "shooting, symmetric potential": Harmonics(5, symmetric=True),
        "shooting, unknown gravity": Harmonics(1, symmetric=True),
    }
    truth = Oscillator(lambda q: -9.82 * q.sin())
    return _noisy("vin_noisy_pendulum", truth, start, nets, ours, lambda q: -9.82 * q.cos(), setting)


def noisy_spring(setting: Setting) -> list[Row]:
    """VIN's mass on a spring, likewise."""
    generator = torch.Generator().manual_seed(setting.seed)

    def start(n: int) -> Tensor:
        q = _sides(generator, n) * uniform(generator, 1, 1.5, n, 1)
        return torch.cat([q, uniform(generator, -0.5, 0.5, n, 1)], dim=-1)

    width = setting.choose(24, 200)
    nets: dict[str, VectorField] = {
        f"VIN, {scheme}": VariationalField(mlp(1, 1, (width,), seed=setting.seed, dtype=torch.float64), scheme=scheme)
        for scheme in ("velocity", "stoermer")
    }
    ours = {"shooting, any quartic potential": Powers(4)}
    truth = Oscillator(lambda q: -2 * q)
    return _noisy("vin_noisy_spring", truth, start, nets, ours, lambda q: q.square(), setting)


def _noisy(
    name: str,
    truth: VectorField,
    start: Callable[[int], Tensor],
    nets: dict[str, VectorField],
    ours: Mapping[str, Basis],
    potential: Callable[[Tensor], Tensor],
    setting: Setting,
) -> list[Row]:
    t = torch.arange(150, dtype=torch.float64) * 0.1
    with torch.no_grad():
        noisy = Trajectory(t, odeint(truth, start(1), t, _EXACT)).noise(0.33, seed=setting.seed + 1)
        test = odeint(truth, start(3), t[:101], _EXACT)
    width = setting.choose(24, 200)
    models = {**nets, "baseline": NeuralField(mlp(2, 2, (width,), seed=setting.seed, dtype=torch.float64))}
    solver = Solver("rk4", step=0.1, gradient="backprop")
    metric = "squared error of states, mean over 100 steps"
    rows: list[Row] = []
    made = {"truth": test}
    for model, field in models.items():
        discrete = isinstance(field, VariationalField)
        loss = RolloutLoss(20, initial="free", noise=0.33, learn_noise=True, discrete=discrete)
        with clock() as watch:
            fit(field, noisy, loss, Training("lbfgs", steps=setting.choose(150, 1000), weight_decay=1e-4), solver)
        with torch.no_grad():
            run = roll_out(field, test[0], t[:101]) if discrete else run_or_nan(field, test[0], t[:101], solver)
        made[model] = run
        error = (run - test).square().sum(-1).mean(0)
        note = f"median of three {float(error.median()):.3g}, {watch.seconds:.0f} s"
        rows.append(Row(model, metric, float(error.mean()), None, note))
    best = min(row.value for row in rows if row.model in nets)
    for model, basis in ours.items():
        with clock() as watch:
            field, noise = fit_potential(basis, t, noisy.y[:, 0])
        made[model] = run_or_nan(field, test[0], t[:101], Solver("rk4", step=0.05))
        error = (made[model] - test).square().sum(-1).mean(0)
        note = f"published: a tenth of our best VIN; noise found {noise:.3g}, {watch.seconds:.0f} s"
        rows.append(Row(model, metric, float(error.mean()), best / 10, note))

    def energy(y: Tensor) -> Tensor:
        return y[..., 1].square() / 2 + potential(y[..., 0])

    setting.save(name, states_and_energies(made, t[:101], energy))
    return rows


def gradient_learning(setting: Setting) -> list[Row]:
    """Energies alone against energies with forces: Henon-Heiles, errors of the energy on 1000 other states."""
    truth, rows, counts = HenonHeiles(), [], (10, 20, 40, 80)
    errors: dict[str, list[float]] = {}
    generator = torch.Generator().manual_seed(setting.seed)
    judged = uniform(generator, -1, 1, 1000, 4)
    for n in counts:
        y = uniform(generator, -1, 1, n, 4)
        for name, gradient in (("values alone", None), ("values and forces", truth.energy_gradient(y))):
            field = HamiltonianField(mlp(4, 1, (32,), seed=setting.seed, dtype=torch.float64))
            fit_energy(field, y, truth.energy(y), gradient, training=Training("lbfgs", steps=setting.choose(300, 3000)))
            error = (field.energy(judged) - truth.energy(judged)).detach().square().mean().sqrt()
            rows.append(Row(name, f"energy, root mean squared error, {n} states", float(error)))
            errors.setdefault(name, []).append(float(error))
    figure = Figure(figsize=(4.5, 3), layout="constrained")
    axis = figure.subplots()
    for name, values in errors.items():
        axis.loglog(counts, values, "o-", label=name)
    axis.set(xlabel="states", ylabel="error of the energy")
    axis.legend(fontsize=7)
    setting.save("gradient_learning", figure)
    return rows


def trajectory_gan(setting: Setting) -> list[Row]:
    """A generative adversarial network from initial states to whole runs, beside a field, on a spring."""
    t = torch.linspace(0, 6, 31)
    generator = torch.Generator().manual_seed(setting.seed)

    def runs(n: int, low: float, high: float) -> Trajectory:
        r, angle = uniform(generator, low, high, n), uniform(generator, 0, 2 * torch.pi, n)
        y0 = torch.stack([r * angle.cos(), r * angle.sin()], dim=-1)
        return Trajectory(t, odeint(MassSpring(), y0, t.double(), _EXACT).float())

    train = runs(setting.choose(200, 2000), 0.5, 1.0)
    gan = CramerGAN(2, 2 * (len(t) - 1), seed=setting.seed)
    field = HamiltonianField(mlp(2, 1, (32,), seed=setting.seed))
    with clock() as gan_watch:
        # It passes 15 times over its data: the runs are given many times.
        often, runs_flat = setting.choose(200, 400), train.y[1:].transpose(0, 1).flatten(1)
        training = Training(steps=100_000, lr=8e-4, batch=200, schedule="constant")
        gan.fit(train.y0.repeat(often, 1), runs_flat.repeat(often, 1), training=training)
    with clock() as watch:
        fit(field, train[list(range(10))], training=Training("lbfgs", steps=200))
    rows: list[Row] = []
    spring, shown = MassSpring(), {}
    for where, test in (("inside", runs(50, 0.5, 1.0)), ("outside", runs(50, 1.0, 1.5))):
        draws = gan.sample(test.y0, None, 20, torch.Generator().manual_seed(1)).mean(0).detach()
        made = draws.unflatten(-1, (len(t) - 1, 2)).transpose(0, 1)
        shown["truth"] = test.y[1:]
        for name, run, seconds in (
            ("trajectory GAN, mean of 20 draws", made, gan_watch.seconds),
            ("HNN, from 10 runs", run_or_nan(field, test.y0, t, Solver("rk4", step=0.05))[1:], watch.seconds),
        ):
            shown[name] = run
            states = float((run - test.y[1:]).square().mean())
            energy = float((spring.energy(run) - spring.energy(test.y[1:])).square().mean())
            rows += [
                Row(name, f"state, mean squared error, {where}", states, None, f"{seconds:.0f} s"),
                Row(name, f"energy, mean squared error, {where}", energy, None, f"{seconds:.0f} s"),
            ]
    setting.save("trajectory_gan", states_and_energies(shown, t[1:], spring.energy))
    return rows
