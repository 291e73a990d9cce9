"""How Sphinx builds the documentation: pages in Markdown, the reference from the docstrings."""

import re
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent.parent))

project = "diffsim-studies"
author = "the diffsim-studies developers"
project_copyright = f"2026, {author}"
release = version = installed_version("diffsim-studies")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "code"  # `name` in a docstring is code
smartquotes = False  # a shape [..., d] stays as it is

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_mock_imports = ["mujoco"]
python_maximum_signature_line_length = 100
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Source"]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "diffsim-studies"
html_show_sourcelink = False


def free_text(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Lets docstrings write |q| and `name`s as people do: to reStructuredText both are markup."""
    example = False
    for i, line in enumerate(lines):
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if not example:
            parts = re.split(r"(``.+?``|`[^`]+`)", line)
            parts[0::2] = [re.sub(r"(?<!\\)\|", r"\|", text) for text in parts[0::2]]
            lines[i] = re.sub(r"(?<=[\w)\]]`)(?=[\w^])", r"\ ", "".join(parts))


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", free_text, priority=400)
