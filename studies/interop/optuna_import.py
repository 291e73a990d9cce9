"""An Optuna study as past data of a study of ours."""

import math
from typing import Any

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from studies.interop.missing import needs
from studies.interop.past import box_of_study
from studies.spaces.box import Box
from studies.study import Study

with needs("Optuna"):
    import optuna
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial, TrialState

__all__ = ["import_optuna"]


def import_optuna(study: Study, source: optuna.Study) -> tuple[int, ...]:
    """Adds the finished trials of an Optuna study to a study, as trials of one round.

    The outcome is Optuna's values, negated where they are maximised; failed and pruned trials are failed ones. Trials
    that lack a parameter of the box, or lie outside it, are left out.

    Args:
        study: The study; its box has parameters with the names of Optuna's. A choice has Optuna's categories as text.
        source: The Optuna study.

    Returns:
        The numbers of the new trials.

    Raises:
        ArgumentError: No trial lies in the box.
        ArgumentTypeError: The study's space is no box.
    """
    box = box_of_study(study)
    finished = [trial for trial in source.get_trials(deepcopy=False) if trial.state.is_finished()]
    placed = [(trial, row) for trial in finished if (row := _row(box, trial.params)) is not None]
    if not placed:
        raise ArgumentError(f"No finished trial of {source.study_name!r} lies in {box!r}. Compare their parameters.")
    signs = torch.tensor(
        [-1.0 if way == StudyDirection.MAXIMIZE else 1.0 for way in source.directions], dtype=torch.float64
    )
    values = [_values(trial, len(signs)) for trial, _ in placed]
    theta = torch.stack([row for _, row in placed])
    outcome = signs * torch.tensor(values, dtype=torch.float64)
    return study.add(theta, outcome, errors=[_error(trial) for trial, _ in placed])


def _row(box: Box, params: dict[str, Any]) -> Tensor | None:
    if not set(box.names) <= set(params):
        return None
    values = {name: str(params[name]) if name in box.choices else params[name] for name in box.names}
    try:
        return box.from_dict(values)
    except ValueError:
        return None


def _values(trial: FrozenTrial, m: int) -> list[float]:
    return trial.values if trial.state == TrialState.COMPLETE else [math.nan] * m


def _error(trial: FrozenTrial) -> str:
    return f"Optuna's trial {trial.number} ended as {trial.state.name}. {trial.user_attrs.get('error', '')}".rstrip()
