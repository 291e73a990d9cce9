"""The documentation's page of learned dynamics: for each experiment the field, the figures and a picture.

Run from the root of the repository, after the experiments: `python -m benchmarks.dynamics_page`.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.dynamics import EXPERIMENTS, latest

__all__ = ["main"]


class System(NamedTuple):
    """An experiment on the page: its title, its source, and what a user writes."""

    title: str
    source: str
    field: str
    pictures: tuple[str, ...] = ()


_SYMODEN = "Zhong, Dey and Chakraborty, 2020, arXiv 1909.12077"
_CHNN = "Finzi, Wang and Wilson, 2020, arXiv 2010.13581"
_PORT = "Desai, Mattheakis, Sondak, Protopapas and Roberts, 2021, arXiv 2107.08024"
_DGNET = "Matsubara, Ishikawa and Yaguchi, 2020, arXiv 1905.08604"
_LNN = "Cranmer et al., 2020, arXiv 2003.04630"
_VIN = "Saemundsson et al., 2020, arXiv 1910.09349"
_SRNN = "Chen et al., 2020, arXiv 1909.13334"
_CONTROL = "`EmbeddedField(PortHamiltonian(MechanicalHamiltonian(...), input=Input(u, matrix)), AngleFeatures(...))`"
_DRIVEN = "`PortHamiltonian(net, dissipation=..., input=...)`"
_VARIATIONAL = "`VariationalField(net, scheme=...)`, or shooting"
_SHOOTING = "`SeparableHamiltonian(...)`, `RolloutLoss(initial='free')`"
_RODS = "`LagrangianField(MechanicalLagrangian(...), constraints=Rods(...))`"
_SEIR = "compartments with R0(t)"

SYSTEMS = {
    "lnn_double_pendulum": System(
        "Double pendulum",
        _LNN,
        "`LagrangianNetwork(net, AngleFeatures(2))`, `LagrangianField(MechanicalLagrangian(...))`",
    ),
    "lnn_relativistic": System("Relativistic particle", _LNN, "`LagrangianField(net)`"),
    "lnn_wave": System("Wave on a ring", _LNN, "`LagrangianField(RingLagrangian(net))`"),
    "symoden_pendulum": System("Pendulum with a motor", _SYMODEN, "`PortHamiltonian(..., input=Input(u, matrix))`"),
    "symoden_pendulum_embedded": System(
        "Pendulum as (cos, sin), and its swing-up",
        _SYMODEN,
        _CONTROL,
        ("symoden_pendulum_embedded", "symoden_swing_up"),
    ),
    "symoden_cart_pole": System("Cart and pole", _SYMODEN, _CONTROL),
    "symoden_acrobot": System("Acrobot", _SYMODEN, _CONTROL),
    "symoden_full_cart_pole": System(
        "Cart and pole, two motors", _SYMODEN, _CONTROL, ("symoden_full_cart_pole", "symoden_full_cart_pole_control")
    ),
    "symoden_full_acrobot": System(
        "Acrobot, two motors", _SYMODEN, _CONTROL, ("symoden_full_acrobot", "symoden_full_acrobot_control")
    ),
    "port_coupled_springs": System(
        "Driven coupled springs", _PORT, "`PortHamiltonian(net, dissipation=..., input=...)`"
    ),
    "port_chaotic_duffing": System(
        "Chaotic Duffing oscillator", _PORT, "`PortHamiltonian(net, dissipation=..., input=...)`"
    ),
    "port_systems": System(
        "Six driven or damped oscillators", _PORT, "`PortHamiltonian(net, dissipation=..., input=...)`"
    ),
    "dhnn_damped_spring": System(
        "Damped spring",
        "Sosanya and Greydanus, 2022, arXiv 2201.10085",
        "`DissipativeHamiltonian(energy, dissipation)`",
    ),
    "dgnet_kdv": System("Korteweg-de Vries equation", _DGNET, "`DiscreteGradientField(GridEnergy(...), structure)`"),
    "dgnet_cahn_hilliard": System("Cahn-Hilliard equation", _DGNET, "`DiscreteGradientField(GridEnergy(...), ...)`"),
    "dgnet_spring": System("Noisy spring", _DGNET, _SHOOTING),
    "dgnet_pendulum": System("Noisy pendulum", _DGNET, _SHOOTING),
    "dgnet_two_body": System("Two bodies", _DGNET, "`DiscreteGradientField(net, structure)`"),
    "real_pendulum": System(
        "Measured pendulum",
        "Schmidt and Lipson, 2009, Science 324, 81",
        "`DissipativeHamiltonian(...)`, or a damped pendulum by shooting",
    ),
    "chnn_1": System("Pendulum on a rod", _CHNN, _RODS),
    "chnn_2": System("Chain of two pendula", _CHNN, _RODS),
    "chnn_3": System("Chain of three pendula", _CHNN, _RODS),
    "chnn_5": System("Chain of five pendula", _CHNN, _RODS),
    "srnn_chain": System("Chain of twenty springs, noisy", _SRNN, "`SeparableHamiltonian(...)`, solver `leapfrog`"),
    "srnn_three_body": System("Three bodies, long samples", _SRNN, "`SeparableHamiltonian(...)`, solver `leapfrog`"),
    "pixel_pendulum": System(
        "Pendulum in pictures", "Greydanus et al., 2019, arXiv 1906.01563", "`LatentHamiltonian(Autoencoder(m), net)`"
    ),
    "graph_springs": System(
        "Springs between particles",
        "Sanchez-Gonzalez, Bapst, Cranmer and Battaglia, 2019, arXiv 1909.12790",
        "`SeparableHamiltonian(kinetic, GraphEnergy(...))`",
    ),
    "vign_systems": System(
        "Spring, pendulum, Henon-Heiles, five springs",
        "Desai and Roberts, 2020, arXiv 2004.13688, whose figures are drawn, not printed",
        "`SeparableHamiltonian(...)`, solver `yoshida4`",
    ),
    "vin_noisy_pendulum": System(
        "One noisy run of a pendulum", _VIN, "`VariationalField(net, scheme=...)`, or shooting"
    ),
    "vin_noisy_spring": System("One noisy run of a spring", _VIN, _VARIATIONAL),
    "gradient_learning": System(
        "Energies and forces",
        "Witkoskie and Doren, 2005, J. Chem. Theory Comput. 1, 14",
        "`fit_energy(field, y, energy, gradient)`",
    ),
    "seir_second_wave": System("Epidemic with a second wave", _SEIR, "`SEIR(SecondWave(...))`"),
    "seir_neural_number": System("Epidemic whose R0(t) is a network", _SEIR, "`SEIR(network_of_time)`"),
    "seir_regions": System("Epidemics of coupled regions", _SEIR, "`SEIR(...)` on a graph"),
    "trajectory_gan": System(
        "Generated trajectories of a pendulum", "a generative baseline", "`HamiltonianField(net)`"
    ),
}

_HEAD = """# Learned dynamics, measured

