"""Optimisation with gradients: ours beside L-BFGS-B with restarts, at the same number of calls.

Run from the root of the repository: `OMP_NUM_THREADS=1 python -m benchmarks.gradients`.
It goes on where it was stopped.
"""

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from studies import Box, GradientDescent, GradientImprovement, Study, with_gradient

__all__ = ["main"]

Function = Callable[[Tensor], Tensor]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every method on every problem and seed, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gradients", description=__doc__)
    parser.add_argument("--problems", default=list(PROBLEMS), nargs="+", choices=list(PROBLEMS))
    parser.add_argument("--methods", default=list(METHODS), nargs="+", choices=list(METHODS))
    parser.add_argument("--seeds", default=20, type=int, help="number of seeds")
    parser.add_argument("--first-seed", default=1000, type=int, help="none of these was used while tuning")
    parser.add_argument("--out", default=Path("benchmarks/results"), type=Path)
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(given)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "gradients.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    done = {(record["problem"], record["method"], record["seed"]) for record in records}
    for problem in options.problems:
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            for method in options.methods:
                if (problem, method, seed) in done:
                    continue
                records.append(measure(problem, method, seed))
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(records[-1]) + "\n")
                print(records[-1], flush=True)
    text = table(records, shlex.join(["python", "-m", "benchmarks.gradients", *given]))
    (options.out / "gradients.md").write_text(text, encoding="utf-8")
    print(text)


def measure(problem: str, method: str, seed: int) -> dict[str, Any]:
    """The regret of one run: of the best value called, and of the answer; and the CPU seconds of a call."""
    function, bounds, least, calls = PROBLEMS[problem]
    box = Box({f"x{place}": pair for place, pair in enumerate(bounds)})
    counted = Counted(function)
    started = time.process_time()
    answer = METHODS[method](counted, box, calls, seed)
    seconds = (time.process_time() - started) / calls
    assert len(counted.values) == calls
    regret = min(counted.values) - least
    value = float(function(answer[None])) - least
    return {"problem": problem, "method": method, "seed": seed, "regret": regret, "answer": value, "seconds": seconds}


class Counted:
    """A function with gradient that keeps the values that were called."""

    def __init__(self, function: Function) -> None:
        self.simulator = with_gradient(function)
        self.values: list[float] = []

    def __call__(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        outcome = self.simulator(theta, generator)
        self.values += outcome[:, 0].tolist()
        return outcome


def run_study(strategy: Any, counted: Counted, box: Box, calls: int, seed: int) -> Tensor:
    """A study's answer."""
    study = Study(box, strategy, seed=seed)
    study.run(counted, trials=calls, vectorized=True, executor="here", progress=False)
    return study.recommend()


def run_scipy(counted: Counted, box: Box, calls: int, seed: int) -> Tensor:
    """The best point of L-BFGS-B from uniform starts, one after another, until the calls are spent."""
    generator = torch.Generator().manual_seed(seed)
    best: tuple[float, Tensor] = (float("inf"), box.bounds.mean(0))

    class Spent(Exception):
        pass

    def call(at: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best
        if len(counted.values) == calls:
            raise Spent
        theta = torch.from_numpy(at.copy())
        outcome = counted(theta[None], generator)[0]
        best = min(best, (float(outcome[0]), theta), key=lambda pair: pair[0])
        return float(outcome[0]), outcome[1:].numpy()

    try:
        while True:
            start = box.sample(1, generator)[0].numpy()
            minimize(call, start, jac=True, method="L-BFGS-B", bounds=list(zip(box.low, box.high, strict=True)))
    except Spent:
        return best[1]


def hartmann(theta: Tensor) -> Tensor:
    """Hartmann's function of six parameters."""
    from botorch.test_functions import Hartmann

    return Hartmann(dim=6)(theta)


def branin(theta: Tensor) -> Tensor:
    """Branin's function."""
    from botorch.test_functions import Branin

    return Branin()(theta)


PROBLEMS: dict[str, tuple[Function, list[tuple[float, float]], float, int]] = {
    "Branin": (branin, [(-5.0, 10.0), (0.0, 15.0)], 0.397887, 20),
    "Hartmann-6": (hartmann, [(0.0, 1.0)] * 6, -3.322368, 50),
}
METHODS: dict[str, Callable[[Counted, Box, int, int], Tensor]] = {
    "GradientImprovement": lambda *given: run_study(GradientImprovement(start=start_of(*given)), *given),
    "GradientImprovement, from the centre": lambda *given: run_study(GradientImprovement(), *given),
    "GradientDescent": lambda *given: run_study(GradientDescent(start=start_of(*given)), *given),
    "L-BFGS-B, restarts": run_scipy,
}


def start_of(counted: Counted, box: Box, calls: int, seed: int) -> list[float]:
    """The first start of `run_scipy`, so that all begin alike."""
    return box.sample(1, torch.Generator().manual_seed(seed))[0].tolist()


def table(records: list[dict[str, Any]], command: str) -> str:
    """The table of all records."""
    lines = [
        "# Optimisation with gradients",
        "",
        "Regret of the answer after a number of calls, each of which returns the value and the gradient. All "
        "begin at the same random point, but where the table says so. L-BFGS-B is scipy's, GradientImprovement's next "
        "three points are of a Sobol sequence.",
        "",
        f"`{command}`, with OMP_NUM_THREADS=1",
        "",
        "| problem, calls | method | mean | median | largest | below 1e-3 | CPU s a call |",
        "|---|---|---|---|---|---|---|",
    ]
    for problem in PROBLEMS:
        for method in METHODS:
            rows = [record for record in records if (record["problem"], record["method"]) == (problem, method)]
            if rows:
                regrets = [row["answer"] for row in rows]
                cells = [statistics.mean(regrets), statistics.median(regrets), max(regrets)]
                near = f"{sum(regret < 1e-3 for regret in regrets)} of {len(rows)}"
                seconds = statistics.mean(row["seconds"] for row in rows)
                numbers = " | ".join(f"{max(cell, 0):.5f}" for cell in cells)
                lines.append(f"| {problem}, {PROBLEMS[problem][3]} | {method} | {numbers} | {near} | {seconds:.3f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
