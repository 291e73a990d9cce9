"""The Hamiltonian neural network table, published and honest metrics side by side.

Run from the root of the repository: `python -m benchmarks.hnn --workers 16 --data real_pend_h_1.txt`.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

__all__ = ["main"]

Result = dict[str, Any]

_EXPERIMENTS = ("three_body", "two_body", "real", "pendulum", "spring")  # the longest first


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the jobs (or merge records), and write `hnn.json` and `hnn.md`."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parse(given)
    # Each job has one thread: the workers read this when they load torch.
    os.environ["OMP_NUM_THREADS"] = "1"
    records = options.out / "hnn.json"
    options.out.mkdir(parents=True, exist_ok=True)
    if options.merge:
        _save(records, [job for path in [records, *options.merge] for job in _load(path)])
    else:
        _run(options, records, "python -m benchmarks.hnn " + shlex.join(given))
    table = _table(_load(records))
    (options.out / "hnn.md").write_text(table, encoding="utf-8")
    print(table)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hnn", description=__doc__)
    every = ",".join(reversed(_EXPERIMENTS))
    parser.add_argument("--experiments", default=every, type=_words, help=f"of {every}; all by default")
    parser.add_argument("--models", default=None, type=_words, help="those of `hnn.md`; all by default")
    parser.add_argument("--seeds", default="0,1,2", type=_words, help="seed 0 has the published data")
    parser.add_argument("--workers", default=1, type=int, help="processes at once, one thread each")
    parser.add_argument("--steps-scale", default=1.0, type=float, help="factor on the steps, for a quick look")
    parser.add_argument("--data-share", default=1.0, type=float, help="share of the two- and three-body runs")
    parser.add_argument("--data", default=None, type=Path, help="real_pend_h_1.txt; a stand-in where it is missing")
    parser.add_argument("--out", default=Path("benchmarks/results"), type=Path)
    parser.add_argument("--merge", nargs="+", type=Path, help="hnn.json files to add to that of --out; nothing is run")
    return parser.parse_args(arguments)


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _run(options: argparse.Namespace, records: Path, command: str) -> None:
    from benchmarks.hamiltonian.judge import run_job
    from benchmarks.hamiltonian.models import models_of

    if "real" in options.experiments and not (options.data and options.data.is_file()):
        print(f"The measured pendulum is missing (--data {options.data}): a synthetic stand-in takes its place.")
    jobs = [
        (experiment, model, int(seed))
        for experiment in sorted(options.experiments, key=_EXPERIMENTS.index)
        for model in models_of(experiment)
        for seed in options.seeds
        if options.models is None or model in options.models
    ]
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        share, scale = options.data_share, options.steps_scale
        running = {pool.submit(run_job, *job, scale, options.data, share): job for job in jobs}
        for done, future in enumerate(as_completed(running), start=1):
            result = {**future.result(), "command": command}
            _save(records, [*_load(records), result])
            name = " ".join(map(str, running[future]))
            print(f"{done} of {len(jobs)}: {name}, fitted in {result['fit_seconds']:.1f} s", flush=True)


def _load(path: Path) -> list[Result]:
    return json.loads(path.read_text(encoding="utf-8"))["jobs"] if path.is_file() else []


def _save(path: Path, jobs: Iterable[Result]) -> None:
    """Write records, whole or not at all; of equal jobs the last stays."""
    latest = {(job["experiment"], job["model"], job["seed"]): job for job in jobs}
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"jobs": [latest[key] for key in sorted(latest)]}, indent=1), encoding="utf-8")
    draft.replace(path)


def _table(jobs: Sequence[Result]) -> str:
    from benchmarks.hamiltonian.report import markdown

    return markdown(jobs)


if __name__ == "__main__":
    main()
