"""Workers that share a study through its storage alone: any number, on any machines, that may come, go and die."""

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from diffsim.errors import ArgumentError
from studies.asking import Asker, Goal
from studies.errors import StorageError
from studies.executors.resolve import AnyExecutor, open_place
from studies.history import History
from studies.ledger import Ledger
from studies.objective import objective_of
from studies.progress import Progress
from studies.runner import Runner, check_run, check_seconds, reason_to_stop
from studies.stopping import Stop
from studies.storage.base import Storage
from studies.storage.resolve import open_storage
from studies.study import Study
from surrogates.simulator import InputSimulator, Simulator

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Leases", "work"]

POLL_SECONDS = (0.05, 2.0)  # how often a worker looks for trials: at first, and at last


class Leases:
    """The leases of one worker: taken, renewed in a thread, and given back; a context manager.

    Args:
        storage: Holds the study.
        name: The study's name in it.
        seconds: How long a lease holds. A worker that dies keeps its trials for so long.
    """

    def __init__(self, storage: Storage, name: str, seconds: float) -> None:
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._storage, self._name, self._seconds = storage, name, seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> "Leases":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(StorageError):  # else they run out
            self._storage.release(self._name, self.worker)

    def claim(self, n: int) -> list[int]:
        """Takes at most n trials that nobody has."""
        return self._storage.claim(self._name, self.worker, n, self._seconds) if n else []

    def _renew(self) -> None:
        while not self._ended.wait(self._seconds / 3):
            with contextlib.suppress(StorageError):  # the next renewal may come through, else others take over
                self._storage.renew(self._name, self.worker, self._seconds)


def work(
    study: Study | Storage | str | os.PathLike[str],
    simulator: Simulator | InputSimulator,
    *,
    name: str = "study",
    trials: int | None = None,
    rounds: int | None = None,
    batch: int | None = None,
    workers: int | None = None,
    executor: "AnyExecutor | Client | None" = None,
    asynchronous: bool | None = None,
    timeout: float | None = None,
    retries: int = 0,
    max_failures: int = 10,
    stop: Sequence[Stop] = (),
    lease: float = 60.0,
    patience: float | None = None,
    progress: bool | None = None,
) -> int:
    """Runs trials of a study beside other workers, until the study is done.

    Start it as often as you like, on machines that reach the storage. A worker takes trials that nobody has, under a
    lease that it renews; where none is left it asks for the next. The trials of a worker that died are taken over when
    its leases run out, with the random numbers that they would have had, and a trial that outlived three workers is
    failed. `Study.ask(lease=...)` keeps trials from workers. Nothing but the storage is shared.

    Args:
        study: A study, which each worker makes with the same space, strategy, seed and storage. Or a storage: the
            worker then runs what others ask, and asks nothing itself.
        simulator: As in `Study.run`.
        name: The study's name, where a storage is given.
        trials: The study is done when it has so many trials, failed ones included, and all are told.
        rounds: The same in rounds. Of both a study needs one; where a storage is given the worker may go on for ever.
        batch: As in `Study.run`.
        workers: How many calls are made at a time.
        executor: As in `Study.run`.
        asynchronous: Ask for one trial (or `batch`) whenever there is none to take; else only when all are told. None
            is the first where the next round is of one trial, else the second (see `Batched`).
        timeout: Seconds that a call may take. Without, a call that hangs keeps its lease.
        retries: As in `Study.run`.
        max_failures: As in `Study.run`, of this worker's trials.
        stop: As in `Study.run`.
        lease: Seconds after which others take over from a worker that is not heard of.
        patience: The worker ends when it found nothing to do for so many seconds; None is never.
        progress: As in `Study.run`.

    Returns:
        How many trials this worker ran.

    Raises:
        ArgumentError: An argument is out of its range, or a study is given neither or both of trials and rounds.
        ArgumentTypeError: The simulator, the executor, the storage or a rule is none.
        StorageError: The storage cannot be used, or has no study of this name.
        StudyError: All of the first trials failed, a proposal breaks a rule, or the executor is broken.
    """
    if isinstance(study, Study):
        own, storage, name = study, study.storage, study.name
    else:
        own, storage = None, open_storage(study, create=False)
    if own and (trials is None) == (rounds is None):
        raise ArgumentError(f"Give `trials` or `rounds`, one of them; got trials={trials!r}, rounds={rounds!r}.")
    counts = {"trials": trials, "rounds": rounds, "batch": batch, "workers": workers}
    check_run(simulator, stop, retries=retries, max_failures=max_failures, timeout=timeout, **counts)
    check_seconds("lease", lease)
    if patience is not None:
        check_seconds("patience", patience)
    if stop and not own:
        raise ArgumentError("`stop` needs a study: rules look at its history. Pass the study, not its storage.")
    ledger = Ledger(storage, name)
    asker = Asker(ledger, own.space, own.strategy, own.seed) if own else None
    seed = own.seed if own else _seed(storage, name)
    goal = Goal(trials, rounds, batch or (1 if asynchronous else None))
    place = open_place(executor, simulator, workers, timeout, True, made_by := repr(own or storage))
    with (
        Leases(storage, name, lease) as leases,
        Runner(ledger, seed, place, False, retries, max_failures, made_by) as runner,
        Progress(name, progress, objective_of(own.strategy) if own else None) as bar,
    ):
        _Shift(ledger, asker, runner, leases, goal, stop, asynchronous, patience, bar).run()
    return runner.n_done


