"""The SymODEN paper's cart-pole and acrobot: with one motor, and fully actuated, brought upright by energy shaping."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.dynamics_experiments.common import Row, Setting, run_or_nan
from benchmarks.dynamics_experiments.symoden import Budget, Learned, Task, embed_start, learn_embedded
from diffsim import AngleFeatures, EmbeddedField, EnergyShaping, LagrangianField, Solver
from diffsim.fields.scalar import scalar
from diffsim.systems import Acrobot, CartPole

__all__ = ["acrobot", "brought_upright", "cart_pole", "full_acrobot", "full_cart_pole"]

_ONE = ((0.0,), (-1.0,), (1.0,), (-2.0,), (2.0,))
_TWO = ((0.0, 0.0), (0.0, -1.0), (0.0, 1.0), (0.0, -2.0), (0.0, 2.0), (-1.0, 0.0), (1.0, 0.0), (-2.0, 0.0), (2.0, 0.0))
_CART, _ARM = AngleFeatures(2, [1]), AngleFeatures(2)
_CART_START, _ARM_START = embed_start(_CART, 0.5, 3.14, 0.05, 3.0), embed_start(_ARM, 3.14, 3.14, 3.14, 3.14)


def _budget(setting: Setting, starts: int) -> Budget:
    return Budget(setting.choose(starts, 128), setting.choose(400, 2000), setting.choose(40, 500))


def cart_pole(setting: Setting) -> list[Row]:
    """T3: (x, cos, sin, rates), a force on the cart."""
    published = {"SymODEN": (0.200, 0.191, 4.16), "baseline": (0.285, 0.284, 37.3)}
    task = Task(
        "symoden_cart_pole",
        lambda u: EmbeddedField(CartPole(u=u), _CART),
        _CART_START,
        _ONE,
        0.02,
        20,
        published,
    )
    return learn_embedded(task, _CART, _budget(setting, 32), setting)[0]


def acrobot(setting: Setting) -> list[Row]:
    """T4: (cosines, sines, rates), a torque at the elbow."""
    published = {"SymODEN": (0.0473, 0.0483, 0.809), "baseline": (0.185, 0.204, 39.0)}
    task = Task(
        "symoden_acrobot",
        lambda u: EmbeddedField(Acrobot(u=u), _ARM),
        _ARM_START,
        _ONE,
        0.05,
        20,
        published,
    )
    return learn_embedded(task, _ARM, _budget(setting, 48), setting)[0]


def full_cart_pole(setting: Setting) -> list[Row]:
    """T5: a second motor turns the pole; from hanging, the pole rises and the cart comes back to x = 0."""
    task = Task(
        "symoden_full_cart_pole",
        lambda u: EmbeddedField(CartPole(u=u, torque=True), _CART),
        _CART_START,
        _TWO,
        0.02,
        20,
        {},
    )
    return _controlled(task, _CART, (0.0, 0.0), (0.3, 3.1), (1.0, 0.0), 2.0, setting, CartPole())


def full_acrobot(setting: Setting) -> list[Row]:
    """T6: a second motor at the shoulder; from hanging, both links rise."""
    task = Task(
        "symoden_full_acrobot",
        lambda u: EmbeddedField(Acrobot(u=u, shoulder=True), _ARM),
        _ARM_START,
        _TWO,
        0.05,
        20,
        {},
    )
    return _controlled(task, _ARM, (torch.pi, 0.0), (0.05, 0.05), (0.0, 0.0), 8.0, setting, Acrobot())


def _controlled(
    task: Task,
    chart: AngleFeatures,
    goal: Sequence[float],
    start: Sequence[float],
    springs: Sequence[float],
    damping: float,
    setting: Setting,
    plant: LagrangianField,
) -> list[Row]:
    rows, learned = learn_embedded(task, chart, _budget(setting, 16), setting)
    run, rest = brought_upright(learned, plant, chart, goal, start, springs, damping)
    note = "no limit; desired energy: the learned potential upside down" + (", a spring on x" if any(springs) else "")
    rows.append(Row("SymODEN", "control: distance from upright after 10 s", rest, None, note))
    figure = Figure(figsize=(6, 3.5))
    axes = figure.subplots()
    axes.plot(torch.linspace(0, 10, len(run)), run, label=["q1", "q2", "rate 1", "rate 2"])
    axes.set(xlabel="t [s]", title=f"{task.name}: brought upright by the learned energy")
    axes.legend()
    setting.save(f"{task.name}_control", figure)
    return rows


def brought_upright(
    learned: Learned,
    plant: LagrangianField,
    chart: AngleFeatures,
    goal: Sequence[float],
    start: Sequence[float],
    springs: Sequence[float],
    damping: float,
    seconds: int = 10,
) -> tuple[Tensor, float]:
    """A true robot under the learned energy upside down, ten states a second [T, 4], and how far off it ends."""
    q, stiffness = (torch.tensor(values, dtype=torch.float64) for values in (goal, springs))
    unit = learned.unit(q)

    def desired(q: Tensor) -> Tensor:
        return unit * (stiffness * q.square()).sum(-1) / 2 - scalar(learned.potential, q, "potential")

    motors = torch.eye(2, dtype=torch.float64)
    shaping = EnergyShaping(learned.potential, desired, damping=damping * unit, matrix=learned.matrix, plant=motors)
    t = torch.arange(10 * seconds + 1, dtype=torch.float64) / 10
    y0 = torch.tensor([[*start, 0.0, 0.0]], dtype=torch.float64)
    run = run_or_nan(LagrangianField(plant.function, input=shaping), y0, t, Solver("rk4", step=0.05))[:, 0]
    off = run[-1, :2] - q
    turn = torch.remainder(off[chart.angles] + torch.pi, 2 * torch.pi) - torch.pi
    return run, float(torch.cat([off[chart.others], turn]).abs().amax())
