"""A program as a simulator: parameters go in as arguments and files, never through a shell; outputs are read back."""

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.errors import CommandError
from studies.outputs import Numbers, Numeric, Output
from studies.process import run_program
from studies.spaces.base import Space

__all__ = ["ShellCommand"]

_RESERVED = ("seed", "here")
_LAST_LINES, _LINE = 15, 300  # of an output that an error quotes


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """A simulator that runs a program once a trial, in a fresh working directory.

    In arguments, templates, standard input and environment, `{name}` stands for the parameter of that name, and
    `{name:.3f}` for its formatted value; integers come as whole numbers, choices as their text, real numbers with all
    their digits. `{seed}` is a random integer of the trial, `{here}` the folder `here`. Other braces stay as they are.
    No shell reads any of it.

    A program that ends with another code than 0, takes too long or leaves no results costs one trial: the error tells
    its command, its last words and its working directory, which is kept. Nothing that it started outlives it, unless
    that left its process group by itself.

    Args:
        space: The design space; each of its parameters must be used.
        arguments: The program and its arguments. A program with a slash is looked up in `here`, another one on PATH.
        outputs: Where each output is read; by default all numbers of the standard output. Several outputs, one number
            each, make an outcome of shape [n, m] in this order; a single one may have any shape.
        templates: Texts of the files that the program reads, by file name.
        copies: Files and folders of `here` that are copied into the working directory.
        stdin: Text of the standard input.
        environment: Variables beside those of this process.
        timeout: Seconds after which the program and all that it started are killed.
        folder: Where the working directories are made; None is the system's temporary folder.
        keep: Keep the working directories of successful trials too.
        here: The folder that names of programs and copies start from; None is the current one.

    Raises:
        ArgumentError: The program does not exist, a parameter is not used, or a setting is out of range.
        ArgumentTypeError: A setting is of another type; a command in one string, say.

    Example:
        >>> from studies.spaces.box import Box
        >>> simulator = ShellCommand(Box({"a": (0, 1), "b": (1, 2)}), ["echo", "{a}", "{b:.2f}"])
        >>> simulator(torch.tensor([[0.5, 1.25]]), torch.Generator())
        tensor([[0.5000, 1.2500]], dtype=torch.float64)
    """

    space: Space
    arguments: Sequence[str]
    outputs: Mapping[str, Output] = field(default_factory=lambda: {"y": Numbers()})
    templates: Mapping[str, str] = field(default_factory=dict[str, str])
    copies: Sequence[str] = ()
    stdin: str = ""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    timeout: float | None = None
    folder: str | os.PathLike[str] | None = None
    keep: bool = False
    here: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if os.name != "posix":
            raise ArgumentError("`ShellCommand` needs process groups, which this system lacks. Use Linux or macOS.")
        if isinstance(self.arguments, str) or not self.arguments:
            raise ArgumentTypeError(
                f"`arguments` must be a list of texts, got {self.arguments!r}. No shell splits a command: write "
                '["awk", "-f", "beam.awk"].'
            )
        for name, texts in (("arguments", self.arguments), ("copies", self.copies)):
            if wrong := next((text for text in texts if not isinstance(text, str)), None):
                raise ArgumentTypeError(f"`{name}` must hold texts, got {wrong!r}. Put it in quotes.")
        if self.timeout is not None and not 0 < self.timeout < np.inf:
            raise ArgumentError(f"`timeout` must be a positive number of seconds, got {self.timeout!r}.")
        if not self.outputs:
            raise ArgumentError("`outputs` must name one output at least, got none. Leave it out to read all numbers.")
        for path in (*self.templates, *self.copies):
            if PurePath(path).is_absolute() or ".." in PurePath(path).parts:
                raise ArgumentError(f"`templates` and `copies` must stay in the working directory, got {path!r}.")
        here = Path(self.here or "").resolve()
        object.__setattr__(self, "here", str(here))
        if missing := next((path for path in self.copies if not (here / path).exists()), None):
            raise ArgumentError(f"`copies` names {missing!r}, and there is no such file in {here}.")
        self._check_places()
        if self._place().search(self.arguments[0]) is None:
            self._check_program(here)

    def __call__(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        """Runs the program once a row, shape [n, d] -> [n, ...], float64.

        Raises:
            CommandError: It failed.
        """
        return torch.from_numpy(np.stack([self._run(row, generator) for row in theta.double()]))

    def _run(self, row: Tensor, generator: torch.Generator) -> Numeric:
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        values = {**self.space.to_dict(row), "seed": seed, "here": str(self.here)}
        arguments = [self._filled(text, values) for text in self.arguments]
        if "/" in arguments[0]:
            arguments[0] = str(Path(str(self.here)) / arguments[0])
        if self.folder is not None:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="trial-", dir=self.folder)).resolve()
        self._write_files(folder, values)
        environment = {name: self._filled(text, values) for name, text in self.environment.items()}
        try:
            run_program(arguments, folder, {**os.environ, **environment}, self.timeout)
            outcome = self._read(folder)
        except CommandError as error:
            last = _last_lines(folder / "stderr.txt") or _last_lines(folder / "stdout.txt")
            raise CommandError(
                f"{Path(arguments[0]).name}: {error}\n  command: {shlex.join(arguments)}\n  folder:  {folder}"
                + (f"\n  its last words:\n{last}" if last else "")
            ) from None
        if not self.keep:
            shutil.rmtree(folder, ignore_errors=True)
        return outcome

    def _write_files(self, folder: Path, values: Mapping[str, object]) -> None:
        for path in self.copies:
            source, target = Path(str(self.here)) / path, folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copy2(source, target)
        for path, text in self.templates.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(self._filled(text, values))
        (folder / "stdin.txt").write_text(self._filled(self.stdin, values))

    def _read(self, folder: Path) -> Numeric:
        stdout = (folder / "stdout.txt").read_text(errors="replace")
        read: list[Numeric] = []
        for name, output in self.outputs.items():
            try:
                read.append(output.read(stdout, folder))
            except CommandError as error:
                raise CommandError(f"the output {name!r} cannot be read: {error}.") from None
            if len(self.outputs) > 1 and read[-1].size != 1:
                raise CommandError(f"each of several outputs must be one number; {name!r} has {read[-1].size}.")
        return read[0] if len(read) == 1 else np.array([value.item() for value in read])

    def _place(self) -> re.Pattern[str]:
        names = sorted((*self.space.names, *_RESERVED), key=len, reverse=True)
        return re.compile(r"\{(" + "|".join(map(re.escape, names)) + r")(?::([^{}]*))?\}")

    def _filled(self, text: str, values: Mapping[str, object]) -> str:
        def fill(found: re.Match[str]) -> str:
            value, form = values[found[1]], found[2]
            return str(value) if form is None else format(value, form)

        return self._place().sub(fill, text)

    def _check_places(self) -> None:
        if taken := set(_RESERVED) & set(self.space.names):
            raise ArgumentError(f"A parameter cannot be named {min(taken)!r}: {{{min(taken)}}} means something else.")
        texts = [*self.arguments, *self.templates.values(), self.stdin, *self.environment.values()]
        places = [found for text in texts for found in self._place().finditer(text)]
        if unused := [name for name in self.space.names if name not in {found[1] for found in places}]:
            raise ArgumentError(
                f"The command uses the parameters {unused} nowhere. Write {{{unused[0]}}} in an argument or a template."
            )
        values = {**self.space.to_dict(self.space.bounds[0]), "seed": 0, "here": ""}
        for found in places:
            try:
                self._filled(found[0], values)
            except ValueError as error:
                raise ArgumentError(f"{found[0]} cannot format {values[found[1]]!r}: {error}.") from None

    def _check_program(self, here: Path) -> None:
        name = self.arguments[0]
        known = shutil.which(here / name if "/" in name else name, path=self.environment.get("PATH"))
        if known is None:
            where = f"in {here}" if "/" in name else "on PATH"
            raise ArgumentError(f"There is no program {name!r} {where}. Install it, or correct `arguments`.")


def _last_lines(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _LAST_LINES * _LINE, 0))
        lines = file.read().decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
    return "\n".join(f"    {line[:_LINE]}" for line in lines)
