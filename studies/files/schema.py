"""The keys of a YAML study file, checked by pydantic; what is wrong is told with its key and line."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from annotated_types import Ge, Gt, Len
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from studies.files.document import Document

__all__ = ["Budget", "Constraint", "OutputPlace", "Parameter", "Plugin", "SimulatorPlace", "StudySchema", "Template"]

Count = Annotated[int, Ge(1)]
Seconds = Annotated[float, Gt(0)]
Word = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) in (int, float) else value)]
Pair = Annotated[list[float], Len(2, 2)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, serialize_by_alias=True)

    def check_one_of(self, *keys: str) -> None:
        """Raises ValueError unless one of the keys is given."""
        given = [key for key in keys if key in self.model_dump(exclude_none=True)]
        if len(given) != 1:
            raise ValueError(f"it must have one of the keys {', '.join(keys)}, got {' and '.join(given) or 'none'}")


def _short(kind: type[object], key: str) -> BeforeValidator:
    """A value of this type stands for a mapping with this one key."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, kind) else value)


class Parameter(_Model):
    """One parameter: an interval, linear or logarithmic, whole numbers, or choices."""

    real: Pair | None = None
    log: Pair | None = None
    integer: Annotated[list[int], Len(2, 2)] | None = None
    choice: Annotated[list[Word], Len(2)] | None = None
    unit: str = ""

    @model_validator(mode="after")
    def _check(self) -> "Parameter":
        self.check_one_of("real", "log", "integer", "choice")
        return self


class Constraint(_Model):
    """A constraint on parameters: a linear one, or a function."""

    linear: Annotated[dict[str, float], Len(1)] | None = None
    most: float | None = None
    least: float | None = None
    nonlinear: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "Constraint":
        self.check_one_of("linear", "nonlinear")
        if (self.linear is None) != (self.most is None and self.least is None):
            raise ValueError("`linear` goes with `most` or `least`: {linear: {a: 1, b: 2}, most: 3}")
        return self


class Plugin(_Model):
    """A class that `studies` exports, and its settings."""

    name: str
    settings: dict[str, Any] = {}


class Template(_Model):
    """A text with places for parameters, or the file that holds it."""

    text: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "Template":
        self.check_one_of("text", "file")
        return self


class OutputPlace(_Model):
    """Where one output is read."""

    match: str | None = None
    json_key: str | None = Field(None, alias="json")
    csv: str | int | None = None
    numbers: int | Literal["all"] | None = None
    reader: str | None = None
    file: str | None = None
    row: int | Literal["all"] = -1
    delimiter: str = ","

    @model_validator(mode="after")
    def _check(self) -> "OutputPlace":
        self.check_one_of("match", "json", "csv", "numbers", "reader")
        if self.csv is None and {"row", "delimiter"} & self.model_fields_set:
            raise ValueError("`row` and `delimiter` belong to `csv`")
        if self.reader is not None and self.file is None:
            raise ValueError("`reader` needs `file`, the name of the file that it reads")
        return self


class SimulatorPlace(_Model):
    """The simulator: a function, or a program and where its outputs are."""

    function: str | None = Field(None, alias="import")
    names: Annotated[list[str], Len(1)] = ["y"]
    command: Annotated[list[Word], Len(1)] | None = None
    outputs: Annotated[dict[str, Annotated[OutputPlace, _short(str, "match")]], Len(1)] | None = None
    templates: dict[str, Annotated[Template, _short(str, "text")]] = {}
    copies: list[str] = []
    stdin: Annotated[Template, _short(str, "text")] | None = None
    environment: dict[str, Word] = {}
    folder: str | None = None
    keep: bool = False

    @model_validator(mode="after")
    def _check(self) -> "SimulatorPlace":
        self.check_one_of("import", "command")
        foreign = {"names"} if self.function is None else set(type(self).model_fields) - {"function", "names"}
        if wrong := sorted(self.model_fields_set & foreign):
            kind, other = ("command", "import") if self.function is None else ("import", "command")
            raise ValueError(f"`{wrong[0]}` does not belong to `{kind}`, but to `{other}`")
        return self

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outcome's columns."""
        return tuple(self.names if self.function is not None else self.outputs or ["y"])


class Budget(_Model):
    """How long the study runs, and on how many workers."""

    trials: Count | None = None
    rounds: Count | None = None
    batch: Count | None = None
    workers: Count | None = None
    timeout: Seconds | None = None
    asynchronous: bool | None = None
    retries: Annotated[int, Ge(0)] | None = None
    max_failures: Count | None = None
    stop: list[Annotated[Plugin, _short(str, "name")]] = []

    @model_validator(mode="after")
    def _check(self) -> "Budget":
        self.check_one_of("trials", "rounds")
        return self


class StudySchema(_Model):
    """The whole file."""

    name: Annotated[str, Len(1)] = "study"
    seed: Annotated[int, Ge(0)] = 0
    storage: str | None = None
    space: Annotated[dict[str, Annotated[Parameter, _short(list, "real")]], Len(1)]
    constraints: list[Constraint] = []
    strategy: Annotated[Plugin, _short(str, "name")] = Plugin(name="NoisyExpectedImprovement")
    simulator: Annotated[SimulatorPlace, _short(str, "import")]
    objective: str | None = None
    budget: Budget

    @classmethod
    def of(cls, document: Document) -> "StudySchema":
        """The checked contents of a file.

        Raises:
            ArgumentError: Keys are unknown or missing, or values wrong; the message tells each with its line.
        """
        try:
            return cls.model_validate(document.data)
        except ValidationError as error:
            problems = cast("list[dict[str, Any]]", error.errors())
            raise document.error(*((found["loc"], _problem(found)) for found in problems)) from None


_KEYS = sorted(
    field.alias or name
    for model in (Parameter, Constraint, Plugin, Template, OutputPlace, SimulatorPlace, Budget, StudySchema)
    for name, field in model.model_fields.items()
)


def _problem(found: Mapping[str, Any]) -> str:
    """What pydantic found, in words that tell the mend."""
    value, key = found["input"], found["loc"][-1] if found["loc"] else ""
    match found["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(str(key), _KEYS, n=1)
            return f"this key is not known.{f' Did you mean `{near[0]}`?' if near else ''}"
        case "missing":
            return f"the key `{key}` is missing."
        case "value_error":
            return f"{found['ctx']['error']}."
        case "string_type" if isinstance(value, dict) and len(value) == 1:
            return f"YAML reads a mapping here. Put it in quotes: '{{{next(iter(value))}}}'."
        case "string_type":
            return f"this must be a text, got {value!r}. Put it in quotes."
        case _:
            return f"{found['msg'][0].lower()}{found['msg'][1:]}, got {value!r}."
