"""The pixel pendulum: an autoencoder with a latent Hamiltonian, or with a latent neural ODE, on drawn pictures."""

from collections.abc import Sequence
from typing import cast

import torch
from matplotlib.figure import Figure, SubFigure
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, run_or_nan, uniform
from diffsim import (
    HamiltonianField,
    NeuralField,
    Pendulum,
    RolloutLoss,
    Solver,
    Training,
    Trajectory,
    fit,
    mlp,
    odeint,
)
from diffsim.fields import Autoencoder, LatentHamiltonian
from diffsim.systems import pendulum_frames, stack_frames
from diffsim.training import optimise

__all__ = ["PrincipalAutoencoder", "angles_seen", "energy_seen", "pixel_pendulum"]

_SIZE, _STEP = 28, 0.05
_SYSTEM = Pendulum(mass=1.0, length=1.0, gravity=15.0)  # the equation of gym's Pendulum without torque


class PrincipalAutoencoder(Autoencoder):
    """An autoencoder between the leading principal components of pictures and the latent state: a tenth of the work.

    Args:
        pictures: Shape [n, m].
        n_components: Number of components.
        seed: Of the initial weights.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, pictures: Tensor, n_components: int = 64, *, seed: int = 0) -> None:
        super().__init__(n_components, seed=seed)
        mean = pictures.mean(0)
        _, size, directions = torch.linalg.svd(pictures - mean, full_matrices=False)
        spread = size[:n_components] / len(pictures) ** 0.5
        self.register_buffer("mean", mean)
        self.register_buffer("basis", directions[:n_components])
        self.register_buffer("size", spread[0])

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder((x - self.mean) @ self.basis.mT / self.get_buffer("size"))

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z) * self.get_buffer("size") @ self.basis + self.mean


class _LatentODE(LatentHamiltonian):
    """The baseline: the same autoencoder and losses, a network of the latent rates."""

    def __init__(self, autoencoder: Autoencoder, seed: int) -> None:
        super().__init__(autoencoder, mlp(2, 1, seed=seed))
        self.field = NeuralField(mlp(2, 2, seed=seed))


class _Bowl(nn.Module):
    """A quadratic of unknown strengths and a network: an energy of one latent degree of freedom."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.full((2,), 0.2, dtype=torch.float64))
        self.net = mlp(2, 1, (16,), dtype=torch.float64)

    def forward(self, z: Tensor) -> Tensor:
        return (self.strength * z.square()).sum(-1, keepdim=True) / 2 + 0.1 * self.net(z)


def angles_seen(frames: Tensor) -> Tensor:
    """The angle from hanging of a drawn rod, by the centre of its brightness, [..., m] -> [...]."""
    axis = torch.linspace(-1, 1, _SIZE)
    down, right = (x.reshape(-1) for x in torch.meshgrid(axis, axis, indexing="ij"))
    light = frames.clamp(min=0)
    return torch.atan2((light * right).sum(-1), (light * down).sum(-1))


def energy_seen(observed: Tensor) -> Tensor:
    """The true energy of what two pictures show, the lowest zero, [..., 2 m] -> [...]."""
    before, after = (angles_seen(x) for x in observed.chunk(2, dim=-1))
    return (after - before).square() / (2 * _STEP**2) + 15 * (1 - ((before + after) / 2).cos())


