"""The pages' Python blocks run as printed, top to bottom, one page at a time."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[int, str]]:
    text = page.read_text()
    return [(text.count("\n", 0, match.start()) + 1, match.group(1)) for match in BLOCK.finditer(text)]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for line, source in blocks(page):
        # Leading blank lines: a traceback then shows the line of the page.
        exec(compile("\n" * line + source, str(page), "exec"), names)


def test_readme_scripts_are_short():
    assert all(len(source.strip().splitlines()) <= 24 for _, source in blocks(ROOT / "README.md"))
