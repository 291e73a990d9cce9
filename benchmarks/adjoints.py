"""Memory and time of each way to differentiate a solve, over the number of steps; each in a process of its own.

Run from the root of the repository: `OMP_NUM_THREADS=1 python -m benchmarks.adjoints`.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import shlex
import statistics
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["main"]

Record = dict[str, Any]

_STEP = 0.01
_TOLERANCE = 1e-5
_STEPS = (50, 500, 5000)
_WAYS = {
    "rk4": ("backprop", "adjoint", "checkpoint"),
    "leapfrog": ("backprop", "checkpoint", "reversible"),
    "tsit5": ("backprop", "checkpoint", "interpolated"),
    "dopri5": ("backprop", "adjoint", "checkpoint", "interpolated"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every way at every length, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adjoints", description=__doc__)
    parser.add_argument("--steps", default=list(_STEPS), nargs="+", type=int)
    parser.add_argument("--methods", default=list(_WAYS), nargs="+", choices=list(_WAYS))
    parser.add_argument("--repeats", default=3, type=int)
    parser.add_argument("--out", default=Path("benchmarks/results"), type=Path)
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(given)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "adjoints.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    done = {(r["method"], r["gradient"], r["steps"]) for r in records}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "diffsim"])
    for steps in options.steps:
        for method in options.methods:
            for gradient in _WAYS[method]:
                if (method, gradient, steps) in done:
                    continue
                # A fresh process: the largest memory of a process never falls. Long solves are measured once.
                repeats = options.repeats if steps < 5000 else 1
                with context.Pool(1) as pool:
                    record = pool.apply(measure, (method, gradient, steps, repeats))
                record["command"] = shlex.join(["python", "-m", "benchmarks.adjoints", *given])
                records.append(record)
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
                print(record, flush=True)
    text = table(records)
    (options.out / "adjoints.md").write_text(text, encoding="utf-8")
    print(text)


def measure(method: str, gradient: str, steps: int, repeats: int) -> Record:
    """One training step: the largest memory above that of a solve of a single step, and its CPU time."""
    import torch

    from diffsim import (
        FunctionField,
        IntegrationError,
        NeuralField,
        SeparableHamiltonian,
        Solver,
        VectorField,
        mlp,
        odeint,
        solve,
    )

    torch.set_num_threads(1)
    adaptive = method in ("tsit5", "dopri5")
    field: VectorField
    if method == "leapfrog":
        field = SeparableHamiltonian(mlp(1, 1, (64, 64)), mlp(1, 1, (64, 64), seed=1))
    elif method == "rk4":
        field = NeuralField(mlp(2, 2, (64, 64)))
    else:
        # A fast rotation, so that the length of the adaptive steps stays the same.
        net = mlp(2, 2, (64, 64))
        field = FunctionField(lambda t, y: 20 * torch.stack([y[..., 1], -y[..., 0]], -1) - y + net(y))
        field.net = net
    y0 = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    step = None if adaptive else _STEP
    length = _STEP
    if adaptive:
        with torch.no_grad():
            trial = solve(field, y0, torch.tensor([0.0, 1.0]), Solver(method, rtol=_TOLERANCE, atol=_TOLERANCE))
        length = 1 / int(trial.steps.max())

    def run(end: float) -> tuple[torch.Tensor, ...]:
        solver = Solver(method, step=step, rtol=_TOLERANCE, atol=_TOLERANCE, gradient=gradient, backend="plain")  # pyright: ignore[reportArgumentType]
        y = odeint(field, y0, torch.tensor([0.0, end]), solver)
        return torch.autograd.grad(y[-1].square().mean(), tuple(field.parameters()))

    run(length)
    before = _peak()
    found: list[float] = []
    gradients: tuple[torch.Tensor, ...] = ()
    for _ in range(repeats):
        started = time.process_time()
        try:
            gradients = run(steps * length)
        except IntegrationError as error:
            return {"method": method, "gradient": gradient, "steps": steps, "failed": str(error)}
        found.append(time.process_time() - started)
    norm = float(torch.cat([g.flatten() for g in gradients]).norm())
    seconds = statistics.median(found)
    return {
        "method": method,
        "gradient": gradient,
        "steps": steps,
        "mib": _peak() - before,
        "seconds": seconds,
        "norm": norm,
        "torch": torch.__version__,
    }


def _peak() -> float:
    """The largest memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(records: Sequence[Record]) -> str:
    """Memory and time of all records, one row a way."""
    latest = {(r["method"], r["gradient"], r["steps"]): r for r in records}
    lengths = sorted({steps for *_, steps in latest})
    lines = [
        "# What a gradient costs\n",
        "Made by `python -m benchmarks.adjoints`; the records are in `adjoints.jsonl`. One training step by the",
        "plain path: states at the end of a solve, batch 64, networks with two hidden layers of 64 units, float32, one",
        "thread. RK4 and leapfrog take T steps of 0.01. dopri5 and tsit5 choose theirs at a tolerance of 1e-5, for a",
        "rotation and a network, over a time that would take T of the steps that they begin with; the rotation decays,",
        "so that T = 5000 takes fewer. Memory: how far the largest memory of a fresh process rises above that of a",
        "solve of one step, MiB. Time: CPU seconds, the median of the repeats. Ratios: to backprop of the same method",
        "at the largest T.",
        f"Machine: {platform.machine()}, shared with other work; torch {version('torch')}.\n",
        "| method | gradient | "
        + " | ".join(f"T = {n}: MiB | s" for n in lengths)
        + " | memory, ratio | time, ratio |",
        "|---|---|" + "---|---|" * len(lengths) + "---|---|",
    ]
    for method, ways in _WAYS.items():
        for gradient in ways:
            cells = [latest.get((method, gradient, n)) for n in lengths]
            if all(cell is None for cell in cells):
                continue
            text = [_cell(cell) for cell in cells]
            whole, mine = latest.get((method, "backprop", lengths[-1])), cells[-1]
            ratios = " | "
            if whole and mine and "failed" not in mine:
                memory = f"{mine['mib'] / whole['mib']:.3f}" if whole["mib"] > 0 else ""
                ratios = f"{memory} | {mine['seconds'] / whole['seconds']:.2f}"
            lines.append(f"| {method} | {gradient} | " + " | ".join(text) + f" | {ratios} |")
    return "\n".join(lines) + "\n"


def _cell(record: Record | None) -> str:
    if record is None:
        return " | "
    return "fails | " if "failed" in record else f"{record['mib']:.1f} | {record['seconds']:.3g}"


if __name__ == "__main__":
    main()
