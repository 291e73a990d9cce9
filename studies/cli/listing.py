"""`studies list`: the studies of a database."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from studies.cli.sources import Place, open_source, plain_console, refusing

if TYPE_CHECKING:
    from studies.storage.base import Result, RoundRecord

__all__ = ["counts", "list_studies"]


def list_studies(source: Place) -> None:
    """List the studies of a database."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    from studies.storage.base import settled

    numbers = (Column(title, justify="right") for title in ("complete", "failed", "pending", "rounds", "seed"))
    table = Table(
        "name", *numbers, Column("strategy", overflow="fold"), Column("created", no_wrap=True), box=SIMPLE_HEAD
    )
    with refusing():
        storage = open_source(source).storage
        for study in storage.studies():
            rounds, results = storage.read(study.name)
            if study.is_log:
                cells, what = (*[""] * 3, len(rounds), ""), f"the log of a storage of {study.strategy}"
            else:
                cells, what = (*counts(rounds, settled(results)), len(rounds), study.seed), study.strategy
            table.add_row(study.name, *map(str, cells), what, study.created[:10])
    plain_console().print(table)


def counts(rounds: "Sequence[RoundRecord]", told: "Mapping[int, Result]") -> tuple[int, int, int]:
    """Complete, failed and pending trials."""
    failed = sum(result.error is not None for result in told.values())
    return len(told) - failed, failed, sum(len(round.theta) for round in rounds) - len(told)
