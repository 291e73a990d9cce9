"""The xarray and netCDF form of sampled runs: dimensions `time`, `run`, `state`, with units."""

import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError

if TYPE_CHECKING:
    import xarray

__all__ = ["dataset_to_fields", "fields_to_dataset", "read_netcdf", "write_netcdf"]

_DIMENSIONS = ("time", "run", "state")


def fields_to_dataset(
    t: Tensor, y: Tensor, dy: Tensor | None, names: tuple[str, ...], units: tuple[str, ...], time_unit: str
) -> "xarray.Dataset":
    """A dataset of the fields of a `Trajectory`; a copy on the CPU, cut from any graph."""
    import xarray

    arrays = {"y": y} if dy is None else {"y": y, "dy": dy}
    coordinates: dict[str, Any] = {
        "time": ("time", t.detach().cpu().numpy().copy(), {"units": time_unit} if time_unit else {}),
        "run": range(y.shape[1]),
    }
    if names:
        coordinates["state"] = list(names)
    if units:
        coordinates["unit"] = ("state", list(units))
    variables: dict[str, Any] = {k: (_DIMENSIONS, v.detach().cpu().numpy().copy()) for k, v in arrays.items()}
    return xarray.Dataset(variables, coordinates)


def dataset_to_fields(dataset: "xarray.Dataset") -> dict[str, Any]:
    """The fields of a `Trajectory` from a dataset.

    Raises:
        ArgumentError: A variable or dimension is missing.
        ArgumentTypeError: It is no dataset, or its times are dates.
    """
    import xarray

    if not isinstance(dataset, xarray.Dataset):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ArgumentTypeError(
            f"`dataset` must be an xarray.Dataset, got {type(dataset).__name__}. Pass array.to_dataset(name='y')."
        )
    missing = [name for name in ("y", "time") if name not in dataset.variables]
    if missing or set(dataset["y"].dims) != set(_DIMENSIONS):
        found = {str(name): variable.dims for name, variable in dataset.variables.items()}
        raise ArgumentError(
            f"`dataset` must have a coordinate `time` and a variable `y` of dimensions {_DIMENSIONS}, got {found}. "
            "Rename its variables and dimensions."
        )

    if dataset["time"].dtype.kind not in "fiu":
        raise ArgumentTypeError(
            f"`time` must hold numbers, got {dataset['time'].dtype}. Open the file with decode_times=False, or assign "
            "(time - time[0]) / np.timedelta64(1, 's')."
        )

    def tensor(name: str) -> Tensor:
        variable = dataset[name]
        values = variable.transpose(*_DIMENSIONS).values if name != "time" else variable.values
        return torch.as_tensor(values.copy())

    return {
        "t": tensor("time"),
        "y": tensor("y"),
        "dy": tensor("dy") if "dy" in dataset.variables else None,
        "names": tuple(str(name) for name in dataset["state"].values) if "state" in dataset.coords else (),
        "units": tuple(str(unit) for unit in dataset["unit"].values) if "unit" in dataset.coords else (),
        "time_unit": str(dataset["time"].attrs.get("units", "")),
    }


def write_netcdf(dataset: "xarray.Dataset", path: str | os.PathLike[str]) -> None:
    """Write a netCDF file, whole or not at all: a reader never sees half a file.

    Raises:
        FileNotFoundError: The folder of `path` does not exist.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"`path`: there is no folder {os.fspath(target.parent)!r}. Make it first.")
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        dataset.to_netcdf(draft, engine="h5netcdf")
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


def read_netcdf(path: str | os.PathLike[str]) -> "xarray.Dataset":
    """Read a netCDF file into memory; times stay numbers.

    Raises:
        FileNotFoundError: There is no such file.
        ArgumentError: The file is not netCDF.
    """
    import xarray

    if not Path(path).exists():
        raise FileNotFoundError(f"`path`: there is no file {os.fspath(path)!r}.")
    try:
        with xarray.open_dataset(path, engine="h5netcdf", decode_times=False) as dataset:
            return dataset.load()
    except (OSError, ValueError) as error:
        raise ArgumentError(f"`path` {os.fspath(path)!r} is not a netCDF file: {error}") from error
