"""How well surrogates give the gradient of an expected objective: the three-hump problem, three designs.

Run from the root of the repository: `OMP_NUM_THREADS=1 python -m benchmarks.surrogate_gradients`.
"""

import argparse
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from surrogates import ConditionalFlow, ContinuousFlow, CramerGAN, GaussianNetwork, MixtureDensityNetwork, Surrogate
from surrogates.generators.response import LinearResponse, ProcessResponse, QuadraticResponse, Response
from surrogates.problems import Hump2

__all__ = ["main"]

CENTRES = ((1.0, 1.0), (0.5, -1.0), (0.5, 0.5), (0.5, 1.2))  # where the objective has no kink
HALF_WIDTH = 0.5
DESIGNS = {"4 theta x 3000": (4, 3000), "15,000 theta x 1": (15_000, 1), "1,000 theta x 1": (1000, 1)}
DRAWS = 10_000
PROBLEM = Hump2()
KINDS: dict[str, Callable[..., Surrogate]] = {
    "Cramer GAN": CramerGAN,
    "continuous flow": ContinuousFlow,
    "neural spline flow": ConditionalFlow,
    "mixture density network": MixtureDensityNetwork,
    "Gaussian network": GaussianNetwork,
    "linear response of R": LinearResponse,
    "quadratic response of R": QuadraticResponse,
    "process response of R": ProcessResponse,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit every surrogate to every design, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.surrogate_gradients", description=__doc__)
    parser.add_argument("--seeds", default=3, type=int, help="data sets for each centre")
    parser.add_argument("--kinds", default=list(KINDS), nargs="+", choices=list(KINDS))
    parser.add_argument("--designs", default=list(DESIGNS), nargs="+", choices=list(DESIGNS))
    parser.add_argument("--out", default=Path("benchmarks/results/surrogate_gradients.md"), type=Path)
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(given)
    torch.set_num_threads(1)
    lines = [
        "# Gradients from surrogates",
        "",
        f"Hump-2: gradient of the expected objective at theta = {', '.join(map(str, CENTRES))} from simulations in the "
        f"box of half-width {HALF_WIDTH} around it, against the exact gradient. Mean cosine / mean relative error "
        f"(CPU seconds of a fit), over {options.seeds} data sets for each of the {len(CENTRES)} points. *with x*: the "
        "simulator's random inputs are inputs of the surrogate too, and the expectation is over fresh ones.",
        "",
        f"`{shlex.join(['python', '-m', 'benchmarks.surrogate_gradients', *given])}`, with OMP_NUM_THREADS=1",
        "",
        f"| surrogate | {' | '.join(options.designs)} |",
        "|---|" + "---|" * len(options.designs),
    ]
    print(*lines[-2:], sep="\n")
    for name in options.kinds:
        for with_x in (False, True):
            cells = [measure(KINDS[name], DESIGNS[design], with_x, options.seeds) for design in options.designs]
            lines.append(f"| {name}{', with x' if with_x else ''} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure(kind: Callable[..., Surrogate], design: tuple[int, int], with_x: bool, seeds: int) -> str:
    """One cell of the table."""
    cosines, errors, seconds = list[float](), list[float](), list[float]()
    for centre in torch.tensor(CENTRES, dtype=torch.float64):
        exact = gradient(PROBLEM.exact, centre)
        for seed in range(seeds):
            found, used = estimate(kind, centre, design, with_x, seed)
            cosines.append(float(torch.cosine_similarity(found, exact, dim=0)))
            errors.append(float((found - exact).norm() / exact.norm()))
            seconds.append(used)
    return f"{statistics.mean(cosines):.4f} / {statistics.mean(errors):.2f} ({statistics.mean(seconds):.2f} s)"


def estimate(
    kind: Callable[..., Surrogate], centre: Tensor, design: tuple[int, int], with_x: bool, seed: int
) -> tuple[Tensor, float]:
    """The gradient at a centre by a surrogate, and the CPU seconds of its fit."""
    generator = torch.Generator().manual_seed(seed)
    rows, repeats = design
    offsets = 2 * torch.rand(rows, 2, dtype=torch.float64, generator=generator) - 1
    theta = (centre + HALF_WIDTH * offsets).repeat_interleave(repeats, 0)
    x = PROBLEM.inputs(len(theta), generator)
    outcome = PROBLEM(theta, x, generator)
    surrogate = kind(2, 1, 2 if with_x else 0)
    responds = isinstance(surrogate, Response)  # to theta, by the objective itself

    def objective(y: Tensor, inputs: Tensor | None = None) -> Tensor:
        return y[..., 0] if responds else PROBLEM.objective(y, inputs)

    start = time.process_time()
    surrogate.fit(theta, PROBLEM.objective(outcome, x)[:, None] if responds else outcome, x if with_x else None)
    seconds = time.process_time() - start
    fresh = PROBLEM.inputs(DRAWS, generator) if with_x else None
    n = 1 if with_x else DRAWS
    return gradient(lambda at: surrogate.expectation(objective, at, fresh, n, generator).mean(), centre), seconds


def gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """The gradient of a scalar function, shape [d]."""
    at = at.clone().requires_grad_(True)
    return torch.autograd.grad(function(at), at)[0]


if __name__ == "__main__":
    main()
