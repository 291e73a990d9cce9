"""Solving and training beside diffrax, torchode, torchdyn and plain torchdiffeq, interleaved in one process.

Run from the root of the repository: `python -m benchmarks.speed`. It needs the extra `bench`, pins itself to one core
and goes on where it was stopped.
"""

import argparse
import gc
import json
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

__all__ = ["main"]

Record = dict[str, Any]

_SHORTEST = 0.02  # s of CPU time that a measurement lasts at least
_BUDGET = 8.0  # s of CPU time for the repeats of a case
_REPEATS = (3, 11)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every case that is not in the records, and write the tables and the figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument(
        "--cases", default="", help="only cases whose name contains one of these words, comma separated"
    )
    parser.add_argument("--libraries", default="", help="only these libraries, comma separated")
    parser.add_argument("--core", default=max(os.sched_getaffinity(0)), type=int, help="the core to run on")
    parser.add_argument("--out", default=Path("benchmarks/results"), type=Path)
    parser.add_argument("--report", action="store_true", help="only write the tables again")
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(given)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "speed.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    if not options.report:
        for record in _run(options, {record["case"] for record in records}):
            record["command"] = shlex.join(["python", "-m", "benchmarks.speed", *given])
            records.append(record)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
    from benchmarks.speed_report import figure, markdown

    (options.out / "speed.md").write_text(markdown(records), encoding="utf-8")
    figure(records, options.out / "speed.png")


def _run(options: argparse.Namespace, done: set[str]) -> Iterator[Record]:
    # Before anything is loaded that starts threads: one core, one thread, for torch and XLA alike.
    os.sched_setaffinity(0, {options.core})
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["JAX_PLATFORMS"] = "cpu"
    import torch

    from benchmarks import speed_jax, speed_torch
    from benchmarks.speed_tasks import CASES, Task

    torch.set_num_threads(1)
    words = [word for word in options.cases.split(",") if word]
    libraries = [word for word in options.libraries.split(",") if word]
    for case in CASES:
        if case.name in done or (words and not any(word in case.name for word in words)):
            continue
        task = Task(case)
        contenders = [*speed_torch.ours(task), *speed_jax.rivals(task), *speed_torch.rivals(task)]
        if libraries:
            contenders = [c for c in contenders if c.library in libraries]
        entries = _measure(contenders, speed_torch.reference(task))
        for entry in entries:
            print(case.name, *(f"{key}={value}" for key, value in entry.items() if key != "times"), flush=True)
        yield {"case": case.name, **{k: getattr(case, k) for k in case.__dataclass_fields__}, "entries": entries}


def _measure(contenders: Sequence[Any], reference: tuple[Any, Any]) -> list[Record]:
    """First call, errors and times of each contender; the repeats are interleaved."""
    entries: list[Record] = []
    ready: list[tuple[Any, int, Record]] = []
    for contender in contenders:
        entry: Record = {"library": contender.library, "setting": contender.setting}
        entries.append(entry)
        try:
            wall, cpu = time.perf_counter(), _cpu()
            result = contender.run()
            entry |= {"setup_wall": time.perf_counter() - wall, "setup_cpu": _cpu() - cpu}
        except Exception as error:
            # A rival that cannot do a case is named as such; the others go on.
            entry["failed"] = f"{type(error).__name__}: {error}"[:300]
            continue
        entry |= _errors(contender.read(result), reference)
        contender.run()
        once = _time(contender.run, 1)
        ready.append((contender, max(1, round(_SHORTEST / max(once, 1e-5))), entry))
        entry["times"] = []
        entry["once"] = once
    rest = sum(max(entry.pop("once"), _SHORTEST) for _, _, entry in ready)
    repeats = min(max(round(_BUDGET / max(rest, 1e-9)), _REPEATS[0]), _REPEATS[1])
    for _ in range(repeats):
        for contender, calls, entry in ready:
            entry["times"].append(_time(contender.run, calls) / contender.share)
    for _, _, entry in ready:
        entry["ms"] = 1e3 * statistics.median(entry["times"])
    return entries


def _time(run: Callable[[], Any], calls: int) -> float:
    gc.collect()
    started = time.process_time()
    for _ in range(calls):
        run()
    return (time.process_time() - started) / calls


def _cpu() -> float:
    """CPU seconds of this process and of the compilers that it started."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _errors(result: tuple[Any, Any], reference: tuple[Any, Any]) -> Record:
    """The largest error of the states and of the gradient, relative to the largest of the reference."""
    names = ("state_error", "gradient_error")
    return {
        name: float(abs(got - right).max() / abs(right).max())
        for name, got, right in zip(names, result, reference, strict=True)
        if right is not None
    }


if __name__ == "__main__":
    main()
