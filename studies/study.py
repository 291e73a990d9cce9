"""The study: the one object with state. It asks a strategy, has trials evaluated, and appends what it is told."""

import contextlib
import functools
import json
import os
import platform
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import cast

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.errors import ConflictError, StudyError
from studies.evaluate import Job, Simulator, Workers, as_outcome, as_results
from studies.history import History, Trial
from studies.progress import Progress
from studies.randomness import isolated, key_generator, key_seed
from studies.space import Space
from studies.storage.base import Result, RoundRecord, Storage, StudyRecord, settled
from studies.storage.resolve import open_storage
from studies.strategies.base import Optimiser, Strategy, checked

__all__ = ["Round", "Study"]


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """What `Study.ask` returns: the trials to run.

    Args:
        number: The round's number.
        trials: The trials' numbers, n of them; `Study.tell` wants them back.
        theta: Their parameters, float64, shape [n, d].
    """

    number: int
    trials: tuple[int, ...]
    theta: Tensor


class Study:
    """A sequence of trials of a simulator, chosen by a strategy, recorded in a storage.

    A study is resumed by making it again with the same storage, name, space and seed. Because every random number has a
    key (seed, round, stream, trial), and because a strategy sees nothing but the history, a study that was
    killed between any two trials and resumed equals an unbroken one bit for bit.

    Args:
        space: The design space.
        strategy: What chooses the trials. A resumed study may go on with another strategy: it warns, and each round's
            record names the strategy that proposed it.
        storage: "memory", a URL such as "sqlite:///runs.db", a path, or a storage.
        seed: Equal seeds give equal studies.
        name: The study's name in the storage.

    Raises:
        ArgumentError: The seed is not a non-negative integer or the name is empty.
        StorageError: The storage cannot be opened.
        StudyError: The storage holds a study of this name with another space or seed.

    Example:
        >>> from studies.space import Box
        >>> from studies.strategies.sobol import Sobol
        >>> study = Study(Box({"q": (-2, 2)}), Sobol())
        >>> history = study.run(lambda theta, generator: theta.square(), trials=8)
        >>> history.theta.shape, history.outcome.shape
        (torch.Size([8, 1]), torch.Size([8, 1]))
    """

    def __init__(
        self,
        space: Space,
        strategy: Strategy,
        storage: str | os.PathLike[str] | Storage = "memory",
        *,
        seed: int = 0,
        name: str = "study",
    ) -> None:
        if not isinstance(space, Space):
            raise ArgumentTypeError(f"`space` must be a design space, got {space!r}. Pass Box({{'q': (-2, 2)}}).")
        if isinstance(strategy, type) or not callable(getattr(strategy, "propose", None)):
            raise ArgumentTypeError(f"`strategy` must have a method `propose`, got {strategy!r}. Pass Sobol(), say.")
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise ArgumentError(f"`seed` must be an integer from 0 to 2**63 - 1, got {seed!r}.")
        if not isinstance(name, str) or not name:
            raise ArgumentError(f"`name` must be a string that is not empty, got {name!r}.")
        self.space, self.strategy, self.seed, self.name = space, strategy, seed, name
        self.storage = open_storage(storage)
        self._lock = threading.Lock()
        self._rounds: list[RoundRecord] = []
        self._results: dict[int, Result] = {}
        self._closed: list[Trial] = []  # those of the first rounds, as far as they are told whole
        self._n_closed = 0
        self._create()

    def __repr__(self) -> str:
        return (
            f"Study({self.space!r}, {self.strategy!r}, storage={self.storage!r}, seed={self.seed}, name={self.name!r})"
        )

    @property
    def history(self) -> History:
        """All trials so far, those of other processes included."""
        self._read()
        with self._lock:
            trials = [*self._closed, *self._open_trials()]
            for round in self._rounds[self._n_closed :]:
                if any(number not in self._results for number in round.trials):
                    break
                self._closed += trials[round.first : round.trials.stop]
                self._n_closed += 1
            return History(self.space, tuple(trials), tuple(round.info for round in self._rounds))

    def ask(self, n: int = 1) -> Round:
        """Proposes a round of n trials; the strategy sees trials that are still pending as such.

        Raises:
            ArgumentError: n is not a positive integer.
            StudyError: The strategy's proposal breaks a rule.
        """
        _check_count("n", n)
        while True:
            history = self.history
            number = history.n_rounds
            generator = key_generator(self.seed, number, "propose")
            with isolated(key_generator(self.seed, number, "propose", 1)):
                proposal = self.strategy.propose(history, n, generator)
            theta, info = checked(proposal, self.space, n)
            round = RoundRecord(number, len(history.trials), theta.numpy(), info, _repr(self.strategy))
            try:
                self.storage.add_round(self.name, round)
            except ConflictError:
                continue  # another process asked meanwhile: propose again, knowing its round
            return Round(number, tuple(round.trials), theta.clone())

    def tell(self, trials: "Round | int | Sequence[int]", outcome: object) -> None:
        """Records outcomes; rows that are not finite are recorded as failed trials.

        Args:
            trials: A round as asked, or trial numbers, n of them.
            outcome: One row a trial, in the same order, shape [n, ...]; or a `Trajectory` of n runs.

        Raises:
            ArgumentError: The outcome's shape is wrong, or a trial was not asked.
            ArgumentTypeError: The outcome is no array of real numbers.
            ConflictError: A trial was told already.
        """
        numbers = self._numbers(trials)
        rows = as_outcome(outcome, len(numbers))
        complete = (trial.outcome for trial in self.history.trials if trial.outcome is not None)
        shape = next((tuple(outcome.shape) for outcome in complete), rows.shape[1:])
        if rows.shape[1:] != shape:
            raise ArgumentError(f"`outcome` must have shape {[len(rows), *shape]}, got {list(rows.shape)}.")
        self.storage.add_results(self.name, as_results(numbers, rows))

    def fail(self, trials: "Round | int | Sequence[int]", error: str) -> None:
        """Records trials as failed.

        Args:
            trials: A round as asked, or trial numbers.
            error: What happened.
        """
        self.storage.add_results(self.name, [Result(trial, error=str(error)) for trial in self._numbers(trials)])

    def run(
        self,
        simulator: Simulator,
        *,
        trials: int | None = None,
        rounds: int | None = None,
        batch: int = 1,
        executor: Executor | Callable[[], Executor] | None = None,
        vectorized: bool = False,
        max_failures: int = 10,
        progress: bool | None = None,
    ) -> History:
        """Runs the study until it has a number of trials or of rounds, those already in the storage included.

        A script that was killed goes on where it stopped when it is started again: trials asked and never told are
        evaluated first, with the random numbers that they would have had. One process runs a study at a time; others
        may ask and tell.

        Args:
            simulator: Called as `simulator(theta, generator)` once a trial with theta of shape [1, d], so that a crash
                costs one trial and the numbers are the same with any executor. What it raises, or returns that
                is not finite or has the wrong shape or type, is recorded as a failed trial.
            trials: Number of trials to reach, failed ones included.
            rounds: Number of rounds to reach; give this or `trials`.
            batch: Trials a round: chosen together and evaluated in parallel.
            executor: Where trials run: any `concurrent.futures.Executor`, or a function that makes one (a process pool
                whose worker was killed is then made anew). None is here, one after the other.
            vectorized: Call the simulator once a round, with theta of shape [n, d] and one generator.
            max_failures: The run stops when this many trials have failed and none succeeded since it began.
            progress: Show a progress bar; None shows it in a terminal only. Elsewhere it is a few lines of text.

        Returns:
            The history.

        Raises:
            ArgumentError: Neither or both of trials and rounds are given, or one is not a positive integer.
            StudyError: All of the first trials failed, a proposal breaks a rule, or the executor is broken.
        """
        if (trials is None) == (rounds is None):
            raise ArgumentError(f"Give `trials` or `rounds`, one of them; got trials={trials!r}, rounds={rounds!r}.")
        for name, count in (("trials", trials), ("rounds", rounds), ("batch", batch), ("max_failures", max_failures)):
            if count is not None:
                _check_count(name, count)
        if not callable(simulator):
            raise ArgumentTypeError(f"`simulator` must be callable as simulator(theta, generator), got {simulator!r}.")
        failures: list[Result] | None = []  # those before the first success; None after it
        with Workers(executor, simulator) as workers, Progress(self.name, progress) as bar:
            while True:
                if jobs := self._jobs(vectorized):
                    # The workers seed the global generators for each job; threads would leave them seeded.
                    with isolated(torch.Generator()):
                        for results in workers.run(jobs):
                            self._record(results)
                            failures = _streak(failures, results)
                            if failures and len(failures) >= max_failures:
                                raise _all_failed(failures)
                            bar.update(self._results.values())
                    continue
                n_trials, n_rounds = self._n_trials, len(self._rounds)
                left = trials - n_trials if trials is not None else batch * (cast(int, rounds) - n_rounds)
                bar.update(self._results.values(), total=n_trials + max(left, 0))
                if left <= 0:
                    break
                self.ask(min(batch, left))
        history = self.history
        if failures and not len(history):
            raise _all_failed(failures)
        return history

    def recommend(self) -> Tensor:
        """The strategy's answer so far, shape [d].

        Raises:
            StudyError: The strategy has none: it learns or covers, it does not optimise.
        """
        if not isinstance(self.strategy, Optimiser):
            raise StudyError(f"{self.strategy!r} does not optimise: it has no `recommend`. Use `history` instead.")
        history = self.history
        with isolated(key_generator(self.seed, history.n_rounds, "recommend")):
            return self.strategy.recommend(history)

    @property
    def _n_trials(self) -> int:
        return self._rounds[-1].trials.stop if self._rounds else 0

    def _create(self) -> None:
        space = json.loads(json.dumps(self.space.describe()))
        created = datetime.now(UTC).isoformat(timespec="seconds")
        record = StudyRecord(self.name, space, _repr(self.strategy), self.seed, _versions(), created)
        stored = self.storage.create(record)
        for what, old, new in (("space", stored.space, space), ("seed", stored.seed, self.seed)):
            if old != new:
                raise StudyError(
                    f"The study {self.name!r} in {self.storage!r} has the {what} {old}, got {new}. Pass the same "
                    f"{what} to resume it, or another name to start a new study."
                )
        if stored.strategy != record.strategy:
            warnings.warn(
                f"The study {self.name!r} was made with the strategy {stored.strategy} and goes on with "
                f"{record.strategy}; it will differ from an unbroken one.",
                stacklevel=3,
            )

    def _read(self) -> None:
        """Fetches what is new in the storage."""
        with self._lock:
            self._rounds += self.storage.rounds(self.name, start=len(self._rounds))
            new = self.storage.results(self.name, start=len(self._results))
            self._results.update((result.trial, result) for result in new)

    def _open_trials(self) -> Iterator[Trial]:
        rounds = self._rounds[self._n_closed :]
        results = (self._results[number] for round in rounds for number in round.trials if number in self._results)
        told = settled(results, self._shape)
        for round in rounds:
            for number, theta in zip(round.trials, round.theta, strict=True):
                yield _trial(round.number, number, torch.tensor(theta), told.get(number))

    @property
    def _shape(self) -> tuple[int, ...] | None:
        return next((tuple(trial.outcome.shape) for trial in self._closed if trial.outcome is not None), None)

    def _jobs(self, vectorized: bool) -> list[Job]:
        """The calls that complete the first round with trials that are not told."""
        self._read()
        for round in self._rounds[self._n_closed :]:
            left = [trial for trial in round.trials if trial not in self._results]
            seed = functools.partial(key_seed, self.seed, round.number, "simulate")
            if left and vectorized:
                return [Job(tuple(round.trials), round.theta, seed(round.first))]
            if left:
                return [Job((trial,), round.theta[[trial - round.first]], seed(trial)) for trial in left]
        return []

    def _record(self, results: Sequence[Result]) -> None:
        """Appends the results of trials that nobody told meanwhile."""
        self._read()
        while left := [result for result in results if result.trial not in self._results]:
            with contextlib.suppress(ConflictError):
                self.storage.add_results(self.name, left)
            self._read()

    def _numbers(self, trials: "Round | int | Sequence[int]") -> list[int]:
        numbers = [trials] if isinstance(trials, int) else list(trials.trials if isinstance(trials, Round) else trials)
        self._read()
        if unknown := [number for number in numbers if not 0 <= number < self._n_trials]:
            raise ArgumentError(
                f"`trials` holds {unknown}, which were not asked: there are {self._n_trials} trials. Ask first."
            )
        if len(set(numbers)) < len(numbers):
            raise ArgumentError(f"`trials` must differ, got {numbers}. Tell each trial once.")
        return numbers


def _trial(round: int, number: int, theta: Tensor, result: Result | None) -> Trial:
    if result is None:
        return Trial(number, round, theta)
    when = (result.started, result.seconds, result.host)
    if result.outcome is None:
        return Trial(number, round, theta, "failed", None, result.error, *when)
    return Trial(number, round, theta, "complete", torch.tensor(result.outcome), None, *when)


def _streak(failures: list[Result] | None, results: Sequence[Result]) -> list[Result] | None:
    if failures is None or any(result.error is None for result in results):
        return None
    return [*failures, *results]


def _all_failed(failures: Sequence[Result]) -> StudyError:
    return StudyError(f"All of the first {len(failures)} trials failed. The first one:\n{failures[0].error}")


def _check_count(name: str, count: object) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ArgumentError(f"`{name}` must be a positive integer, got {count!r}.")


def _repr(strategy: Strategy) -> str:
    """The strategy's repr without memory addresses, which differ from process to process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(strategy))


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("diffsim-studies", "torch", "botorch", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions
