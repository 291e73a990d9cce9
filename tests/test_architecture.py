"""The rules of the house, read from the source: layers, imports, docstrings, sizes and packaging."""

import ast
import fnmatch
import importlib
import inspect
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("diffsim", "surrogates", "studies")  # from the ground up: each imports only from those below
LIBRARIES = {
    "diffsim": {"torch", "torchdiffeq", "numpy", "scipy", "matplotlib", "rich", "xarray"},
    "surrogates": {
        "torch",
        "numpy",
        "scipy",
        "botorch",
        "gpytorch",
        "linear_operator",
        "matplotlib",
        "mlxtend",
        "threadpoolctl",
        "zuko",
    },
    "studies": {
        "pandas",
        "alembic",
        "distributed",
        "annotated_types",
        "pydantic",
        "yaml",
        "torch",
        "numpy",
        "scipy",
        "botorch",
        "gpytorch",
        "cma",
        "gest_api",
        "matplotlib",
        "optuna",
        "rich",
        "sqlalchemy",
        "typer",
        "xarray",
        "jinja2",
        "plotly",
        "starlette",
        "uvicorn",
    },
}
BOTORCH = (
    "surrogates/*",
    "studies/acquisitions/*",
    "studies/strategies/constrained.py",
    "studies/strategies/hypervolume.py",
    "studies/strategies/model_based.py",
    "studies/strategies/modelling.py",
    "studies/strategies/outputs.py",
    "studies/strategies/turbo.py",
)
UNPICKLING = {"cloudpickle", "dill", "joblib", "marshal", "shelve"}
FILES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
EXAMPLES = [path for path in FILES if path.parent == ROOT / "studies/examples" and path.name != "__init__.py"]
LIBRARY = [path for path in FILES if path not in EXAMPLES]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    return relative(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {module_name(path): path for path in FILES}


@dataclass(frozen=True)
class Import:
    """One imported module; `loaded` is false where the import does not run when the file is loaded."""

    module: str
    line: int
    loaded: bool

    @property
    def root(self) -> str:
        return self.module.partition(".")[0]


def read_imports(path: Path) -> Iterator[Import]:
    def visit(node: ast.AST, loaded: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, loaded)
        elif isinstance(node, ast.ImportFrom):
            package = "." * node.level + (node.module or "")
            for alias in node.names:
                whole = f"{package}.{alias.name}"
                yield Import(whole if whole in MODULES else package, node.lineno, loaded)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.body:
                yield from visit(child, False)
            for child in node.orelse:
                yield from visit(child, loaded)
        else:
            inside = loaded and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, inside)

    yield from visit(ast.parse(path.read_text()), True)


IMPORTS = {path: list(read_imports(path)) for path in FILES}


def places(paths: list[Path], wrong) -> list[str]:
    return [f"{relative(p)}:{i.line} imports {i.module}" for p in paths for i in IMPORTS[p] if wrong(p, i)]


def floor(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def files_importing(library: str) -> set[str]:
    return {relative(path) for path in FILES if any(i.root == library for i in IMPORTS[path])}


def protocol_methods() -> set[str]:
    """Names that a protocol of ours documents: who implements it need not say it again."""
    classes = [
        node for path in FILES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)
    ]
    protocols = [node for node in classes if any("Protocol" in ast.dump(base) for base in node.bases)]
    members = [member for node in protocols for member in node.body if isinstance(member, ast.FunctionDef)]
    return {member.name for member in members if ast.get_docstring(member)}


DOCUMENTED = protocol_methods()


# Imports


def test_imports_point_down():
    def upward(path: Path, found: Import) -> bool:
        return found.root in FLOORS and FLOORS.index(found.root) > FLOORS.index(floor(path))

    assert not places(FILES, upward)


def test_imports_are_absolute_and_stay_in_the_distribution():
    assert not places(FILES, lambda _, i: i.module.startswith(".") or i.root in {"tests", "benchmarks"})


