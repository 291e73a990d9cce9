"""How many runs each strategy needs until the model's roll-out error on held-out initial conditions is small.

python -m benchmarks.active_learning                      # all problems, 10 seeds: hours on two cores
python -m benchmarks.active_learning --seeds 2 --problems pendulum,Duffing
python -m benchmarks.active_learning --report-only        # table and figure from the recorded curves
"""

import argparse
import json
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.active_learning_problems import PROBLEMS, Problem
from benchmarks.active_learning_report import HOLD, STRATEGIES, write_report
from diffsim import GaussianProcessHamiltonian, fit_runs
from studies import ErrorReduction, History, ModelBased, Random, Sobol, Strategy, Study, disagreement
from surrogates import RolloutPosterior

LEVEL = 1 / 2  # of the measurement noise
TARGETS = ("region", "box")


class Learner:
    """Fits the problem's model to a history; remembers the last fit, which strategy and evaluation share."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem, self.seed = problem, seed
        self.fits: dict[int, GaussianProcessHamiltonian] = {}

    def field(self, history: History) -> GaussianProcessHamiltonian:
        """The fitted model after all complete trials."""
        if len(history) not in self.fits:
            model = self.problem.model(self.seed)
            _, theta = self.problem.launch(history.theta)
            fit_runs(model, history.runs(self.problem.t), theta=theta, step=float(self.problem.t[-1]) / 18)
            self.fits = {len(history): model}
        return self.fits[len(history)]

    def __call__(self, history: History) -> RolloutPosterior:
        problem = self.problem
        return RolloutPosterior(self.field(history), problem.t, state=problem.state, theta=problem.theta)


def strategy_for(name: str, learner: Learner, targets: Tensor) -> Strategy:
    """One of the compared strategies; the model-based ones start with one random run too."""
    if name == "random":
        return Random()
    if name == "sobol":
        return Sobol()
    acquire = disagreement if name == "disagreement" else ErrorReduction(targets)
    return ModelBased(learner, acquire, start=1, initial=Random(), candidates=128, climb=0)


def learning_curve(name: str, target: str, strategy: str, seed: int, n_runs: int) -> dict[str, object]:
    """The median held-out error after 1, 2, ... runs; stops once the level is held."""
    torch.set_num_threads(1)
    problem = PROBLEMS[name]
    region = target == "region"
    held_out = problem.held_out(region, 100, seed=10_000)
    truth = problem.truth(held_out)
    learner = Learner(problem, seed)
    # The study sees other draws of the target distribution than those it is judged on.
    chosen = strategy_for(strategy, learner, problem.held_out(region, 64, seed=20_000))
    study = Study(problem.box, chosen, seed=seed)
    errors: list[float] = []
    started = time.process_time()
    for n in range(1, n_runs + 1):
        history = study.run(problem.measure, trials=n, executor="here", progress=False)
        error = (problem.predict(learner.field(history), held_out) - truth).square().mean((1, 2)).sqrt()
        errors.append(float(torch.nan_to_num(error, nan=torch.inf).median()))
        if len(errors) >= HOLD and max(errors[-HOLD:]) <= LEVEL * problem.noise:
            break
    return {
        "problem": name,
        "target": target,
        "strategy": strategy,
        "seed": seed,
        "level": LEVEL * problem.noise,
        "errors": errors,
        "n_runs": n_runs,
        "cpu_seconds": time.process_time() - started,
    }


def main() -> None:
    """Runs what is asked for and not yet recorded, then writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", default=",".join(k.replace(",", ";") for k in PROBLEMS), help="';' for ','")
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=30, help="most runs of one study")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=float, default=float("inf"), help="stop after so many seconds")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--report-only", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    record = args.out / "active_learning.jsonl"
    lines = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    done = {(r["problem"], r["target"], r["strategy"], r["seed"]) for r in lines}
    problems = [name.replace(";", ",") for name in args.problems.split(",")]
    jobs = [
        (name, target, strategy, seed)
        for seed in range(args.seeds)
        for name in problems
        for target in args.targets.split(",")
        for strategy in args.strategies.split(",")
        if (name, target, strategy, seed) not in done
    ]
    if jobs and not args.report_only:
        os.environ["OMP_NUM_THREADS"] = "1"
        machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
        deadline = time.monotonic() + args.limit
        with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool, record.open("a") as file:
            futures = [
                pool.submit(learning_curve, name, target, strategy, seed, args.runs)
                for name, target, strategy, seed in jobs
            ]
            for future in as_completed(futures):
                if future.cancelled():
                    continue
                result = future.result() | {"machine": machine}
                file.write(json.dumps(result) + "\n")
                file.flush()
                print(result["problem"], result["target"], result["strategy"], result["seed"], flush=True)
                if time.monotonic() > deadline:
                    for other in futures:
                        other.cancel()
    print(write_report(record, args.out))


if __name__ == "__main__":
    main()
