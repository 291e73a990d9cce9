"""The tables and the figure of the speed benchmark, from its records."""

import math
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["figure", "markdown"]

Record = dict[str, Any]

_STATE, _GRADIENT = 2e-3, 1e-2  # largest relative errors of a result that counts
_YARDSTICKS = ("diffrax", "jax")
_PACKAGES = ("torch", "torchdiffeq", "torchode", "torchdyn", "jax", "diffrax")
_GROUPS = {
    ("mlp", "rk4"): "Neural field 2-h-h-2, RK4 (3/8 rule), 200 steps on [0, 10], 50 outputs",
    ("mlp", "dopri5"): "Neural field 2-h-h-2, dopri5, rtol = atol = 1e-6, 50 outputs",
    ("hamiltonian", "rk4"): "Hamiltonian network 2-h-h-1, RK4, 200 steps",
    ("separable", "leapfrog"): "Separable Hamiltonian networks 1-h-h-1, leapfrog, 200 steps",
    ("derivative", "adam"): "Hamiltonian network fitted to derivatives: one full-batch Adam step",
    ("ensemble", "rk4"): "Ensemble of 8 neural fields, RK4, 200 steps; gradient in the initial states",
}

HEAD = """# Speed beside other libraries

Made by `python -m benchmarks.speed`; every repeat is in `speed.jsonl`. Float32, one process pinned to one core, one
thread; the contenders of a case have the same weights, states and times and take turns. Times are CPU times, medians of
the repeats; absolute ones hold for this machine, shared with other work. Machine: {machine}. Versions: {versions}.

**Ratio**: ours in its fastest setting over diffrax, jitted, in its fastest setting (for the fit: over jitted JAX);
below 1 ours is faster. A result counts if its states are within {state:.0e} and its gradient within {gradient:.0e} of a
float64 reference, relative to the largest number; one that is not is struck out. *Setup*: the first call, wall seconds,
compiling included, which no other figure counts. Goals for geometric mean and worst: RK4 0.7 and 1.1; dopri5 1.0 and
1.5; Hamiltonian rollouts (RK4 and leapfrog together) 0.8 and 1.1; the fit 1.2; ensembles 1.0.
"""


def markdown(records: Sequence[Record]) -> str:
    """All tables."""
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    machine = f"{platform.machine()}, {_processor()}"
    parts = [HEAD.format(machine=machine, versions=versions, state=_STATE, gradient=_GRADIENT), _summary(records)]
    for (system, method), title in _GROUPS.items():
        chosen = [r for r in records if (r["system"], r["method"]) == (system, method)]
        if chosen:
            parts.append(_table(title, chosen))
    return "\n".join(parts)


def figure(records: Sequence[Record], path: Path) -> None:
    """Time against batch size of the neural field, one line a library."""
    import matplotlib.pyplot as plt

    panels = [(method, mode, width) for method in ("rk4", "dopri5") for mode in _MODES for width in (64, 200)]
    grid, axes = plt.subplots(2, 4, figsize=(15, 6.5), sharex=True, constrained_layout=True)
    for axis, (method, mode, width) in zip(axes.flat, panels, strict=True):
        lines: dict[str, list[tuple[int, float]]] = {}
        for record in records:
            if (record["system"], record["method"], record["mode"], record["width"]) == ("mlp", method, mode, width):
                for library in dict.fromkeys(entry["library"] for entry in record["entries"]):
                    best = _best(record, (library,))
                    if best is not None:
                        lines.setdefault(library, []).append((record["batch"], best["ms"]))
        for library, points in lines.items():
            axis.loglog(*zip(*sorted(points), strict=True), "o-", label=library, lw=3 if library == "diffsim" else 1.2)
        axis.set_title(f"{method}, {mode}, h = {width}", fontsize=10)
    for axis in axes[1]:
        axis.set_xlabel("batch")
    for axis in axes[:, 0]:
        axis.set_ylabel("CPU time (ms)")
    axes[0, 0].legend(fontsize=8)
    grid.savefig(path, dpi=130)
    plt.close(grid)


_MODES = ("forward", "training")


def _summary(records: Sequence[Record]) -> str:
    lines = ["\n## Ratios to diffrax\n", "| task | cases | geometric mean | worst |", "|---|---|---|---|"]
    for (system, method), title in _GROUPS.items():
        ratios = [x for r in records if (r["system"], r["method"]) == (system, method) and (x := _ratio(r)) is not None]
        if ratios:
            mean = math.exp(math.fsum(map(math.log, ratios)) / len(ratios))
            lines.append(f"| {title} | {len(ratios)} | {mean:.2f} | {max(ratios):.2f} |")
    return "\n".join(lines) + "\n"


def _table(title: str, records: Sequence[Record]) -> str:
    names = list(dict.fromkeys(f"{e['library']}: {e['setting']}" for r in records for e in r["entries"]))
    lines = [
        f"\n## {title}\n",
        "Milliseconds, and after the slash the setup in seconds.\n",
        "| mode | h | batch | ratio | " + " | ".join(names) + " |",
        "|---" * (4 + len(names)) + "|",
    ]
    for record in records:
        ratio = _ratio(record)
        cells = [
            record["mode"],
            str(record["width"]),
            str(record["batch"]),
            "-" if ratio is None else f"**{ratio:.2f}**",
        ]
        found = {f"{e['library']}: {e['setting']}": e for e in record["entries"]}
        lines.append("| " + " | ".join([*cells, *(_cell(found.get(name)) for name in names)]) + " |")
    return "\n".join(lines) + "\n"


def _cell(entry: Record | None) -> str:
    if entry is None:
        return ""
    if "failed" in entry:
        return "fails"
    text = f"{entry['ms']:.3g} / {entry['setup_wall']:.2g}"
    return text if _counts(entry) else f"~~{text}~~"


def _counts(entry: Record) -> bool:
    return "failed" not in entry and entry["state_error"] <= _STATE and entry.get("gradient_error", 0.0) <= _GRADIENT


def _best(record: Record, libraries: Sequence[str]) -> Record | None:
    entries = [entry for entry in record["entries"] if entry["library"] in libraries and _counts(entry)]
    return min(entries, key=lambda entry: entry["ms"], default=None)


def _ratio(record: Record) -> float | None:
    ours, theirs = _best(record, ("diffsim",)), _best(record, _YARDSTICKS)
    return None if ours is None or theirs is None else ours["ms"] / theirs["ms"]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
