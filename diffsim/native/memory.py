"""Numbers in memory for the native library's descriptions."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Memory", "pointer"]


def pointer(x: Tensor | None) -> ctypes.c_void_p:
    """The address of a contiguous tensor's numbers; null for None."""
    return ctypes.c_void_p(None if x is None else x.data_ptr())


class Memory:
    """Keeps what descriptions point to: addresses hold as long as it lives."""

    def __init__(self) -> None:
        self._kept: list[object] = []

    def doubles(self, values: NDArray[np.float64]) -> int:
        """The address of numbers, row by row."""
        array = np.ascontiguousarray(values, dtype=np.float64)
        self._kept.append(array)
        return array.ctypes.data

    def integers(self, values: Sequence[int]) -> int:
        """The address of whole numbers of 32 bits."""
        array = np.array(values, dtype=np.int32)
        self._kept.append(array)
        return array.ctypes.data

    def tensors(self, tensors: Sequence[Tensor | None]) -> int:
        """The address of the addresses of contiguous tensors; null for None."""
        addresses = np.array([0 if x is None else x.data_ptr() for x in tensors], dtype=np.uintp)
        self._kept += [tensors, addresses]
        return addresses.ctypes.data

    def structures(self, array: "ctypes.Array[Any]") -> int:
        """The address of structures."""
        self._kept.append(array)
        return ctypes.addressof(array)
