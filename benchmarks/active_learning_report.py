"""Table and figure of the active-learning benchmark, from its recorded learning curves."""

import json
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

__all__ = ["HOLD", "STRATEGIES", "runs_to_level", "write_report"]

HOLD = 3
STRATEGIES = ("random", "sobol", "disagreement", "error reduction")
Curves = dict[tuple[str, str, str], dict[int, dict]]


def runs_to_level(record: dict) -> float:
    """The number of runs until the error is at or below the level and stays there for HOLD runs; infinite if never."""
    below = [error <= record["level"] for error in record["errors"]]
    return next((n + 1 for n in range(len(below) - HOLD + 1) if all(below[n : n + HOLD])), float("inf"))


def _read(path: Path) -> Curves:
    curves: Curves = defaultdict(dict)
    for line in path.read_text().splitlines():
        r = json.loads(line)
        curves[r["problem"], r["target"], r["strategy"]][r["seed"]] = r
    return curves


def _show(value: float, most: int) -> str:
    return f"> {most}" if np.isinf(value) else f"{value:g}"


def _summary(runs: list[float], most: int) -> str:
    low, high = np.quantile(runs, [0.25, 0.75], method="nearest")
    return f"{_show(float(np.median(runs)), most)} ({_show(low, most)} to {_show(high, most)})"


def _ratio(ours: list[float], random: list[float], most: int) -> str:
    a, b = np.median(ours), np.median(random)
    if np.isinf(a):
        return "-"
    return f"< {a / most:.2f}" if np.isinf(b) else f"{a / b:.2f}"


def write_report(record: Path, out: Path) -> str:
    """Writes active_learning.md and active_learning.png into `out`; returns the text."""
    curves = _read(record)
    problems = list(dict.fromkeys(key[0] for key in curves))
    targets = list(dict.fromkeys(key[1] for key in curves))
    some = next(iter(next(iter(curves.values())).values()))
    lines = [
        "# Active learning: runs until the model predicts",
        "",
        "Made by `python -m benchmarks.active_learning`; the learning curves are in `active_learning.jsonl`.",
        f"Machine: {some['machine']}. Runs are measured with normal noise; all strategies fit the same model.",
        "",
    ]
    for target in targets:
        strategies = [s for s in STRATEGIES if any(key[1:] == (target, s) for key in curves)]
        where = "the region of interest" if target == "region" else "the whole design box"
        lines += [
            f"## Held-out initial conditions in {where}",
            "",
            f"Runs until the median roll-out error is at or below half the measurement noise ({some['level']:g}) and "
            f"stays there for {HOLD} runs: median (quartiles) over paired seeds; ratios of medians to random choice.",
            "",
            "| problem | seeds | " + " | ".join(strategies) + " | sobol / random | error reduction / random |",
            "|---|---|" + "---|" * (len(strategies) + 2),
        ]
        for problem in problems:
            seeds = sorted(set.intersection(*(set(curves[problem, target, s]) for s in strategies)))
            if not seeds:
                continue
            runs = {s: [runs_to_level(curves[problem, target, s][seed]) for seed in seeds] for s in strategies}
            most = curves[problem, target, "random"][seeds[0]]["n_runs"]
            cells = [_summary(runs[s], most) for s in strategies]
            ratios = [_ratio(runs[s], runs["random"], most) for s in ("sobol", "error reduction")]
            lines.append(f"| {problem} | {len(seeds)} | " + " | ".join(cells + ratios) + " |")
        lines.append("")
    (out / "active_learning.md").write_text("\n".join(lines))
    _figure(curves, problems, targets, out / "active_learning.png")
    return "\n".join(lines)


def _figure(curves: Curves, problems: list[str], targets: list[str], path: Path) -> None:
    figure, axes = plt.subplots(
        len(targets), len(problems), figsize=(3.1 * len(problems), 3 * len(targets)), squeeze=False, sharey="row"
    )
    for (row, target), (column, problem) in ((a, b) for a in enumerate(targets) for b in enumerate(problems)):
        axis = axes[row, column]
        for color, strategy in enumerate(STRATEGIES):
            records = list(curves.get((problem, target, strategy), {}).values())
            if not records:
                continue
            longest = max(len(r["errors"]) for r in records)
            # A study that has met the level twice over stops; its last error stands for the rest.
            table = np.array([r["errors"] + [r["errors"][-1]] * (longest - len(r["errors"])) for r in records])
            n = np.arange(1, longest + 1)
            low, mid, high = np.quantile(table, [0.25, 0.5, 0.75], axis=0, method="nearest")
            axis.plot(n, mid, color=f"C{color}", label=strategy)
            axis.fill_between(n, low, high, color=f"C{color}", alpha=0.2, linewidth=0)
        level = next(iter(curves[problem, target, "random"].values()))["level"]
        axis.axhline(level, color="black", linestyle=":", linewidth=1)
        axis.set(yscale="log", title=problem if row == 0 else None, xlabel="runs" if row == len(targets) - 1 else None)
        if column == 0:
            axis.set_ylabel(f"median roll-out error, states in natural units\ntested in the {target}", fontsize=8)
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
