"""A child process that runs jobs one after the other, and is killed when one takes too long."""

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

import torch

from studies.errors import StudyError

__all__ = ["Child", "ChildDied", "start_method"]

J = TypeVar("J")
A = TypeVar("A")
_START_SECONDS = 120  # enough to import torch from a slow disk
_STARTING = threading.Lock()  # a child forked while another is made would hold the other's pipe open


class ChildDied(RuntimeError):
    """The child process ended by itself or was killed by another; the message says how."""


def start_method() -> str:
    """How children are started: forked on Linux, so that nothing need be picklable. CUDA does not survive a fork."""
    return "fork" if sys.platform == "linux" and not torch.cuda.is_initialized() else "spawn"


class Child(Generic[J, A]):
    """A child process that calls a function of one argument.

    It has a process group of its own: programs that the function starts are killed with it. It ends with its parent.

    Args:
        function: What it calls. Arguments and answers must be picklable; the function itself too where `start_method()`
            is "spawn".

    Raises:
        StudyError: The child does not start.
    """

    def __init__(self, function: Callable[[J], A]) -> None:
        if multiprocessing.current_process().daemon:
            raise StudyError(
                "`timeout` needs child processes, and the executor's workers are daemons, which may have none. Use "
                "threads or a ProcessPoolExecutor; for dask set the option distributed.worker.daemon to False."
            )
        forked = start_method() == "fork"
        context = multiprocessing.get_context("fork") if forked else multiprocessing.get_context("spawn")
        with _STARTING, warnings.catch_warnings():
            # Python warns of a fork beside threads: their locks stay locked in the child. Ours takes none of them.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pipe, there = context.Pipe()
            self._process = context.Process(target=_serve, args=(function, there, forked), daemon=True)
            self._process.start()
            there.close()
        try:
            self._receive(_START_SECONDS)
        except (ChildDied, TimeoutError) as error:
            raise StudyError(
                f"The child process that `timeout` needs did not start: {error} In a script, keep the calls under "
                "`if __name__ == '__main__':` and define the simulator above it."
            ) from None

    @property
    def pid(self) -> int | None:
        """The process's number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return not wait([self._process.sentinel], timeout=0)

    def ask(self, argument: J, seconds: float) -> A:
        """The function's answer; a child that gives none is killed.

        Raises:
            TimeoutError: It took longer.
            ChildDied: The child died of it.
        """
        with suppress(OSError):  # a broken pipe is told by the answer that does not come
            self._pipe.send(argument)
        return self._receive(seconds)

    def kill(self) -> None:
        """Kills the child and the programs that it started."""
        if os.name == "posix" and self._process.pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _receive(self, seconds: float) -> A:
        if not wait([self._pipe, self._process.sentinel], seconds):
            self.kill()
            raise TimeoutError(f"it took longer than {seconds:g} s.")
        try:
            if self._pipe.poll():
                return self._pipe.recv()
        except (EOFError, OSError):
            pass
        self.kill()
        code = self._process.exitcode or 0
        how = f"was killed by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
        raise ChildDied(f"it {how}.")


def _serve(function: Callable[[J], A], pipe: Connection, forked: bool) -> None:
    if os.name == "posix":
        os.setsid()
    if forked:
        torch.set_num_threads(1)  # the threads of a pool do not survive a fork: waiting for them would take for ever
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pipe.send(None)
    while True:
        pipe.send(function(pipe.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        wait([parent.sentinel])
    if os.name == "posix":
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
