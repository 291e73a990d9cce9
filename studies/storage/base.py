"""The storage protocol: an append-only record of studies, rounds and results; it loads without torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["Result", "RoundRecord", "Storage", "StudyRecord", "settled"]


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
    """

    trial: int
    outcome: NDArray[np.floating] | None = None
    error: str | None = None
    started: float | None = None
    seconds: float | None = None
    host: str | None = None


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


def settled(results: Iterable[Result], shape: tuple[int, ...] | None = None) -> dict[int, Result]:
    """Results by trial number, in order; those whose outcome has another shape count as failed.

    It is done on reading: which of two trials told at the same time came first must not depend on chance.

    Args:
        results: In any order.
        shape: The outcome's shape; None is that of the first trial that has one.
    """
    settled: dict[int, Result] = {}
    for result in sorted(results, key=lambda result: result.trial):
        if result.outcome is not None:
            shape = result.outcome.shape if shape is None else shape
            if result.outcome.shape != shape:
                error = (
                    f"The outcome has shape {list(result.outcome.shape)} where the study's first has {list(shape)}. "
                    "The simulator must return the same shape at every theta."
                )
                result = replace(result, outcome=None, error=error)
        settled[result.trial] = result
    return settled
