"""The storage protocol: an append-only record of studies, rounds and results, and leases of trials to workers.

It loads without torch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LOG",
    "MAX_LEASES",
    "Lease",
    "Result",
    "RoundRecord",
    "Storage",
    "StudyRecord",
    "conforming",
    "given_up",
    "settled",
]

LOG = "OptunaJournal"  # the kind of space that marks a log
MAX_LEASES = 3  # a trial whose leases ran out this often is failed


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

    @property
    def is_log(self) -> bool:
        """Whether it is no study of ours but another program's log, whose entries lie in rounds that nobody tells."""
        return self.space.get("kind") == LOG


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
        seed: The seed of the call's generator, 0 to 2**63 - 1.
        environment: What it ran in, a JSON text; see `studies.record.environment`.
    """

    trial: int
    outcome: NDArray[np.floating] | None = None
    error: str | None = None
    started: float | None = None
    seconds: float | None = None
    host: str | None = None
    x: NDArray[np.float64] | None = None
    seed: int | None = None
    environment: str | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """A trial that a worker has taken and not yet told.

    Args:
        trial: The trial's number.
        worker: Who has it.
        seconds: How long the lease still holds, by the storage's clock; it has run out where this is not positive.
        count: How many leases the trial has had, this one and those that ran out.
    """

    trial: int
    worker: str
    seconds: float
    count: int


@runtime_checkable
class Storage(Protocol):
    """Where studies are kept. Records are appended, never changed; one study may be written by many processes.

    A trial that is asked and not told may be leased to a worker, so that no two run it at once. A lease that runs out
    leaves the trial to others; it forbids nothing: whoever tells a trial first is heard. The storage's clock decides,
    never that of a worker. `studies.contracts.check_storage` checks the rules below.
    """

    def create(self, study: StudyRecord) -> StudyRecord:
        """Adds a study, or returns the one that already has its name; of two callers at once, one adds."""
        ...

    def studies(self) -> list[StudyRecord]:
        """All studies, oldest first."""
        ...

    def add_round(self, name: str, round: RoundRecord, worker: str | None = None, seconds: float = 0.0) -> None:
        """Appends a round, whole or not at all.

        Args:
            name: The study.
            round: The round.
            worker: Who gets the lease of its trials, in the same step; None leaves them free.
            seconds: How long the lease holds.

        Raises:
            ConflictError: The round's number or its first trial's number is taken.
        """
        ...

    def add_results(self, name: str, results: Sequence[Result]) -> None:
        """Appends results, all or none; it ends the leases of their trials.

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

    def claim(self, name: str, worker: str, n: int, seconds: float) -> list[int]:
        """Leases at most n trials to a worker: the oldest that have neither a result nor a live lease.

        Of two callers at once, one gets a trial. A trial whose leases ran out `MAX_LEASES` times is not leased again:
        it gets a failed result here.

        Args:
            name: The study.
            worker: Who will run them; a name that no other living worker has.
            n: How many at most.
            seconds: How long the lease holds, if it is not renewed.

        Returns:
            The trials' numbers, in order.
        """
        ...

    def renew(self, name: str, worker: str, seconds: float) -> list[int]:
        """Makes all leases of a worker hold for that long from now, those that ran out and nobody took included.

        Returns:
            The trials that the worker has, in order. One that is missing was told, or taken by another worker.
        """
        ...

    def release(self, name: str, worker: str) -> list[int]:
        """Gives back what a worker has not told; it does not count as having run out.

        Returns:
            The trials that were given back, in order.
        """
        ...

    def leases(self, name: str) -> list[Lease]:
        """The trials that workers have, in order, those whose lease has run out and that nobody took included."""
        ...


def given_up(lease: Lease) -> str:
    """The error of a trial whose leases ran out too often."""
    return (
        f"The trial was given up: taken {lease.count} times, it was not told before the lease ran out, the last time "
        f"by {lease.worker}. Either the simulator kills its process or its machine here, or the leases are too short."
    )


def settled(results: Iterable[Result]) -> dict[int, Result]:
    """Results by trial number, in order; those that do not conform to the first complete one count as failed.

    It is done on reading: which of two trials told at the same time came first must not depend on chance.
    """
    ordered = sorted(results, key=lambda result: result.trial)
    first = next((result for result in ordered if result.outcome is not None), None)
    return {result.trial: conforming(result, first) for result in ordered}


def conforming(result: Result, first: Result | None) -> Result:
    """The result, or a failed one where its outcome or x has another shape than the study's first complete result.

    Where both are one number, [] and [1], the result takes the first one's shape.
    """
    if result.outcome is None or first is None or first.outcome is None:
        return result
    shape, first_shape = result.outcome.shape, first.outcome.shape
    if shape != first_shape and result.outcome.size == first.outcome.size == 1:  # one number: [n] and [n, 1] are alike
        result = replace(result, outcome=result.outcome.reshape(first_shape))
    elif shape != first_shape:
        error = (
            f"The outcome has shape {list(shape)} where the study's first has {list(first_shape)}. The simulator must "
            "return the same shape at every theta."
        )
        return replace(result, outcome=None, error=error)
    given, known = ("no x" if of.x is None else f"x of shape {list(of.x.shape)}" for of in (result, first))
    if given != known:
        error = f"The trial has {given} where the study's first has {known}. Give x for all trials alike, or for none."
        return replace(result, outcome=None, error=error)
    return result
