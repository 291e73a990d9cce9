"""The study: the one object with state. It asks a strategy, has trials evaluated, and appends what it is told."""

import contextlib
import functools
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.errors import ConflictError, StudyError
from studies.evaluate import Job, Workers, as_results, readable
from studies.history import History
from studies.ledger import Ledger
from studies.objective import Objective
from studies.progress import Progress
from studies.randomness import isolated, key_generator, key_seed
from studies.record import check_resumed, make_record, strategy_repr
from studies.spaces.base import Space
from studies.storage.base import Result, RoundRecord, Storage, conforming
from studies.storage.resolve import open_storage
from studies.strategies.base import Optimiser, Strategy, Versatile, checked, round_size
from surrogates.simulator import InputSimulator, Simulator, as_inputs, as_outcome

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
        >>> from studies.spaces.box import Box
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
        if isinstance(space, type) or not isinstance(space, Space):
            raise ArgumentTypeError(f"`space` must be a design space, got {space!r}. Pass Box({{'q': (-2, 2)}}).")
        if isinstance(strategy, type) or not callable(getattr(strategy, "propose", None)):
            raise ArgumentTypeError(f"`strategy` must have a method `propose`, got {strategy!r}. Pass Sobol(), say.")
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise ArgumentError(f"`seed` must be an integer from 0 to 2**63 - 1, got {seed!r}.")
        if not isinstance(name, str) or not name:
            raise ArgumentError(f"`name` must be a string that is not empty, got {name!r}.")
        self.space, self.strategy, self.seed, self.name = space, strategy, seed, name
        self.storage = open_storage(storage)
        record = make_record(name, space, strategy, seed)
        check_resumed(self.storage.create(record), record)
        self._ledger = Ledger(self.storage, name)

    def __repr__(self) -> str:
        return (
            f"Study({self.space!r}, {self.strategy!r}, storage={self.storage!r}, seed={self.seed}, name={self.name!r})"
        )

    @property
    def history(self) -> History:
        """All trials so far, those of other processes included."""
        self._ledger.read()
        return self._ledger.history(self.space)

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
            round = RoundRecord(number, len(history.trials), theta.numpy(), info, strategy_repr(self.strategy))
            try:
                self.storage.add_round(self.name, round)
            except ConflictError:
                continue  # another process asked meanwhile: propose again, knowing its round
            return Round(number, tuple(round.trials), theta.clone())

    def tell(self, trials: Round | int | Sequence[int], outcome: object, x: object = None) -> None:
        """Records outcomes; rows that are not finite are recorded as failed trials.

        Args:
            trials: A round as asked, or trial numbers, n of them.
            outcome: One row a trial, in the same order, shape [n, ...]; or a `Trajectory` of n runs.
            x: The simulator's random inputs, shape [n, k], for all trials of a study or for none.

        Raises:
            ArgumentError: The shape of the outcome or of x is wrong, or a trial was not asked.
            ArgumentTypeError: The outcome is no array of real numbers.
            ConflictError: A trial was told already.
        """
        numbers = self._numbers(trials)
        rows = as_outcome(outcome, len(numbers))
        results = as_results(numbers, rows, None if x is None else as_inputs(x, len(numbers)))
        for result in results:
            if result.outcome is not None and (error := conforming(result, self._ledger.first).error):
                raise ArgumentError(error)
        self.storage.add_results(self.name, results)

    def fail(self, trials: Round | int | Sequence[int], error: str) -> None:
        """Records trials as failed.

        Args:
            trials: A round as asked, or trial numbers.
            error: What happened.
        """
        text = readable(str(error))
        self.storage.add_results(self.name, [Result(trial, error=text) for trial in self._numbers(trials)])

    def run(
        self,
        simulator: Simulator | InputSimulator,
        *,
        trials: int | None = None,
        rounds: int | None = None,
        batch: int | None = None,
        executor: Executor | Callable[[], Executor] | None = None,
        vectorized: bool = False,
        timeout: float | None = None,
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
                is not finite or has the wrong shape or type, is recorded as a failed trial. An `InputSimulator` is
                called as `simulator(theta, x, generator)` with one draw of its inputs a trial, which is recorded too.
            trials: Number of trials to reach, failed ones included.
            rounds: Number of rounds to reach; give this or `trials`.
            batch: Trials a round: chosen together and evaluated in parallel. None is the strategy's own number, if it
                has one (see `Batched`), else 1.
            executor: Where trials run: any `concurrent.futures.Executor`, or a function that makes one (a process pool
                whose worker was killed is then made anew). None is here, one after the other. A simulator that draws
                from global random state, not from its generator, is repeatable in processes but not in threads.
            vectorized: Call the simulator once a round, with theta of shape [n, d] and one generator.
            timeout: Seconds that a call may take. A longer one is killed and fails, and so does one that kills its
                process. Calls then run in a child process, one for each thread or process of the executor. On Linux
                it is forked, so that any simulator will do, closures and those of a script too; elsewhere, and once
                CUDA is in use, the simulator must be picklable and a script must keep its calls under
                `if __name__ == "__main__":`. What the simulator changes in memory stays in the child.
            max_failures: The run stops when this many trials have failed and none succeeded since it began.
            progress: Show a progress bar; None shows it in a terminal only. Elsewhere it is a few lines of text.

        Returns:
            The history.

        Raises:
            ArgumentError: Neither or both of trials and rounds are given, one is not a positive integer, or `timeout`
                is no positive number.
            StudyError: All of the first trials failed, a proposal breaks a rule, or the executor is broken.
        """
        if (trials is None) == (rounds is None):
            raise ArgumentError(f"Give `trials` or `rounds`, one of them; got trials={trials!r}, rounds={rounds!r}.")
        for name, count in (("trials", trials), ("rounds", rounds), ("batch", batch), ("max_failures", max_failures)):
            if count is not None:
                _check_count(name, count)
        _check_timeout(timeout)
        if isinstance(simulator, type) or not callable(simulator):
            raise ArgumentTypeError(f"`simulator` must be callable as simulator(theta, generator), got {simulator!r}.")
        failures: list[Result] | None = []  # those before the first success; None after it
        ledger = self._ledger
        with Workers(executor, simulator, timeout) as workers, Progress(self.name, progress) as bar:
            while True:
                ledger.read()
                if untold := ledger.untold():
                    jobs = self._jobs(*untold, vectorized)
                    # Jobs seed the global generators and restore them; threads, which overlap, would leave them seeded.
                    kept = isolated(torch.Generator()) if executor else contextlib.nullcontext()
                    with kept, contextlib.closing(workers.run(jobs)) as finished:
                        for results in finished:
                            self._record(results)
                            failures = _streak(failures, results)
                            if failures and len(failures) >= max_failures:
                                raise _all_failed(failures)
                            bar.update(ledger.results.values())
                    continue
                left = trials - ledger.n_trials if trials is not None else (rounds or 0) - len(ledger.rounds)
                if left <= 0:
                    bar.update(ledger.results.values(), total=ledger.n_trials)
                    break
                n = batch or round_size(self.strategy, ledger.history(self.space))
                bar.update(ledger.results.values(), total=trials or ledger.n_trials + n * left)
                self.ask(n if trials is None else min(n, left))
        history = self.history
        if failures and not len(history):
            raise _all_failed(failures)
        return history

    def recommend(self, objective: Objective | None = None) -> Tensor:
        """The strategy's answer so far, shape [d].

        Args:
            objective: Another objective than the one that was minimised, for strategies that can answer for it from the
                same trials, such as `LocalDescent`: nothing is simulated.

        Raises:
            StudyError: The strategy has none: it learns or covers, it does not optimise; or it has none for another
                objective.
        """
        if not isinstance(self.strategy, Optimiser):
            raise StudyError(f"{self.strategy!r} does not optimise: it has no `recommend`. Use `history` instead.")
        history = self.history
        with isolated(key_generator(self.seed, history.n_rounds, "recommend")):
            if objective is None:
                return self.strategy.recommend(history)
            if not isinstance(self.strategy, Versatile):
                raise StudyError(f"{self.strategy!r} answers for its own objective only. Use LocalDescent for others.")
            return self.strategy.answer(history, objective)

    def _jobs(self, round: RoundRecord, left: Sequence[int], vectorized: bool) -> list[Job]:
        seed = functools.partial(key_seed, self.seed, round.number, "simulate")
        if vectorized:
            return [Job(tuple(round.trials), round.theta, seed(round.first))]
        return [Job((trial,), round.theta[[trial - round.first]], seed(trial)) for trial in left]

    def _record(self, results: Sequence[Result]) -> None:
        """Appends the results of trials that nobody told meanwhile."""
        told = self._ledger.results
        while left := [result for result in results if result.trial not in told]:
            with contextlib.suppress(ConflictError):
                self.storage.add_results(self.name, left)
            self._ledger.read()

    def _numbers(self, trials: Round | int | Sequence[int]) -> list[int]:
        numbers = [trials] if isinstance(trials, int) else list(trials.trials if isinstance(trials, Round) else trials)
        self._ledger.read()
        n_trials = self._ledger.n_trials
        if unknown := [number for number in numbers if not 0 <= number < n_trials]:
            raise ArgumentError(
                f"`trials` holds {unknown}, which were not asked: there are {n_trials} trials. Ask first."
            )
        if len(set(numbers)) < len(numbers):
            raise ArgumentError(f"`trials` must differ, got {numbers}. Tell each trial once.")
        return numbers


def _streak(failures: list[Result] | None, results: Sequence[Result]) -> list[Result] | None:
    if failures is None or any(result.error is None for result in results):
        return None
    return [*failures, *results]


def _all_failed(failures: Sequence[Result]) -> StudyError:
    return StudyError(f"All of the first {len(failures)} trials failed. The first one:\n{failures[0].error}")


def _check_count(name: str, count: object) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ArgumentError(f"`{name}` must be a positive integer, got {count!r}.")


def _check_timeout(timeout: object) -> None:
    positive = isinstance(timeout, int | float) and not isinstance(timeout, bool) and 0 < timeout < math.inf
    if not (timeout is None or positive):
        raise ArgumentError(f"`timeout` must be a positive number of seconds, got {timeout!r}.")
