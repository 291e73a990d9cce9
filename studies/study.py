"""The study: the one object with state. It asks a strategy, has trials evaluated, and appends what it is told."""

import os
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.asking import Asker, Goal
from studies.errors import StudyError
from studies.executors.job import as_results, readable
from studies.executors.resolve import AnyExecutor, open_place
from studies.history import History
from studies.importing import add_past
from studies.ledger import Ledger
from studies.objective import Objective, objective_of
from studies.progress import Progress
from studies.randomness import isolated, key_generator
from studies.record import check_resumed, make_record
from studies.runner import Runner, check_run, check_seconds, run_all
from studies.spaces.base import Space
from studies.stopping import Stop
from studies.storage.base import Result, Storage, conforming
from studies.storage.resolve import open_storage
from studies.strategies.base import Optimiser, Strategy, Versatile
from studies.strategies.settings import check_count
from surrogates.simulator import InputSimulator, Simulator, as_inputs, as_outcome

if TYPE_CHECKING:
    from distributed import Client

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
        storage: "memory", a URL such as "sqlite:///runs.db", a file as a `pathlib.Path`, or a storage.
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
        if not isinstance(name, str) or not name or not name.isprintable():
            raise ArgumentError(f"`name` must be a string that is not empty and can be printed, got {name!r}.")
        self.space, self.strategy, self.seed, self.name = space, strategy, seed, name
        self.storage = open_storage(storage)
        record = make_record(name, space, strategy, seed)
        check_resumed(self.storage.create(record), record)
        self._asker = Asker(Ledger(self.storage, name), space, strategy, seed)
        self.stopped: str | None = None

    def __repr__(self) -> str:
        return (
            f"Study({self.space!r}, {self.strategy!r}, storage={self.storage!r}, seed={self.seed}, name={self.name!r})"
        )

    @property
    def history(self) -> History:
        """All trials so far, those of other processes included."""
        self._asker.ledger.read()
        return self._asker.history

    def ask(self, n: int = 1, *, lease: float | None = None) -> Round:
        """Proposes a round of n trials; the strategy sees trials that are still pending as such.

        Args:
            n: The number of trials.
            lease: Seconds for which runs and workers leave the trials alone; when they are not told by then, others
                may take them over. None leaves them to whoever comes first.

        Raises:
            ArgumentError: n is not a positive integer, or the lease no positive number.
            StudyError: The strategy's proposal breaks a rule.
        """
        check_count("n", n)
        worker = None
        if lease is not None:
            check_seconds("lease", lease)
            worker = f"ask:{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._asker.ledger.read()
        round = self._asker.ask(lambda history: n, worker, lease or 0.0)
        assert round
        return Round(round.number, tuple(round.trials), torch.tensor(round.theta))

    def tell(self, trials: Round | int | Sequence[int], outcome: object, x: object = None) -> None:
        """Records outcomes; rows that are not finite are recorded as failed trials.

        Args:
            trials: A round as asked, or trial numbers, n of them.
            outcome: One row a trial, in the same order, shape [n, ...]; or a `Trajectory` of n runs.
            x: The simulator's random inputs, shape [n, k], for all trials of a study or for none.

        Raises:
            ArgumentError: The shape of the outcome or of x is wrong, or a trial was not asked.
            ArgumentTypeError: The outcome is no array of real numbers, or a trial's number is no integer.
            ConflictError: A trial was told already.
        """
        numbers = self._numbers(trials)
        rows = as_outcome(outcome, len(numbers))
        results = as_results(numbers, rows, None if x is None else as_inputs(x, len(numbers)))
        for result in results:
            if result.outcome is not None and (error := conforming(result, self._asker.ledger.first).error):
                raise ArgumentError(error)
        self.storage.add_results(self.name, results)

    def add(
        self, theta: object, outcome: object, x: object = None, *, errors: Sequence[str | None] = ()
    ) -> tuple[int, ...]:
        """Adds trials that were run elsewhere, as a round whose info says "imported"; the same data are added once.

        Args:
            theta: Parameters inside the space, shape [n, d].
            outcome: One row a trial, shape [n, ...]; rows that are not finite are failed trials.
            x: The simulator's random inputs, shape [n, k], for all trials of a study or for none.
            errors: Why trials failed, n texts, None where it is not known.

        Returns:
            The trials' numbers.

        Raises:
            ArgumentError: A shape is wrong, or theta is not inside the space.
            ArgumentTypeError: Theta, the outcome or x is no array of real numbers.
        """
        return add_past(self.storage, self.name, self.space, theta, outcome, x, errors)

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
        workers: int | None = None,
        executor: "AnyExecutor | Client | None" = None,
        asynchronous: bool = False,
        vectorized: bool = False,
        timeout: float | None = None,
        retries: int = 0,
        max_failures: int = 10,
        stop: Sequence[Stop] = (),
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
            workers: How many calls are made at a time; None is 1, or as many as a dask cluster has threads.
            executor: Where trials run. None is in child processes, `workers` of them: a simulator that hangs, leaks or
                crashes costs one trial, and what it changes in memory stays there. On Linux they are forked, so that
                any simulator will do, closures and those of a script too; elsewhere, and once CUDA is in use, trials
                run in this process unless `workers` or `timeout` ask for children, and then the simulator must be
                picklable and a script must keep its calls under `if __name__ == "__main__":`. "here" is in this
                process, one after the other. Else any `concurrent.futures.Executor`, a function that makes one (a
                process pool whose worker was killed is then made anew), or a `dask.distributed.Client`. A simulator
                that draws from global random state, not from its generator, is repeatable in all but threads.
            asynchronous: Ask for one trial (or `batch`) whenever a worker is free: none waits for the slowest of a
                round, and the strategy sees the trials that are running as `History.pending`.
            vectorized: Call the simulator once a round, with theta of shape [n, d] and one generator.
            timeout: Seconds that a call may take. A longer one is killed and fails.
            retries: How often a call that failed is made again, with the same random numbers, before it is recorded.
            max_failures: The run stops when this many trials have failed and none succeeded since it began.
            stop: Rules that end the run early, asked after each told round; `stopped` then says why.
            progress: Show a progress bar; None shows it in a terminal only. Elsewhere it is a few lines of text.

        Returns:
            The history.

        Raises:
            ArgumentError: Neither or both of trials and rounds are given, or an argument is out of its range.
            ArgumentTypeError: The simulator, the executor or a rule is none.
            StudyError: All of the first trials failed, a proposal breaks a rule, or the executor is broken.
        """
        if (trials is None) == (rounds is None):
            raise ArgumentError(f"Give `trials` or `rounds`, one of them; got trials={trials!r}, rounds={rounds!r}.")
        counts = {"trials": trials, "rounds": rounds, "batch": batch, "workers": workers}
        check_run(simulator, stop, timeout, retries=retries, max_failures=max_failures, **counts)
        place = open_place(executor, simulator, workers, timeout, asynchronous, repr(self))
        goal = Goal(trials, rounds, batch or (1 if asynchronous else None))
        with (
            Runner(self._asker.ledger, self.seed, place, vectorized, retries, max_failures, repr(self)) as runner,
            Progress(self.name, progress, objective_of(self.strategy)) as bar,
        ):
            self.stopped = None
            self.stopped = run_all(self._asker, runner, goal, stop, asynchronous, bar)
        history = self.history
        if runner.only_failed and not len(history):
            raise runner.all_failed()
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
            if callable(getattr(self.strategy, "front", None)):
                why, mend = "has several objectives, and no single answer", "strategy.front(study.history)"
            else:
                why, mend = "does not optimise: it has no `recommend`", "history"
            raise StudyError(f"{self.strategy!r} {why}. Use `{mend}` instead.")
        history = self.history
        with isolated(key_generator(self.seed, history.n_rounds, "recommend")):
            if objective is None:
                return self.strategy.recommend(history)
            if not isinstance(self.strategy, Versatile):
                raise StudyError(f"{self.strategy!r} answers for its own objective only. Use LocalDescent for others.")
            return self.strategy.answer(history, objective)

    def _numbers(self, trials: Round | int | Sequence[int]) -> list[int]:
        self._asker.ledger.read()
        return self._asker.ledger.asked(trials.trials if isinstance(trials, Round) else trials)
