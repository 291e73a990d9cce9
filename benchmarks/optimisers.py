"""Optimisers of expensive functions side by side: ours, Ax and Optuna, judged by the true value of their answers.

Run from the root of the repository, with the extra `bench`: `python -m benchmarks.optimisers`. It resumes from its own
records.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["PROBLEMS", "Problem", "main", "run_job"]

Record = dict[str, Any]
METHODS = ("noisy improvement", "Ax", "Optuna GPSampler", "Optuna GPSampler, deterministic")


@dataclass(frozen=True, slots=True)
class Problem:
    """A function to minimise, of which an optimiser sees noisy values.

    Args:
        function: The true value of a point.
        bounds: Of each parameter.
        least: The smallest value.
        trials: How many values an optimiser gets.
        noise: Their standard deviation.
    """

    function: Callable[[Sequence[float]], float]
    bounds: tuple[tuple[float, float], ...]
    least: float
    trials: int
    noise: float = 0.0


def branin(point: Sequence[float]) -> float:
    """Branin's function of two parameters; three equal minima."""
    x, y = point
    inner = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return inner**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10


_HEIGHTS = (1.0, 1.2, 3.0, 3.2)
_RATES = ((10, 3, 17, 3.5, 1.7, 8), (0.05, 10, 17, 0.1, 8, 14), (3, 3.5, 1.7, 10, 17, 8), (17, 8, 0.05, 10, 0.1, 14))
_CENTRES = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def hartmann(point: Sequence[float]) -> float:
    """Hartmann's function of six parameters; one minimum, and a local one that is .12 higher."""
    return -sum(
        height * math.exp(-sum(rate * (x - centre) ** 2 for rate, x, centre in zip(rates, point, centres, strict=True)))
        for height, rates, centres in zip(_HEIGHTS, _RATES, _CENTRES, strict=True)
    )


PROBLEMS = {
    "Branin": Problem(branin, ((-5.0, 10.0), (0.0, 15.0)), 0.39788735772973816, 30),
    "Hartmann-6": Problem(hartmann, ((0.0, 1.0),) * 6, -3.3223680114155156, 50),
    "noisy Hartmann-6": Problem(hartmann, ((0.0, 1.0),) * 6, -3.3223680114155156, 60, 0.1),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the jobs that have no record, and write `optimisers.jsonl` and `optimisers.md`."""
    options = _parse(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is loaded
    options.out.mkdir(parents=True, exist_ok=True)
    records = options.out / "optimisers.jsonl"
    done = {(job["problem"], job["method"], job["seed"]) for job in load(records)}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for problem in options.problems:
            for method in options.methods:
                noisy = PROBLEMS[problem].noise > 0
                if (problem, method, seed) in done or (noisy and method.endswith("deterministic")):
                    continue
                record = run_job(problem, method, seed)
                with records.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
                print(f"{seed} {problem}, {method}: {record['recommended']:.4f}", flush=True)
    from benchmarks.optimisers_report import markdown

    table = markdown(load(records))
    (options.out / "optimisers.md").write_text(table, encoding="utf-8")
    print(table)


def run_job(problem: str, method: str, seed: int) -> Record:
    """One run of one method: three regrets, and the CPU seconds of each suggestion."""
    import numpy as np
    import torch

    from benchmarks.optimisers_methods import METHODS as makes

    torch.set_num_threads(1)
    task = PROBLEMS[problem]
    noise = task.noise * np.random.default_rng(seed).normal(size=task.trials)  # equal for all methods
    method_ = makes[method](task.bounds, seed)
    points: list[list[float]] = []
    seen: list[float] = []
    seconds: list[float] = []
    for trial in range(task.trials):
        begun = time.process_time()
        point = method_.ask()
        seconds.append(round(time.process_time() - begun, 4))
        value = task.function(point) + float(noise[trial])
        begun = time.process_time()
        method_.tell(value)
        seconds[-1] += round(time.process_time() - begun, 4)
        points.append(point)
        seen.append(value)
    true = [task.function(point) - task.least for point in points]
    return {
        "problem": problem,
        "method": method,
        "version": method_.version,
        "seed": seed,
        "recommended": task.function(method_.recommend()) - task.least,
        "incumbent": true[min(range(len(seen)), key=seen.__getitem__)],
        "evaluated": min(true),
        "curve": [round(min(true[: n + 1]), 6) for n in range(len(true))],
        "seconds": seconds,
    }


def load(path: Path) -> list[Record]:
    """The records of a file, none if there is no such file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.optimisers", description=__doc__)
    parser.add_argument("--problems", default=list(PROBLEMS), type=_words, help=f"of {', '.join(PROBLEMS)}")
    parser.add_argument("--methods", default=list(METHODS), type=_words, help="semicolon between them; all by default")
    parser.add_argument("--seeds", default=20, type=int, help="number of seeds")
    parser.add_argument("--first-seed", default=1000, type=int, help="none of these was used while tuning")
    parser.add_argument("--out", default=Path("benchmarks/results"), type=Path)
    return parser.parse_args(arguments)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(";") if word.strip()]


if __name__ == "__main__":
    main()
