"""From what a user passes as `executor=` to the place where trials run."""

import sys
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, Literal, cast

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.child import may_have_children, start_method
from studies.executors.futures import Futures
from studies.executors.here import Here
from studies.executors.job import Place
from studies.executors.slots import Slots
from surrogates.simulator import InputSimulator, Simulator

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["AnyExecutor", "open_place"]

AnyExecutor = Executor | Callable[[], Executor] | Literal["here"]
"""What `executor=` takes, but for None and a `dask.distributed.Client`."""


def open_place(
    executor: "AnyExecutor | Client | None",
    simulator: Simulator | InputSimulator,
    workers: int | None = None,
    timeout: float | None = None,
    asynchronous: bool = False,
    study: str | None = None,
) -> Place:
    """The place where trials run.

    Args:
        executor: See `Study.run`.
        simulator: Checked to be picklable where another process needs it.
        workers: How many calls are made at a time; None is one, or as many as a dask cluster has threads.
        timeout: Seconds that a call may take; None is as long as it likes.
        asynchronous: Whether the place must know its number of workers.
        study: The study's repr, for the environment of other machines.

    Raises:
        ArgumentError: The simulator cannot be sent to another process, "here" is given a time limit or workers, or the
            number of workers is not known.
        ArgumentTypeError: The executor is none.
    """
    if executor is None:
        forked = start_method() == "fork" and may_have_children()
        if not forked and timeout is None and workers in (None, 1):
            return Here(simulator)
        if not forked:
            _check_travels(simulator)
        return Slots(simulator, workers or 1, timeout)
    if executor == "here":
        if timeout is not None or workers not in (None, 1):
            raise ArgumentError(
                f"`executor='here'` makes one call at a time and cannot end it, got workers={workers!r} and "
                f"timeout={timeout!r}. Leave `executor` out: trials then run in processes, which can be ended."
            )
        return Here(simulator)
    make = None
    if client := _dask_client(executor):
        threads: dict[str, int] = cast(Any, client).nthreads()  # typed as a coroutine, which it is not here
        made, workers = client.get_executor(pure=False), workers or sum(threads.values())
    elif isinstance(executor, Executor) or not callable(executor):
        made = executor
    else:
        made = (make := executor)()
    if not isinstance(made, Executor):
        raise ArgumentTypeError(
            "`executor` must be a concurrent.futures.Executor, a function that makes one, a dask client or 'here', got "
            f"{executor!r}. Pass ProcessPoolExecutor(4), say, or leave it out and pass workers=4."
        )
    try:
        if asynchronous and workers is None:
            raise ArgumentError("`workers` must be given: an executor does not say how many it has. Pass workers=4.")
        if isinstance(made, ProcessPoolExecutor) or (timeout is not None and start_method() == "spawn"):
            _check_travels(simulator)
    except ArgumentError:
        if make:
            made.shutdown()
        raise
    return Futures(made, simulator, workers or 1, timeout, make, study)


def _dask_client(executor: object) -> "Client | None":
    if "distributed" not in sys.modules:
        return None
    from distributed import Client

    return executor if isinstance(executor, Client) else None


def _check_travels(simulator: Simulator | InputSimulator) -> None:
    try:
        ForkingPickler.dumps(simulator)
    except Exception as error:
        raise ArgumentError(
            f"`simulator` cannot be sent to another process ({error}). Define it with def at the top level of a "
            "module, or leave out `timeout`, `workers` and `executor`."
        ) from error
