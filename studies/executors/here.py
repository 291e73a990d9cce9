"""This process as the place where trials run, one after the other: for debugging, and for side effects."""

from collections import deque

from studies.executors.job import Job, run_job
from studies.storage.base import Result
from surrogates.simulator import InputSimulator, Simulator

__all__ = ["Here"]


class Here:
    """Calls the simulator in this process; see `Place`.

    Args:
        simulator: What it calls.
    """

    def __init__(self, simulator: Simulator | InputSimulator) -> None:
        self._simulator = simulator
        self._queue: deque[Job] = deque()

    @property
    def room(self) -> int:
        return 0 if self._queue else 1

    def submit(self, job: Job) -> None:
        self._queue.append(job)

    def collect(self, seconds: float | None = None) -> list[tuple[Job, list[Result]]]:
        if not self._queue:
            return []
        job = self._queue.popleft()
        return [(job, run_job(self._simulator, job))]

    def close(self) -> None:
        self._queue.clear()
