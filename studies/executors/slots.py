"""Process slots, where trials run by default: a simulator that hangs, leaks or crashes costs one trial."""

import functools
import math
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait

import torch

from studies.child import START_SECONDS, Child, ChildDied
from studies.executors.job import Job, failed, run_job
from studies.storage.base import Result
from surrogates.simulator import InputSimulator, Simulator

__all__ = ["Slots"]

CHUNK_SECONDS = 0.02  # short calls travel together, as many as take about so long
CHUNK = 64  # at most

Finished = tuple[Job, list[Result]]


class Slots:
    """A number of child processes, each of which makes one call at a time; see `Place`.

    A child that takes too long, or dies, fails the call that it was making, and is made anew. It has its share of
    torch's threads.

    Args:
        simulator: What they call.
        workers: How many there are.
        timeout: Seconds that a call may take; None is as long as it likes.
    """

    def __init__(self, simulator: Simulator | InputSimulator, workers: int = 1, timeout: float | None = None) -> None:
        task = functools.partial(run_job, simulator, ours=True)
        threads = max(1, torch.get_num_threads() // workers)
        make = functools.partial(Child[Job, list[Result]], task, threads)
        self._slots = [_Slot(make, timeout) for _ in range(workers)]
        self._queue: deque[Job] = deque()

    @property
    def room(self) -> int:
        return max(0, sum(not slot.jobs for slot in self._slots) - len(self._queue))

    def submit(self, job: Job) -> None:
        self._queue.append(job)

    def collect(self, seconds: float | None = None) -> list[Finished]:
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        finished: list[Finished] = []
        while True:
            self._assign()
            working = [slot for slot in self._slots if slot.jobs]
            if finished or not working or (left := deadline - time.monotonic()) < 0:
                return finished
            left = max(0.0, min(left, *(slot.left for slot in working)))
            ready = set(wait([sign for slot in working for sign in slot.signs], None if left == math.inf else left))
            for slot in working:
                if not ready.isdisjoint(slot.signs):
                    finished += self._returned(slot.answered())
                elif slot.left <= 0:
                    finished += self._returned(slot.overdue())

    def close(self) -> None:
        self._queue.clear()
        for slot in self._slots:
            slot.close()

    def _assign(self) -> None:
        """Hands waiting jobs to idle slots."""
        idle = [slot for slot in self._slots if not slot.jobs]
        for position, slot in enumerate(idle):
            share = math.ceil(len(self._queue) / max(len(idle) - position, 2 * len(self._slots) - 2 * position))
            slot.hand([self._queue.popleft() for _ in range(min(share, slot.chunk))])

    def _returned(self, finished_and_left: tuple[list[Finished], Sequence[Job]]) -> list[Finished]:
        finished, left = finished_and_left
        self._queue.extendleft(reversed(left))
        return finished


class _Slot:
    """A child process, made when it is needed, and the jobs that it was handed and has not answered."""

    def __init__(self, make: Callable[[], Child[Job, list[Result]]], timeout: float | None) -> None:
        self.jobs: deque[Job] = deque()
        self.chunk = 1
        self._make, self._timeout = make, timeout
        self._child: Child[Job, list[Result]] | None = None
        self._since, self._started = 0.0, 0.0

    @property
    def signs(self) -> tuple[Connection | int, ...]:
        return self._child.signs if self._child else ()

    @property
    def left(self) -> float:
        """Seconds that the child has left."""
        limit = START_SECONDS if self._child and not self._child.started else self._timeout
        return math.inf if limit is None else self._since + limit - time.monotonic()

    def hand(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        if not (self._child and self._child.alive):
            self.close()
            self._child = self._make()
        self.jobs.extend(jobs)
        self._tick()
        self._child.send(jobs)

    def answered(self) -> tuple[list[Finished], Sequence[Job]]:
        """The jobs that finished, and those to hand out again."""
        assert self._child
        started = self._child.started
        try:
            answers = self._child.answers()
        except ChildDied as death:
            return self._lost(f"The simulator's process died of it: {death}")
        finished = [(self.jobs.popleft(), results) for results in answers]
        if answers:
            longest = max(results[0].seconds or 0.0 for results in answers)
            self.chunk = min(CHUNK, 2 * self.chunk, max(1, round(CHUNK_SECONDS / max(longest, 1e-6))))
        if answers or not started:
            self._tick()
        return finished, ()

    def overdue(self) -> tuple[list[Finished], Sequence[Job]]:
        """The same, when the time is over."""
        return self._lost(f"The simulator took longer than `timeout` = {self._timeout:g} s and was killed.")

    def close(self) -> None:
        if self._child:
            self._child.kill()
        self._child = None
        self.jobs.clear()

    def _lost(self, error: str) -> tuple[list[Finished], Sequence[Job]]:
        assert self._child
        if not self._child.started:
            raise self._child.refusal(error)
        job, *left = self.jobs
        host = f"{socket.gethostname()}:{self._child.pid}"
        self.close()
        self.chunk = 1
        return [(job, failed(job, error, self._started, host))], left

    def _tick(self) -> None:
        self._since, self._started = time.monotonic(), time.time()
