"""An acquisition over rollouts of an ensemble, with its gradient: our ensemble beside torchdiffeq member by member.

Run from the root of the repository: `python -m benchmarks.acquisition_speed`. Eight members, 512 candidates, 50 RK4
steps (the 3/8 rule); the value is the members' disagreement, its gradient that of a search for the next experiment.
The rival is what the framework did before it had a native library. Both values and gradients are compared.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torchdiffeq import odeint as reference

from diffsim import HamiltonianField, NeuralField, Solver, VectorField, mlp
from surrogates import RolloutEnsemble

__all__ = ["main"]

MEMBERS, CANDIDATES, STEPS, STEP = 8, 512, 50, 0.1


def main(arguments: Sequence[str] | None = None) -> None:
    """Time both in turns and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.acquisition_speed", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", default=Path("benchmarks/results"), type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    lines = [
        f"`python -m benchmarks.acquisition_speed --repeats {options.repeats}`, {platform.machine()}, torch "
        f"{torch.__version__}, one thread, float32, CPU seconds of a value with its gradient in all candidates: "
        f"medians of turns. {MEMBERS} members, {CANDIDATES} candidates, {STEPS} RK4 steps. Goal: five times faster.",
        "",
        "| members | torchdiffeq, one by one | `RolloutEnsemble` | times faster | difference of gradients |",
        "|---|---|---|---|---|",
    ]
    for kind, width in (("neural", 64), ("neural", 200), ("Hamiltonian", 64), ("Hamiltonian", 200)):
        seconds, gap = _compare(_members(kind, width), options.repeats)
        before, now = (statistics.median(times) for times in seconds)
        lines.append(
            f"| {kind}, 2 x {width} | {before:.3f} | {now:.3f} | {before / now:.1f} | {gap:.1e} of the largest |"
        )
        print(lines[-1], flush=True)
    text = "# An acquisition over rollouts\n\n" + "\n".join(lines) + "\n"
    (options.out / "acquisition_speed.md").write_text(text, encoding="utf-8")


def _members(kind: str, width: int) -> list[VectorField]:
    hidden = (width, width)
    if kind == "neural":
        return [NeuralField(mlp(2, 2, hidden, seed=seed)) for seed in range(MEMBERS)]
    return [HamiltonianField(mlp(2, 1, hidden, seed=seed)) for seed in range(MEMBERS)]


def _compare(fields: list[VectorField], repeats: int) -> tuple[list[list[float]], float]:
    t = torch.linspace(0, STEPS * STEP, STEPS + 1)
    model = RolloutEnsemble(fields, t, solver=Solver("rk4", step=STEP, gradient="backprop", on_divergence="nan"))
    designs = torch.rand(CANDIDATES, 1, 2, generator=torch.Generator().manual_seed(0))

    def alone(field: VectorField, y0: Tensor) -> Tensor:
        return cast(Tensor, reference(field, y0, t, method="rk4"))[1:].movedim(0, 1).flatten(1)

    def one_by_one(x: Tensor) -> Tensor:
        return torch.stack([alone(field, x[:, 0]) for field in fields])

    def ours(x: Tensor) -> Tensor:
        return model.forward(x)[..., 0, :].movedim(-2, 0)

    runs: list[Callable[[Tensor], Tensor]] = [one_by_one, ours]
    seconds: list[list[float]] = [[], []]
    gradients: list[Tensor] = [designs, designs]
    for turn in range(repeats + 1):
        for number, run in enumerate(runs):
            x = designs.clone().requires_grad_(True)
            begin = time.process_time()
            (gradients[number],) = torch.autograd.grad(run(x).var(0).sum(), x)
            if turn:  # the first turn warms up
                seconds[number].append(time.process_time() - begin)
    before, now = gradients
    return seconds, float((before - now).abs().max() / before.abs().max())


if __name__ == "__main__":
    main()
