"""What names in a study file stand for: import paths "package.module:name", and classes with their settings."""

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from diffsim.errors import ArgumentError
from studies.errors import StudyError

__all__ = ["exported", "is_plugin", "named", "settings_of"]


def named(path: str, folder: Path) -> Any:  # noqa: ANN401
    """What an import path names.

    Args:
        path: "package.module:name".
        folder: Modules there are found too.

    Raises:
        ArgumentError: It is no import path, or names nothing.
        StudyError: The module fails when it is imported.
    """
    module, _, name = path.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise ArgumentError(f"an import path is like package.module:function, got {path!r}.")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        found: Any = import_module(module)
    except ImportError as error:
        raise ArgumentError(f"{module} cannot be imported: {error}.") from error
    except Exception as error:
        raise StudyError(f"{module} fails when it is imported. {type(error).__name__}: {error}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ArgumentError(f"there is no {part!r} in {module}.")
        found = getattr(found, part)
    return found


def exported() -> dict[str, Any]:
    """What users import from `studies`, by name: a file may name the same."""
    studies = import_module("studies")
    return {name: getattr(studies, name) for name in studies.__all__}


def is_plugin(value: object, method: str) -> bool:
    """Whether it is a class that can be made and that has a method."""
    made = isinstance(value, type) and not getattr(value, "_is_protocol", False)
    return made and callable(getattr(value, method, None))


def settings_of(made: Callable[..., Any]) -> list[str]:
    """The names of a class's settings."""
    return list(inspect.signature(made).parameters)
