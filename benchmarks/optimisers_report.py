"""The table of the optimisers' benchmark: regrets, pairs won, and CPU seconds a suggestion, from its records."""

import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["markdown"]

Record = dict[str, Any]
_OURS = "noisy improvement"
_LAST = 10  # suggestions whose seconds are told

HEAD = """# Optimisers of expensive functions

Made by `python -m benchmarks.optimisers`; every run, with its curve, is in `optimisers.jsonl`.
Machine: {machine}, one thread, shared with other work. Versions: {versions}.

Regret is how far the *true* value of a point is above the least one. Three points are compared, for all methods alike:

- *recommended*: the method's own answer after its last trial (Optuna's `best_params`; Ax's best point by its model's
  predictions; ours: where the model's mean plus its standard deviation is least);
- *incumbent*: the point with the least value that was seen, noise included;
- *evaluated*: the best true value among the points tried, which no one knows where there is noise.

A seed gives all methods the same noise, trial by trial; each begins with its own default design and has its default
settings. None is told the noise, but for Optuna with `deterministic_objective=True`. Seeds from 1000 on; none was used
while tuning. Only seeds that all methods of a table have finished are counted. `ours better`: on how many seeds our
recommendation has the smaller regret. Seconds: CPU seconds of a suggestion, the median over the last {last} of each
run, then over runs.
"""


def markdown(records: Sequence[Record]) -> str:
    """One table a problem."""
    latest = {(job["problem"], job["method"], job["seed"]): job for job in records}
    versions = sorted({job["version"] for job in latest.values()})
    parts = [HEAD.format(machine=_machine(), versions="; ".join(versions), last=_LAST)]
    for problem in dict.fromkeys(job["problem"] for job in latest.values()):
        parts.append(_table(problem, [job for job in latest.values() if job["problem"] == problem]))
    return "\n".join(parts)


def _table(problem: str, jobs: Sequence[Record]) -> str:
    methods = list(dict.fromkeys(job["method"] for job in jobs))
    seeds = set.intersection(*({job["seed"] for job in jobs if job["method"] == method} for method in methods))
    trials = len(jobs[0]["curve"])
    lines = [
        f"\n## {problem}, {trials} trials, {len(seeds)} seeds\n",
        "| method | recommended: mean +- s.e. | median | worst | incumbent: mean | evaluated: mean | ours better "
        "| seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    chosen = {
        method: {job["seed"]: job for job in jobs if job["method"] == method and job["seed"] in seeds}
        for method in methods
    }
    for method in sorted(methods, key=lambda name: name != _OURS):
        mine = list(chosen[method].values())
        regret = [job["recommended"] for job in mine]
        error = statistics.stdev(regret) / len(regret) ** 0.5 if len(regret) > 1 else 0.0
        won = "-"
        if method != _OURS and _OURS in chosen:
            ours = chosen[_OURS]
            won = f"{sum(ours[seed]['recommended'] < chosen[method][seed]['recommended'] for seed in seeds)}"
        cells = [
            method,
            f"{statistics.mean(regret):.4f} +- {error:.4f}",
            f"{statistics.median(regret):.4f}",
            f"{max(regret):.4f}",
            *(f"{statistics.mean(job[name] for job in mine):.4f}" for name in ("incumbent", "evaluated")),
            won,
            f"{statistics.median(statistics.median(job['seconds'][-_LAST:]) for job in mine):.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} ({platform.machine()})"