def pixel_pendulum(setting: Setting, runs: int | None = None, steps: int | None = None) -> list[Row]:
    """Runs from rest-like angles below pi / 6, two 28 x 28 pictures an observation, rolled out from the first one."""
    n = runs or setting.choose(100, 200)
    generator = torch.Generator().manual_seed(setting.seed)
    start = torch.cat([uniform(generator, -1, 1, n, 1) * torch.pi / 6, uniform(generator, -1, 1, n, 1)], dim=-1)
    t = torch.arange(103, dtype=torch.float64) * _STEP
    with torch.no_grad():
        angles = odeint(_SYSTEM, start, t, Solver("dopri8", rtol=1e-9, atol=1e-10))[..., 0]
    seen = stack_frames(pendulum_frames(angles.float(), _SIZE))  # [102, n, 2 m]
    test, train = seen[:, : n // 5], seen[:, n // 5 :]
    before, after = train[:-1].flatten(0, 1), train[1:].flatten(0, 1)

    def make() -> Autoencoder:
        if setting.full:
            return Autoencoder(seen.shape[-1], seed=setting.seed)
        return PrincipalAutoencoder(before[:: max(len(before) // 1500, 1)], seed=setting.seed)

    models = {
        "latent HNN": LatentHamiltonian(make(), mlp(2, 1, seed=setting.seed)),
        "baseline": _LatentODE(make(), setting.seed),
    }
    published = {
        "latent HNN": (1.8683e-4, 1.8451e-4, 1.5315e-4),
        "baseline": (1.7731e-4, 1.7306e-4, 9.2748e-3),
    }
    budget = steps or setting.choose(7000, 10_000)
    training = Training(steps=budget, batch=200, lr=2e-3, weight_decay=1e-7, seed=setting.seed)
    rows: list[Row] = []
    made = {"truth": test}
    times = torch.arange(len(test), dtype=torch.float32)
    for name, model in models.items():
        with clock() as watch:
            optimise(
                lambda index, m=model: m.loss(before[index], after[index]),
                list(model.parameters()),
                training,
                n_terms=len(before),
            )
        with torch.no_grad():
            some = slice(None, None, max(len(before) // 2000, 1))
            losses = (
                model.loss(before[some], after[some]),
                model.loss(test[:-1].flatten(0, 1), test[1:].flatten(0, 1)),
            )
            codes, start = model.autoencoder.encode(train), model.autoencoder.encode(test[0])
        note = f"{n - n // 5} runs, own renderer, {budget} steps, {watch.seconds:.0f} s"
        rows += [
            Row(name, "train, loss", float(losses[0]), published[name][0], note),
            Row(name, "test, loss", float(losses[1]), published[name][1], note),
        ]
        latent = {name: run_or_nan(model.field, start, times, Solver("rk4", step=0.5))}
        if name == "latent HNN":
            with clock() as watch:
                latent["latent HNN, then fitted to runs"] = _shoot(codes, start, times, budget)
        for kind, path in latent.items():
            with torch.no_grad():
                made[kind] = model.autoencoder.decode(path.float())
            energy = (energy_seen(made[kind]) - energy_seen(test)).square().mean()
            angle = (angles_seen(made[kind].chunk(2, -1)[0]) - angles_seen(test.chunk(2, -1)[0])).square().mean()
            note = f"102 steps, {watch.seconds:.0f} s"
            rows += [
                Row(
                    kind,
                    "energy seen in decoded pictures, mean squared error",
                    float(energy),
                    None,
                    "J^2, not the published unit, " + note,
                ),
                Row(kind, "angle seen in decoded pictures, mean squared error", float(angle), None, "rad^2, " + note),
                Row(kind, "pictures, mean squared error", float((made[kind] - test).square().mean()), None, note),
            ]
    setting.save("pixel_pendulum", _picture(made, times * _STEP))
    return rows


def _shoot(codes: Tensor, start: Tensor, times: Tensor, budget: int) -> Tensor:
    """Latent runs from new first states by an energy fitted to whole latent runs, [T, n, 2] -> [T, n', 2].

    A factor on q and another on p leave canonical equations canonical: both are scaled to one.
    """
    centre, spread = codes.mean((0, 1)).double(), codes.std((0, 1)).double()
    runs = Trajectory(times[: len(codes)].double(), (codes.double() - centre) / spread)
    field, solver = HamiltonianField(_Bowl()), Solver("rk4", step=1.0, gradient="backprop")
    for window, steps in ((6, 100), (26, 100)):
        loss = RolloutLoss(window, initial="free")
        fit(field, runs, loss, Training("lbfgs", steps=min(steps, budget), weight_decay=1e-6), solver)
    return run_or_nan(field, (start.double() - centre) / spread, times.double(), solver) * spread + centre


def _picture(runs: dict[str, Tensor], t: Tensor) -> Figure:
    """Pictures of the first test run at six times, each model below the truth, and the angles over time."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    left, right = cast(Sequence[SubFigure], figure.subfigures(1, 2, width_ratios=(1.5, 1)))
    times = range(0, len(t), 20)
    for line, (name, run) in zip(left.subplots(len(runs), len(times)), runs.items(), strict=True):
        for axis, i in zip(line, times, strict=True):
            axis.imshow(run[i, 0, : _SIZE**2].reshape(_SIZE, _SIZE).numpy(), vmin=0, vmax=1, cmap="Greys")
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=7)
    axis = right.subplots()
    for name, run in runs.items():
        (curve,) = axis.plot(t.numpy(), angles_seen(run[:, 0].chunk(2, -1)[0]).numpy(), lw=1, label=name)
        if name == "truth":
            curve.set(color="k", linestyle="--")
    axis.set(xlabel="t", ylabel="angle seen")
    axis.legend(fontsize=7)
    return figure
