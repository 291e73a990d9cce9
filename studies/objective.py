"""The objective of a history's trials: what optimisers minimise, computed from outcomes and, where seen, inputs."""

import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.history import History

__all__ = ["Objective", "apply_objective", "evaluate_objective", "objective_of"]

_LARGEST = 1e150

Objective = Callable[..., Tensor]
"""Called `objective(outcome)`, or `objective(outcome, x)` where inputs x are observed; smaller is better."""


def evaluate_objective(objective: Objective | None, history: History, name: str = "objective") -> Tensor:
    """The objective of each complete trial, float64, shape [n]; NaN where it is not finite: such a trial is left out.

    So is one whose square would not be finite: no model could learn from it.

    Args:
        objective: Maps outcomes, shape [n, ...], and inputs x, shape [n, k], where the history has any, to shape [n] or
            [n, 1]. None: the outcome is the objective.
        history: The trials.
        name: What errors call it.

    Raises:
        ArgumentError: The objective has the wrong shape.
        ArgumentTypeError: It is no tensor, or does not take the arguments that it is called with.

    Example:
        >>> from studies.spaces.box import Box
        >>> theta = torch.tensor([[0.0], [1.0]])
        >>> history = History.from_tensors(Box({"a": (0, 1)}), theta, torch.tensor([[1.0, 2.0], [3.0, torch.nan]]))
        >>> evaluate_objective(lambda y: y.sum(-1), history)
        tensor([3., nan], dtype=torch.float64)
    """
    if len(history) == 0:
        return torch.empty(0, dtype=torch.float64)
    return apply_objective(objective, history.outcome, history.x, name)


def apply_objective(objective: Objective | None, outcome: Tensor, x: Tensor | None, name: str = "objective") -> Tensor:
    """The objective of outcomes [n, ...] and inputs [n, k], if any, as in `evaluate_objective`."""
    n, value = len(outcome), outcome
    called, mend = "the outcome", "Pass objective=..., a function of the outcome that gives one number a trial."
    if objective is not None:
        arguments = (outcome,) if x is None else (outcome, x)
        called = f"{name}(outcome{'' if x is None else ', x'})"
        mend = "Return one number a row: `lambda y: y.square().sum(-1)`, say."
        _check_call(objective, arguments, name, called)
        with torch.no_grad():
            value = objective(*arguments)
        if not isinstance(value, Tensor):
            raise ArgumentTypeError(f"{called} must be a tensor of shape [{n}], got a {type(value).__name__}. {mend}")
    if value.shape not in ((n,), (n, 1)):
        raise ArgumentError(f"{called} must have shape [{n}] or [{n}, 1], got {list(value.shape)}. {mend}")
    value = value.detach().to("cpu", torch.float64).reshape(n)
    return torch.where(value.abs() < _LARGEST, value, torch.nan)


def objective_of(strategy: object) -> Objective | None:
    """What a strategy minimises: its objective, NaN where a constraint that it has on the outcome is not met.

    None: the outcome itself.
    """
    objective: Objective | None = getattr(strategy, "objective", None)
    constraints: Sequence[Objective] = getattr(strategy, "constraints", ())
    if not constraints:
        return objective

    def feasible(outcome: Tensor, *x: Tensor) -> Tensor:
        value = outcome if objective is None else objective(outcome, *x)
        for constraint in constraints:
            value = torch.where(constraint(outcome, *x).reshape(value.shape) <= 0, value, torch.nan)
        return value

    return feasible


def _check_call(objective: Objective, arguments: tuple[Tensor, ...], name: str, called: str) -> None:
    try:
        inspect.signature(objective).bind(*arguments)
    except TypeError:
        raise ArgumentTypeError(
            f"`{name}` is called {called}, and {objective!r} does not take that. It takes the outcome, and the "
            "inputs x too where the simulator has `inputs`."
        ) from None
    except ValueError:
        return  # a function whose signature cannot be read
