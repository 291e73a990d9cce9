"""A child process that runs jobs one after the other, and can be killed at any time."""

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

import torch

from studies.errors import StudyError

__all__ = ["START_SECONDS", "Child", "ChildDied", "may_have_children", "start_method"]

J = TypeVar("J")
A = TypeVar("A")
START_SECONDS = 120  # enough to import torch from a slow disk
_STARTING = threading.Lock()  # a child forked while another is made would hold the other's pipe open


class ChildDied(RuntimeError):
    """The child process ended by itself or was killed by another; the message says how."""


def start_method() -> str:
    """How children are started: forked on Linux, so that nothing need be picklable. CUDA does not survive a fork."""
    return "fork" if sys.platform == "linux" and not torch.cuda.is_initialized() else "spawn"


def may_have_children() -> bool:
    """Whether this process may start others: a daemon of `multiprocessing` may not."""
    return not multiprocessing.current_process().daemon


class Child(Generic[J, A]):
    """A child process that calls a function of one argument.

    It has a process group of its own: programs that the function starts are killed with it. It ends with its parent.

    Args:
        function: What it calls. Arguments and answers must be picklable; the function itself too where `start_method()`
            is "spawn".
        threads: How many threads torch may use in it.

    Raises:
        StudyError: This process may have no children.
    """

    def __init__(self, function: Callable[[J], A], threads: int = 1) -> None:
        if not may_have_children():
            raise StudyError(
                "`timeout` and `workers` need child processes, and the executor's workers are daemons, which may have "
                "none. Use threads or a ProcessPoolExecutor; for dask set the option distributed.worker.daemon to "
                "False."
            )
        forked = start_method() == "fork"
        context = multiprocessing.get_context("fork") if forked else multiprocessing.get_context("spawn")
        with _STARTING, warnings.catch_warnings():
            # Python warns of a fork beside threads: their locks stay locked in the child. Ours takes none of them.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pipe, there = context.Pipe()
            self._process = context.Process(target=_serve, args=(function, there, threads), daemon=True)
            _in_a_new_thread(self._process.start)
            there.close()
        self.started = False

    @property
    def pid(self) -> int | None:
        """The process's number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return not wait([self._process.sentinel], timeout=0)

    @property
    def signs(self) -> tuple[Connection, int]:
        """What `multiprocessing.connection.wait` takes: one is ready when there is an answer, or the child ended."""
        return self._pipe, self._process.sentinel

    def refusal(self, reason: str) -> StudyError:
        """The error for a child that does not start."""
        self.kill()
        return StudyError(
            f"The child process for the simulator did not start: {reason} In a script, keep the calls under "
            "`if __name__ == '__main__':` and define the simulator above it."
        )

    def send(self, arguments: Sequence[J]) -> None:
        """Hands it arguments, when it has answered all that it was handed before."""
        with suppress(OSError):  # a broken pipe is told by the answer that does not come
            self._pipe.send(list(arguments))

    def answers(self) -> list[A]:
        """The function's answers that are there, in the order of the arguments.

        Raises:
            ChildDied: There is none, and there never will be.
        """
        answers: list[A] = []
        silent, ended = True, False
        try:
            while self._pipe.poll():
                answer, silent = self._pipe.recv(), False
                if self.started:
                    answers.append(answer)
                self.started = True
        except (EOFError, OSError):
            ended = True
        if silent and (ended or not self.alive):
            raise ChildDied(self._death())
        return answers

    def ask(self, argument: J, seconds: float) -> A:
        """The function's answer; a child that gives none is killed.

        Raises:
            TimeoutError: It took longer.
            ChildDied: The child died of it.
            StudyError: It did not start.
        """
        try:
            if not self.started and not wait(self.signs, START_SECONDS):
                raise ChildDied(f"it took longer than {START_SECONDS} s.")
            while not self.started:
                self.answers()
        except ChildDied as error:
            raise self.refusal(str(error)) from None
        self.send([argument])
        if not wait(self.signs, seconds):
            self.kill()
            raise TimeoutError(f"it took longer than {seconds:g} s.")
        return self.answers()[0]

    def kill(self) -> None:
        """Kills the child and the programs that it started."""
        if os.name == "posix" and self._process.pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _death(self) -> str:
        self.kill()
        code = self._process.exitcode or 0
        how = f"was killed by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
        return f"it {how}."


def _in_a_new_thread(call: Callable[[], None]) -> None:
    """Calls from a thread that never computed.

    The threads of a pool do not survive a fork, and a child of the thread that owns the pool would wait for them.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def _serve(function: Callable[[Any], Any], pipe: Connection, threads: int) -> None:
    if os.name == "posix":
        os.setsid()
    torch.set_num_threads(threads)
    _end_with_parent()
    pipe.send(None)
    with suppress(EOFError, ConnectionError):
        while True:
            for argument in pipe.recv():
                answer = function(argument)
                with suppress(AttributeError, OSError, ValueError):
                    sys.stdout.flush()  # what was printed is shown though the process will be killed
                pipe.send(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent and parent.pid
    signs: list[int] = [parent.sentinel]

    def end() -> None:
        if os.name == "posix":
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    def watch() -> None:
        wait(signs)
        end()

    if sys.platform == "linux":  # a thread does not run while compiled code holds the interpreter: ask the kernel too
        import fcntl

        fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, -os.getpid())
        fcntl.fcntl(parent.sentinel, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(parent.sentinel, fcntl.F_GETFL)
        fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)
        with suppress(OSError):  # the sentinel stays silent while a copy of the parent's end lives in another process
            signs.append(os.pidfd_open(parent.pid))
    threading.Thread(target=watch, daemon=True).start()
    if os.name == "posix" and os.getppid() != parent.pid:
        end()  # the parent died before all this was done, and no signal will come
