"""What `fit` refuses before its first step: runs mixed up by mini-batches, losses that are none, wrong types."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields.base import FunctionField
from diffsim.integrate.odeint import odeint, simulate
from diffsim.integrate.solver import Solver
from diffsim.systems.oscillators import Pendulum
from diffsim.training.experiments import Experiment, fit_experiments
from diffsim.training.fit import fit
from diffsim.training.losses import DerivativeLoss, OneStepLoss, RolloutLoss
from diffsim.training.settings import Training

LENGTHS = torch.tensor([[0.5], [1.0], [1.5], [2.0], [2.5], [3.0]], dtype=torch.float64)
RUNS = simulate(
    Pendulum(length=LENGTHS),
    torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
    torch.linspace(0, 1, 11, dtype=torch.float64),
)
RK4 = Solver("rk4", step=0.05)


def pendulum() -> Pendulum:
    gravity = nn.Parameter(torch.tensor(5.0, dtype=torch.float64))
    return Pendulum(length=LENGTHS, gravity=gravity)


@pytest.mark.parametrize("loss", [DerivativeLoss(), OneStepLoss(), RolloutLoss(4, initial="free")])
@pytest.mark.parametrize("batch", [4, 6])  # a batch as large as the number of runs fits the rows, but the wrong ones
def test_mini_batches_do_not_mix_runs_that_have_constants_of_their_own(loss, batch):
    with pytest.raises(ArgumentError, match="mini-batches mix the runs"):
        fit(pendulum(), RUNS, loss, Training(steps=2, batch=batch), RK4)
    with pytest.raises(ArgumentError, match="mini-batches mix the runs"):
        fit_experiments([Experiment(pendulum(), RUNS)], loss, Training(steps=2, batch=batch), RK4)
    with pytest.raises(ArgumentError, match="some of the runs are held out"):
        fit(pendulum(), RUNS, loss, Training(steps=2, batch="all", holdout=0.5), RK4)


def test_all_runs_together_keep_their_constants():
    field = pendulum()
    fit(field, RUNS, OneStepLoss(), Training("lbfgs", steps=15), RK4)
    assert field.gravity.item() == pytest.approx(9.81, abs=1e-2)


def linear() -> FunctionField:
    return FunctionField(lambda t, y, a: a * y, a=nn.Parameter(torch.tensor(-0.5, dtype=torch.float64)))


def squares(field: FunctionField, data: object, solver: Solver) -> Tensor:
    return (odeint(field, RUNS.y0, RUNS.t, solver) - RUNS.y).square()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda *a: squares(*a).mean(-1), r"scalar tensor, got \[11, 6\]"),
        (lambda *a: squares(*a).mean().item(), "scalar tensor, got float"),
        (lambda *a: squares(*a).mean().detach(), "returned a constant"),
        (DerivativeLoss, "`loss` must be a loss or a function"),
    ],
)
def test_losses_that_are_none(loss, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        fit(linear(), RUNS, loss, Training(steps=2), RK4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit(nn.Linear(2, 2), RUNS), "`field` must be a VectorField"),
        (lambda: fit(linear(), RUNS, training={"steps": 2}), "`training` must be a Training"),
        (lambda: Training(steps=10.0), "`steps` must be an int"),
        (lambda: Training(batch=2.5), "`batch` must be an int"),
        (lambda: Training(seed=None, lr="fast"), "`lr` must be a number"),
        (lambda: Training(seed=1.5), "`seed` must be an int"),
    ],
)
def test_wrong_types(call, message):
    assert Training(steps=np.int64(3), lr=np.float32(0.1)).steps == 3
    with pytest.raises(ArgumentTypeError, match=message):
        call()
