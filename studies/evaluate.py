"""Evaluation of a simulator at the trials of a round: here, or on an executor; failures become results."""

import functools
import os
import socket
import threading
import time
import traceback
import uuid
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing.reduction import ForkingPickler
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.child import Child, ChildDied, start_method
from studies.errors import StudyError
from studies.randomness import isolated
from studies.storage.base import Result
from surrogates.simulator import InputSimulator, Simulator, as_inputs, as_outcome

__all__ = ["Job", "Workers", "as_results", "readable", "run_job"]


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


def run_job(simulator: Simulator | InputSimulator, job: Job) -> list[Result]:
    """Calls the simulator once; what it raises is recorded. A top-level function, so that any executor can run it."""
    started, clock, host = time.time(), time.perf_counter(), f"{socket.gethostname()}:{os.getpid()}"
    generator = torch.Generator().manual_seed(job.seed)
    theta, n = torch.tensor(job.theta), len(job.trials)
    x, results = None, None
    try:
        with isolated(torch.Generator().manual_seed(job.seed)):
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
    return [replace(result, started=started, seconds=seconds, host=host) for result in results]


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a call may take.

    Args:
        seconds: That long.
        run: A name of the run: children serve one run.
    """

    seconds: float
    run: str


class _Own(threading.local):
    """A thread's child process, and the run and the process that made it: a fork copies what is another's child."""

    run, process = "", 0
    child: Child[Job, list[Result]] | None = None


_OWN = _Own()
_CHILDREN: dict[str, list[Child[Job, list[Result]]]] = defaultdict(list)  # of this process, by run


def run_limited(simulator: Simulator | InputSimulator, limit: Limit, job: Job) -> list[Result]:
    """As `run_job`, in a child process of the thread that calls it, which is killed when the time is over."""
    child = _OWN.child if _OWN.process == os.getpid() else None
    if child and (_OWN.run != limit.run or not child.alive):
        child.kill()
        child = None
    if not child:
        child = Child(functools.partial(run_job, simulator))
        _OWN.child, _OWN.run, _OWN.process = child, limit.run, os.getpid()
        _CHILDREN[limit.run].append(child)
    started, clock, host = time.time(), time.perf_counter(), f"{socket.gethostname()}:{child.pid}"
    try:
        return child.ask(job, limit.seconds)
    except TimeoutError:
        error = f"The simulator took longer than `timeout` = {limit.seconds:g} s and was killed."
    except ChildDied as death:
        error = f"The simulator's process died of it: {death}"
    seconds = time.perf_counter() - clock
    return [Result(trial, None, error, started, seconds, host) for trial in job.trials]


class Workers:
    """The place where jobs run: none (here), an executor, or a function that makes executors and remakes broken ones.

    Args:
        executor: What the user passed to `Study.run`.
        simulator: Checked to be picklable where another process needs it.
        timeout: Seconds that a call may take; None is as long as it likes.
    """

    def __init__(
        self,
        executor: Executor | Callable[[], Executor] | None,
        simulator: Simulator | InputSimulator,
        timeout: float | None = None,
    ) -> None:
        limit = None if timeout is None else Limit(timeout, uuid.uuid4().hex)
        self._limit = limit
        self._task = (
            functools.partial(run_limited, simulator, limit) if limit else functools.partial(run_job, simulator)
        )
        self._make = executor if callable(executor) and not isinstance(executor, Executor) else None
        self._executor = executor if self._make is None else self._make()
        if not isinstance(self._executor, Executor | None):
            raise ArgumentTypeError(
                f"`executor` must be a concurrent.futures.Executor or a function that makes one, got {executor!r}. "
                "Pass ProcessPoolExecutor(4), say."
            )
        if isinstance(self._executor, ProcessPoolExecutor) or (limit and start_method() == "spawn"):
            try:
                ForkingPickler.dumps(simulator)
            except Exception as error:
                self.close()
                raise ArgumentError(
                    f"`simulator` cannot be sent to another process ({error}). Define it with def at the top level of "
                    "a module, or use threads without `timeout`."
                ) from error

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Shuts down the executor, if it was made here, and kills the children of this process."""
        for child in _CHILDREN.pop(self._limit.run, ()) if self._limit else ():
            child.kill()
        self._close_executor()

    def _close_executor(self) -> None:
        if self._make and isinstance(self._executor, Executor):
            self._executor.shutdown(wait=True, cancel_futures=True)

    def submit(self, job: Job) -> Future[list[Result]]:
        """Sends a job to the executor; a broken one is made anew where that is ours to do."""
        assert isinstance(self._executor, Executor)
        try:
            return self._executor.submit(self._task, job)
        except RuntimeError:
            if not self._make:
                raise
            self._close_executor()
            self._executor = self._make()
            return self._executor.submit(self._task, job)

    def run(self, jobs: Sequence[Job]) -> Generator[list[Result]]:
        """Results of each job, as they come.

        A job that the executor lost (a killed worker, say) is tried once more, alone, and fails if lost again.

        Raises:
            StudyError: The executor takes no more work, or a child process does not start.
        """
        if self._executor is None:
            yield from map(self._task, jobs)
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
    except (KeyboardInterrupt, StudyError):
        raise
    except BaseException as error:
        return error
    return None
