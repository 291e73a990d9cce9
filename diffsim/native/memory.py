"""Numbers in memory for the native library's descriptions."""

import ctypes
import functools
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Memory", "pointer", "room"]

_Array = tuple[NDArray[Any], int]  # with its address
_LINE = 64  # bytes to whose multiples the library's vectors are aligned
_KEPT = 2**31  # bytes that are kept for the next solve at most
_free: dict[int, NDArray[np.uint8]] = {}


def pointer(x: Tensor | None) -> ctypes.c_void_p:
    """The address of a contiguous tensor's numbers; null for None."""
    return ctypes.c_void_p(None if x is None else x.data_ptr())


def room(numbers: int, dtype: torch.dtype) -> Tensor:
    """Room for numbers, shape [numbers], in memory that an earlier call's tensor has left where there is such.

    A system gives out large blocks page by page, on first use, which can cost more than the arithmetic that fills them.
    """
    n_bytes = numbers * dtype.itemsize
    # Threads share the blocks: one gets a block, since `pop` is atomic.
    fitting = [key for key, block in tuple(_free.items()) if n_bytes + _LINE <= block.nbytes <= 2 * n_bytes + _LINE]
    block = next((taken for key in fitting if (taken := _free.pop(key, None)) is not None), None)
    if block is None:
        _free.clear()  # what does not fit any more makes way
        block = np.empty(n_bytes + _LINE, np.uint8)
    start = -block.ctypes.data % _LINE
    used = block[start : start + n_bytes]
    weakref.finalize(used, _give_back, block).atexit = False
    return torch.from_numpy(used).view(dtype)


def _give_back(block: NDArray[np.uint8]) -> None:
    if sum(other.nbytes for other in tuple(_free.values())) + block.nbytes <= _KEPT + _LINE:
        _free[id(block)] = block


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
