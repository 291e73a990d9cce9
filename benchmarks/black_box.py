"""Optimisers of stochastic black boxes side by side: simulations until the exact objective of the answer is good.

Run from the root of the repository: `python -m benchmarks.black_box --workers 2`. It resumes from its own records.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

__all__ = ["main"]

Record = dict[str, Any]

# The levels, and the simulations after which a study that has not reached the last one is given up.
PROBLEMS: dict[str, tuple[tuple[float, ...], int]] = {
    "Hump2": ((-0.80, -0.85), 20_000),
    "Hump40": ((-0.80,), 20_000),
    "Rosenbrock10": ((1.0, 0.1), 30_000),
    "Rosenbrock100": ((1.0,), 40_000),
    "Boston91": ((80.0, 75.0, 70.0), 200_000),
}
METHODS = (
    "local descent",
    *(f"CMA-ES n={n}" for n in (1, 5, 20, 50, 200)),
    "TuRBO n=20",
    "noisy EI n=50",
    *(f"differences n={n}" for n in (25, 200)),
    "random n=20",
    "paper, linear",
    "paper, density",
)
PAPER = {"Hump2": (0.5, 4), "Hump40": (0.2, 20), "Rosenbrock10": (0.2, 15), "Rosenbrock100": (0.2, 20)}
PAPER_SIMULATIONS = 1_200_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the jobs that have no record, and write `black_box.jsonl` and `black_box.md`."""
    options = _parse(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the workers when they load torch
    records = options.out / "black_box.jsonl"
    options.out.mkdir(parents=True, exist_ok=True)
    done = {(job["problem"], job["method"], job["seed"]) for job in _load(records) if _covers(job, options)}
    jobs = [
        (problem, method, seed)
        for seed in range(options.first_seed, options.first_seed + options.seeds)
        for problem in options.problems
        for method in options.methods
        if (problem, method, seed) not in done
    ]
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        limits = options.seconds, options.budget, options.first_level, options.whole
        running = [pool.submit(run_job, *job, *limits) for job in jobs]
        for number, future in enumerate(as_completed(running), start=1):
            record = future.result()
            with records.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            print(f"{number} of {len(jobs)}: {record['problem']}, {record['method']}, {record['reached']}", flush=True)
    from benchmarks.black_box_report import markdown

    notes = options.out / "black_box_notes.md"  # by hand: which calls made the records, and what was missed
    told = notes.read_text(encoding="utf-8") if notes.is_file() else ""
    table = f"{markdown(_load(records), PROBLEMS)}\n\n{told}".rstrip() + "\n"
    (options.out / "black_box.md").write_text(table, encoding="utf-8")
    print(table)


def run_job(
    problem: str, method: str, seed: int, seconds: float, budget: int | None, first_level: bool, whole: bool
) -> Record:
    """One study, judged after each round by the exact objective of its recommendation."""
    import torch

    from studies import Box, Study
    from surrogates import problems

    torch.set_num_threads(1)
    task = getattr(problems, problem)()
    levels, most = PROBLEMS[problem]
    levels = levels[:1] if first_level else levels
    most = budget or (PAPER_SIMULATIONS if method.startswith("paper") else most)
    study = Study(Box(task.space_bounds), strategy_of(method, problem, task), seed=seed)
    reached: list[int | None] = [None] * len(levels)
    curve: list[tuple[int, float]] = []
    started, simulated, ended = time.process_time(), 0.0, "simulations"

    class Timed:
        """The simulator, whose own time is not counted."""

        inputs = staticmethod(task.inputs)

        def __call__(self, theta, x, generator):
            nonlocal simulated
            begun = time.process_time()
            outcome = task(theta, x, generator)
            simulated += time.process_time() - begun
            return outcome

    n = 0
    while n < most:
        history = study.run(
            Timed(), rounds=study.history.n_rounds + 1, executor="here", vectorized=True, progress=False
        )
        n = len(history.trials)
        value = float(task.exact(study.recommend()[None])[0])
        curve.append((n, value))
        reached = [n if hit is None and value <= level else hit for hit, level in zip(reached, levels, strict=True)]
        if all(hit is not None for hit in reached) and not whole:
            ended = "level"
            break
        if time.process_time() - started > seconds:
            ended = "time"
            break
    return {
        "problem": problem,
        "method": method,
        "seed": seed,
        "levels": levels,
        "reached": reached,
        "ended": ended,
        "simulations": n,
        "final": curve[-1][1],
        "best": min(value for _, value in curve),
        "seconds": time.process_time() - started - simulated,
        "curve": curve[:: max(1, len(curve) // 100)],
    }


def strategy_of(method: str, problem: str, task: Any):
    """The strategy of a name, with default settings but for its number of simulations of each theta."""
    from studies import CMAES, FiniteDifferences, LocalDescent, NoisyExpectedImprovement, PaperLoop, RandomSearch, TuRBO
    from surrogates import LinearResponse, MixtureDensityNetwork

    name, _, repeats = method.partition(" n=")
    shared = {"objective": task.objective, "start": task.start}
    makes: dict[str, Callable[[], Any]] = {
        "local descent": lambda: LocalDescent(**shared),
        "CMA-ES": lambda: CMAES(repeats=int(repeats), **shared),
        "TuRBO": lambda: TuRBO(repeats=int(repeats), **shared),
        "noisy EI": lambda: NoisyExpectedImprovement(repeats=int(repeats), **shared),
        "differences": lambda: FiniteDifferences(repeats=int(repeats), **shared),
        "random": lambda: RandomSearch(objective=task.objective, repeats=int(repeats)),
    }
    if name in makes:
        return makes[name]()
    eps, points = PAPER[problem]
    dim, k = len(task.start), task.inputs(1, _generator()).shape[1]
    kind = LinearResponse if "linear" in name else MixtureDensityNetwork
    return PaperLoop(lambda: kind(dim, 1, k), eps=eps, points=points, **shared)


def _generator():
    import torch

    return torch.Generator().manual_seed(0)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.black_box", description=__doc__)
    parser.add_argument("--problems", default=list(PROBLEMS), type=_words, help=f"of {','.join(PROBLEMS)}")
    parser.add_argument("--methods", default=list(METHODS), type=_words, help="comma between them; all by default")
    parser.add_argument("--seeds", default=20, type=int, help="number of seeds")
    parser.add_argument("--first-seed", default=1000, type=int, help="none of these was used while tuning")
    parser.add_argument("--seconds", default=600.0, type=float, help="CPU seconds after which a study is given up")
    parser.add_argument("--budget", default=None, type=int, help="simulations, if not the problem's own")
    parser.add_argument("--first-level", action="store_true", help="stop at the first level of each problem")
    parser.add_argument("--whole", action="store_true", help="go on after the last level, to the budget")
    parser.add_argument("--workers", default=1, type=int, help="processes at once, one thread each")
    parser.add_argument("--out", default=Path("benchmarks/results"), type=Path)
    return parser.parse_args(arguments)


def _covers(job: Record, options: argparse.Namespace) -> bool:
    """Whether a record tells what is asked for: each level, and the whole budget where that is wanted."""
    levels, most = PROBLEMS[job["problem"]]
    asked = 1 if options.first_level else len(levels)
    return len(job["levels"]) >= asked and not (options.whole and job["simulations"] < (options.budget or most))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(";" if ";" in text else ",") if word.strip()]


def _load(path: Path) -> list[Record]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
