"""How much any choice of runs can save: greedy against random design when only the energy's weights are unknown.

    python -m benchmarks.active_learning_bound

The length scales, the noise and the linearisation are those of a model that has seen many runs; the posterior variance
then depends on the designs alone, and the greedy minimiser of it is close to the best that there is.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.active_learning_problems import PROBLEMS, Problem
from diffsim import fit_runs
from studies import History
from surrogates import RolloutPosterior


def responses(problem: Problem, region: bool) -> tuple[Tensor, Tensor]:
    """Prior responses of 200 candidate runs in units of the noise, and of 64 target runs, [n, o, F]."""
    designs = problem.box.sobol(60, seed=1)
    runs = problem.measure(designs, torch.Generator().manual_seed(0))
    model = problem.model(0)
    history = History.from_tensors(problem.box, designs, runs)
    fit_runs(model, history.runs(problem.t), theta=problem.launch(designs)[1])
    model.factor = model.signal * torch.eye(len(model.weights), dtype=torch.float64)
    posterior = RolloutPosterior(model, problem.t, state=problem.state, theta=problem.theta)
    candidates = posterior.response(problem.box.sobol(200, seed=2)) / problem.noise
    return candidates, posterior.response(problem.held_out(region, 64, seed=20_000))


def error_curve(candidates: Tensor, targets: Tensor, n_runs: int, generator: torch.Generator | None) -> Tensor:
    """Median target error after 1, 2, ... runs: random with a generator, greedy without, [n_runs]."""
    information = torch.zeros(candidates.shape[-1], candidates.shape[-1], dtype=candidates.dtype)
    factor = torch.eye(candidates.shape[-1], dtype=candidates.dtype)
    errors: list[Tensor] = []
    for _ in range(n_runs):
        if generator is not None:
            chosen = int(torch.randint(len(candidates), (), generator=generator))
        else:
            chosen = int(_gain(candidates @ factor, targets @ factor).argmax())
        information += candidates[chosen].T @ candidates[chosen]
        precision, basis = torch.linalg.eigh(information)
        factor = basis / (precision.clamp_min(0) + 1).sqrt()
        errors.append((targets @ factor).square().sum(-1).mean(-1).sqrt().median())
    return torch.stack(errors)


def _gain(candidates: Tensor, targets: Tensor) -> Tensor:
    variance = targets.square().sum(-1).mean(-1)
    weighted = (targets / (variance.sqrt()[:, None, None] + 1e-12)).flatten(0, 1)
    gram = candidates @ candidates.mT + torch.eye(candidates.shape[1], dtype=candidates.dtype)
    return ((candidates @ (weighted.T @ weighted)) * torch.linalg.solve(gram, candidates)).sum((1, 2))


def main() -> None:
    """Prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--runs", type=int, default=24)
    args = parser.parse_args()
    lines = [
        "# How much any choice of runs can save",
        "",
        "Made by `python -m benchmarks.active_learning_bound`. Runs that a greedy design needs for the error that",
        "random choice (median of 8 seeds) reaches after 8, 16 and 24 runs, as a share of these, when the energy's",
        "length scales are known and runs are linear in its weights.",
        "",
        "| problem | tested in | 8 | 16 | 24 |",
        "|---|---|---|---|---|",
    ]
    for name, problem in PROBLEMS.items():
        for region in (True, False):
            candidates, targets = responses(problem, region)
            greedy = error_curve(candidates, targets, args.runs, None)
            seeds = [torch.Generator().manual_seed(seed) for seed in range(8)]
            random = torch.stack([error_curve(candidates, targets, args.runs, seed) for seed in seeds]).median(0).values
            shares = [float((greedy > random[n - 1]).sum() + 1) / n for n in (8, 16, 24) if n <= args.runs]
            where = "region" if region else "box"
            lines.append(f"| {name} | {where} | " + " | ".join(f"{share:.2f}" for share in shares) + " |")
            print(lines[-1], flush=True)
    (args.out / "active_learning_bound.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
