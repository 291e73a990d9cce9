"""The hands of a run: they send trials to the place where they run, repeat what failed, and record what comes back."""

import contextlib
import functools
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import TracebackType

import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.asking import Asker, Goal
from studies.errors import StorageError, StudyError
from studies.executors.job import Job, Place
from studies.history import History
from studies.ledger import Ledger
from studies.progress import Progress
from studies.randomness import isolated, key_seed
from studies.record import environment
from studies.stopping import Stop
from studies.storage.base import Result, RoundRecord
from studies.strategies.base import Strategy
from studies.strategies.settings import check_count

__all__ = ["Runner", "check_run", "check_seconds", "reason_to_stop", "run_all"]

WRITE_SECONDS = 0.1  # results of short calls are written together, so often
POLL_SECONDS = 0.5  # how often a run looks whether others told what they have
PAUSE_SECONDS = 0.02  # and as soon as none has come for so long


class Runner:
    """Runs trials of a study at a place and records them; a context manager that writes what it still holds.

    Args:
        ledger: What the study knows; results are recorded in it.
        seed: The study's seed.
        place: Where trials run; it is closed at the end.
        vectorized: Whether a round is one call.
        retries: How often a call that failed is made again.
        max_failures: The run stops when this many trials have failed and none succeeded.
        study: The study's repr, for the environment that results hold.
    """

    def __init__(
        self, ledger: Ledger, seed: int, place: Place, vectorized: bool, retries: int, max_failures: int, study: str
    ) -> None:
        self._environment = environment(study)
        self._ledger, self._seed, self._place, self._vectorized = ledger, seed, place, vectorized
        self._retries, self._max_failures = retries, max_failures
        self.n_done = 0
        self._tries: dict[int, int] = {}  # by trial in flight
        self._unwritten: list[Result] = []
        self._written = time.monotonic()
        self._failures: list[Result] | None = []  # those before the first success; None after it

    def __enter__(self) -> "Runner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with contextlib.suppress(StorageError) if kind else contextlib.nullcontext():
                self._write()
        finally:
            self._place.close()

    @property
    def busy(self) -> bool:
        """Whether a trial is in flight."""
        return bool(self._tries)

    @property
    def room(self) -> int:
        """How many more calls would start at once."""
        return self._place.room

    def submit(self, trials: Iterable[int]) -> None:
        """Sends trials that are not in flight to the place."""
        new = [trial for trial in trials if trial not in self._tries]
        for job in self._jobs(new):
            self._tries.update(dict.fromkeys(job.trials, 1))
            self._place.submit(job)

    def collect(self, seconds: float | None = None) -> None:
        """Waits until something finishes, or so many seconds pass, and records what finished.

        Raises:
            StudyError: All of the first trials failed, or the place takes no more work.
        """
        while self.busy:
            returned = self._place.collect(PAUSE_SECONDS if self._unwritten else seconds)
            for job, results in returned:
                self._take(job, results)
            if not returned or not self.busy or time.monotonic() - self._written > WRITE_SECONDS:
                break
        self._write()
        if self._failures and len(self._failures) >= self._max_failures:
            raise self.all_failed()

    def all_failed(self) -> StudyError:
        """The error for a run in which no trial succeeded."""
        failures = self._failures or []
        return StudyError(f"All of the first {len(failures)} trials failed. The first one:\n{failures[0].error}")

    @property
    def only_failed(self) -> bool:
        """Whether trials failed and none succeeded."""
        return bool(self._failures)

    def _jobs(self, trials: Sequence[int]) -> list[Job]:
        seed = functools.partial(key_seed, self._seed)
        if self._vectorized:
            rounds = {(round := self._ledger.round_of(trial)).number: round for trial in trials}
            return [
                Job(tuple(round.trials), round.theta, seed(round.number, "simulate", round.first))
                for round in rounds.values()
            ]
        jobs: list[Job] = []
        for trial in trials:
            round: RoundRecord = self._ledger.round_of(trial)
            row = round.theta[[trial - round.first]]
            jobs.append(Job((trial,), row, seed(round.number, "simulate", trial)))
        return jobs

    def _take(self, job: Job, results: Sequence[Result]) -> None:
        success = any(result.error is None for result in results)
        if not success and self._tries[job.trials[0]] <= self._retries:
            self._tries[job.trials[0]] += 1
            self._place.submit(replace(job, attempt=job.attempt + 1))
            return
        if not success and self._retries:
            results = [
                replace(result, error=f"All of {self._retries + 1} tries failed, the last with:\n{result.error}")
                for result in results
            ]
        for trial in job.trials:
            del self._tries[trial]
        self.n_done += len(job.trials)
        self._unwritten += [
            result if result.environment else replace(result, environment=self._environment) for result in results
        ]
        if success:
            self._failures = None
        elif self._failures is not None:
            self._failures += results

    def _write(self) -> None:
        self._ledger.record(self._unwritten)
        self._unwritten, self._written = [], time.monotonic()