Made by `python -m benchmarks.dynamics_page` from the records of `python -m benchmarks.dynamics EXPERIMENT`: short
settings, seed 0 (and other seeds, where they were run). [](learned-dynamics.md) says which field is for which system.

*Ours* is the best of our models of the experiment, named behind the figure; many know more of the system than the
paper's network does (a quadratic form plus a network, a potential of the distance), which the name and the
experiment's file say. The figures of the plain networks are in `benchmarks/results/dynamics.md`, with every miss.
*Baseline* is a neural ordinary differential equation, or the simplest rival, on the same data. Published figures are
those of the papers, on their own and often many more data; with a *goal* in their place the paper has no figure.
"""
_BASELINES = ("baseline", "NODE", "values alone", "constant R0", "regions alone", "trajectory GAN")


def main() -> None:
    """Write the page."""
    results = Path("benchmarks/results")
    rows = [row for row in latest(results / "dynamics.jsonl") if row["setting"] == "short"]
    sections = [
        _section(name, [row for row in rows if row["experiment"] == name]) for name in EXPERIMENTS if name in SYSTEMS
    ]
    Path("docs/dynamics-measured.md").write_text("\n".join([_HEAD, *sections]), encoding="utf-8")


def _section(name: str, rows: Sequence[dict]) -> str:
    system = SYSTEMS[name]
    metrics = dict.fromkeys(row["metric"] for row in rows)
    lines = [
        f"## {system.title}\n",
        f"`{name}`; {system.source}. {system.field}\n",
        "| figure | ours | published | baseline |",
        "|---|---|---|---|",
        *(_line(metric, [row for row in rows if row["metric"] == metric]) for metric in metrics),
        "",
    ]
    for picture in system.pictures or (name,):
        path = Path("benchmarks/results/dynamics") / f"{picture}.png"
        if path.is_file():
            lines.append(f"![{system.title}](../{path})\n")
    return "\n".join(lines)


def _line(metric: str, every: Sequence[dict]) -> str:
    rows = [row for row in every if row["seed"] == 0]
    baselines = [row for row in rows if any(word in row["model"] for word in _BASELINES)]
    ours = [row for row in rows if row not in baselines]
    best = min(ours, key=_value, default=None)
    mine = "-" if best is None else f"{_number(best['value'])} ({best['model']}{_others(best, every)})"
    baseline = min(baselines, key=_value, default=None)
    other = "-" if baseline is None else _number(baseline["value"])
    return f"| {metric} | {mine} | {_published(ours)} | {other} |"


def _others(best: dict, rows: Sequence[dict]) -> str:
    """The figures of the same model from other seeds."""
    values = [row["value"] for row in rows if row["seed"] and row["model"] == best["model"]]
    return "; other seeds " + ", ".join(_number(value) for value in values) if values else ""


def _published(rows: Sequence[dict]) -> str:
    row = next((row for row in rows if row["published"] is not None), None)
    if row is None:
        return "-"
    return ("goal " if "a tenth of our best" in row["note"] else "") + _number(row["published"])


def _value(row: dict) -> float:
    return row["value"] if math.isfinite(row["value"]) else math.inf


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "failed"


if __name__ == "__main__":
    main()
