"""Programs as simulators: what goes in, what is read back, and what is left of them when they fail."""

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from diffsim.errors import ArgumentError
from studies.command import ShellCommand
from studies.errors import CommandError
from studies.outputs import CSV, JSON, Match, Numbers, Reader
from studies.spaces.box import Box
from studies.spaces.parameters import Choice, Integer
from studies.strategies.sobol import Sobol
from studies.study import Study

BOX = Box({"a": (0, 1), "b": (1, 2)})
THETA = torch.tensor([[0.5, 1.25], [1 / 3, 2.0]], dtype=torch.float64)


def call(command, theta=THETA, seed=0):
    return command(theta, torch.Generator().manual_seed(seed))


def read(path):
    return [float(part) for part in path.read_text().split("/")]


def test_parameters_reach_the_program_with_all_their_digits():
    outcome = call(ShellCommand(BOX, ["echo", "{a}", "{b:.1f}"]))
    assert outcome.dtype == torch.float64
    assert outcome.tolist() == [[0.5, 1.2], [1 / 3, 2.0]]


def test_no_shell_reads_a_parameter(tmp_path):
    hostile = f"$(touch {tmp_path}/a); touch {tmp_path}/b `touch {tmp_path}/c` | &"
    space = Box({"a": (0, 1), "text": Choice(hostile, "other")})
    theta = torch.tensor([[0.25, 0.0]], dtype=torch.float64)
    outputs = {"y": Match(r"^a=(\S+)$"), "n": Match(r"^n=(\d+)$")}
    program = "import sys; print('a=' + sys.argv[1]); print('n=%d' % len(sys.argv[2]))"
    command = ShellCommand(space, [sys.executable, "-c", program, "{a}", "{text}"], outputs)
    assert call(command, theta).tolist() == [[0.25, len(hostile)]]
    assert not list(tmp_path.iterdir())


def test_kinds_of_parameters_come_as_they_are_written():
    space = Box({"n": Integer(2, 8), "material": Choice("steel", "brass")})
    command = ShellCommand(space, ["sh", "-c", 'test "$1" = brass && echo "$0"', "{n}", "{material}"])
    assert call(command, torch.tensor([[3.0, 1.0]]).double()).tolist() == [[3.0]]
    with pytest.raises(CommandError, match="ended with code 1"):
        call(command, torch.tensor([[3.0, 0.0]]).double())


def test_files_go_in_and_come_out(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "scale.txt").write_text("10\n")
    script = "read k < lib/scale.txt; read a < deck/in.txt; read b; echo $a $b $k > out.dat; echo '{\"k\": [0, '$k']}'"
    command = ShellCommand(
        BOX,
        ["sh", "-c", script],
        {"a": Numbers(0, "out.dat"), "b": Numbers(1, "out.dat"), "k": JSON("k.1")},
        templates={"deck/in.txt": "{a}\n"},
        stdin="{b}\n",
        copies=["lib"],
        here=tmp_path,
        folder=tmp_path / "runs",
    )
    assert call(command).tolist() == [[0.5, 1.25, 10.0], [1 / 3, 2.0, 10.0]]
    assert not list((tmp_path / "runs").iterdir())


def test_seed_here_and_environment(tmp_path):
    command = ShellCommand(
        Box({"a": (0, 1)}),
        ["sh", "-c", 'test "$0" = "$PLACE" && echo "$A $1"', "{here}", "{seed}"],
        environment={"A": "{a}", "PLACE": str(tmp_path)},
        here=tmp_path,
    )
    theta = THETA[:, :1]
    one, again, other = call(command, theta), call(command, theta), call(command, theta, seed=1)
    assert torch.equal(one, again) and not torch.equal(one, other) and one[0, 1] != one[1, 1]


