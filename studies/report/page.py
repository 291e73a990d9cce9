"""A report as HTML: one file with its scripts inside, in which whatever a user wrote is text."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

from studies.errors import StudyError
from studies.report.failures import Cause
from studies.report.style import Panel, to_json

__all__ = ["Card", "Page", "Section", "Table", "asset", "plotly_script", "render"]


@dataclass(frozen=True, slots=True)
class Card:
    """One number that matters.

    Args:
        label: What it is.
        value: The number, as text.
        note: What there is to add.
        kind: "", "main" or "bad".
    """

    label: str
    value: str
    note: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a head, all of them text."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page: what it holds is shown in this order.

    Args:
        key: Its anchor.
        title: Its title.
        texts: Paragraphs.
        facts: Names and values.
        panels: Figures.
        tables: Tables.
        causes: Failures.
        code: Blocks of code.
    """

    key: str
    title: str
    texts: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    panels: Sequence[Panel] = ()
    tables: Sequence[Table] = ()
    causes: Sequence[Cause] = ()
    code: Sequence[str] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.texts or self.facts or self.panels or self.tables or self.causes or self.code)


@dataclass(frozen=True, slots=True)
class Page:
    """A report, as text.

    Args:
        title: The study's name.
        under: A line about it.
        cards: The numbers that matter.
        sections: Its parts; empty ones are left out.
        footer: The last line.
    """

    title: str
    under: str
    cards: Sequence[Card]
    sections: Sequence[Section]
    footer: str


def render(page: Page) -> str:
    """A page as HTML. A browser runs nothing in it but our scripts, and asks the network for nothing.

    Raises:
        StudyError: The extra `web` is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise _missing() from None
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    scripts = [plotly_script(), asset("draw.js")]
    return environment.from_string(asset("page.html")).render(
        title=page.title,
        under=page.under,
        cards=page.cards,
        sections=[section for section in page.sections if not section.is_empty],
        footer=page.footer,
        style=asset("style.css"),
        scripts=scripts,
        hashes=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
        json=to_json,
    )


def asset(name: str) -> str:
    """One of our own files: a template, a style sheet or a script."""
    return resources.files("studies.report").joinpath(name).read_text(encoding="utf-8")


def plotly_script() -> str:
    """The installed plotly.js.

    Raises:
        StudyError: The extra `web` is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise _missing() from None
    return str(get_plotlyjs())


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _missing() -> StudyError:
    return StudyError("Reports and the dashboard need plotly. Install it: pip install 'diffsim-studies[web]'")
