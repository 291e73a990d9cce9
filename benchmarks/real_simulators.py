"""Strategies with default settings on two real simulators: a reactor in Cantera, a differential pair in ngspice.

Each study is a line of results/real_simulators.jsonl; what is there is not run again. The table follows from them.
"""

import argparse
import json
import subprocess
import time
from collections import defaultdict
from itertools import product
from pathlib import Path

import torch

from studies import CMAES, LocalDescent, NoisyExpectedImprovement, Study, measured
from studies.examples import cantera_laboratory, cantera_reactor, ngspice_laboratory, ngspice_pair

SIMULATORS = {
    "Cantera reactor": (cantera_reactor, cantera_laboratory.burner),
    "ngspice pair": (ngspice_pair, ngspice_laboratory.pair),
}
STRATEGIES = {
    "LocalDescent": lambda objective: LocalDescent(objective=objective),
    "CMA-ES, n = 3": lambda objective: CMAES(objective, repeats=3),
    "noisy EI": lambda objective: NoisyExpectedImprovement(objective),
}
TRIALS = (100, 200)
GOAL = 2.30
FRESH = 100  # the first seed that was not seen while tuning
RESULTS = Path(__file__).parent / "results"


def measure(problem: str, strategy: str, seed: int) -> dict:
    example, simulator = SIMULATORS[problem]
    exact = measured(simulator, example.objective, n=200, seed=10_000)
    study = Study(example.BOX, STRATEGIES[strategy](example.objective), seed=seed)
    values, seconds, theta = [], 0.0, torch.empty(0)
    for n in TRIALS:
        clock = time.process_time()
        study.run(simulator, trials=n, executor="here", progress=False)
        theta = study.recommend()
        seconds += time.process_time() - clock
        values.append(float(exact(theta)))
    record = {"problem": problem, "strategy": strategy, "seed": seed, "values": values}
    command = ["git", "log", "-1", "--format=%h", "--", "studies/strategies", "surrogates"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return record | {"theta": theta.tolist(), "seconds": seconds, "commit": commit}


def table(records: list[dict]) -> str:
    values = defaultdict(list)
    for record in records:
        values[record["problem"], record["strategy"], record["seed"] >= FRESH].append(record)
    lines = [
        "# Real simulators: the objective of the recommended point (mean of 200 fresh simulations)",
        "",
        f"Default settings, from the middle of the box, single simulations. Goal for the reactor: {GOAL} by 200.",
        f"Seeds from {FRESH} on were run once, after the strategies were fixed; the others were seen while tuning.",
        "",
        f"| simulator | strategy | seeds | {' | '.join(f'median at {n} (range)' for n in TRIALS)} | CPU s | commit |",
        "|---|---|---|" + "---|" * (len(TRIALS) + 2),
    ]
    for problem, (example, simulator) in SIMULATORS.items():
        start = measured(simulator, example.objective, n=200, seed=10_000)(example.BOX.bounds.mean(0))
        lines.append(f"| {problem} | the start | | {' | '.join([f'{start:.2f}'] * len(TRIALS))} | | |")
        for strategy, fresh in product(STRATEGIES, (True, False)):
            found = values[problem, strategy, fresh]
            if found:
                seeds = [record["seed"] for record in found]
                scores = torch.tensor([record["values"] for record in found], dtype=torch.float64)
                cells = [f"{column.median():.2f} ({column.min():.2f} to {column.max():.2f})" for column in scores.T]
                seconds = torch.tensor([record["seconds"] for record in found]).median()
                commits = ", ".join(sorted({record["commit"] for record in found}))
                values_of = " | ".join(cells)
                lines.append(
                    f"| {problem} | {strategy} | {min(seeds)}-{max(seeds)} | {values_of} | {seconds:.1f} | {commits} |"
                )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=FRESH)
    parser.add_argument("--problems", nargs="*", choices=list(SIMULATORS), default=list(SIMULATORS))
    parser.add_argument("--strategies", nargs="*", choices=list(STRATEGIES), default=list(STRATEGIES))
    arguments = parser.parse_args()
    path = RESULTS / "real_simulators.jsonl"
    path.touch()
    done = {tuple(json.loads(line)[key] for key in ("problem", "strategy", "seed")) for line in path.open()}
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for problem in arguments.problems:
            for strategy in arguments.strategies:
                if (problem, strategy, seed) not in done:
                    with path.open("a") as file:
                        file.write(json.dumps(measure(problem, strategy, seed)) + "\n")
    text = table([json.loads(line) for line in path.open()])
    (RESULTS / "real_simulators.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
