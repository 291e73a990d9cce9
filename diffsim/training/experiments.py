"""Fitting one field to several experiments that differ in what is known, such as the input of each."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields.base import VectorField
from diffsim.integrate.solver import Solver
from diffsim.training.losses import DerivativeLoss, Loss
from diffsim.training.optimise import optimise
from diffsim.training.report import FitReport
from diffsim.training.settings import Training
from diffsim.training.terms import LossTerms, check_free_rows

__all__ = ["Experiment", "fit_experiments"]


@dataclass(frozen=True, slots=True, eq=False)
class Experiment:
    """Runs, and the field as it acts in them.

    Attributes:
        field: Shares its networks with the fields of the other experiments; what is known, such as the input u(t),
            is its own.
        data: Its runs.
    """

    field: VectorField
    data: Trajectory


def fit_experiments(
    experiments: Sequence[Experiment],
    loss: Loss = DerivativeLoss(),
    training: Training = Training(),
    solver: Solver = Solver(),
) -> FitReport:
    """Train what the fields of several experiments share (and what each has alone), in place.

    A mini-batch is drawn from the terms of all experiments. Weights end as with `fit`: those of the last step with
    mini-batches, the best without.

    Args:
        experiments: At least one.
        loss: As for `fit`; the loss of all is the mean over the terms of all.
        training: As for `fit`; nothing can be held out.
        solver: Solves for the losses that need solutions.

    Raises:
        ArgumentError: No experiments, nothing to train, or `holdout` is set.
        ArgumentTypeError: The loss is not one of ours.
        TrainingError: The loss is not finite, or the solver failed.

    Source: Zhong, Dey and Chakraborty, 2020, arXiv 1909.12077, section 4 (one constant input for each set of runs).

    Example:
        >>> from diffsim.fields import HamiltonianField, Input, PortHamiltonian, mlp
        >>> from diffsim.integrate.odeint import simulate
        >>> from diffsim.systems import MassSpring
        >>> energy, t = HamiltonianField(mlp(2, 1, (8,))), torch.linspace(0, 1, 6)
        >>> def experiment(u):
        ...     push = Input(torch.tensor([u]))
        ...     data = simulate(PortHamiltonian(MassSpring(), input=push), torch.eye(2), t)
        ...     return Experiment(PortHamiltonian(energy, input=push), data)
        >>> report = fit_experiments([experiment(-1.0), experiment(1.0)], training=Training(steps=20))
        >>> report.best_loss < report.losses[0]
        True
    """
    if not experiments:
        raise ArgumentError("`experiments` must hold at least one.")
    if not isinstance(loss, Loss):
        raise ArgumentTypeError(f"`loss` must be one of ours, such as RolloutLoss, got {type(loss).__name__}.")
    if training.holdout:
        raise ArgumentError("`holdout` is not for several experiments. Keep an experiment back and judge by it.")
    weights = {id(p): p for e in experiments for p in e.field.parameters() if p.requires_grad}
    if not weights:
        raise ArgumentError("The fields have no parameters that require a gradient: nothing can be trained.")
    parts = [loss.terms(e.field, e.data, solver) for e in experiments]
    together = _Together([e.field for e in experiments], parts)
    if (training.batch_size or together.n) < together.n:
        for e in experiments:
            check_free_rows(e.field, e.data, "mini-batches mix the runs. Pass Training(batch='all').")
    return optimise(
        together, list(weights.values()), training, n_terms=together.n, extra=together.parameters, held_out=None
    )


class _Together:
    def __init__(self, fields: Sequence[VectorField], parts: Sequence[LossTerms]) -> None:
        self._fields, self._parts = fields, parts
        self._first = torch.tensor([0] + [part.n for part in parts]).cumsum(0).tolist()
        self.n: int = self._first[-1]
        self.parameters: tuple[nn.Parameter, ...] = tuple(p for part in parts for p in part.parameters)

    def __call__(self, index: Tensor | None) -> Tensor:
        losses: list[Tensor] = []
        for field, part, first in zip(self._fields, self._parts, self._first, strict=False):
            own = None if index is None else index[(index >= first) & (index < first + part.n)] - first
            count = part.n if own is None else len(own)
            if count:
                losses.append(part(field, own) * count)
        return torch.stack(losses).sum() / (self.n if index is None else len(index))
