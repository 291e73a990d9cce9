"""One run of a program in a process group of its own, which never outlives its time, its leader or this process."""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from studies.errors import CommandError

__all__ = ["run_program"]

# The group has a guard: a shell that waits for the end of a pipe, which this process holds open, and then kills its own
# group. So a SIGKILL of this process leaves nothing running; and while the guard lives, the group's number is its own.
_GUARD = ("/bin/sh", "-c", "read -r _; kill -s KILL 0")


def run_program(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float | None = None
) -> None:
    """Runs a program in a folder: `stdin.txt` is its input; `stdout.txt` and `stderr.txt` are written there.

    Args:
        arguments: The program and its arguments.
        folder: Its working directory.
        environment: All its environment variables.
        timeout: Seconds after which its process group is killed.

    Raises:
        CommandError: It cannot be started, took too long, was killed, or ended with another code than 0.
    """
    with ExitStack() as opened:
        stdin, stdout, stderr = (
            opened.enter_context(open(folder / name, mode))
            for name, mode in (("stdin.txt", "rb"), ("stdout.txt", "wb"), ("stderr.txt", "wb"))
        )
        guard = subprocess.Popen(_GUARD, stdin=subprocess.PIPE, process_group=0)
        late = threading.Event()

        def end() -> None:
            late.set()
            os.killpg(guard.pid, signal.SIGKILL)

        timer = None if timeout is None else threading.Timer(timeout, end)
        try:
            process = subprocess.Popen(
                arguments,
                cwd=folder,
                env=environment,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                process_group=guard.pid,
            )
            if timer:
                timer.start()
            code = process.wait()
        except OSError as error:
            raise CommandError(f"it cannot be started: {error.strerror}.") from None
        finally:
            if timer:
                timer.cancel()
                if timer.is_alive():
                    timer.join()
            os.killpg(guard.pid, signal.SIGKILL)
            guard.communicate()
    if late.is_set():
        raise CommandError(f"it took longer than {timeout:g} s and was killed, with all that it started.")
    if code < 0:
        names = {known.value: f" ({known.name})" for known in signal.Signals}
        raise CommandError(f"it was killed by signal {-code}{names.get(-code, '')}.")
    if code > 0:
        raise CommandError(f"it ended with code {code}.")
