"""What a study costs beside its simulator, and how fast it is opened: many trials that cost nothing, in a database.

Run from the root of the repository: `OMP_NUM_THREADS=1 python -m benchmarks.storage`.
"""

import argparse
import os
import platform
import shlex
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from torch import Tensor

from studies import Box, Random, Study, open_storage
from studies.storage.base import Result, RoundRecord, StudyRecord

__all__ = ["main"]

REPEATS = 3
BOX = Box({f"parameter {n}": (0.0, 1.0) for n in range(6)})


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs free trials and prints the time of each beside the machine, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--url", help="a database to use instead of an SQLite file in a new folder; it is not emptied")
    chosen = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="storage-"))
    try:
        rows = measure(chosen.url or f"sqlite:///{folder}/runs.db", chosen.trials)
        size = sum(path.stat().st_size for path in folder.iterdir())
        commit = seconds_of_a_flush(folder)
    finally:
        shutil.rmtree(folder)
    print(f"# Overhead of a study\n\n{chosen.trials:,} trials of a free simulator, six parameters, one outcome.\n")
    print(f"`{shlex.join(['python', '-m', 'benchmarks.storage', *sys.argv[1:]])}`\n")
    print(f"The least of {REPEATS} measurements, as the machine has other work to do.\n")
    print("| what | wall | CPU |\n|---|---|---|")
    for what, wall, cpu, unit in rows:
        print(f"| {what} | {wall:.3g} {unit} | {cpu:.3g} {unit} |")
    database = "" if chosen.url else f"; the file has {size / (3 * REPEATS * chosen.trials):.0f} bytes a trial"
    print(f"\n{machine()}; one flush of its disk takes {commit * 1e3:.1f} ms{database}.")


def measure(url: str, n: int) -> list[tuple[str, float, float, str]]:
    """What was measured: its name, wall time, CPU time of this process, and their unit."""
    run = f"run-{time.time_ns()}"
    rows: list[tuple[str, float, float, str]] = []

    def take(what: str, work: Callable[[int], object], per: int = 1, unit: str = "s") -> None:
        seconds: list[tuple[float, float]] = []
        for repeat in range(REPEATS):
            wall, cpu = time.perf_counter(), time.process_time()
            work(repeat)
            seconds.append((time.perf_counter() - wall, time.process_time() - cpu))
        scale = {"s": 1.0, "ms": 1e3}[unit] / per
        rows.append((what, *(min(column) * scale for column in zip(*seconds, strict=True)), unit))

    def study(name: str, repeat: int) -> Study:
        return Study(BOX, Random(), url, name=f"{run}-{name}-{repeat}")

    here = '`Study.run`, executor="here", a trial'
    take(here, lambda k: study("here", k).run(free, trials=n, executor="here"), n, "ms")
    take("`Study.run`, in a child process, a trial", lambda k: study("child", k).run(free, trials=n), n, "ms")
    what = "the storage alone: a round and its result, written and read, a trial"
    take(what, lambda k: bare(url, f"{run}-{k}", n), n, "ms")
    take("open the storage and read the record", lambda k: open_storage(url).read(f"{run}-here-{k}"))
    take("open the study and list its history", lambda k: study("here", k).history.outcome)
    return rows


def free(theta: Tensor, generator: object) -> Tensor:
    """A simulator that costs nothing."""
    return theta[:, :1]


def bare(url: str, run: str, n: int) -> None:
    """What a study writes and reads, without the study."""
    storage = open_storage(url)
    storage.create(StudyRecord(run, {}, "bare", 0, {}, "2026-01-01T00:00:00"))
    theta, outcome = np.zeros((1, 6)), np.zeros(1)
    for trial in range(n):
        storage.add_round(run, RoundRecord(trial, trial, theta, {}, "bare"))
        storage.read(run, trial, trial)
        storage.add_results(run, [Result(trial, outcome, None, 0.0, 0.0, "host:1", None, trial, "{}")])
        storage.read(run, trial + 1, trial)


def seconds_of_a_flush(folder: Path, n: int = 20) -> float:
    """How long the disk takes to make sure of a block."""
    with open(folder / "flushed", "wb", buffering=0) as file:
        start = time.perf_counter()
        for _ in range(n):
            file.write(bytes(4096))
            os.fsync(file.fileno())
        return (time.perf_counter() - start) / n


def machine() -> str:
    """The processor, its load, and the versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    load = f"{os.getloadavg()[0]:.1f} jobs on {os.cpu_count()} processors" if hasattr(os, "getloadavg") else "unknown"
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) == os.SCHED_FIFO:
        load += ", before which it goes (`chrt -f`)"
    return (
        f"{cpu}, load {load}, Python {platform.python_version()}, SQLAlchemy {version('sqlalchemy')}, "
        f"SQLite {sqlite3.sqlite_version}"
    )


if __name__ == "__main__":
    main()
