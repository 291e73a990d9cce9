"""Pictures that the experiments share: runs beside the truth, and energies or errors over time."""

from collections.abc import Callable, Mapping

from matplotlib.figure import Figure
from torch import Tensor

__all__ = ["states_and_energies"]


def states_and_energies(
    runs: Mapping[str, Tensor], t: Tensor, energy: Callable[[Tensor], Tensor], components: tuple[int, int] | None = None
) -> Figure:
    """The first run of each model, [T, n, d], in the plane of two components and in time, and the energies of all.

    The first of the runs is the truth: drawn dashed.
    """
    first = next(iter(runs.values()))
    i, j = components or (0, first.shape[-1] // 2)
    figure = Figure(figsize=(11, 3), layout="constrained")
    plane, time, energies = figure.subplots(1, 3)
    wide, high = (1.3 * float(first[:, 0, part].abs().max()) for part in (i, j))
    for n, (name, run) in enumerate(runs.items()):
        style = {"color": "k", "ls": "--", "zorder": 5} if n == 0 else {"color": f"C{n - 1}"}
        y = run[:, 0].detach()
        plane.plot(y[:, i].numpy(), y[:, j].numpy(), lw=1, **style)
        time.plot(t.numpy(), y[:, i].numpy(), lw=1, label=name, **style)
        energies.plot(t.numpy(), energy(run.detach())[:, 0].numpy(), lw=1, **style)
    plane.set(xlabel="q", ylabel="p", xlim=(-wide, wide), ylim=(-high, high))
    time.set(xlabel="t", ylabel="q", ylim=(-wide, wide))
    true = energy(first)[:, 0]
    spread = float((true.max() - true.min()).clamp(min=0.2 * float(true.abs().max())))
    energies.set(xlabel="t", ylabel="energy", ylim=(float(true.min()) - spread, float(true.max()) + spread))
    figure.legend(*time.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7)
    return figure
