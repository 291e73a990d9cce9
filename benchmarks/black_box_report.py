"""The table of the black-box benchmark: medians, quartiles, failures, CPU seconds and ratios, from its records."""

import math
import platform
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["markdown"]

Record = dict[str, Any]

HEAD = """# Black boxes: simulations until the answer is good

Made by `python -m benchmarks.black_box`; the curves are in `black_box.jsonl`.
Machine: {machine}, one thread a study, torch {torch}.

Each count is in single simulations, until the *exact* objective of the recommended point first reaches the level,
looked at after every round; median (quartiles). All methods start at one point, in the same box, with their default
settings; n is the number of simulations of each theta. `> N`: not reached by N simulations, or within the time that a
study was given (`--seconds`, CPU seconds). `reached`: in how many of the studies. Seconds: median CPU seconds of a
study without the simulator, up to its end. Seeds from 1000 on; none was used while tuning.
"""


def markdown(records: Sequence[Record], problems: Mapping[str, tuple[tuple[float, ...], int]]) -> str:
    """One table a problem."""
    import torch

    latest = {(job["problem"], job["method"], job["seed"]): job for job in records}
    parts = [HEAD.format(machine=platform.machine(), torch=torch.__version__)]
    for problem, (levels, _) in problems.items():
        jobs = [job for job in latest.values() if job["problem"] == problem]
        if jobs:
            parts.append(_table(problem, levels, jobs))
    return "\n".join(parts)


def _table(problem: str, levels: Sequence[float], jobs: Sequence[Record]) -> str:
    methods = list(dict.fromkeys(job["method"] for job in jobs))
    ours = _counts([job for job in jobs if job["method"] == "local descent"], 0)
    columns = [f"to {level:g} | reached" for level in levels]
    lines = [f"\n## {problem}\n", f"| method | seeds | {' | '.join(columns)} | final | seconds | local descent / it |"]
    lines.append("|---" * (5 + 2 * len(levels)) + "|")
    for method in methods:
        mine = [job for job in jobs if job["method"] == method]
        cells = [method, str(len(mine))]
        for position in range(len(levels)):
            tried = [job for job in mine if position < len(job["reached"])]
            cells += [
                _spread(tried, position),
                f"{sum(job['reached'][position] is not None for job in tried)}/{len(tried)}",
            ]
        theirs = _counts(mine, 0)
        ratio = _median(ours) / _median(theirs) if ours and theirs and math.isfinite(_median(theirs)) else math.nan
        cells += [f"{statistics.median(job['final'] for job in mine):.3g}"]
        cells += [
            f"{statistics.median(job['seconds'] for job in mine):.3g}",
            "-" if math.isnan(ratio) else f"{ratio:.2g}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _counts(jobs: Sequence[Record], position: int) -> list[float]:
    return sorted(math.inf if job["reached"][position] is None else job["reached"][position] for job in jobs)


def _median(counts: Sequence[float]) -> float:
    return statistics.median(counts) if counts else math.nan


def _spread(jobs: Sequence[Record], position: int) -> str:
    if not jobs:
        return "-"
    counts = _counts(jobs, position)
    least = min((job["simulations"] for job in jobs if job["reached"][position] is None), default=0)

    def show(count: float) -> str:
        return f"{count:,.0f}" if math.isfinite(count) else f"> {least:,}"

    low, high = counts[(len(counts) - 1) // 4], counts[-((len(counts) - 1) // 4) - 1]
    return f"{show(_median(counts))} ({show(low)} to {show(high)})"
