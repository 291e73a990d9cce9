"""Pictures of runs and of learning: phase portraits, runs with the truth beside, energies, learning curves."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError
from diffsim.metrics import HasEnergy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["energy_over_time", "learning_curve", "phase_portrait", "trajectories"]


def phase_portrait(
    run: Trajectory,
    truth: Trajectory | None = None,
    *,
    components: tuple[int, int] | None = None,
    names: Sequence[str] = (),
    units: Sequence[str] = (),
    ax: "Axes | None" = None,
) -> "Axes":
    """Runs in the plane of two state components, the true ones dashed; dots mark the first states.

    Args:
        run: Runs.
        truth: True runs, drawn beside.
        components: The two components; None takes the first position and its momentum, 0 and d / 2.
        names: Names of the d components; without them those of the run.
        units: Units of the d components; without them those of the run.
        ax: Where to draw; None makes a figure.

    Raises:
        ArgumentError: A component that the state does not have.
    """
    i, j = components or (0, max(run.d // 2, min(1, run.d - 1)))
    _check_components(run, (i, j), truth)
    ax = _axes(ax)
    _draw(ax, run.y[..., i], run.y[..., j], None if truth is None else (truth.y[..., i], truth.y[..., j]))
    start = run.y0.detach().cpu()
    ax.scatter(start[:, i].numpy(), start[:, j].numpy(), s=12, color="C0", zorder=3)
    ax.set_xlabel(_label(run, i, names, units))
    ax.set_ylabel(_label(run, j, names, units))
    return ax


def trajectories(
    run: Trajectory,
    truth: Trajectory | None = None,
    *,
    component: int = 0,
    names: Sequence[str] = (),
    units: Sequence[str] = (),
    time_unit: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """One state component of runs over time, the true runs dashed.

    Args:
        run: Runs.
        truth: True runs, drawn beside.
        component: Which component.
        names: Names of the d components; without them those of the run.
        units: Units of the d components; without them those of the run.
        time_unit: Unit of the times; without it that of the run.
        ax: Where to draw; None makes a figure.

    Raises:
        ArgumentError: A component that the state does not have.
    """
    _check_components(run, (component,), truth)
    ax = _axes(ax)
    true = None if truth is None else (_over_time(truth), truth.y[..., component])
    _draw(ax, _over_time(run), run.y[..., component], true)
    ax.set_xlabel(_with_unit("t", time_unit or run.time_unit))
    ax.set_ylabel(_label(run, component, names, units))
    return ax


def energy_over_time(
    system: HasEnergy,
    run: Trajectory,
    truth: Trajectory | None = None,
    *,
    unit: str = "",
    time_unit: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """The energy of runs under a system over time, the true runs dashed.

    Args:
        system: The system whose energy is drawn.
        run: Runs.
        truth: True runs, drawn beside.
        unit: Unit of the energy.
        time_unit: Unit of the times; without it that of the run.
        ax: Where to draw; None makes a figure.
    """
    ax = _axes(ax)
    with torch.no_grad():
        true = None if truth is None else (_over_time(truth), system.energy(truth.y))
        _draw(ax, _over_time(run), system.energy(run.y), true)
    ax.set_xlabel(_with_unit("t", time_unit or run.time_unit))
    ax.set_ylabel(_with_unit("energy", unit))
    return ax


def learning_curve(
    cost: Tensor | Sequence[float],
    errors: Mapping[str, Tensor],
    *,
    cost_label: str = "simulator runs",
    error_label: str = "error",
    level: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """The error of several methods against what they cost: the median over repetitions, in a band of the quartiles.

    Args:
        cost: Shape [k], such as numbers of simulator runs.
        errors: For each method its errors, shape [repetitions, k]; NaN where a repetition has none.
        cost_label: Axis label, with unit.
        error_label: Axis label, with unit.
        level: A level of the error to mark.
        ax: Where to draw; None makes a figure.

    Raises:
        ArgumentError: Errors that do not fit the costs, or none.
    """
    x = torch.as_tensor(cost).detach().cpu().double()
    if not errors:
        raise ArgumentError("`errors` must hold at least one method, got none.")
    for name, error in errors.items():
        if error.ndim != 2 or error.shape[1] != len(x) or len(error) == 0:
            raise ArgumentError(
                f"`errors` of {name!r} must have shape [repetitions, {len(x)}], got {list(error.shape)}."
            )
    ax = _axes(ax)
    for k, (name, error) in enumerate(errors.items()):
        quartiles = error.detach().cpu().double().nanquantile(torch.tensor([0.25, 0.5, 0.75]).double(), dim=0).numpy()
        ax.plot(x.numpy(), quartiles[1], color=f"C{k}", marker="o", markersize=3, label=name)
        ax.fill_between(x.numpy(), quartiles[0], quartiles[2], color=f"C{k}", alpha=0.2, linewidth=0)
    if level is not None:
        ax.axhline(level, color="0.35", linestyle=":", linewidth=1.0)
    values = torch.cat([error.detach().cpu().double().flatten() for error in errors.values()])
    if not bool((values < 0).any()) and bool((values > 0).any()):  # a score may be negative, or nothing but zero
        ax.set_yscale("log")
    ax.set_xlabel(cost_label)
    ax.set_ylabel(error_label)
    ax.legend(frameon=False)
    return ax


def _axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(layout="constrained")[1]


def _draw(ax: "Axes", x: Tensor, y: Tensor, truth: tuple[Tensor, Tensor] | None) -> None:
    lines = ax.plot(x.detach().cpu().numpy(), y.detach().cpu().numpy(), color="C0", linewidth=1.2, zorder=2)
    if truth is not None:
        true = [z.detach().cpu().numpy() for z in truth]
        dashed = ax.plot(*true, color="0.35", linestyle="--", linewidth=1.0, zorder=1)
        ax.legend([lines[0], dashed[0]], ["prediction", "truth"], frameon=False)


def _over_time(run: Trajectory) -> Tensor:
    return run.t[:, None].expand(-1, run.n)


def _check_components(run: Trajectory, components: tuple[int, ...], truth: Trajectory | None) -> None:
    if truth is not None and truth.d != run.d:
        raise ArgumentError(f"`truth` must have the {run.d} components of `run`, got {truth.d}.")
    if any(not 0 <= component < run.d for component in components):
        raise ArgumentError(f"`components` must lie in 0 ... {run.d - 1}, got {components}.")


def _label(run: Trajectory, component: int, names: Sequence[str], units: Sequence[str]) -> str:
    for what, given in (("names", names), ("units", units)):
        if given and len(given) != run.d:
            raise ArgumentError(f"`{what}` must have one entry for each of the {run.d} components, got {tuple(given)}.")
    names, units = names or run.names, units or run.units
    return _with_unit(names[component] if names else f"y[{component}]", units[component] if units else "")


def _with_unit(name: str, unit: str) -> str:
    return f"{name} [{unit}]" if unit else name
