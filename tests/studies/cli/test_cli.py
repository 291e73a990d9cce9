"""The command line, and the cost of importing the package."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import studies
from studies.cli import app
from studies.progress import default_progress
from studies.spaces.box import Box
from studies.strategies.sobol import Sobol
from studies.study import Study

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
COMMAND = [sys.executable, "-c", "from studies.cli import app; app()"]

SCRIPT = """
import sys, time
from studies import Box, Sobol, Study

def simulator(theta, generator):
    if theta[0, 0] > 1:
        raise ValueError("the beam is off")
    time.sleep(float(sys.argv[1]))
    return theta.square().sum(1)

if __name__ == "__main__":
    study = Study(Box({"q": (-2, 2), "p[m]": (-1, 1)}, units={"q": "rad"}), Sobol(), "sqlite:///runs.db")
    study.run(simulator, trials=20, batch=4)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["studies"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "script.py").write_text(SCRIPT)
    token = default_progress.set(None)
    yield tmp_path
    default_progress.reset(token)


def invoke(*arguments):
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, list(arguments))


def test_a_script_is_run_with_progress_and_shown(folder):
    done = invoke("run", "script.py", "0")
    assert done.exit_code == 0, done.output
    assert "20 of 20 trials" in done.stderr
    again = invoke("run", "script.py", "0")
    assert again.exit_code == 0 and "20 of 20 trials" in again.stderr

    listed = invoke("list", "runs.db")
    assert listed.exit_code == 0
    cells = next(line for line in listed.output.splitlines() if "Sobol()" in line).split()
    assert cells[:5] == ["study", "15", "5", "0", "5"]

    shown = invoke("show", f"sqlite:///{folder}/runs.db", "--last", "3", "--failures", "1")
    assert shown.exit_code == 0
    for part in (
        "study: 15 complete, 5 failed, 0 pending",
        "q from -2 to 2 rad",
        "p[m] from",
        "best by outcome",
        "torch ",
    ):
        assert part in shown.output
    assert shown.output.count("the beam is off") == 2  # the source line and the message
    assert invoke("show", "runs.db").output.count("ValueError: the beam is off") == 3


def test_runs_and_pending_trials_are_shown(folder):
    study = Study(Box({"q": (0, 1)}), Sobol(), "sqlite:///runs.db", name="runs")
    study.run(lambda theta, generator: torch.ones(1, 5, 2), trials=2)
    study.ask(2)
    shown = invoke("show", "runs.db", "runs").output
    assert "2 complete, 0 failed, 2 pending" in shown and "[5, 2]" in shown and "pending" in shown
    assert "best" not in shown


@pytest.mark.parametrize("command", ["run", "resume"])
def test_a_database_is_not_taken_for_a_script(folder, command):
    Study(Box({"q": (-2, 2)}), Sobol(), "sqlite:///runs.db")
    done = invoke(command, "runs.db")
    assert done.exit_code == 2 and "runs.db is a database: it holds no simulator. Name the script" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("list", "none.db"), 1, "there is no such file"),
        (("list", "script.py"), 1, "something else than an SQLite database"),
        (("show", "none.db"), 1, "there is no such file"),
        (("run", "none.py"), 2, "There is no script none.py"),
    ],
)
def test_bad_names_are_told_without_a_traceback(folder, arguments, code, message):
    done = invoke(*arguments)
    assert done.exit_code == code and message in done.stderr and "Traceback" not in done.output


def test_an_unknown_study_is_told_with_those_there_are(folder):
    Study(Box({"q": (0, 1)}), Sobol(), "sqlite:///runs.db", name="valley")
    done = invoke("show", "runs.db", "peak")
    assert done.exit_code == 1 and "no study 'peak'" in done.stderr and "['valley']" in done.stderr


def test_a_script_that_fails_shows_its_own_frames(folder):
    Path("bad.py").write_text("def f():\n    return 1 / 0\n\nf()\n")
    done = invoke("run", "bad.py")
    assert done.exit_code == 1
    assert "bad.py failed. ZeroDivisionError" in done.stderr and 'File "bad.py", line 4' in done.stderr
    assert "runpy" not in done.stderr
    Path("worse.py").write_text("from studies import StudyError\nraise StudyError('the pool is broken')\n")
    done = invoke("run", "worse.py")
    assert done.exit_code == 1 and done.stderr == "worse.py failed. StudyError: the pool is broken\n"
    Path("leaves.py").write_text("raise SystemExit(7)\n")
    assert invoke("run", "leaves.py").exit_code == 7


def test_an_interrupted_script_says_how_to_go_on(folder):
    # A test run in the background of a shell ignores the signal, and would hand that down.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    call = [*COMMAND, "run", "script.py", "0.2"]
    process = subprocess.Popen(call, env=ENVIRONMENT, cwd=folder, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    while "trials" not in process.stderr.readline():
        time.sleep(0.01)
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on" in text and "Traceback" not in text
    assert invoke("run", "script.py", "0").exit_code == 0
    assert "15" in invoke("list", "runs.db").output


def test_the_command_and_the_package_load_without_torch():
    for program in ("import studies", "import studies.cli", "from studies import StorageError"):
        code = f"import sys; {program}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT).returncode == 0
    done = subprocess.run([*COMMAND, "--help"], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert all(command in done.stdout for command in ("run", "list", "show"))


def test_every_name_of_the_package_loads():
    for name in studies.__all__:
        assert getattr(studies, name).__name__ == name
        assert name in dir(studies)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        studies.nonsense  # noqa: B018
