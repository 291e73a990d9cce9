"""The LNN paper's relativistic particle in a field g: its Lagrangian and the physical one, learned from (q, v, g)."""

from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock, uniform
from diffsim import LagrangianField, Solver, Training, Trajectory, VectorField, fit, indefinite_mass, mlp
from diffsim.fields.perceptron import second_derivatives
from diffsim.systems import relativistic_lagrangian, toy_relativistic_lagrangian

__all__ = ["LearnedLagrangian", "RapidityMass", "draw", "relativistic", "rounded"]

_STEPS = 6000  # of Adam


class _Accelerations(VectorField):
    """The baseline: accelerations from the network of the LNN's inputs."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        q, v, g = y.split(1, dim=-1)
        return torch.cat([v, 10 * self.net(torch.cat([g / 10, q / 10, v], dim=-1)), torch.zeros_like(g)], dim=-1)


class LearnedLagrangian(VectorField):
    """The field of L(q, v) = unit^2 net(g / 10, q / 10, x / unit) on (q, v, g): a plain network of one output.

    x is the speed v or the rapidity artanh v, as a chart of speeds below 1; g, each sample's own, is constant.
    `mass` is that of the start: the scale of L is free, and its forces should be of the order that a network has.
    """

    def __init__(self, net: nn.Sequential, unit: float, mass: float, *, rapidity: bool) -> None:
        super().__init__()
        self.net = net
        self.unit = unit
        self.mass = mass
        self.rapidity = rapidity

    def force_and_mass(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """L_q - L_qv v and L_vv, both times (dv/dx)^2, shape [..., 3] -> [..., 1] each."""
        q, v, g = y.split(1, dim=-1)
        v = v.clamp(-1 + 1e-6, 1 - 1e-6)  # single precision has no artanh of .99999999
        x, slope = (v.atanh(), 1 - v.square()) if self.rapidity else (v, torch.ones_like(v))
        gradient, rows = second_derivatives(self.net, torch.cat([g / 10, q / 10, x / self.unit], dim=-1), 1)
        force = self.unit**2 * slope * gradient[..., 1:2] / 10 - self.unit * v * rows[..., 0, 1:2] / 10
        mass = rows[..., 0, 2:]
        return slope * force, mass + 2 * v * self.unit * gradient[..., 2:] if self.rapidity else mass

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        force, mass = self.force_and_mass(y)
        acceleration = force * mass / (mass.square() + (1e-3 * self.mass) ** 2)
        return torch.cat([y[..., 1:2], acceleration, torch.zeros_like(force)], dim=-1)


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


def _at_rest(field: VectorField, data: Trajectory, solver: Solver) -> Tensor:
    """The start: no force, one mass."""
    assert isinstance(field, LearnedLagrangian)
    force, mass = field.force_and_mass(data.y[0])
    return ((force / field.mass).square() + (mass / field.mass - 1).square()).mean()


def _positive(corner: float) -> Callable[[VectorField, Trajectory, Solver], Tensor]:
    """The rounded loss of a field whose mass stays positive."""
    errors = rounded(corner)

    def loss(field: VectorField, data: Trajectory, solver: Solver) -> Tensor:
        assert isinstance(field, LearnedLagrangian)
        _, mass = field.force_and_mass(data.y[0])
        return errors(field, data, solver) + 10 * indefinite_mass(mass[..., None], field.mass / 3)

    return loss


def _learn(field: VectorField, data: Trajectory, setting: Setting) -> None:
    """Start with squares of small errors: the weighted L1 has a minimum at no force at all.

    There a force that slow particles need costs more than it gains: fast ones weigh up to 200 times as much.
    """
    few = _first(data, setting.choose(4000, 100_000))
    lagrangian = isinstance(field, LearnedLagrangian)
    if lagrangian:
        fit(field, _first(few, 2000), _at_rest, Training("lbfgs", steps=200))
    loss = _positive if lagrangian else rounded
    steps, polish = setting.choose(_STEPS, 300_000), setting.choose(200, 5000)
    fit(field, data, loss(3.0), Training(steps=steps, batch=512, lr=3e-3, schedule="one_cycle", clip=10.0))
    for corner in (3.0, 1.0, 0.3, 0.1, 0.03, 0.01):
        fit(field, few, loss(corner), Training("lbfgs", steps=polish))


def _first(data: Trajectory, n: int) -> Trajectory:
    assert data.dy is not None
    return Trajectory(data.t, data.y[:, :n], data.dy[:, :n])


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
        data, test = (draw(name, n, generator) for n in (setting.choose(100_000, 1_000_000), 20_000))
        few = data.y[0, :5]
        known = LagrangianField(truth(few[:, 2:]))(data.t[0], few[:, :2])[:, 1:].detach()
        torch.testing.assert_close(known, _accelerations(name, few))

        def net(activation: Callable[[], nn.Module]) -> nn.Sequential:
            return mlp(3, 1, (setting.choose(48, 500),) * 2, activation, seed=setting.seed, dtype=torch.float64)

        models: dict[str, VectorField] = {
            "mass of the rapidity": RapidityMass(setting.seed),
            "LNN of the rapidity": LearnedLagrangian(net(nn.Tanh), 3.0, 0.1, rapidity=True),
            "LNN": LearnedLagrangian(net(nn.Softplus), 3.0, 1.0, rapidity=False),
            "baseline": _Accelerations(net(nn.Tanh)),
        }
        line = torch.linspace(-0.999, 0.999, 201, dtype=torch.float64)
        along = torch.stack([0 * line, line, 0 * line + 10], dim=-1)
        axes.plot(line, _accelerations(name, along), "k", label="truth")
        for model, field in models.items():
            with clock() as watch:
                if isinstance(field, RapidityMass):
                    polish = Training("lbfgs", steps=setting.choose(1000, 5000))
                    for corner in (1e-2, 1e-3, 1e-4):
                        fit(field, _first(data, 4000), rounded(corner), polish)
                else:
                    _learn(field, data, setting)
            value = float(_weighted(field, test, Solver()).detach())
            published = 7.86e-4 if model != "baseline" and name == "toy" else None
            steps = setting.choose(_STEPS, 300_000)
            note = (
                f"4000 samples, {watch.seconds:.0f} s"
                if isinstance(field, RapidityMass)
                else f"{data.n} samples, {watch.seconds:.0f} s, {steps} steps of Adam (the paper: 300 000), L-BFGS"
            )
            rows.append(Row(f"{model}, {name} Lagrangian", "weighted L1", value, published, note))
            axes.plot(line, field(data.t[0], along)[:, 1].detach(), "--", label=model)
        axes.set(xlabel="v", title=f"acceleration at g = 10, {name} Lagrangian")
        axes.legend(fontsize=7)
    setting.save("lnn_relativistic", figure)
    return rows
