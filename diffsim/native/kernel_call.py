"""Calls of the native library on tensors."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from diffsim.native.library import library
from diffsim.native.memory import Memory, pointer
from diffsim.native.program import Program

__all__ = ["Argument", "Call"]

Argument = ctypes.c_int | ctypes.c_double | ctypes.c_void_p | ctypes.Structure


class Call:
    """A field's program with room for the gradients of its weights, ready to be called for states of a dtype.

    Args:
        program: The field.
        dtype: Of states and weights.
        wanted: Weights whose gradients are asked for.

    Attributes:
        gradients: Of the weights that are wanted, by the weight's id, zero at first; calls add to them.
    """

    def __init__(self, program: Program, dtype: torch.dtype, wanted: Sequence[Tensor] = ()) -> None:
        self._library = library(dtype)
        self.gradients = {id(x): torch.zeros(x.shape, dtype=x.dtype) for x in wanted}
        self._memory = Memory()
        self._spec = program.describe(self.gradients, self._memory)

    def __call__(self, name: str, *arguments: Argument) -> None:
        """Calls a function of the library with the field, further arguments and the number of threads.

        Raises:
            MemoryError: There was not enough memory.
        """
        if getattr(self._library, f"diffsim_{name}")(*self._all(arguments)):
            raise MemoryError(f"There was not enough memory for {name}.")

    def record_numbers(self) -> int:
        """How many numbers an evaluation leaves for its reverse, a row."""
        function = self._library.diffsim_record_numbers
        function.restype = ctypes.c_int64
        return function(ctypes.byref(self._spec))

    def paths(self, *arguments: Argument) -> int:
        """Calls `adaptive`, which returns an address."""
        function = self._library.diffsim_adaptive
        function.restype = ctypes.c_void_p
        address = function(*self._all(arguments))
        if not address:
            raise MemoryError("There was not enough memory for an adaptive solve.")
        return address

    def copy_paths(self, address: int, begins: Tensor, lengths: Tensor, states: Tensor) -> None:
        """Fills tensors with the steps of the paths at an address."""
        place = ctypes.c_void_p(address)
        self._library.diffsim_paths_copy(place, pointer(begins), pointer(lengths), pointer(states))

    def free_paths(self, address: int) -> None:
        """Frees the paths at an address."""
        self._library.diffsim_paths_free(ctypes.c_void_p(address))

    def _all(self, arguments: Sequence[Argument]) -> list[object]:
        given = (self._spec, *arguments, ctypes.c_int(torch.get_num_threads()))
        return [ctypes.byref(x) if isinstance(x, ctypes.Structure) else x for x in given]
