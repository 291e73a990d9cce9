"""One call of a simulator, what comes of it, and the protocol of a place where such calls are made."""

import os
import socket
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from studies.randomness import isolated, seed_globally
from studies.record import environment
from studies.storage.base import Result
from surrogates.simulator import InputSimulator, Simulator, as_inputs, as_outcome

__all__ = ["Job", "Place", "as_results", "failed", "readable", "run_job"]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One call of the simulator.

    Args:
        trials: Numbers of the trials, n of them.
        theta: Their parameters, shape [n, d].
        seed: The seed of the call's generator.
        attempt: How often it was tried before. Some executors run equal calls once only.
    """

    trials: tuple[int, ...]
    theta: NDArray[np.float64]
    seed: int
    attempt: int = 0


class Place(Protocol):
    """Where jobs run; it gives every job back once, with its results, in any order."""

    @property
    def room(self) -> int:
        """How many more jobs would start at once; it takes any number and lets the rest wait."""
        ...

    def submit(self, job: Job) -> None:
        """Takes a job."""
        ...

    def collect(self, seconds: float | None = None) -> list[tuple[Job, list[Result]]]:
        """What has finished since it was last asked: at least one job, unless so many seconds pass without.

        Raises:
            StudyError: The place takes no more work; what it had is lost, and nothing that it gave back.
        """
        ...

    def close(self) -> None:
        """Ends what is running and frees what the place holds."""
        ...


def as_results(
    trials: Sequence[int], outcome: NDArray[np.floating], x: NDArray[np.float64] | None = None
) -> list[Result]:
    """One result a row of an outcome [n, ...] and of its inputs [n, k]; rows that are not finite are failures."""
    results: list[Result] = []
    inputs = [None] * len(trials) if x is None else x
    for trial, row, given in zip(trials, outcome, inputs, strict=True):
        bad = np.size(row) - np.isfinite(row).sum()
        error = f"The outcome is not finite: {bad} of its {np.size(row)} numbers are NaN or infinite." if bad else None
        results.append(Result(trial, None if bad else np.asarray(row), error, x=given))
    return results


def readable(text: str) -> str:
    """Text that can be stored as UTF-8; a traceback may hold anything."""
    return text.encode(errors="backslashreplace").decode()


def failed(job: Job, error: str, started: float | None = None, host: str | None = None) -> list[Result]:
    """The results of a job that gave none, and took until now."""
    seconds = None if started is None else time.time() - started
    return [Result(trial, None, readable(error), started, seconds, host, seed=job.seed) for trial in job.trials]


def run_job(
    simulator: Simulator | InputSimulator, job: Job, study: str | None = None, ours: bool = False
) -> list[Result]:
    """Calls the simulator once; what it raises is recorded. A top-level function, so that any executor can run it.

    Args:
        simulator: The simulator.
        job: What to call it with.
        study: The study's repr, where the results are to hold the environment of this process.
        ours: Whether the process serves nothing else: its global random numbers are then not restored.
    """
    started, clock, host = time.time(), time.perf_counter(), f"{socket.gethostname()}:{os.getpid()}"
    generator = torch.Generator().manual_seed(job.seed)
    theta, n = torch.tensor(job.theta), len(job.trials)
    x, results = None, None
    try:
        with ExitStack() as kept:
            if ours:
                seed_globally(torch.Generator().manual_seed(job.seed))
            else:
                kept.enter_context(isolated(torch.Generator().manual_seed(job.seed)))
            if isinstance(simulator, InputSimulator):
                drawn = simulator.inputs(n, generator)
                x = as_inputs(drawn, n)
                returned = simulator(theta, drawn, generator)
            else:
                returned = simulator(theta, generator)
            results = as_results(job.trials, as_outcome(returned, n), x)
    except (Exception, SystemExit):
        error = readable(traceback.format_exc())
        inputs = [None] * n if x is None else x
        results = [Result(trial, error=error, x=row) for trial, row in zip(job.trials, inputs, strict=True)]
    seconds = time.perf_counter() - clock
    made_in = None if study is None else environment(study)
    return [
        replace(result, started=started, seconds=seconds, host=host, seed=job.seed, environment=made_in)
        for result in results
    ]
