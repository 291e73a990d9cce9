"""Building, caching and doing without the native library, each in a fresh process."""

import multiprocessing
import os
import subprocess
import sys

import pytest
import torch

from diffsim.fields.neural import NeuralField, mlp
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver

SOLVE = """
import sys, warnings, torch
warnings.simplefilter("ignore" if "quiet" in sys.argv else "error")
from diffsim import ArgumentError, NeuralField, Solver, mlp, odeint
field, y0, t = NeuralField(mlp(2, 2, (8,))), torch.ones(3, 2), torch.tensor([0.0, 1.0])
plain = odeint(field, y0, t, Solver("rk4", step=0.1, backend="plain"))
torch.testing.assert_close(odeint(field, y0, t, Solver("rk4", step=0.1)), plain)
if "refused" in sys.argv:
    try:
        odeint(field, y0, t, Solver("rk4", step=0.1, backend="native"))
    except ArgumentError as error:
        print(error)
"""


def start(cache, *words, compiler=None):
    environment = os.environ | {"DIFFSIM_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    if compiler:
        environment["CXX"] = str(compiler)
    return subprocess.Popen(
        [sys.executable, "-c", SOLVE, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments, **named):
    process = start(*arguments, **named)
    output, errors = process.communicate(timeout=240)
    return process.returncode, output, errors


@pytest.fixture
def counting_compiler(tmp_path):
    """A compiler that leaves a mark each time that it links a library."""
    path = tmp_path / "counting-c++"
    mark = f'case "$*" in *-shared*) echo built >> "{tmp_path}/builds" ;; esac'
    path.write_text(f'#!/bin/sh\n{mark}\nexec c++ "$@"\n')
    path.chmod(0o755)
    return path, tmp_path / "builds"


def test_it_is_built_once_and_again_where_the_file_is_damaged(tmp_path, counting_compiler):
    compiler, builds = counting_compiler
    cache = tmp_path / "cache"
    for _ in range(2):
        assert run(cache, compiler=compiler) == (0, "", "")
    assert builds.read_text() == "built\n"
    (library,) = cache.glob("*.so")
    library.write_bytes(library.read_bytes()[:1000])
    assert run(cache, compiler=compiler) == (0, "", "")
    assert builds.read_text() == "built\n" * 2


@pytest.mark.slow
def test_two_processes_may_build_at_once(tmp_path):
    processes = [start(tmp_path) for _ in range(2)]
    assert [(p.communicate(timeout=240), p.returncode) for p in processes] == [(("", ""), 0)] * 2
    assert len(list(tmp_path.glob("*.so"))) == 1 and not list(tmp_path.glob("*.part"))


def test_without_a_compiler_the_plain_path_runs_with_one_warning(tmp_path):
    code, output, _ = run(tmp_path, "quiet", "refused", compiler="/bin/false")
    assert code == 0
    assert "/bin/false failed" in output and "backend='auto'" in output
    code, _, errors = run(tmp_path, compiler="/bin/false")
    assert code == 1
    assert "RuntimeWarning: diffsim solves without its native library" in errors


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_does_not_matter(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file" / "cache")[0] == 0


def _solve(queue):
    field = NeuralField(mlp(2, 2, (16,), dtype=torch.float64))
    y0 = torch.ones(60, 2, dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    odeint(field, y0, t, Solver("rk4", step=0.1, backend="native")).sum().backward()
    queue.put(y0.grad.sum().item())


def test_a_forked_process_solves_too():
    queue = multiprocessing.get_context("fork").Queue()
    _solve(queue)
    expected = queue.get(timeout=30)
    process = multiprocessing.get_context("fork").Process(target=_solve, args=(queue,))
    process.start()
    assert queue.get(timeout=60) == pytest.approx(expected)
    process.join(timeout=30)
    assert process.exitcode == 0
