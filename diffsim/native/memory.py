"""Numbers in memory for the native library's descriptions."""

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Memory", "pointer"]

_Array = tuple[NDArray[Any], int]  # with its address


def pointer(x: Tensor | None) -> ctypes.c_void_p:
    """The address of a contiguous tensor's numbers; null for None."""
    return ctypes.c_void_p(None if x is None else x.data_ptr())


class Memory:
    """Keeps what descriptions point to: addresses hold as long as it lives."""

    def __init__(self) -> None:
        self._kept: list[object] = []

    def doubles(self, values: tuple[float, ...]) -> int:
        """The address of numbers."""
        return self._address(_doubles(values))

    def integers(self, values: tuple[int, ...]) -> int:
        """The address of whole numbers of 32 bits."""
        return self._address(_integers(values))

    def tensors(self, tensors: Sequence[Tensor | None]) -> int:
        """The address of the addresses of contiguous tensors; null for None."""
        self._kept.append(tensors)
        pointers = ctypes.c_void_p * len(tensors)
        return self.structures(pointers(*[None if x is None else x.data_ptr() for x in tensors]))

    def structures(self, array: "ctypes.Array[Any]") -> int:
        """The address of structures or pointers."""
        self._kept.append(array)
        return ctypes.addressof(array)

    def _address(self, array: _Array) -> int:
        self._kept.append(array)
        return array[1]


# The same numbers come again in every step of a fit.
@functools.lru_cache(maxsize=512)
def _doubles(values: tuple[float, ...]) -> _Array:
    array = np.array(values, dtype=np.float64)
    return array, array.ctypes.data


@functools.lru_cache(maxsize=512)
def _integers(values: tuple[int, ...]) -> _Array:
    array = np.array(values, dtype=np.int32)
    return array, array.ctypes.data
