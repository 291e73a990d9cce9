"""A YAML text as plain values that know their lines: safe loading, YAML 1.2's words, no key twice."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffsim.errors import ArgumentError

if TYPE_CHECKING:
    import yaml

__all__ = ["Document", "read_document", "text_of"]

# What YAML 1.2 takes for more than text. YAML 1.1, PyYAML's own, makes true of `on` and text of 1e-4.
_WORDS = {
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """A YAML file that was read.

    Args:
        path: The file.
        data: Its values.
        root: Where they stand.
    """

    path: Path
    data: dict[str, Any]
    root: "yaml.Node"

    def error(self, *problems: tuple[Sequence[str | int], str]) -> ArgumentError:
        """An error that tells each problem with the file, the line and the key."""
        return ArgumentError("\n".join(self._told(key, problem) for key, problem in problems))

    def _told(self, key: Sequence[str | int], problem: str) -> str:
        found, line = self.find(key)
        named = ".".join(map(str, found))
        return f"{self.path}, line {line}{f', `{named}`' if named else ''}: {problem}"

    def find(self, key: Sequence[str | int]) -> tuple[Sequence[str | int], int]:
        """As much of a key as there is, and its line, from 1."""
        import yaml

        node, line = self.root, self.root.start_mark.line
        for depth, part in enumerate(key):
            if isinstance(node, yaml.MappingNode):
                pair = next((pair for pair in node.value if pair[0].value == str(part)), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                pair = (node.value[part], node.value[part])
            else:
                pair = None
            if pair is None:
                return key[:depth], line + 1
            node, line = pair[1], pair[0].start_mark.line
        return key, line + 1


def read_document(path: Path) -> Document:
    """Reads a YAML file whose top is a mapping.

    Raises:
        ArgumentError: It cannot be read, or is no YAML, or PyYAML is missing; the message names the line.
    """
    try:
        import yaml
    except ImportError:
        raise ArgumentError("YAML study files need PyYAML. Install it: pip install 'diffsim-studies[yaml]'") from None
    text = text_of(path)
    try:
        if alias := next((event for event in yaml.parse(text) if isinstance(event, yaml.AliasEvent)), None):
            raise ArgumentError(f"{path}, line {alias.start_mark.line + 1}: a study file has no aliases. Write it out.")
        loader = _loader()(text)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise ArgumentError(f"{path} must hold keys and values, such as `space:`. See the page Command line.")
        _refuse_doubles(path, root)
        return Document(path, loader.construct_document(root), root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise ArgumentError(f"{path}{line}: {error.problem or error.context}. Correct the YAML there.") from None
    except yaml.YAMLError as error:
        raise ArgumentError(f"{path} is no YAML: {error}") from None


def text_of(path: Path) -> str:
    """The text of a file.

    Raises:
        ArgumentError: There is no such file, or it holds no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ArgumentError(f"{path} holds no text in UTF-8.") from None


@functools.cache
def _loader() -> "type[yaml.SafeLoader]":
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {}  # noqa: RUF012

    for word, (pattern, first) in _WORDS.items():
        starts = [letter.replace("\0", "") for letter in first]
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{word}", re.compile(f"^(?:{pattern})$"), starts)
    return Loader


def _refuse_doubles(path: Path, root: "yaml.Node") -> None:
    import yaml

    nodes = [root]
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if key.value in seen:
                    raise ArgumentError(f"{path}, line {key.start_mark.line + 1}: `{key.value}` is there already.")
                seen.add(str(key.value))
                nodes.append(value)
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value
