"""Epidemics whose reproduction number changes: constants of a second wave, a network of time, coupled regions."""

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock
from diffsim import SEIR, RolloutLoss, Solver, Training, Trajectory, VectorField, fit, odeint
from diffsim.systems import RegionalSEIR, SecondWave

__all__ = ["neural_number", "regions", "second_wave"]

_EXACT = Solver("dopri8", rtol=1e-9, atol=1e-10)
_DAYS = torch.linspace(0, 60, 61, dtype=torch.float64)
_WAVE = {"base": 1.4, "amplitude": 3.0, "frequency": 0.15}
_CONTACTS = torch.tensor([[0.9, 0.1, 0.0], [0.05, 0.9, 0.05], [0.0, 0.1, 0.9]], dtype=torch.float64)


class _Number(nn.Module):
    """A radial-basis network of time, always positive, [...] or [..., 1] -> [...] or [..., regions]."""

    centres: Tensor

    def __init__(self, n: int, regions: int = 0) -> None:
        super().__init__()
        self.regions = regions
        self.register_buffer("centres", torch.linspace(0, 60, n, dtype=torch.float64))
        self.weights = nn.Parameter(torch.zeros(n, regions or 1, dtype=torch.float64))

    def forward(self, t: Tensor) -> Tensor:
        days = t if self.regions else t[..., None]
        bumps = torch.exp(-(days - self.centres).square() / (2 * (self.centres[1] - self.centres[0]) ** 2))
        number = nn.functional.softplus(1.5 + bumps @ self.weights)
        return number if self.regions else number[..., 0]


def _wave(values: dict[str, float], learn: bool) -> SecondWave:
    given = {k: nn.Parameter(torch.tensor(v).double()) if learn else v for k, v in values.items()}
    return SecondWave(start=30.0, decay_time=20.0, **given)


def _observe(truth: VectorField, y0: Tensor, seed: int) -> tuple[Tensor, Trajectory]:
    with torch.no_grad():
        clean = odeint(truth, y0, _DAYS, _EXACT)
    return clean, Trajectory(_DAYS, clean).noise(1e-3, seed=seed)


def _solver(setting: Setting) -> Solver:
    return Solver("rk4", step=setting.choose(2, 1) / 2, gradient="backprop")


def second_wave(setting: Setting) -> list[Row]:
    """R0(t) with a second wave from daily shares with noise .001: relative errors of its constants."""
    y0 = torch.tensor([[0.99, 0.01, 0.0, 0.0]], dtype=torch.float64)
    _, runs = _observe(SEIR(_wave(_WAVE, False), 5.2, 6.0), y0, setting.seed)
    field = SEIR(_wave({"base": 1.2, "amplitude": 2.0, "frequency": 0.12}, True), 5.2, 6.0)
    fit(field, runs, RolloutLoss(None, initial="free", noise=1e-3), Training("lbfgs", steps=150), _solver(setting))
    found = {name.split(".")[-1]: float(p.detach()) for name, p in field.named_parameters()}
    waves = {"truth": _wave(_WAVE, False), "SEIR, second wave": _wave(found, False)}
    setting.save(
        "seir_second_wave",
        _numbers({name: torch.stack([wave(t) for t in _DAYS]).detach() for name, wave in waves.items()}),
    )
    return [Row("SEIR, second wave", f"relative error of {k}", abs(found[k] / v - 1)) for k, v in _WAVE.items()]


