"""Histories in the forms that other programs read: pandas, xarray, zarr and CSV; one row a trial."""

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffsim.errors import ArgumentError
from studies.errors import StudyError

if TYPE_CHECKING:
    import pandas
    import xarray

    from studies.history import History

__all__ = ["to_csv", "to_pandas", "to_xarray", "to_zarr"]

WIDE = 1000  # columns of an outcome, at most


def to_pandas(history: "History") -> "pandas.DataFrame":
    """All trials as a table, indexed by their number.

    The columns are round and state; the parameters by name, integers as integers and choices as their names; the
    numbers of the outcome and of x ("outcome", or "outcome_0", "outcome_1_2", ...), NaN where there are none; started,
    seconds, seed, host and error. A name that a parameter has already gets an underscore behind.

    Args:
        history: The history.

    Raises:
        ArgumentError: An outcome has more than 1000 numbers: `to_xarray` keeps it as an array.
    """
    import pandas

    columns: dict[str, Any] = {
        "round": [trial.round for trial in history.trials],
        "state": [trial.state for trial in history.trials],
    }
    decoded = [history.space.to_dict(theta) for theta in history.tried]
    for name in history.space.names:
        columns[_free(name, columns)] = [row[name] for row in decoded]
    arrays = {"outcome": filled([trial.outcome for trial in history.trials], history.outcome)}
    if history.x is not None:
        arrays["x"] = filled([trial.x for trial in history.trials], history.x)
    for kind, array in arrays.items():
        columns.update({_free(name, columns): column for name, column in _flat(kind, array).items()})
    kinds = {"started": "float64", "seconds": "float64", "seed": "Int64", "host": "str", "error": "str"}
    for field, kind in kinds.items():
        column = pandas.Series([getattr(trial, field) for trial in history.trials], dtype=kind)
        columns[_free(field, columns)] = column.array
    return pandas.DataFrame(columns, index=pandas.Index([trial.number for trial in history.trials], name="trial"))


def to_csv(history: "History", path: str | os.PathLike[str]) -> None:
    """Writes the table of `to_pandas` as CSV, numbers with all their digits.

    Args:
        history: The history.
        path: The file; an existing one is replaced, at once.
    """
    partial = Path(path).with_name(f"{Path(path).name}.part")
    to_pandas(history).to_csv(partial)
    partial.replace(path)


def to_xarray(history: "History") -> "xarray.Dataset":
    """All trials as a dataset: theta by parameter, state, round, error, outcome and x (NaN where there is none).

    Args:
        history: The history.
    """
    import xarray

    trials = history.trials
    outcome = filled([trial.outcome for trial in trials], history.outcome)
    units: Mapping[str, str] = history.space.describe().get("units", {})
    dims = [f"outcome_{axis}" for axis in range(outcome.ndim - 1)]
    inputs = {} if history.x is None else {"x": filled([trial.x for trial in trials], history.x).numpy()}
    columns = {
        "state": [trial.state for trial in trials],
        "round": [trial.round for trial in trials],
        "seconds": [torch.nan if trial.seconds is None else trial.seconds for trial in trials],
        "error": [trial.error or "" for trial in trials],
    }
    return xarray.Dataset(
        {
            "theta": (["trial", "parameter"], history.tried.numpy()),
            "outcome": (["trial", *dims], outcome.numpy()),
            **{name: (["trial", "input"], column) for name, column in inputs.items()},
            **{name: ("trial", column) for name, column in columns.items()},
        },
        coords={
            "trial": [trial.number for trial in trials],
            "parameter": list(history.space.names),
            "units": ("parameter", [units.get(name, "") for name in history.space.names]),
        },
        attrs={
            "space": json.dumps(history.space.describe()),
            "info": json.dumps([dict(note) for note in history.info]),
        },
    )


def to_zarr(history: "History", path: str | os.PathLike[str]) -> None:
    """Writes the dataset of `to_xarray` as a zarr store, which `xarray.open_zarr` reads.

    Args:
        history: The history.
        path: The folder of the store; it must not exist.

    Raises:
        ArgumentError: There is something at that path.
        StudyError: zarr is not installed.
    """
    if importlib.util.find_spec("zarr") is None:  # xarray's own message does not say which extra is missing
        raise StudyError("Zarr is missing. Install it: pip install 'diffsim-studies[zarr]'")
    if Path(path).exists():
        raise ArgumentError(f"`path` must not exist yet, got {os.fspath(path)!r}. Name another, or remove it.")
    to_xarray(history).to_zarr(path, mode="w-", zarr_format=2, consolidated=True)


def filled(rows: Sequence[Tensor | None], column: Tensor) -> Tensor:
    """Rows like those of a column, NaN where there is none."""
    blank = torch.full(column.shape[1:], torch.nan, dtype=column.dtype)
    return torch.stack([blank if row is None else row for row in rows]) if rows else blank[None][:0]


def _flat(kind: str, array: Tensor) -> dict[str, Any]:
    """The numbers of rows [n, ...] as columns by name."""
    size = array[0].numel() if len(array) else 0
    if size > WIDE:
        raise ArgumentError(f"Each {kind} has {size} numbers, too many for a table. Use `to_xarray` or `to_zarr`.")
    if array.ndim == 1 or not len(array):
        return {kind: array.numpy()}
    places = torch.cartesian_prod(*(torch.arange(length) for length in array.shape[1:])).reshape(size, -1).tolist()
    return {"_".join([kind, *map(str, place)]): array[(slice(None), *place)].numpy() for place in places}


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """The name, with underscores behind where a parameter has it already."""
    while name in taken:
        name += "_"
    return name
