"""A study written as a YAML file: what it makes, for those who want no Python."""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffsim.errors import ArgumentError
from studies.files.document import Document, read_document, text_of
from studies.files.names import exported, is_plugin, named, settings_of

if TYPE_CHECKING:
    from studies.command import ShellCommand
    from studies.files.schema import OutputPlace, Parameter, Plugin, StudySchema, Template
    from studies.history import History
    from studies.objective import Objective
    from studies.outputs import Output
    from studies.spaces.box import Box
    from studies.spaces.parameters import Choice, Integer, Log, Real
    from studies.strategies.base import Strategy
    from studies.study import Study
    from surrogates.simulator import InputSimulator, Simulator

__all__ = ["StudyFile"]

Key = Sequence[str | int]


@dataclass(frozen=True, slots=True, eq=False)
class StudyFile:
    """A YAML study file, read and checked. Paths in it start from its own folder.

    Args:
        document: The file as it was read.
        schema: Its checked contents.
    """

    document: Document
    schema: "StudySchema"

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "StudyFile":
        """Reads a file; nothing is made or run.

        Raises:
            ArgumentError: It holds what no study file may hold; the message names each key and line.
        """
        document = read_document(Path(path))
        from studies.files.schema import StudySchema

        return cls(document, StudySchema.of(document))

    @property
    def name(self) -> str:
        """The study's name."""
        return self.schema.name

    @property
    def storage(self) -> str:
        """Where it is recorded: a URL; by default an SQLite file of the same name beside the file."""
        given = self.schema.storage or self.document.path.with_suffix(".db").name
        scheme, separator, path = given.rpartition("sqlite:///")
        if given == "memory" or ("://" in given and not separator):
            return given
        return f"sqlite:///{self._folder / path}" if not scheme else given

    def space(self) -> "Box":
        """The design space."""
        from studies.spaces.box import Box
        from studies.spaces.constraints import Linear, Nonlinear

        constraints: list[Linear | Nonlinear] = []
        for i, made in enumerate(self.schema.constraints):
            with self._at("constraints", i):
                if made.linear is not None:
                    constraints.append(Linear(made.linear, most=made.most, least=made.least))
                else:
                    constraints.append(Nonlinear(self._imported(made.nonlinear or "", "constraints", i, "nonlinear")))
        bounds: dict[str, Real | Log | Integer | Choice] = {}
        for name, parameter in self.schema.space.items():
            with self._at("space", name):
                bounds[name] = _parameter(parameter)
        units = {name: parameter.unit for name, parameter in self.schema.space.items() if parameter.unit}
        with self._at("constraints" if constraints else "space"):
            return Box(bounds, units, constraints)

    def objective(self) -> "Objective | None":
        """What is minimised: a formula of the outputs, a function, or None for the outcome itself."""
        if self.schema.objective is None:
            return None
        with self._at("objective"):
            return self._formula(self.schema.objective, "objective")

    def strategy(self) -> "Strategy":
        """The strategy, with the file's objective where it takes one."""
        plugin = self.schema.strategy
        made = self._class(plugin, "propose", "strategy")
        taken, settings = settings_of(made), self._settings(plugin, "strategy")
        if "objective" in taken and "objective" not in settings:
            settings["objective"] = self.objective()
            if settings["objective"] is None and len(names := self.schema.simulator.output_names) > 1:
                raise self.document.error(
                    ((), f"the key `objective` is missing: {plugin.name} minimises one number of {list(names)}.")
                )
        elif "objective" in settings and self.schema.objective is not None:
            raise self.document.error((("objective",), "the strategy's settings name an objective too. Keep one."))
        with self._at("strategy"):
            return made(**settings)

    def simulator(self, space: "Box | None" = None) -> "Simulator | InputSimulator":
        """The simulator: what is imported, or a `ShellCommand`."""
        place = self.schema.simulator
        if place.function is not None:
            return self._imported(place.function, "simulator")
        with self._at("simulator"):
            return self._command(self.space() if space is None else space)

    def study(self) -> "Study":
        """The study, opened in its storage."""
        from studies.study import Study

        return Study(self.space(), self.strategy(), self.storage, seed=self.schema.seed, name=self.schema.name)

    def run(
        self, *, trials: int | None = None, rounds: int | None = None, progress: bool | None = None
    ) -> tuple["Study", "History"]:
        """Runs the study until it has spent its budget, or another one; what is there already is not run again.

        Args:
            trials: Number of trials to reach instead of the budget's.
            rounds: Number of rounds to reach instead.
            progress: As in `Study.run`.

        Raises:
            ArgumentError: Something in the file cannot be made; the message names the key and the line.
            StudyError: The study cannot go on.
        """
        budget, simulator = self._budget(trials=trials, rounds=rounds), self.simulator()
        study = self.study()
        with self._shown():
            return study, study.run(simulator, progress=progress, **budget)

    def work(self, *, lease: float, patience: float | None = None, progress: bool | None = None) -> int:
        """Runs trials beside other workers, on any machines that reach the storage, until the budget is spent.

        Args:
            lease: Seconds after which others take over from a worker that is not heard of.
            patience: Seconds without anything to do after which the worker ends; None is never.
            progress: As in `Study.run`.

        Returns:
            How many trials this worker ran.
        """
        from studies.worker import work

        budget, simulator = self._budget(), self.simulator()
        with self._shown():
            return work(self.study(), simulator, lease=lease, patience=patience, progress=progress, **budget)

    @contextmanager
    def _shown(self) -> Generator[None]:
        """A block whose progress shows the best value by the file's objective, even where the strategy takes none."""
        from studies.progress import default_objective

        token = default_objective.set(self.objective())
        try:
            yield
        finally:
            default_objective.reset(token)

    def _budget(self, **goals: int | None) -> dict[str, Any]:
        """The arguments of a run that the file gives, with other goals than its own where there are any."""
        given = {key: count for key, count in goals.items() if count is not None}
        left_out = {"stop", *(("trials", "rounds") if given else ())}
        budget = self.schema.budget.model_dump(exclude_none=True, exclude=left_out) | given
        if self.schema.budget.stop:
            plugins = enumerate(self.schema.budget.stop)
            budget["stop"] = [self._plugin(plugin, "reason", "budget", "stop", i) for i, plugin in plugins]
        if self.schema.simulator.function is None:
            budget.pop("timeout", None)  # the command keeps its own time, and tells the program's last words
        return budget

    @property
    def _folder(self) -> Path:
        return self.document.path.resolve().parent

    @contextmanager
    def _at(self, *key: str | int) -> Generator[None]:
        """A block whose bad arguments come from this key of the file."""
        try:
            yield
        except (ValueError, TypeError) as error:
            if str(error).startswith(f"{self.document.path}, line "):
                raise
            raise self.document.error((key, str(error))) from error

    def _command(self, space: "Box") -> "ShellCommand":
        from studies.command import ShellCommand
        from studies.outputs import Numbers

        place, here = self.schema.simulator, self._folder
        outputs: dict[str, Output] = {"y": Numbers()} if place.outputs is None else {}
        for name, output in (place.outputs or {}).items():
            with self._at("simulator", "outputs", name):
                if not name.isidentifier():
                    raise ArgumentError(f"an output's name has letters, digits and _ only, got {name!r}.")
                outputs[name] = self._output(output, "simulator", "outputs", name)
        return ShellCommand(
            space,
            place.command or [],
            outputs,
            templates={name: self._text(template) for name, template in place.templates.items()},
            copies=place.copies,
            stdin="" if place.stdin is None else self._text(place.stdin),
            environment=place.environment,
            timeout=self.schema.budget.timeout,
            folder=here / (place.folder or f"{self.document.path.stem}.runs"),
            keep=place.keep,
            here=here,
        )

    def _output(self, output: "OutputPlace", *key: str | int) -> "Output":
        from studies.outputs import CSV, JSON, Match, Numbers, Reader

        file = output.file
        if output.match is not None:
            return Match(output.match, file)
        if output.json_key is not None:
            return JSON(output.json_key, file)
        if output.csv is not None:
            return CSV(output.csv, None if output.row == "all" else output.row, file, output.delimiter)
        if output.numbers is not None:
            return Numbers(None if output.numbers == "all" else output.numbers, file)
        return Reader(self._imported(output.reader or "", *key), file or "")

    def _text(self, template: "Template") -> str:
        return (template.text or "") if template.file is None else text_of(self._folder / template.file)

    def _plugin(self, plugin: "Plugin", method: str, *key: str | int) -> Any:  # noqa: ANN401
        made, settings = self._class(plugin, method, *key), self._settings(plugin, *key)
        with self._at(*key):
            return made(**settings)

    def _class(self, plugin: "Plugin", method: str, *key: str | int) -> Callable[..., Any]:
        """A class that `studies` exports and that has a method."""
        names = exported()
        if is_plugin(names.get(plugin.name), method):
            return names[plugin.name]
        known = [name for name, value in names.items() if is_plugin(value, method)]
        raise self.document.error(((*key, "name"), f"there is no {plugin.name!r}; there are {known}."))

    def _settings(self, plugin: "Plugin", *key: str | int) -> dict[str, Any]:
        taken = settings_of(exported()[plugin.name])
        for name in plugin.settings:
            if name not in taken:
                where = (*key, "settings", name)
                raise self.document.error((where, f"{plugin.name} has no setting of this name; it has {taken}."))
        return {name: self._value(value, *key, "settings", name) for name, value in plugin.settings.items()}

    def _value(self, value: object, *key: str | int) -> object:
        """A setting as written; {import: "module:name"} and {formula: "a + b"} stand for what they name."""
        match value:
            case {"import": str(path), **rest} if not rest:
                return self._imported(path, *key, "import")
            case {"formula": str(text), **rest} if not rest:
                with self._at(*key, "formula"):
                    return self._formula(text, *key, "formula")
            case list(values):
                return tuple(self._value(part, *key, i) for i, part in enumerate(values))
            case _:
                return value

    def _formula(self, text: str, *key: str | int) -> "Objective":
        from studies.files.expression import Expression

        if ":" in text:
            return self._imported(text, *key)
        return Expression(text, self.schema.simulator.output_names)

    def _imported(self, path: str, *key: str | int) -> Any:  # noqa: ANN401
        with self._at(*key):
            return named(path, self._folder)


def _parameter(parameter: "Parameter") -> "Real | Log | Integer | Choice":
    from studies.spaces.parameters import Choice, Integer, Log, Real

    if parameter.real is not None:
        return Real(*parameter.real)
    if parameter.log is not None:
        return Log(*parameter.log)
    if parameter.integer is not None:
        return Integer(*parameter.integer)
    return Choice(*(parameter.choice or ()))
