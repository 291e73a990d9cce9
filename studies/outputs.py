"""Where a program leaves its results: readers of numbers from its standard output or from a file that it wrote."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.errors import CommandError

__all__ = ["CSV", "JSON", "Match", "Numbers", "Output", "Reader"]

Numeric = NDArray[np.float64]
_SHOWN = 200  # characters of a text that an error quotes


@dataclass(frozen=True, slots=True)
class Match:
    r"""The groups of a regular expression, at its last match: programs print what is final last.

    Args:
        pattern: With one group a number; with more, a vector of them. `^` and `$` match at each line.
        file: A file that the program wrote; None is its standard output.

    Example:
        >>> float(Match(r"gain = (\S+)").read("gain = 1\ngain = 2.5", Path()))
        2.5
    """

    pattern: str
    file: str | None = None

    def __post_init__(self) -> None:
        try:
            n_groups = re.compile(self.pattern).groups
        except re.error as error:
            raise ArgumentError(f"`match` must be a regular expression, got {self.pattern!r} ({error}).") from None
        if not n_groups:
            raise ArgumentError(rf"`match` needs a group around the number, got {self.pattern!r}. Write 'y = (\S+)'.")

    def read(self, stdout: str, folder: Path) -> Numeric:
        """The numbers of the last match, shape [] or [groups]."""
        text = _text(self.file, stdout, folder)
        matches = list(re.finditer(self.pattern, text, re.MULTILINE))
        if not matches:
            raise CommandError(f"nothing matches {self.pattern!r} in {_named(self.file)}, which {_ends(text)}")
        values = [_number(group or "", self.file) for group in matches[-1].groups()]
        return np.array(values[0] if len(values) == 1 else values)


@dataclass(frozen=True, slots=True)
class Numbers:
    r"""The numbers of a text that holds nothing else, apart by blanks, commas or semicolons.

    Args:
        position: Which of them, from 0, or from -1 at the end; None is all of them.
        file: A file that the program wrote; None is its standard output.

    Example:
        >>> Numbers().read("1 2.5\n-3e2", Path()).tolist()
        [1.0, 2.5, -300.0]
    """

    position: int | None = None
    file: str | None = None

    def read(self, stdout: str, folder: Path) -> Numeric:
        """The numbers, shape [] or [count]."""
        text = _text(self.file, stdout, folder)
        words = re.split(r"[\s,;]+", text.strip())
        if words == [""]:
            raise CommandError(f"there is nothing in {_named(self.file)}")
        if self.position is None:
            return np.array([_number(word, self.file) for word in words])
        if not -len(words) <= self.position < len(words):
            raise CommandError(f"there is no number {self.position} in {_named(self.file)}, which {_ends(text)}")
        return np.array(_number(words[self.position], self.file))


@dataclass(frozen=True, slots=True)
class JSON:
    """A number, or nested lists of numbers, in a JSON text.

    Args:
        key: Keys and list positions on the way to it, apart by dots: "stress.max", "modes.0.frequency"; "" is all.
        file: A file that the program wrote; None is its standard output.

    Example:
        >>> JSON("modes.1").read('{"modes": [3, 4]}', Path()).tolist()
        4.0
    """

    key: str = ""
    file: str | None = None

    def read(self, stdout: str, folder: Path) -> Numeric:
        """The numbers, in the shape of their lists."""
        text = _text(self.file, stdout, folder)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CommandError(f"there is no JSON in {_named(self.file)} ({error}), which {_ends(text)}") from None
        for part in self.key.split(".") if self.key else ():
            try:
                value = value[int(part) if isinstance(value, list) else part]
            except (KeyError, IndexError, TypeError, ValueError):
                there = f"keys {list(cast('dict[str, Any]', value))}" if isinstance(value, dict) else f"{value!r}"
                raise CommandError(
                    f"there is no {part!r} of {self.key!r} in {_named(self.file)}; there is {there[:_SHOWN]}"
                ) from None
        return _array(value, f"{self.key!r} of {_named(self.file)}")


@dataclass(frozen=True, slots=True)
class CSV:
    r"""A column of a CSV table; lines that start with # are skipped.

    Args:
        column: Its name in the first line, or its position from 0.
        row: Which row, from 0, or from -1 at the end; None is the whole column.
        file: A file that the program wrote; None is its standard output.
        delimiter: What separates the cells; " " is any number of blanks.

    Example:
        >>> CSV("y", row=None).read("t,y\n0,1.5\n1,2", Path()).tolist()
        [1.5, 2.0]
    """

    column: str | int
    row: int | None = -1
    file: str | None = None
    delimiter: str = ","

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1:
            raise ArgumentError(f"`delimiter` must be one character, got {self.delimiter!r}.")
        if isinstance(self.column, int) and self.column < 0:
            raise ArgumentError(f"`column` must be a name or a position from 0, got {self.column}.")

    def read(self, stdout: str, folder: Path) -> Numeric:
        """The numbers, shape [] or [rows]."""
        text, blanks = _text(self.file, stdout, folder), self.delimiter == " "
        lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        rows = [line.split() for line in lines] if blanks else list(csv.reader(lines, delimiter=self.delimiter))
        cells = [[cell.strip() for cell in row] for row in rows]
        if isinstance(self.column, str):
            head, cells = (cells or [[]])[0], cells[1:]
            if self.column not in head:
                raise CommandError(f"there is no column {self.column!r} in {_named(self.file)}; there are {head}")
            position = head.index(self.column)
        else:
            position = self.column
            if cells and not any(map(_is_number, cells[0][position : position + 1])):
                cells = cells[1:]
        if not cells or (self.row is not None and not -len(cells) <= self.row < len(cells)):
            raise CommandError(f"there is no row {self.row} in {_named(self.file)}; there are {len(cells)}")
        chosen = cells if self.row is None else [cells[self.row]]
        if short := next((row for row in chosen if len(row) <= position), None):
            raise CommandError(f"there is no column {self.column!r} in the row {short} of {_named(self.file)}")
        values = [_number(row[position], self.file) for row in chosen]
        return np.array(values if self.row is None else values[0])


@dataclass(frozen=True, slots=True)
class Reader:
    """A function of yours that reads a file, for formats of your own.

    Args:
        function: From a path to real numbers, an array of any shape; defined at the top level of a module, so that it
            can travel to another process.
        file: A file that the program wrote.
    """

    function: Callable[[Path], object]
    file: str

    def __post_init__(self) -> None:
        if isinstance(self.function, type) or not callable(self.function):
            raise ArgumentTypeError(f"`reader` must be a function of a path, got {self.function!r}.")

    def read(self, stdout: str, folder: Path) -> Numeric:
        """What the function returns, as an array."""
        path = folder / self.file
        _check_written(path, folder)
        return _array(self.function(path), f"what {self.function!r} returned for {self.file}")


Output = Match | Numbers | JSON | CSV | Reader
"""Where one output is read."""


def _named(file: str | None) -> str:
    return "the standard output" if file is None else f"the file {file!r}"


def _text(file: str | None, stdout: str, folder: Path) -> str:
    if file is None:
        return stdout
    _check_written(folder / file, folder)
    return (folder / file).read_text(errors="replace")


def _check_written(path: Path, folder: Path) -> None:
    if not path.is_file():
        there = sorted(str(found.relative_to(folder)) for found in folder.rglob("*") if found.is_file())
        raise CommandError(f"the program wrote no file {str(path.relative_to(folder))!r}; there are {there[:20]}")


def _ends(text: str) -> str:
    text = text.strip()
    return f"ends with {text[-_SHOWN:]!r}" if text else "is empty"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(word: str, file: str | None) -> float:
    try:
        # Fortran writes 1.5D-03 for 1.5e-03.
        return float(re.sub(r"(?<=[\d.])[dD](?=[+-]?\d)", "e", word))
    except ValueError:
        raise CommandError(f"{word[:_SHOWN]!r} in {_named(file)} is no number") from None


def _array(value: object, what: str) -> Numeric:
    try:
        if isinstance(value, bool | str) or value is None:
            raise TypeError(f"got {value!r}"[:_SHOWN])
        array = np.asarray(value)
        if array.dtype.kind not in "fiub" or array.size == 0:
            raise TypeError(f"got {value!r}"[:_SHOWN])
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise CommandError(f"{what} must be real numbers: {error}") from None
