"""The spring experiment of the Hamiltonian network: seconds of 2000 full-batch steps beside the published loop.

Run from the root of the repository: `python -m benchmarks.hnn_speed`. The published loop is written out: a network
with two outputs, its gradient by autograd with a graph, Adam, and the test loss at every step.
Source: Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563, appendix A.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffsim import DerivativeLoss, HamiltonianField, Training, Trajectory, fit, mlp
from diffsim.systems.hnn_data import hnn_spring_data

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Time both loops in turns and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hnn_speed", description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", default=Path("benchmarks/results"), type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data = hnn_spring_data()
    (y, dy), (test_y, test_dy) = ([x.float() for x in data.rows(part)] for part in (data.train, data.test))
    loops: dict[str, Callable[[], float]] = {
        "published loop": lambda: _published(y, dy, test_y, test_dy, options.steps),
        "`fit`": lambda: _ours(y, dy, options.steps),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    losses: dict[str, float] = {}
    for _ in range(options.repeats):
        for name, loop in loops.items():
            begin = time.process_time()
            losses[name] = loop()
            seconds[name].append(time.process_time() - begin)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    lines = [
        f"`python -m benchmarks.hnn_speed --steps {options.steps} --repeats {options.repeats}`, {platform.machine()}, "
        f"{len(y)} samples, one thread, float32, CPU seconds, medians of loops in turns.",
        "",
        "| | CPU seconds | ratio | training loss at the end |",
        "|---|---|---|---|",
        *(
            f"| {name} | {medians[name]:.2f} | {medians['published loop'] / medians[name]:.2f} | {losses[name]:.3e} |"
            for name in loops
        ),
    ]
    (options.out / "hnn_speed.md").write_text("# The spring experiment\n\n" + "\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def _published(y: Tensor, dy: Tensor, test_y: Tensor, test_dy: Tensor, steps: int) -> float:
    net = mlp(2, 2, (200, 200))
    rotation = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-4)
    y, test_y = y.requires_grad_(True), test_y.requires_grad_(True)

    def error(x: Tensor, target: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(net(x)[:, 1].sum(), x, create_graph=True)
        return (gradient @ rotation.T - target).square().mean()

    loss = torch.zeros(())
    for _ in range(steps):
        loss = error(y, dy)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        error(test_y, test_dy).item()
    return loss.item()


def _ours(y: Tensor, dy: Tensor, steps: int) -> float:
    data = Trajectory(torch.zeros(1), y.detach()[None], dy[None])
    field = HamiltonianField(mlp(2, 1, (200, 200)))
    training = Training(steps=steps, lr=1e-3, batch="all", weight_decay=1e-4, schedule="constant")
    return fit(field, data, DerivativeLoss(), training).losses[-1]


if __name__ == "__main__":
    main()