class _Shift:
    """The work of one worker from its first trial to its last."""

    def __init__(
        self,
        ledger: Ledger,
        asker: Asker | None,
        runner: Runner,
        leases: Leases,
        goal: Goal,
        stop: Sequence[Stop],
        asynchronous: bool | None,
        patience: float | None,
        bar: Progress,
    ) -> None:
        self._ledger, self._asker, self._runner, self._leases, self._goal = ledger, asker, runner, leases, goal
        self._stop, self._asynchronous, self._patience, self._bar = stop, asynchronous, patience, bar
        self._stopped: str | None = None
        self._n_seen = -1  # results that the rules have seen

    def run(self) -> None:
        runner, pause, idle_since = self._runner, POLL_SECONDS[0], time.monotonic()
        while True:
            claimed = self._leases.claim(runner.room)
            self._ledger.read()
            runner.submit(claimed)
            self._show()
            if claimed:
                pause = POLL_SECONDS[0]
            elif runner.room:
                if self._ask():
                    continue
                if not runner.busy and (self._done() or self._tired(idle_since)):
                    return
            if runner.busy:
                runner.collect(pause if runner.room else None)
                idle_since = time.monotonic()
            else:
                time.sleep(pause)
            pause = min(2 * pause, POLL_SECONDS[1])

    def _ask(self) -> bool:
        """Asks for trials, where there are none to take; whether there are some now."""
        if not self._asker or self._stopped is not None:
            return False
        if len(self._ledger.results) > self._n_seen:
            self._n_seen = len(self._ledger.results)
            self._stopped = reason_to_stop(self._stop, self._asker.history, self._asker.strategy)
        if self._stopped is not None:
            self._bar.say(f"stopped: {self._stopped}")
            return False
        return self._asker.ask(self._size) is not None

    def _size(self, history: History) -> int:
        """The size of the next round, as things are: another worker may have asked meanwhile."""
        assert self._asker
        if self._ledger.untold() and self._asynchronous is False:
            return 0
        n = self._goal.size(self._asker.strategy, history)
        return 0 if self._ledger.untold() and self._asynchronous is None and n > 1 else n

    def _done(self) -> bool:
        return not self._ledger.untold() and (
            self._stopped is not None or self._goal.reached(self._ledger.n_trials, len(self._ledger.rounds))
        )

    def _tired(self, since: float) -> bool:
        return self._patience is not None and time.monotonic() - since > self._patience

    def _show(self) -> None:
        if self._bar.shown:
            asker, n_trials = self._asker, self._ledger.n_trials
            expected = self._goal.expected(asker.strategy, asker.history) if asker else self._goal.trials
            self._bar.update(self._ledger.results.values(), expected or n_trials)


def _seed(storage: Storage, name: str) -> int:
    studies = {study.name: study.seed for study in storage.studies()}
    if name not in studies:
        raise StorageError(f"There is no study {name!r} in {storage!r}. There are {sorted(studies)}.")
    return studies[name]
