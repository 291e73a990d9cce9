"""Fitting a vector field to runs."""

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields.base import VectorField
from diffsim.integrate.solver import Solver
from diffsim.training.losses import DerivativeLoss, Loss, LossFunction
from diffsim.training.optimise import optimise
from diffsim.training.report import FitReport
from diffsim.training.settings import Training
from diffsim.training.terms import LossTerms, RunTerms, check_free_rows

__all__ = ["fit"]


def fit(
    field: VectorField,
    data: Trajectory,
    loss: Loss | LossFunction = DerivativeLoss(),
    training: Training = Training(),
    solver: Solver = Solver(),
) -> FitReport:
    """Train the weights of a field on runs, in place.

    The data are cast to the dtype of the field's weights and moved to their device, once. The field ends with its
    best weights: of the lowest held-out loss, or, if nothing is held out, of the lowest training loss (with
    mini-batches: the last).

    Args:
        field: Its parameters that require a gradient are trained.
        data: Runs to learn from. Derivatives `data.dy` are used where they are known.
        loss: `DerivativeLoss`, `OneStepLoss`, `RolloutLoss`, or a function `loss(field, data, solver) -> scalar`.
        training: Optimiser, steps, mini-batches, early stopping, seed.
        solver: Solves for the losses that need solutions.

    Returns:
        The record of the fit.

    Raises:
        ArgumentError: The field has nothing to train or does not fit the data; a part of the data would be empty;
            mini-batches for a field with constants of one row a run.
        ArgumentTypeError: An argument of the wrong type.
        TrainingError: The loss is not finite, or the solver failed; the field then has its last finite weights.

    Example:
        >>> import torch
        >>> from diffsim.fields import HamiltonianField, mlp
        >>> t = torch.linspace(0, 3, 31)
        >>> oscillation = torch.stack([t.cos(), -t.sin()], dim=-1)[:, None]
        >>> report = fit(HamiltonianField(mlp(2, 1, (16,))), Trajectory(t, oscillation), training=Training(steps=20))
        >>> report.steps, report.best_loss < report.losses[0]
        (20, True)
    """
    if not isinstance(field, VectorField):
        raise ArgumentTypeError(f"`field` must be a VectorField, got {type(field).__name__}. Subclass VectorField.")
    if not isinstance(training, Training):
        raise ArgumentTypeError(f"`training` must be a Training, got {type(training).__name__}. Pass Training(...).")
    if not isinstance(data, Trajectory):
        raise ArgumentTypeError(f"`data` must be a Trajectory, got {type(data).__name__}. Pass Trajectory(t, y).")
    weights = [parameter for parameter in field.parameters() if parameter.requires_grad]
    if not weights:
        raise ArgumentError(
            f"`field` {type(field).__name__} has no parameters that require a gradient: nothing can be trained. "
            "Make its unknowns nn.Parameter."
        )
    train, held_out = _hold_out(data, training)
    if train.n < data.n:
        check_free_rows(field, data, "some of the runs are held out. Pass Training(holdout=0), and judge other runs.")
    terms = _terms(loss, field, train, solver, held_out=False)
    if isinstance(loss, Loss) and (training.batch_size or terms.n) < terms.n:
        check_free_rows(field, train, "mini-batches mix the runs. Pass Training(batch='all').")
    judge = None if held_out is None else _terms(loss, field, held_out, solver, held_out=True)
    return optimise(
        lambda index: terms(field, index),
        weights,
        training,
        n_terms=terms.n,
        extra=terms.parameters,
        held_out=None if judge is None else lambda: judge(field),
    )


def _terms(
    loss: Loss | LossFunction, field: VectorField, data: Trajectory, solver: Solver, *, held_out: bool
) -> LossTerms:
    if isinstance(loss, Loss):
        return loss.terms(field, data, solver, held_out=held_out)
    if not callable(loss) or isinstance(loss, type):
        raise ArgumentTypeError(f"`loss` must be a loss or a function, got {loss!r}. Pass DerivativeLoss().")
    weight = next(parameter for parameter in field.parameters() if parameter.requires_grad)
    return RunTerms(loss, data.detach().to(dtype=weight.dtype, device=weight.device), solver)


def _hold_out(data: Trajectory, training: Training) -> tuple[Trajectory, Trajectory | None]:
    if not training.holdout:
        return data, None
    try:
        if data.n > 1:
            return data.split(1 - training.holdout, training.seed)
        return data.split_time(1 - training.holdout)
    except ArgumentError as error:
        raise ArgumentError(
            f"`holdout` {training.holdout} of {data.n} runs of {len(data.t)} samples leaves a part empty. "
            "Choose another share, or give more data."
        ) from error
