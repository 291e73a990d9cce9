"""Fitting an energy to values and forces together, as from a force field or an electronic-structure code."""

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, TrainingError
from diffsim.fields.hamiltonian import Hamiltonian
from diffsim.training.optimise import optimise
from diffsim.training.report import FitReport
from diffsim.training.settings import Training

__all__ = ["fit_energy"]


def fit_energy(
    field: Hamiltonian,
    y: Tensor,
    energy: Tensor | None = None,
    gradient: Tensor | None = None,
    *,
    share: float = 0.5,
    training: Training = Training(),
) -> FitReport:
    """Train an energy on its values, its gradients, or both: loss = (1 - share) values + share gradients.

    Each part is the mean squared error in units of the variance of its data (where that is not zero), so that `share`
    has no units. A state with its d gradients tells d + 1 numbers: fewer states are needed than with values alone.

    Args:
        field: Its energy is trained, in place.
        y: States, shape [n, d].
        energy: H at the states, shape [n]; None trains on gradients alone.
        gradient: dH/dy (forces with their sign changed), shape [n, d]; None trains on values alone.
        share: Weight of the gradients where both are given, between 0 and 1.
        training: Optimiser, steps, mini-batches, seed; nothing can be held out.

    Returns:
        The record of the fit.

    Raises:
        ArgumentError: Shapes do not agree, neither values nor gradients are given, or a value is out of range.
        TrainingError: Data that are not finite, or a loss that is not.

    Source: Witkoskie and Doren, 2005, Journal of Chemical Theory and Computation 1, 14, equation 4.
    """
    if energy is None and gradient is None:
        raise ArgumentError("Give `energy`, `gradient` or both: there is nothing to learn from.")
    if not 0 < share < 1:
        raise ArgumentError(f"`share` must lie between 0 and 1, got {share}. Leave one kind of data out instead.")
    if training.holdout:
        raise ArgumentError("`holdout` is not for `fit_energy`. Keep states back and judge by them.")
    weights = [p for p in field.parameters() if p.requires_grad]
    if not weights:
        raise ArgumentError(f"`field` {type(field).__name__} has nothing to train.")
    if y.ndim != 2 or len(y) == 0:
        raise ArgumentError(f"`y` must have shape [n, d], got {list(y.shape)}.")
    data: dict[str, Tensor] = {}
    for name, given, shape in (("energy", energy, y.shape[:1]), ("gradient", gradient, y.shape)):
        if given is None:
            continue
        if given.shape != shape:
            raise ArgumentError(f"`{name}` must have shape {list(shape)}, got {list(given.shape)}.")
        data[name] = given.detach().to(weights[0])
    states = y.detach().to(weights[0])
    if not all(bool(torch.isfinite(x).all()) for x in (states, *data.values())):
        raise TrainingError("States, energies and gradients must be finite. Leave the failed ones out.")
    of = {"energy": 1 - share if gradient is not None else 1.0, "gradient": share if energy is not None else 1.0}
    scale = {name: of[name] / _variance(x, about_zero=name == "gradient") for name, x in data.items()}

    def loss(index: Tensor | None) -> Tensor:
        chosen = states if index is None else states[index]
        predicted = {"energy": field.energy, "gradient": field.energy_gradient}
        parts = [
            scale[name] * (predicted[name](chosen) - (x if index is None else x[index])).square().mean()
            for name, x in data.items()
        ]
        return torch.stack(parts).sum()

    return optimise(loss, weights, training, n_terms=len(y))


def _variance(x: Tensor, *, about_zero: bool) -> float:
    """The variance of the data; 1 where it is rounding, as on a shell of one energy: then errors have units."""
    variance = float(x.square().mean() if about_zero else x.var(0, correction=0))
    rounding = 4 * torch.finfo(x.dtype).eps * float(x.abs().max())
    return variance if variance > rounding**2 else 1.0
