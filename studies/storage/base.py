"""The storage protocol: an append-only record of studies, rounds and results; it loads without torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Result", "RoundRecord", "Storage", "StudyRecord", "conforming", "settled"]


@dataclass(frozen=True, slots=True)
class StudyRecord:
    """A study as it was made.

    Args:
        name: Its name, unique in the storage.
        space: `Space.describe()`, a JSON mapping.
        strategy: The strategy's repr.
        seed: The study's seed.
        versions: Versions of Python and the packages.
        created: When, ISO 8601 in UTC.
    """

    name: str
    space: Mapping[str, Any]
    strategy: str
    seed: int
    versions: Mapping[str, str]
    created: str


@dataclass(frozen=True, slots=True, eq=False)
class RoundRecord:
    """A round as it was asked.

    Args:
        number: The round's number, from 0.
        first: The number of its first trial; the others follow.
        theta: Parameters, float64, shape [n, d].
        info: The strategy's notes, a JSON mapping.
        strategy: The repr of the strategy that proposed it.
    """

    number: int
    first: int
    theta: NDArray[np.float64]
    info: Mapping[str, Any]
    strategy: str

    @property
    def trials(self) -> range:
        """The numbers of its trials."""
        return range(self.first, self.first + len(self.theta))


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What came of one trial: an outcome or an error.

    Args:
        trial: The trial's number.
        outcome: The simulator's row for it, shape [...], float32 or float64.
        error: Why there is none, with the traceback.
        started: When the simulator was called, seconds since the epoch.
        seconds: How long it took.
        host: Which machine and process ran it.
        x: The simulator's random inputs, float64, shape [k], where it shows them.
    """

    trial: int
    outcome: NDArray[np.floating] | None = None
    error: str | None = None
    started: float | None = None
    seconds: float | None = None
    host: str | None = None
    x: NDArray[np.float64] | None = None


@runtime_checkable
class Storage(Protocol):
    """Where studies are kept. Records are appended, never changed; one study may be written by many processes.

    `studies.contracts.check_storage` checks the rules below.
    """

    def create(self, study: StudyRecord) -> StudyRecord:
        """Adds a study, or returns the one that already has its name; of two callers at once, one adds."""
        ...

    def studies(self) -> list[StudyRecord]:
        """All studies, oldest first."""
        ...

    def add_round(self, name: str, round: RoundRecord) -> None:
        """Appends a round, whole or not at all.

        Raises:
            ConflictError: The round's number or its first trial's number is taken.
        """
        ...

    def add_results(self, name: str, results: Sequence[Result]) -> None:
        """Appends results, all or none.

        Raises:
            ConflictError: One of the trials has a result already.
        """
        ...

    def read(self, name: str, n_rounds: int = 0, n_results: int = 0) -> tuple[list[RoundRecord], list[Result]]:
        """What is new to a reader: one consistent view.

        Args:
            name: The study.
            n_rounds: How many rounds the reader has; the following ones come back in order.
            n_results: How many results the reader has; the following ones come back in the order they were told.

        Raises:
            StorageError: There is no such study.
        """
        ...


def settled(results: Iterable[Result]) -> dict[int, Result]:
    """Results by trial number, in order; those that do not conform to the first complete one count as failed.

    It is done on reading: which of two trials told at the same time came first must not depend on chance.
    """
    ordered = sorted(results, key=lambda result: result.trial)
    first = next((result for result in ordered if result.outcome is not None), None)
    return {result.trial: conforming(result, first) for result in ordered}


def conforming(result: Result, first: Result | None) -> Result:
    """The result, or a failed one where its outcome or x has another shape than the study's first complete result."""
    if result.outcome is None or first is None or first.outcome is None:
        return result
    if result.outcome.shape != first.outcome.shape:
        error = (
            f"The outcome has shape {list(result.outcome.shape)} where the study's first has "
            f"{list(first.outcome.shape)}. The simulator must return the same shape at every theta."
        )
        return replace(result, outcome=None, error=error)
    given, known = ("no x" if of.x is None else f"x of shape {list(of.x.shape)}" for of in (result, first))
    if given != known:
        error = f"The trial has {given} where the study's first has {known}. Give x for all trials alike, or for none."
        return replace(result, outcome=None, error=error)
    return result
