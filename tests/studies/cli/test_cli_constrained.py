"""The command line over a study with constraints on the outcome: its answer, and the best trial that is allowed."""

import re

import pytest
from typer.testing import CliRunner

from studies.cli import app
from studies.progress import default_progress

STUDY = """\
name: c
space: {a: [0, 2], b: [0, 2]}
strategy: {name: ConstrainedImprovement, settings: {initial: 6, constraints: [{formula: "1 - g"}]}}
simulator:
  command: [awk, 'BEGIN {print "f = " {a} + {b}; print "g = " {a} * {b} * 4}']
  outputs: {f: 'f = (\\S+)', g: 'g = (\\S+)'}
objective: f
budget: {trials: 8}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(STUDY)
    token = default_progress.set(None)
    yield tmp_path
    default_progress.reset(token)


def test_the_answer_has_its_chance_and_the_best_trial_is_allowed(folder):
    run = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["run", "c.yaml"])
    assert run.exit_code == 0, (run.output, run.exception)
    assert re.search(r"objective = \S+ \+- \S+, by the model\n  constraints met with a chance of \S+, by", run.stdout)
    shown = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["show", "c.yaml"]).output
    best = shown[shown.index("best by objective") : shown.index("last")]
    rows = [[float(part) for part in line.split()] for line in best.splitlines() if re.match(r"\s*\d", line)]
    assert rows and all(4 * a * b >= 1 for _, _, a, b, *_ in rows)
