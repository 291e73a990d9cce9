"""Arrays as bytes and as files, in NumPy's `.npy` format without pickling: what is read can never run code."""

import contextlib
import hashlib
import io
import os
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGE", "OutcomeFiles", "from_bytes", "to_bytes"]

LARGE = 64 * 1024  # bytes: a larger outcome is kept in a file
PREFIX = 10  # bytes of a header that say how long it is


def to_bytes(array: NDArray[Any]) -> bytes:
    """The `.npy` file of an array."""
    return _header(array.shape, array.dtype.str) + array.tobytes()


def from_bytes(data: bytes) -> NDArray[Any]:
    """The array of a `.npy` file.

    Raises:
        ValueError: It is damaged, or holds Python objects.
    """
    try:
        shape, fortran, dtype = _parsed(data[: PREFIX + int.from_bytes(data[8:PREFIX], "little")])
        if fortran:
            return np.load(io.BytesIO(data), allow_pickle=False)
        flat = np.frombuffer(data, dtype, offset=PREFIX + int.from_bytes(data[8:PREFIX], "little"))
        return flat.reshape(shape).copy()
    except EOFError as error:
        raise ValueError(str(error)) from error


@lru_cache(256)  # a study has few shapes, and the general way takes longer than all the rest
def _header(shape: tuple[int, ...], dtype: str) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


@lru_cache(256)
def _parsed(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    file = io.BytesIO(header)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("it has an unknown version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return shape, fortran, dtype


class OutcomeFiles:
    """A folder of arrays, each in a file of its own that appears whole or not at all.

    Args:
        folder: It is made with the first file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, stem: str, array: NDArray[Any]) -> tuple[str, str]:
        """Writes an array and waits until the disk has it.

        Args:
            stem: What the file's name begins with.
            array: The array.

        Returns:
            The file's name and the SHA-256 of its content.

        Raises:
            OSError: It cannot be written; nothing is left behind.
        """
        array = np.ascontiguousarray(array)
        parts = _header(array.shape, array.dtype.str), array.reshape(-1).view(np.uint8).data
        digest = hashlib.sha256()
        name = f"{stem}-{secrets.token_hex(4)}.npy"  # two processes that tell the same trial write different files
        self.folder.mkdir(exist_ok=True)
        partial = self.folder / f"{name}.part"
        try:
            with open(partial, "xb") as file:
                for part in parts:
                    digest.update(part)
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.folder / name)
            self._settle()
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        return name, digest.hexdigest()

    def read(self, name: str, sha256: str) -> NDArray[Any]:
        """The array of a file.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is not the file that was written.
        """
        if Path(name).name != name:
            raise ValueError("its name leads out of the folder")
        data = (self.folder / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError(f"its checksum differs from the recorded {sha256[:12]}...")
        return from_bytes(data)

    def remove(self, name: str) -> None:
        """Removes a file, if that is possible."""
        with contextlib.suppress(OSError):
            (self.folder / name).unlink(missing_ok=True)

    def _settle(self) -> None:
        """Waits until the disk has the folder's list of names, where the system has that notion."""
        if os.name != "posix":
            return
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
