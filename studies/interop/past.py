"""Trials that were run before or elsewhere, from tables and other programs, as a round of a study."""

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.errors import ConflictError
from studies.spaces.box import Box
from studies.storage.base import RoundRecord
from studies.study import Study

if TYPE_CHECKING:
    import pandas

__all__ = ["add_past", "box_of_study", "import_table", "tell_past"]


def import_table(
    study: Study, table: "pandas.DataFrame | str | os.PathLike[str]", outcome: str | Sequence[str]
) -> tuple[int, ...]:
    """Adds the rows of a table to a study, as trials of one round; a row whose outcome is not finite is a failed trial.

    Args:
        study: The study; its box names the columns of the parameters. Choices are given by their names.
        table: A data frame of pandas, or the path of a CSV file.
        outcome: The column of the outcome, or the columns, in order.

    Returns:
        The numbers of the new trials.

    Raises:
        ArgumentError: A column is missing, or a row lies outside the box.
        ArgumentTypeError: The study's space is no box.

    Example:
        >>> import pandas
        >>> from studies.strategies.sobol import Sobol
        >>> study = Study(Box({"q": (-2, 2)}), Sobol())
        >>> import_table(study, pandas.DataFrame({"q": [0.0, 1.0], "energy": [0.0, 0.5]}), "energy")
        (0, 1)
    """
    import pandas

    box = box_of_study(study)
    frame = table if isinstance(table, pandas.DataFrame) else pandas.read_csv(table)
    columns = [outcome] if isinstance(outcome, str) else list(outcome)
    if missing := [name for name in (*box.names, *columns) if name not in frame.columns]:
        raise ArgumentError(f"`table` lacks the columns {missing}. It has {list(frame.columns)}.")
    rows = [dict(zip(box.names, row, strict=True)) for row in frame[list(box.names)].itertuples(index=False, name=None)]
    values = torch.tensor(frame[columns].to_numpy(dtype="float64", na_value=math.nan))
    return tell_past(study, torch.stack([box.from_dict(row) for row in rows]), values) if rows else ()


def tell_past(study: Study, theta: Tensor, outcome: Tensor, errors: Sequence[str | None] = ()) -> tuple[int, ...]:
    """Appends trials with their outcomes.

    Args:
        study: The study.
        theta: Where the simulator was run, float64, shape [n, d], inside the space.
        outcome: What it returned, float64, shape [n, m]; a row that is not finite is a failed trial.
        errors: Why trials failed, n texts, where it is known.

    Returns:
        The numbers of the trials.

    Raises:
        ArgumentError: A row lies outside the space.
    """
    trials = add_past(study, theta)
    good = outcome.isfinite().all(-1)
    if bool(good.any()):
        study.tell([trial for trial, fine in zip(trials, good.tolist(), strict=True) if fine], outcome[good])
    for index in (~good).nonzero().flatten().tolist():
        why = errors[index] if errors else None
        study.fail(trials[index], why or f"The outcome is not finite: {outcome[index].tolist()}.")
    return trials


def add_past(study: Study, theta: Tensor) -> tuple[int, ...]:
    """Appends a round that no strategy proposed; its notes say so.

    Args:
        study: The study.
        theta: Where the simulator was run, float64, shape [n, d], inside the space.

    Returns:
        The numbers of its trials, n of them, to be told.

    Raises:
        ArgumentError: A row lies outside the space.
    """
    if not bool((inside := study.space.contains(theta)).all()):
        raise ArgumentError(f"Past trials must lie in {study.space!r}, got {theta[~inside].tolist()}. Leave them out.")
    while True:
        history = study.history
        round = RoundRecord(history.n_rounds, len(history.trials), theta.numpy(), {"imported": True}, "past data")
        try:
            study.storage.add_round(study.name, round)
        except ConflictError:
            continue  # another process asked meanwhile
        return tuple(round.trials)


def box_of_study(study: Study) -> Box:
    """The study's space, which must be a box.

    Raises:
        ArgumentTypeError: It is none.
    """
    if not isinstance(study.space, Box):
        raise ArgumentTypeError(f"`study` must have a Box, got {study.space!r}. Its names say which columns to read.")
    return study.space
