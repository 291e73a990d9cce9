"""Learned dynamics of the literature: each experiment beside its published figures and a baseline.

Run from the root of the repository: `python -m benchmarks.dynamics lnn_double_pendulum` (`--list` names all).
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["EXPERIMENTS", "latest", "main"]

EXPERIMENTS = {
    "lnn_double_pendulum": "lagrangian:double_pendulum",
    "lnn_relativistic": "relativity:relativistic",
    "lnn_wave": "ring:wave",
    "lnn_step_time": "lagrangian:step_time",
    "symoden_pendulum": "symoden:pendulum",
    "symoden_pendulum_embedded": "symoden:pendulum_embedded",
    "symoden_cart_pole": "robots:cart_pole",
    "symoden_acrobot": "robots:acrobot",
    "symoden_full_cart_pole": "robots:full_cart_pole",
    "symoden_full_acrobot": "robots:full_acrobot",
    "port_coupled_springs": "forced:coupled_springs",
    "port_chaotic_duffing": "chaos:chaotic_duffing",
    "port_systems": "forced:port_systems",
    "dhnn_damped_spring": "dissipative:damped_spring",
    "dgnet_kdv": "waves:korteweg_de_vries",
    "dgnet_cahn_hilliard": "waves:cahn_hilliard",
    "dgnet_spring": "discrete:spring",
    "dgnet_pendulum": "discrete:pendulum",
    "dgnet_two_body": "discrete:two_body",
    "real_pendulum": "real:real_pendulum",
    "chnn_1": "chains:chain_1",
    "chnn_2": "chains:chain_2",
    "chnn_3": "chains:chain_3",
    "chnn_5": "chains:chain_5",
    "srnn_chain": "recurrent:chain",
    "srnn_three_body": "recurrent:three_body",
    "pixel_pendulum": "pixels:pixel_pendulum",
    "graph_springs": "particles:springs",
    "vign_systems": "variational:vign_systems",
    "vin_noisy_pendulum": "noisy:noisy_pendulum",
    "vin_noisy_spring": "noisy:noisy_spring",
    "gradient_learning": "noisy:gradient_learning",
    "seir_second_wave": "epidemics:second_wave",
    "seir_neural_number": "epidemics:neural_number",
    "seir_regions": "epidemics:regions",
    "trajectory_gan": "noisy:trajectory_gan",
}

_HEAD = """# Learned dynamics

Made by `python -m benchmarks.dynamics EXPERIMENT`; the records are in `dynamics.jsonl`. Settings: `short` is for two
cores, `full` is the published one. Seconds are of the process, on a machine shared with others: a rough guide.
`met`: no more than the published figure (for factors of speed: no less). A figure without a published one has `-`.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run an experiment, add its rows to the records, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dynamics", description=__doc__)
    parser.add_argument("experiment", nargs="?", choices=EXPERIMENTS)
    parser.add_argument("--full", action="store_true", help="the published setting: hours of CPU")
    parser.add_argument("--seed", default=0, type=int)
    parser.add_argument("--list", action="store_true", help="name the experiments and end")
    parser.add_argument("--out", default=Path("benchmarks/results"), type=Path)
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    if options.list or options.experiment is None:
        print("\n".join(EXPERIMENTS))
        return
    records = options.out / "dynamics.jsonl"
    for row in _run(options.experiment, options.full, options.seed, options.out / "dynamics"):
        with records.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    (options.out / "dynamics.md").write_text(_table(latest(records)), encoding="utf-8")
    print(_table([row for row in latest(records) if row["experiment"] == options.experiment]))


def _run(name: str, full: bool, seed: int, pictures: Path) -> list[dict]:
    from benchmarks.dynamics_experiments.common import Setting

    module, function = EXPERIMENTS[name].split(":")
    start = time.process_time()
    experiment = getattr(importlib.import_module(f"benchmarks.dynamics_experiments.{module}"), function)
    rows = experiment(Setting(full, seed, pictures))
    setting, seconds = "full" if full else "short", time.process_time() - start
    return [{"experiment": name, "setting": setting, "seed": seed, "seconds": seconds, **vars(row)} for row in rows]


def latest(records: Path) -> list[dict]:
    """The last record of each figure, in the order of the experiments."""
    rows = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    kept = {tuple(row[k] for k in ("experiment", "setting", "seed", "model", "metric")): row for row in rows}
    order = list(EXPERIMENTS)
    return sorted(kept.values(), key=lambda row: order.index(row["experiment"]))


def _table(rows: Sequence[dict]) -> str:
    lines = [
        _HEAD,
        "| experiment | setting, seed | model | metric | ours | published | met | note |",
        "|" + " --- |" * 8,
    ]
    for row in rows:
        published, value = row["published"], row["value"]
        more_is_better = row["metric"].startswith("times faster")
        met = (
            "-"
            if published is None
            else "yes"
            if (value >= published if more_is_better else value <= published)
            else "no"
        )
        shown = "-" if published is None else f"{published:.3g}"
        lines.append(
            f"| {row['experiment']} | {row['setting']}, {row['seed']} | {row['model']} | {row['metric']} | {value:.3g} "
            f"| {shown} | {met} | {row['note']} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