@pytest.mark.parametrize(
    ("output", "text", "expected"),
    [
        (Match(r"y = (\S+)"), "y = 1\ny = -2.5e3\n", -2500.0),
        (Match(r"^\s*(\S+) V (\S+) A"), "1 V 2 A\n 3 V 4 A", [3.0, 4.0]),
        (Match(r"y = (\S+)"), "y = 1.5D-03", 1.5e-3),
        (Numbers(), "1, 2;3\n4", [1.0, 2.0, 3.0, 4.0]),
        (Numbers(-1), "1 2 3", 3.0),
        (JSON("a.b.1"), '{"a": {"b": [1, 2]}}', 2.0),
        (JSON(), "[[1, 2], [3, 4]]", [[1.0, 2.0], [3.0, 4.0]]),
        (CSV("y"), "t, y\n0, 1\n1, 2\n", 2.0),
        (CSV("y", row=None), "# by hand\nt,y\n0,1\n\n1,2\n", [1.0, 2.0]),
        (CSV(1, row=None), "t,y\n0,1\n1,2\n", [1.0, 2.0]),
        (CSV(1, row=0, delimiter=" "), "0   1\n1  2\n", 1.0),
        (CSV("p(bar)", delimiter=";"), 'name;p(bar)\n"a;b";7\n', 7.0),
    ],
)
def test_outputs_are_read(output, text, expected, tmp_path):
    assert output.read(text, tmp_path).tolist() == expected
    (tmp_path / "out.txt").write_text(text)
    kept = {name: getattr(output, name) for name in output.__slots__ if name != "file"}
    assert type(output)(**kept, file="out.txt").read("", tmp_path).tolist() == expected


def test_a_function_reads_its_own_format(tmp_path):
    (tmp_path / "out.x").write_text("1/2.5")
    assert Reader(read, "out.x").read("", tmp_path).tolist() == [1.0, 2.5]
    with pytest.raises(CommandError, match=r"wrote no file 'no.x'; there are \['out.x'\]"):
        Reader(read, "no.x").read("", tmp_path)


@pytest.mark.parametrize(
    ("output", "text", "problem"),
    [
        (Match(r"y = (\S+)"), "the solver gave up", "ends with 'the solver gave up'"),
        (Match(r"y = (\S+)"), "", "which is empty"),
        (Match(r"y = (\S+)"), "y = fast", "'fast' in the standard output is no number"),
        (Numbers(), "", "there is nothing in the standard output"),
        (Numbers(3), "1 2", "there is no number 3"),
        (JSON("a.c"), '{"a": {"b": 1}}', r"there is no 'c' of 'a.c' in the standard output; there is keys \['b'\]"),
        (JSON("a"), '{"a": "1"}', "must be real numbers"),
        (JSON("a"), '{"a": [[1], [1, 2]]}', "must be real numbers"),
        (JSON(), "{", "there is no JSON"),
        (JSON(), "[" * 100_000, "there is no JSON"),
        (CSV("z"), "t,y\n0,1", r"no column 'z' in the standard output; there are \['t', 'y'\]"),
        (CSV("y", row=5), "t,y\n0,1", "there is no row 5"),
        (CSV("y"), "t,y\n0,1\n3", "no column 'y' in the row"),
        (CSV("y"), "t,y\n", "there is no row -1"),
    ],
)
def test_outputs_that_cannot_be_read_say_why(output, text, problem, tmp_path):
    with pytest.raises(CommandError, match=problem):
        output.read(text, tmp_path)


def test_a_failure_tells_command_folder_and_last_words(tmp_path):
    script = 'for i in $(seq 40); do echo "line $i" >&2; done; echo partial > out.txt; exit 3'
    command = ShellCommand(BOX, ["sh", "-c", script, "{a}", "{b}"], folder=tmp_path)
    with pytest.raises(CommandError) as failed:
        call(command)
    text = str(failed.value)
    assert text.startswith("sh: it ended with code 3.\n") and "line 40" in text and "line 20\n" not in text
    assert "0.5 1.25" in text
    (kept,) = tmp_path.iterdir()
    assert str(kept) in text and (kept / "out.txt").read_text() == "partial\n"
    with pytest.raises(CommandError, match=r"the output 'y' cannot be read: 'words' .* is no number"):
        call(ShellCommand(BOX, ["echo", "words", "{a}", "{b}"], folder=tmp_path))
    with pytest.raises(CommandError, match="SIGSEGV"):
        call(ShellCommand(BOX, ["sh", "-c", "kill -s SEGV $$", "{a}", "{b}"], folder=tmp_path))
    pickle.loads(pickle.dumps(failed.value))


def test_folders_are_kept_where_wanted(tmp_path):
    call(ShellCommand(BOX, ["echo", "{a}", "{b}"], folder=tmp_path, keep=True))
    assert sorted((path / "stdout.txt").read_text() for path in tmp_path.iterdir()) == [
        "0.3333333333333333 2.0\n",
        "0.5 1.25\n",
    ]