def test_inside_a_package_names_come_from_the_module_that_defines_them():
    def through_init(path: Path, found: Import) -> bool:
        target = MODULES.get(found.module)
        return found.root == floor(path) and target is not None and target.name == "__init__.py"

    assert not places([path for path in LIBRARY if path.name != "__init__.py"], through_init)


def test_no_import_circle():
    graph = {
        module_name(path): {i.module for i in imports if i.loaded and i.module in MODULES}
        for path, imports in IMPORTS.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("import circle: " + " <- ".join(error.args[1]))


def test_each_package_uses_its_own_libraries_only():
    def foreign(path: Path, found: Import) -> bool:
        return found.root not in {*sys.stdlib_module_names, *FLOORS, *LIBRARIES[floor(path)]}

    assert not places(LIBRARY, foreign)


def test_torchdiffeq_is_imported_in_one_file():
    assert files_importing("torchdiffeq") == {"diffsim/integrate/reference.py"}


def test_botorch_is_imported_only_where_we_adapt_to_it():
    examples = {relative(path) for path in EXAMPLES}
    elsewhere = files_importing("botorch") | files_importing("gpytorch")
    assert not {file for file in elsewhere - examples if not any(fnmatch.fnmatch(file, place) for place in BOTORCH)}


def test_studies_never_unpickle():
    assert not places(FILES, lambda _, i: i.root in UNPICKLING)
    for path in FILES:
        uses = {
            node.attr if isinstance(node, ast.Attribute) else "import from"
            for node in ast.walk(ast.parse(path.read_text()))
            if (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pickle")
            or (isinstance(node, ast.ImportFrom) and node.module == "pickle")
        }
        # Writing shows whether a simulator can travel to a process; a record that is read must never run code.
        assert uses <= {"dumps", "PicklingError"}, relative(path)


def test_diffsim_never_loads_the_upper_floors():
    program = "import sys, diffsim; print(*{m.partition('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"botorch", "gpytorch", "sqlalchemy", "typer", "surrogates", "studies"} & set(loaded.stdout.split())


# Files


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_module_opens_with_a_short_docstring(path):
    first = ast.parse(path.read_text()).body[0]
    assert isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    assert 1 <= len(first.value.value.strip().splitlines()) <= 5


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_file_is_short(path):
    assert len(path.read_text().splitlines()) <= (30 if path in EXAMPLES else 320)


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_public_names_are_listed_exist_and_have_docstrings(path):
    if len(ast.parse(path.read_text()).body) == 1:
        return  # nothing but its docstring
    module = importlib.import_module(module_name(path))
    listed = list(module.__all__)
    assert len(set(listed)) == len(listed)
    for name in listed:
        value = getattr(module, name)
        if not inspect.isclass(value) or value.__module__ != module.__name__:
            continue
        assert value.__doc__, f"{name} has no docstring"
        for attribute, member in vars(value).items():
            public = not attribute.startswith("_") and attribute not in DOCUMENTED
            if public and (inspect.isfunction(member) or isinstance(member, property)):
                assert inspect.getdoc(getattr(value, attribute)), f"{name}.{attribute} has no docstring"


# Packaging


def test_packages_on_disk_are_the_packages_of_the_distribution():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["packages"]["find"]["include"]
    folders = {path.parent for path in FILES}
    assert not {relative(folder) for folder in folders if not (folder / "__init__.py").is_file()}
    names = {relative(folder).replace("/", ".") for folder in folders}
    assert all(any(fnmatch.fnmatch(name, pattern) for pattern in patterns) for name in names)
    assert {pattern.partition(".")[0] for pattern in patterns} == set(FLOORS)
    for name in FLOORS:
        assert settings["package-data"][name] == ["py.typed"]
        assert (ROOT / name / "py.typed").is_file()


def test_every_dependency_has_a_tested_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [
        *project["dependencies"],
        *(need for extra in project["optional-dependencies"].values() for need in extra),
    ]
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    names = {need.partition(">")[0].partition("[")[0].lower() for need in needed} - {project["name"]}
    assert not names - pinned