def run_all(
    asker: Asker, runner: Runner, goal: Goal, stop: Sequence[Stop], asynchronous: bool, bar: Progress
) -> str | None:
    """Runs what is asked and not told, and asks until the goal is reached or a rule stops it.

    Args:
        asker: Asks.
        runner: Runs.
        goal: How large the study shall become.
        stop: Rules that end it early.
        asynchronous: Whether to ask as soon as a worker is free; else when all trials are told.
        bar: Shows how far it is.

    Returns:
        Why it stopped early; None: it did not.
    """
    ledger, stopped, n_seen = asker.ledger, None, -1

    def size(history: History) -> int:
        if ledger.untold() and not asynchronous:
            return 0  # another process asked meanwhile
        return goal.size(asker.strategy, history)

    asked: set[int] = set()  # the rounds that were asked here: their trials are ours
    ledger.read()
    while True:
        untold = ledger.untold()
        foreign = any(ledger.round_of(trial).number not in asked for trial in untold)
        elsewhere = ledger.leased() if foreign else set[int]()
        runner.submit(trial for trial in untold if trial not in elsewhere)
        if bar.shown:
            bar.update(ledger.results.values(), goal.expected(asker.strategy, asker.history))
        if runner.room if asynchronous else not runner.busy:
            if stopped is None and len(ledger.results) > n_seen:
                n_seen = len(ledger.results)
                stopped = reason_to_stop(stop, asker.history, asker.strategy)
            may_ask = stopped is None and (asynchronous or not elsewhere)
            if may_ask and (round := asker.ask(size)):
                asked.add(round.number)
                continue
            if not (runner.busy or elsewhere or ledger.untold()):
                break
        if elsewhere and not runner.busy:
            time.sleep(POLL_SECONDS)
        runner.collect(POLL_SECONDS if elsewhere else None)
        if elsewhere:
            ledger.read()  # else what was recorded was read as well
    if stopped is not None:
        bar.say(f"stopped: {stopped}")
    return stopped


def reason_to_stop(stop: Sequence[Stop], history: History, strategy: Strategy) -> str | None:
    """The first reason that a rule has, whatever it draws globally."""
    for rule in stop:
        with isolated(torch.Generator()):
            if (reason := rule.reason(history, strategy)) is not None:
                return reason
    return None


def check_seconds(name: str, seconds: object) -> None:
    """Raises ArgumentError unless a time is positive and finite."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise ArgumentError(f"`{name}` must be a positive number of seconds, got {seconds!r}.")


def check_run(simulator: object, stop: object, timeout: object, **counts: object) -> None:
    """Raises ArgumentError or ArgumentTypeError where an argument of a run is wrong, before anything is run."""
    for name, count in counts.items():
        if count is not None:
            check_count(name, count, least=0 if name == "retries" else 1)
    if timeout is not None:
        check_seconds("timeout", timeout)
    if isinstance(simulator, type) or not callable(simulator):
        raise ArgumentTypeError(f"`simulator` must be callable as simulator(theta, generator), got {simulator!r}.")
    rules = list(stop) if isinstance(stop, Sequence) else [None]
    if not all(isinstance(rule, Stop) and not isinstance(rule, type) for rule in rules):
        raise ArgumentTypeError(f"`stop` must be a sequence of rules, got {stop!r}. Pass stop=[NoImprovement(5)], say.")