def test_time_is_up_for_all_that_was_started(tmp_path):
    script = f"sleep 60 & echo $! > {tmp_path}/pid; echo started >&2; sleep 60"
    command = ShellCommand(BOX, ["sh", "-c", script, "{a}", "{b}"], timeout=1.0)
    begun = time.monotonic()
    with pytest.raises(CommandError, match=r"took longer than 1 s and was killed[\s\S]*started"):
        call(command)
    assert time.monotonic() - begun < 20
    assert gone(int((tmp_path / "pid").read_text()))


def test_what_a_program_leaves_running_ends_with_it(tmp_path):
    script = f"sleep 60 & echo $! > {tmp_path}/pid; echo 1"
    assert call(ShellCommand(BOX, ["sh", "-c", script, "{a}", "{b}"])).tolist() == [[1.0], [1.0]]
    assert gone(int((tmp_path / "pid").read_text()))


def test_the_program_dies_with_a_study_that_is_killed(tmp_path):
    program = f"""
import torch
from studies.command import ShellCommand
from studies.spaces.box import Box
ShellCommand(Box({{"a": (0, 1)}}), ["sh", "-c", "echo $$ > {tmp_path}/pid; sleep 60; sleep 60", "{{a}}"])(
    torch.zeros(1, 1), torch.Generator()
)
"""
    process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": os.getcwd()})
    while not ((tmp_path / "pid").is_file() and (tmp_path / "pid").read_text()):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert gone(int((tmp_path / "pid").read_text()))


def gone(pid):
    """Whether a process is gone, or a zombie that nobody reaps here."""
    for _ in range(500):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def test_it_travels_to_another_process_and_back():
    command = pickle.loads(pickle.dumps(ShellCommand(BOX, ["echo", "{a}", "{b}"])))
    assert torch.equal(call(command), THETA)


def test_a_study_records_failures_and_goes_on():
    script = 'case $0 in 0.[0-4]*) echo "too low" >&2; exit 2;; esac; echo "$0"'
    simulator = ShellCommand(Box({"a": (0, 1)}), ["sh", "-c", script, "{a}"])
    history = Study(Box({"a": (0, 1)}), Sobol(), seed=0).run(simulator, trials=8)
    torch.testing.assert_close(history.outcome, history.theta)
    assert len(history.failed) and bool((history.failed < 0.5).all())
    errors = [trial.error for trial in history.trials if trial.state == "failed"]
    assert all("too low" in error and "ended with code 2" in error for error in errors)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"arguments": "echo {a} {b}"}, "No shell splits a command"),
        ({"arguments": []}, "must be a list of texts"),
        ({"arguments": ["echo", 3]}, "got 3. Put it in quotes"),
        ({"arguments": ["echo", "{a}"]}, r"uses the parameters \['b'\] nowhere"),
        ({"arguments": ["nonsense-program", "{a}", "{b}"]}, "no program 'nonsense-program' on PATH"),
        ({"arguments": ["./none", "{a}", "{b}"]}, "no program './none' in /"),
        ({"arguments": ["echo", "{a:d}", "{b}"]}, "cannot format 0.0"),
        ({"space": Box({"a": (0, 1), "seed": (0, 1)})}, "cannot be named 'seed'"),
        ({"timeout": 0}, "positive number of seconds"),
        ({"templates": {"../x": ""}}, "must stay in the working directory"),
        ({"copies": ["none"]}, "no such file"),
        ({"outputs": {}}, "one output at least"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(given, problem):
    with pytest.raises((ArgumentError, TypeError), match=problem):
        ShellCommand(**{"space": BOX, "arguments": ["echo", "{a}", "{b}"], **given})


def test_bad_outputs_are_refused():
    for make, problem in (
        (lambda: Match("("), "regular expression"),
        (lambda: Match("y"), "needs a group"),
        (lambda: CSV("y", delimiter="ab"), "one character"),
        (lambda: CSV(-1), "position from 0"),
        (lambda: Reader("read", "file"), "function of a path"),
    ):
        with pytest.raises((ArgumentError, TypeError), match=problem):
            make()


def test_several_outputs_are_one_number_each():
    command = ShellCommand(BOX, ["echo", "{a} {b}"], {"a": Numbers(0), "all": Numbers()})
    with pytest.raises(CommandError, match="'all' has 2"):
        call(command)
