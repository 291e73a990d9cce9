"""Where a study comes from: versions, machines, seeds, and what it takes to make it again."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from studies.ledger import Ledger
from studies.report.page import Section, Table
from studies.report.view import View

__all__ = ["origin_sections"]

_MOST = 20  # environments and machines


@dataclass(frozen=True, slots=True)
class _Environment:
    """What trials ran in, as `studies.record.environment` wrote it."""

    trials: int
    study: str
    python: str
    platform: str
    packages: dict[str, str]


def origin_sections(view: View, ledger: Ledger, command: str | None = None) -> list[Section]:
    """The environment of a study, and how to reproduce it.

    Args:
        view: The study.
        ledger: Its records.
        command: How it was started, where that is known.
    """
    environments = _environments(ledger)
    return [_environment(view, environments), _reproduce(view, ledger, environments, command)]


def _environments(ledger: Ledger) -> list[_Environment]:
    counted = Counter(result.environment for result in ledger.results.values() if result.environment is not None)
    found: list[_Environment] = []
    for text, count in counted.most_common(_MOST):
        try:  # a text that a storage holds may be anything
            told: Any = json.loads(text)
            packages = {str(name): str(version) for name, version in told["packages"].items()}
            study, python, platform = (str(told[key]) for key in ("study", "python", "platform"))
            found.append(_Environment(count, study, python, platform, packages))
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
    return found


def _environment(view: View, environments: list[_Environment]) -> Section:
    facts = dict(view.record.versions)
    if environments:
        most = environments[0]
        facts = {"python": most.python, "platform": most.platform, **most.packages}
    tables: list[Table] = []
    if len(environments) > 1:
        rows = [
            [
                str(e.trials),
                e.python,
                e.platform,
                ", ".join(f"{name} {version}" for name, version in e.packages.items()),
            ]
            for e in environments
        ]
        tables.append(Table(["trials", "python", "platform", "packages"], rows, "Trials ran in several environments"))
    hosts = Counter(str(trial.host) for trial in view.trials if trial.host is not None)
    if hosts:
        machines = [[host, str(count)] for host, count in hosts.most_common(_MOST)]
        tables.append(Table(["machine and process", "trials"], machines))
    return Section("environment", "Environment", facts=facts, tables=tables)


def _reproduce(view: View, ledger: Ledger, environments: list[_Environment], command: str | None) -> Section:
    record = view.record
    texts = [
        "Install these versions, then run the study with the same space, strategy, seed and name. Every random number "
        "has a key, so the numbers are the same with any number of workers, as far as the simulator draws its own from "
        "the generator that it is given.",
    ]
    strategies = list(dict.fromkeys([record.strategy, *(round.strategy for round in ledger.rounds)]))
    if len(strategies) > 1:
        texts.append("The study went on with another strategy: they are listed in their order.")
    versions = environments[0].packages if environments else record.versions
    python = environments[0].python if environments else record.versions.get("python", "")
    pins = [f"'{package}=={version}'" for package, version in versions.items() if _is_version(package, version)]
    install = " \\\n    ".join(["pip install", *pins])
    code = [f"# Python {python}\n{install}"] if pins else []
    if environments:
        code.append("\n".join(dict.fromkeys(environment.study for environment in environments)))
    else:
        made = f"study = Study(space, strategy, storage=..., seed={record.seed}, name={record.name!r})"
        code.append("\n".join([_space(view), *(f"strategy = {text}" for text in strategies), made]))
    return Section("reproduce", "How to reproduce", texts=texts, code=[*code, command] if command else code)


def _space(view: View) -> str:
    rows = [f"# the space, a {view.record.space.get('kind', 'space')} of"]
    for p in view.parameters:
        values = ", ".join(p.choices) if p.choices else f"{p.low:.8g} to {p.high:.8g}"
        rows.append(f"#   {p.label}: {values}{'' if p.kind == 'real' else f' ({p.kind})'}")
    return "\n".join(rows)


def _is_version(package: str, version: str) -> bool:
    return package != "python" and re.fullmatch(r"\d[\w.!+-]*", version) is not None
