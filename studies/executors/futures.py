"""Executors of concurrent.futures as the place where trials run: pools of threads, of processes, of a cluster."""

import contextlib
import functools
import os
import queue
import socket
import threading
import time
import traceback
import uuid
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace

import torch

from studies.child import Child, ChildDied
from studies.errors import StudyError
from studies.executors.job import Job, failed, run_job
from studies.randomness import isolated
from studies.storage.base import Result
from surrogates.simulator import InputSimulator, Simulator

__all__ = ["Futures", "run_limited"]


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
        child = Child(functools.partial(run_job, simulator, ours=True))
        _OWN.child, _OWN.run, _OWN.process = child, limit.run, os.getpid()
        _CHILDREN[limit.run].append(child)
    started, host = time.time(), f"{socket.gethostname()}:{child.pid}"
    try:
        return child.ask(job, limit.seconds)
    except TimeoutError:
        error = f"The simulator took longer than `timeout` = {limit.seconds:g} s and was killed."
    except ChildDied as death:
        error = f"The simulator's process died of it: {death}"
    return failed(job, error, started, host)


class Futures:
    """An executor, or a function that makes executors and remakes broken ones; see `Place`.

    A job that the executor lost (a killed worker, say) is tried once more, alone, and fails if it is lost again.

    Args:
        executor: The executor.
        simulator: What is called.
        workers: How many calls it makes at a time.
        timeout: Seconds that a call may take, in a child process of the executor's worker; None is as long as it likes.
        make: Made the executor, and makes another when it is broken; the executor then ends with the run.
        study: The study's repr, for the environment that results hold.
    """

    def __init__(
        self,
        executor: Executor,
        simulator: Simulator | InputSimulator,
        workers: int = 1,
        timeout: float | None = None,
        make: Callable[[], Executor] | None = None,
        study: str | None = None,
    ) -> None:
        self._executor, self._make = executor, make
        self._limit = None if timeout is None else Limit(timeout, uuid.uuid4().hex)
        self._task = (
            functools.partial(run_limited, simulator, self._limit)
            if self._limit
            else functools.partial(run_job, simulator, study=study)
        )
        self._workers = workers
        self._running: dict[Future[list[Result]], Job] = {}
        self._done: queue.SimpleQueue[Future[list[Result]]] = queue.SimpleQueue()
        self._lost: deque[Job] = deque()
        self._alone = False
        # Jobs seed the global generators and restore them; threads, which overlap, would leave them seeded.
        self._kept = contextlib.ExitStack()
        self._kept.enter_context(isolated(torch.Generator()))

    @property
    def room(self) -> int:
        return 0 if self._lost or self._alone else max(0, self._workers - len(self._running))

    def submit(self, job: Job) -> None:
        try:
            self._submit(job)
        except Exception:
            self._lost.append(job)

    def collect(self, seconds: float | None = None) -> list[tuple[Job, list[Result]]]:
        finished: list[tuple[Job, list[Result]]] = []
        deadline = None if seconds is None else time.monotonic() + seconds
        while not finished and (self._running or self._lost):
            if not self._running:
                self._try_alone()
            try:
                future = self._done.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
                while True:
                    finished += self._returned(future)
                    future = self._done.get_nowait()
            except queue.Empty:
                if deadline is not None and time.monotonic() >= deadline:
                    break
        return finished

    def close(self) -> None:
        for future in self._running:
            future.cancel()
        for child in _CHILDREN.pop(self._limit.run, ()) if self._limit else ():
            child.kill()
        self._close_executor()
        self._kept.close()

    def _submit(self, job: Job) -> None:
        """Sends a job to the executor; a broken one is made anew where that is ours to do."""
        try:
            future = self._executor.submit(self._task, job)
        except RuntimeError:
            if not self._make:
                raise
            self._close_executor()
            self._executor = self._make()
            future = self._executor.submit(self._task, job)
        self._running[future] = job
        future.add_done_callback(self._done.put)

    def _try_alone(self) -> None:
        job = min(self._lost, key=lambda job: job.trials)
        try:
            self._submit(replace(job, attempt=job.attempt + 1))
        except Exception as error:
            raise StudyError(
                f"The executor takes no more work ({type(error).__name__}: {error}). What was told is kept; "
                f"{sum(len(job.trials) for job in self._lost)} trials are left pending. Run again with a new executor, "
                "or pass a function that makes one: executor=lambda: ProcessPoolExecutor(4)."
            ) from error
        self._lost.remove(job)
        self._alone = True

    def _returned(self, future: Future[list[Result]]) -> list[tuple[Job, list[Result]]]:
        job, alone, self._alone = self._running.pop(future), self._alone, False
        failure = _failure(future)
        if failure is None:
            return [(job, future.result())]
        if not alone:
            self._lost.append(job)
            return []
        text = "".join(traceback.format_exception_only(failure))
        return [(job, failed(job, f"The executor lost the trial twice, the second time when it ran alone.\n{text}"))]

    def _close_executor(self) -> None:
        if self._make:
            self._executor.shutdown(wait=True, cancel_futures=True)


def _failure(future: Future[list[Result]]) -> BaseException | None:
    try:
        future.result()
    except (KeyboardInterrupt, StudyError):
        raise
    except BaseException as error:
        return error
    return None
