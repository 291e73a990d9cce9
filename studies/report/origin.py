"""Where a study comes from: versions, machines, seeds, and what it takes to make it again."""

import re
from collections import Counter
from collections.abc import Sequence

from studies.report.page import Section, Table
from studies.report.view import View
from studies.storage.base import RoundRecord

__all__ = ["origin_sections"]


def origin_sections(view: View, rounds: Sequence[RoundRecord], command: str | None = None) -> list[Section]:
    """The environment of a study, and how to reproduce it.

    Args:
        view: The study.
        rounds: Its rounds, with the strategies that proposed them.
        command: How it was started, where that is known.
    """
    return [_environment(view), _reproduce(view, rounds, command)]


def _environment(view: View) -> Section:
    hosts = Counter(str(trial.host) for trial in view.trials if trial.host is not None)
    machines = [[host, str(count)] for host, count in hosts.most_common(20)]
    tables = [Table(["machine and process", "trials"], machines)] if machines else []
    return Section("environment", "Environment", facts=dict(view.record.versions), tables=tables)


def _reproduce(view: View, rounds: Sequence[RoundRecord], command: str | None) -> Section:
    record = view.record
    texts = [
        "Install these versions, then run the study with the same space, strategy, seed and name. Every random number "
        "has a key, so the numbers are the same with any number of workers, as far as the simulator draws its own from "
        "the generator that it is given.",
    ]
    strategies = list(dict.fromkeys([record.strategy, *(round.strategy for round in rounds)]))
    if len(strategies) > 1:
        texts.append(f"The study went on with another strategy: {len(strategies)} are listed in their order.")
    python = record.versions.get("python")
    pins = [f"'{package}=={version}'" for package, version in record.versions.items() if _is_version(package, version)]
    install = [f"# Python {python}"] if python else []
    code = ["\n".join([*install, " \\\n    ".join(["pip install", *pins])])] if pins else []
    strategy = "\n".join(f"strategy = {text}" for text in strategies)
    bounds = [
        f"#   {p.name}: {', '.join(p.choices) if p.choices else f'{p.low:.8g} to {p.high:.8g}'}"
        f"{f' {p.unit}' if p.unit else ''}{'' if p.kind == 'real' else f' ({p.kind})'}"
        for p in view.parameters
    ]
    lines = [
        f"# the space, a {record.space.get('kind', 'space')} of",
        *bounds,
        strategy,
        f"study = Study(space, strategy, storage=..., seed={record.seed}, name={record.name!r})",
    ]
    code.append("\n".join(lines))
    if command:
        code.append(command)
    return Section("reproduce", "How to reproduce", texts=texts, code=code)


def _is_version(package: str, version: str) -> bool:
    return package != "python" and re.fullmatch(r"\d[\w.!+-]*", version) is not None
