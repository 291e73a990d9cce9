"""The main job's own script: run with fewer runs, and, as a slow test, run whole."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import studies

SCRIPT = Path(studies.__file__).parent / "examples" / "choose_experiments.py"


def test_the_script_runs_and_draws(tmp_path, monkeypatch, capsys):
    """The very script, but for the number of runs and studies."""
    compare = studies.compare
    fewer = {"trials": (2, 4), "seeds": 1, "progress": False}
    monkeypatch.setattr(studies, "compare", lambda *given, **named: compare(*given, **(named | fewer)))
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(SCRIPT), run_name="__main__")
    scores = names["result"].scores
    assert scores.keys() == {"random", "error reduction"}
    assert all(bool((score > 0).all()) and score.shape == (1, 2) for score in scores.values())
    assert scores["error reduction"][0, -1] < 0.3  # rad, after four runs
    printed = capsys.readouterr().out
    assert "error reduction" in printed
    assert (tmp_path / printed.splitlines()[-1]).stat().st_size > 10_000


def test_the_script_is_short():
    assert len(SCRIPT.read_text().splitlines()) <= 32


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_script_needs_fewer_runs_than_random_choice(tmp_path):
    ended = subprocess.run([sys.executable, SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    random, chosen = map(float, re.search(r"stays at or below 0.01:\s+(\S+)\s+(\S+)", ended.stdout).groups())
    assert chosen <= 0.7 * random
    assert (tmp_path / "runs" / "choose_experiments.png").exists()