def neural_number(setting: Setting, steps: int | None = None) -> list[Row]:
    """R0(t) as a network of time, from the same daily shares: nothing is known of the wave."""
    y0 = torch.tensor([[0.99, 0.01, 0.0, 0.0]], dtype=torch.float64)
    true = _wave(_WAVE, False)
    clean, runs = _observe(SEIR(true, 5.2, 6.0), y0, setting.seed)
    learned, constant = _Number(setting.choose(21, 31)), nn.Parameter(torch.tensor(1.5).double())
    models = {"SEIR, neural R0(t)": SEIR(learned, 5.2, 6.0), "SEIR, constant R0": SEIR(constant, 5.2, 6.0)}
    rows: list[Row] = []
    shown = {"truth": torch.stack([true(t) for t in _DAYS]).detach()}
    for name, field in models.items():
        training = Training(
            "lbfgs", steps=steps or setting.choose(300, 1000), weight_decay=2 / runs.y.numel()
        )  # N(0, 1)
        with clock() as watch:
            fit(field, runs, RolloutLoss(None, initial="free", noise=1e-3), training, _solver(setting))
        with torch.no_grad():
            neural = "neural" in name
            number = torch.stack([learned(t) for t in _DAYS]) if neural else constant.detach().expand(len(_DAYS))
            error = (odeint(field, y0, _DAYS, _EXACT) - clean).square().mean()
        shown[name] = number
        off = float((number / shown["truth"] - 1).square().mean().sqrt())
        rows += [
            Row(name, "relative error of R0(t), root mean square over 60 days", off, None, f"{watch.seconds:.0f} s"),
            Row(name, "true shares, mean squared error", float(error), None, "noise 1e-6"),
        ]
    setting.save("seir_neural_number", _numbers(shown))
    return rows


def regions(setting: Setting, steps: int | None = None) -> list[Row]:
    """Three regions of known contacts, each with a neural R0(t): the first has a wave, the last a lockdown."""
    true = _wave(_WAVE, False)

    def numbers(t: Tensor) -> Tensor:
        first = torch.stack([true(x) for x in t.flatten()]).reshape(t.shape)
        return torch.cat([first, torch.full_like(t, 2.0), 3.0 - 2.2 / (1 + torch.exp((25 - t) / 3))], dim=-1)

    shares = torch.tensor([0.99, 0.995, 0.98, 0.01, 0.005, 0.02, 0, 0, 0, 0, 0, 0], dtype=torch.float64)[None]
    clean, runs = _observe(RegionalSEIR(_CONTACTS, numbers, 5.2, 6.0), shares, setting.seed)
    rows: list[Row] = []
    with torch.no_grad():
        wanted = numbers(_DAYS[:, None])
    for name, contacts in (("coupled", _CONTACTS), ("regions alone", torch.eye(3, dtype=torch.float64))):
        learned = _Number(setting.choose(21, 31), regions=3)
        field = RegionalSEIR(contacts, learned, 5.2, 6.0)
        training = Training(
            "lbfgs", steps=steps or setting.choose(300, 1000), weight_decay=2 / runs.y.numel()
        )  # N(0, 1)
        with clock() as watch:
            fit(field, runs, RolloutLoss(None, initial="free", noise=1e-3), training, _solver(setting))
        with torch.no_grad():
            found = learned(_DAYS[:, None])
            error = (odeint(field, shares, _DAYS, _EXACT) - clean).square().mean()
        off = float((found / wanted - 1).square().mean().sqrt())
        rows += [
            Row(name, "relative error of R0(t), root mean square over 60 days", off, None, f"{watch.seconds:.0f} s"),
            Row(name, "true shares, mean squared error", float(error), None, "noise 1e-6"),
        ]
        if name == "coupled":
            shown = {f"truth, region {i}": wanted[:, i] for i in range(3)}
            setting.save("seir_regions", _numbers({**shown, **{f"region {i}": found[:, i] for i in range(3)}}))
    return rows


def _numbers(shown: dict[str, Tensor]) -> Figure:
    figure = Figure(figsize=(6, 3), layout="constrained")
    axis = figure.subplots()
    for name, number in shown.items():
        (line,) = axis.plot(_DAYS.numpy(), number.numpy(), lw=1, label=name)
        if name.startswith("truth"):
            line.set(color="k", linestyle="--")
    axis.set(xlabel="days", ylabel="R0(t)")
    axis.legend(fontsize=7)
    return figure
