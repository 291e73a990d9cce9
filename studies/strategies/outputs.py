"""Several numbers of each outcome, such as an objective and constraints, and independent Gaussian processes of them.

They are in units of their own spread: BoTorch's acquisitions smooth constraints and gains on an absolute scale.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from botorch.models import SingleTaskGP
from torch import Tensor

from diffsim.errors import ArgumentTypeError
from studies.history import History, Trial
from studies.objective import Objective, evaluate_objective
from studies.strategies.penalties import learnable
from studies.strategies.settings import is_function
from surrogates.gaussian_process import gaussian_process

__all__ = ["Outputs", "check_functions", "predict"]

_CONSTANT = 1e-12  # of a number's magnitude: below, its spread is rounding


class Outputs:
    """Rows of finite numbers: functions of the outcomes of a history's complete trials.

    Args:
        objectives: Functions of the outcome (and the inputs x, where observed).
        constraints: More of them; m in all.
        history: The trials; those with a number that is not finite, or a penalty, are left out.

    Attributes:
        theta: Parameters of the others, shape [n, d].
        scale: The standard deviations of their numbers, shape [m]; 1 where there is none.
        values: Their numbers in units of that scale, shape [n, m].
        history: The history, in which those that are left out have failed.
    """

    def __init__(
        self, objectives: Sequence[Objective | None], constraints: Sequence[Objective], history: History
    ) -> None:
        columns = [learnable(function, history) for function in objectives]
        columns += [evaluate_objective(function, history, "constraint") for function in constraints]
        values = torch.stack(columns, 1)
        good = values.isfinite().all(1)
        self.history = _failing(~good, history)
        self.theta, values = self.history.theta, values[good]
        spread = values.std(0, correction=0) if len(values) else values.new_zeros(values.shape[1])
        self.scale = torch.where(spread > _CONSTANT * values.abs().sum(0), spread, 1.0)
        self.values = values / self.scale

    def __len__(self) -> int:
        return len(self.theta)

    def fit(self) -> SingleTaskGP:
        """Independent Gaussian processes of the m values."""
        return gaussian_process(self.theta, self.values, bounds=self.history.space.bounds)


def _failing(bad: Tensor, history: History) -> History:
    """The history in which some of the complete trials, a mask of shape [n], have failed."""
    if not bool(bad.any()):
        return history
    is_bad = iter(bad.tolist())

    def told(trial: Trial) -> Trial:
        if trial.state == "complete" and next(is_bad):
            error = "A number of its outcome is not finite, or a penalty."
            return replace(trial, state="failed", outcome=None, x=None, error=error)
        return trial

    return History(history.space, tuple(told(trial) for trial in history.trials), history.info)


def predict(model: SingleTaskGP, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the outputs, differentiable in theta, shape [n, d] -> [n, m] and [n, m]."""
    posterior: Any = model.posterior(theta)
    return posterior.mean, posterior.variance.clamp_min(1e-20).sqrt()


def check_functions(name: str, functions: object) -> None:
    """Raises ArgumentTypeError unless it is a sequence of functions of the outcome."""
    if isinstance(functions, str) or not isinstance(functions, Sequence):
        raise ArgumentTypeError(f"`{name}` must be a list of functions of the outcome, got {functions!r}.")
    for function in functions:
        if not is_function(function):
            raise ArgumentTypeError(f"`{name}` must hold functions of the outcome, got {function!r}.")
