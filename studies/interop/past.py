"""Tables of trials that were run before or elsewhere, as a round of a study."""

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.spaces.box import Box
from studies.study import Study

if TYPE_CHECKING:
    import pandas

__all__ = ["box_of_study", "import_table"]


def import_table(
    study: Study, table: "pandas.DataFrame | str | os.PathLike[str]", outcome: str | Sequence[str]
) -> tuple[int, ...]:
    """Adds the rows of a table to a study, as trials of one round, once; not finite outcomes are failed trials.

    Args:
        study: The study; its box names the columns of the parameters. Choices are given by their names.
        table: A data frame of pandas, or the path of a CSV file.
        outcome: The column of the outcome, or the columns, in order.

    Returns:
        The numbers of the new trials.

    Raises:
        ArgumentError: A column is missing or there twice, a row lies outside the box, or the file cannot be read.
        ArgumentTypeError: The study's space is no box, the table is none, or an outcome is no number.

    Example:
        >>> import pandas
        >>> from studies.strategies.sobol import Sobol
        >>> study = Study(Box({"q": (-2, 2)}), Sobol())
        >>> import_table(study, pandas.DataFrame({"q": [0.0, 1.0], "energy": [0.0, 0.5]}), "energy")
        (0, 1)
    """
    import pandas

    box = box_of_study(study)
    frame = table if isinstance(table, pandas.DataFrame) else _read(table)
    columns = [outcome] if isinstance(outcome, str) else list(outcome)
    there = list(frame.columns)
    if missing := [name for name in (*box.names, *columns) if there.count(name) != 1]:
        raise ArgumentError(f"`table` lacks the columns {missing}, or has one of them twice. It has {there}.")
    rows = [dict(zip(box.names, row, strict=True)) for row in frame[list(box.names)].itertuples(index=False, name=None)]
    try:
        values = torch.tensor(frame[columns].to_numpy(dtype="float64", na_value=math.nan))
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(f"The columns {columns} of `table` must hold numbers: {error}.") from None
    return study.add(torch.stack([box.from_dict(row) for row in rows]), values) if rows else ()


def _read(table: "str | os.PathLike[str]") -> "pandas.DataFrame":
    import pandas

    if not isinstance(table, str | os.PathLike):
        raise ArgumentTypeError(f"`table` must be a data frame or the path of a CSV file, got {table!r}.")
    try:
        return pandas.read_csv(table)
    except (OSError, ValueError) as error:
        raise ArgumentError(f"`table` cannot be read: {error}. Pass the path of a CSV file.") from None


def box_of_study(study: Study) -> Box:
    """The study's space, which must be a box.

    Raises:
        ArgumentTypeError: It is none.
    """
    if not isinstance(study.space, Box):
        raise ArgumentTypeError(f"`study` must have a Box, got {study.space!r}. Its names say which columns to read.")
    return study.space
