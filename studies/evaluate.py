"""Evaluation of a simulator at the trials of a round: here, or on an executor; failures become results."""

import os
import socket
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing.reduction import ForkingPickler
from types import TracebackType
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.errors import StudyError
from studies.randomness import isolated
from studies.storage.base import Result

__all__ = ["Job", "Simulator", "Workers", "as_outcome", "as_results", "readable", "run_job"]


class Simulator(Protocol):
    """A black box; never differentiated."""

    def __call__(self, theta: Tensor, generator: torch.Generator, /) -> object:
        """Runs the simulator at parameters theta, float64, shape [n, d], with random numbers from a generator.

        Returns:
            One row a trial: a tensor, array or nested list of real numbers, shape [n, ...], or a `Trajectory`.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One call of the simulator.

    Args:
        trials: Numbers of the trials, n of them.
        theta: Their parameters, shape [n, d].
        seed: The seed of the call's generator.
    """

    trials: tuple[int, ...]
    theta: NDArray[np.float64]
    seed: int


def as_outcome(returned: object, n: int) -> NDArray[np.floating]:
    """What a simulator returned, as an array of shape [n, ...]; float32 and float64 are kept, other reals are float64.

    Raises:
        ArgumentError: The shape is wrong.
        ArgumentTypeError: It is no array of real numbers.
    """
    if isinstance(returned, Trajectory):
        returned = returned.y.transpose(0, 1)
    mend = f"Return a tensor of real numbers, shape [{n}, ...], or a Trajectory."
    if isinstance(returned, np.ndarray):
        returned = returned.copy()  # torch warns of arrays that are read only
    try:
        # Lists of floats are double precision; torch would make them single.
        exact = None if isinstance(returned, Tensor | np.ndarray) else torch.float64
        outcome = torch.as_tensor(returned, dtype=exact).detach().cpu()
        if outcome.is_complex():
            raise TypeError(f"its dtype is {outcome.dtype}")
        outcome = outcome.to(outcome.dtype if outcome.dtype == torch.float32 else torch.float64).numpy().copy()
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(returned).__name__
        raise ArgumentTypeError(f"The outcome must be an array of real numbers, got {kind}: {error}. {mend}") from None
    if outcome.ndim == 0 or len(outcome) != n or outcome.size == 0:
        raise ArgumentError(f"The outcome must have shape [{n}, ...], got {list(outcome.shape)}. {mend}")
    return outcome


def as_results(trials: Sequence[int], outcome: NDArray[np.floating]) -> list[Result]:
    """One result a row of an outcome [n, ...]; rows that are not finite are failures."""
    results: list[Result] = []
    for trial, row in zip(trials, outcome, strict=True):
        bad = np.size(row) - np.isfinite(row).sum()
        error = f"The outcome is not finite: {bad} of its {np.size(row)} numbers are NaN or infinite." if bad else None
        results.append(Result(trial, None if bad else np.asarray(row), error))
    return results


def readable(text: str) -> str:
    """Text that can be stored as UTF-8; a traceback may hold anything."""
    return text.encode(errors="backslashreplace").decode()


def run_job(simulator: Simulator, job: Job) -> list[Result]:
    """Calls the simulator once; what it raises is recorded. A top-level function, so that any executor can run it."""
    started, clock, host = time.time(), time.perf_counter(), f"{socket.gethostname()}:{os.getpid()}"
    generator = torch.Generator().manual_seed(job.seed)
    outcome, error = None, None
    try:
        with isolated(torch.Generator().manual_seed(job.seed)):
            outcome = as_outcome(simulator(torch.tensor(job.theta), generator), len(job.trials))
    except (Exception, SystemExit):
        error = readable(traceback.format_exc())
    seconds = time.perf_counter() - clock
    results = (
        [Result(trial, error=error) for trial in job.trials] if outcome is None else as_results(job.trials, outcome)
    )
    return [replace(result, started=started, seconds=seconds, host=host) for result in results]


class Workers:
    """The place where jobs run: none (here), an executor, or a function that makes executors and remakes broken ones.

    Args:
        executor: What the user passed to `Study.run`.
        simulator: Checked to be picklable where a process pool needs it.
    """

    def __init__(self, executor: Executor | Callable[[], Executor] | None, simulator: Simulator) -> None:
        self.simulator = simulator
        self._make = executor if callable(executor) and not isinstance(executor, Executor) else None
        self._executor = executor if self._make is None else self._make()
        if not isinstance(self._executor, Executor | None):
            raise ArgumentTypeError(
                f"`executor` must be a concurrent.futures.Executor or a function that makes one, got {executor!r}. "
                "Pass ProcessPoolExecutor(4), say."
            )
        if isinstance(self._executor, ProcessPoolExecutor):
            try:
                ForkingPickler.dumps(simulator)
            except Exception as error:
                self.close()
                raise ArgumentError(
                    f"`simulator` cannot be sent to another process ({error}). Define it with def at the top level of "
                    "a module, or use threads."
                ) from error

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Shuts down the executor, if it was made here."""
        if self._make and isinstance(self._executor, Executor):
            self._executor.shutdown(wait=True, cancel_futures=True)

    def submit(self, job: Job) -> Future[list[Result]]:
        """Sends a job to the executor; a broken one is made anew where that is ours to do."""
        assert isinstance(self._executor, Executor)
        try:
            return self._executor.submit(run_job, self.simulator, job)
        except RuntimeError:
            if not self._make:
                raise
            self.close()
            self._executor = self._make()
            return self._executor.submit(run_job, self.simulator, job)

    def run(self, jobs: Sequence[Job]) -> Generator[list[Result]]:
        """Results of each job, as they come.

        A job that the executor lost (a killed worker, say) is tried once more, alone, and fails if lost again.

        Raises:
            StudyError: The executor takes no more work.
        """
        if self._executor is None:
            yield from (run_job(self.simulator, job) for job in jobs)
            return
        lost: list[Job] = []
        futures: dict[Future[list[Result]], Job] = {}
        try:
            for job in jobs:
                try:
                    futures[self.submit(job)] = job
                except Exception:
                    lost.append(job)
            for future in as_completed(futures):
                if _failure(future) is None:
                    yield future.result()
                else:
                    lost.append(futures[future])
        finally:
            for future in futures:
                future.cancel()
        for position, job in enumerate(sorted(lost, key=lambda job: job.trials)):
            try:
                future = self.submit(job)
            except Exception as error:
                raise StudyError(
                    f"The executor takes no more work ({type(error).__name__}: {error}). What was told is kept; "
                    f"{sum(len(job.trials) for job in lost[position:])} trials are left pending. Run again with a new "
                    "executor, or pass a function that makes one: executor=lambda: ProcessPoolExecutor(4)."
                ) from error
            if (failure := _failure(future)) is None:
                yield future.result()
            else:
                text = "".join(traceback.format_exception_only(failure))
                error = f"The executor lost the trial twice, the second time when it ran alone.\n{text}"
                yield [Result(trial, None, error) for trial in job.trials]


def _failure(future: Future[list[Result]]) -> BaseException | None:
    try:
        future.result()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return error
    return None
