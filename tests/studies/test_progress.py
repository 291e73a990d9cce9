"""What a run shows of itself: best value, notes of the script, failures, time left; in lines and in a terminal."""

import os
import pty
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from studies.progress import Progress, duration, note
from studies.spaces.box import Box
from studies.storage.base import Result
from studies.strategies.random_search import RandomSearch
from studies.strategies.sobol import Sobol
from studies.study import Study


def results(*outcomes):
    return [
        Result(number, error="it failed") if outcome is None else Result(number, np.asarray(outcome, dtype=float))
        for number, outcome in enumerate(outcomes)
    ]


def lines(capsys, updates, **settings):
    with Progress("valley", True, **settings) as shown:
        for told, total in updates:
            shown.update(told, total)
    return capsys.readouterr().err.splitlines()


def test_lines_tell_best_failures_and_time_left(capsys, monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    told = results([3.0], None, [2.5], [4.0])
    seen = lines(capsys, [(told[:1], 4), (told[:2], 4), (told[:3], 4), (told, 4)])
    assert seen[0] == "valley: 1 of 4 trials, best 3"
    assert re.fullmatch(r"valley: 2 of 4 trials, best 3, 1 failed, \d.* left", seen[1])
    assert seen[2].startswith("valley: 3 of 4 trials, best 2.5, 1 failed")
    assert seen[3] == "valley: 4 of 4 trials, best 2.5, 1 failed"


def test_the_best_value_is_that_of_the_objective(capsys):
    told = results([3.0, 1.0], [1.0, 2.0])
    assert lines(capsys, [(told, 2)], objective=lambda y: y[:, 0] + 10 * y[:, 1])[0].endswith("best 13")
    assert "best" not in lines(capsys, [(told, 2)])[0]  # two numbers: which of them?
    assert "best" not in lines(capsys, [(told, 2)], objective=lambda y: 1 / 0)[0]
    assert "best" not in lines(capsys, [(results([1.0], [1.0, 2.0]), 2)])[0]


def test_notes_of_the_script_are_shown(capsys):
    note(model_error=1.0)  # no study runs: nothing happens
    with Progress("valley", True) as shown:
        note(model_error=0.25)
        shown.update(results([1.0]), 1)
    assert capsys.readouterr().err == "valley: 1 of 1 trials, best 1, model error 0.25\n"


def test_a_run_passes_its_objective_and_takes_notes(capsys):
    def objective(y):
        note(rows=float(len(y)))
        return y[:, 0] - 100

    study = Study(Box({"a": (0, 1)}), RandomSearch(objective))
    study.run(lambda theta, generator: torch.cat([theta, theta], 1), trials=4, progress=True)
    last = capsys.readouterr().err.splitlines()[-1]
    assert "4 of 4 trials, best -9" in last and "rows" in last


def test_nothing_is_shown_unless_asked(capsys):
    Study(Box({"a": (0, 1)}), Sobol()).run(lambda theta, generator: theta, trials=2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "0.25 s"), (59, "59 s"), (61, "1 min 1 s"), (7300, "2 h 1 min"), (90000, "1 d 1 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_terminal_shows_a_bar():
    program = """
from studies.progress import Progress, note
from studies.storage.base import Result
import numpy as np
with Progress("[valley]") as shown:
    note(model_error=0.5)
    shown.update([Result(0, np.array([2.0])), Result(1, error="x")], 4)
    shown.say("stopped: [enough]")
"""
    outer, inner = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, "-c", program], stderr=inner, env=environment)
    os.close(inner)
    text = b""
    while True:
        try:
            part = os.read(outer, 4096)
        except OSError:
            break
        if not part:
            break
        text += part
    assert process.wait() == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.decode())
    for part in ("[valley]", "2/4", "best 2, model error 0.5, 1 failed", "[valley]: stopped: [enough]"):
        assert part in shown, shown
