"""Studies written in YAML: what they make, and errors that name the key and the line."""

import re
import shutil
from pathlib import Path

import pytest
import torch

import studies
from diffsim.errors import ArgumentError
from studies.command import ShellCommand
from studies.files.expression import Expression
from studies.files.study_file import StudyFile
from studies.outputs import CSV, JSON, Match, Numbers, Reader
from studies.spaces.constraints import Linear
from studies.spaces.parameters import Choice, Integer, Log
from studies.stopping import NoImprovement
from studies.strategies.random_search import RandomSearch
from studies.strategies.turbo import TuRBO

EXAMPLE = Path(studies.__file__).parent / "examples" / "beam.yaml"

MODULE = """
import torch

def simulate(theta, generator):
    return torch.stack([theta.sum(1), theta.prod(1)], 1)

def value(outcome):
    return outcome[:, 0]

def roots(theta):
    return 1 - theta.square().sum(1)

def read(path):
    return [float(path.read_text())]

broken = 3
"""

PLAIN = """\
name: plain
space:
  a: [0, 1]
  b: {real: [1, 2], unit: m}
simulator: {import: "model:simulate", names: [total, product]}
strategy: RandomSearch
objective: total + 2 * product
budget: {trials: 6}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))  # and takes it off again, with what the file puts there
    monkeypatch.delitem(__import__("sys").modules, "model", raising=False)
    (tmp_path / "model.py").write_text(MODULE)
    return tmp_path


def write(folder, text, name="study.yaml"):
    path = folder / name
    path.write_text(text)
    return path


def test_a_study_of_a_function(folder):
    file = StudyFile.read(write(folder, PLAIN))
    study, history = file.run()
    assert study.name == "plain" and study.space.units == {"b": "m"} and len(history) == 6
    assert file.storage == f"sqlite:///{folder}/study.db" and (folder / "study.db").is_file()
    torch.testing.assert_close(history.outcome[:, 0], history.theta.sum(1))
    assert study.strategy == RandomSearch(Expression("total + 2 * product", ("total", "product")))
    value = history.outcome[:, 0] + 2 * history.outcome[:, 1]
    torch.testing.assert_close(study.strategy.objective(history.outcome), value)
    _, more = file.run(trials=8)
    assert len(more) == 8 and torch.equal(more.theta[:6], history.theta)


def test_all_kinds_of_parameters_and_constraints(folder):
    text = """\
space:
  length: {real: [0.1, 2], unit: m}
  rate: {log: [1e-4, 1]}
  blades: {integer: [2, 8]}
  material: {choice: [steel, no, 7]}
constraints:
  - {linear: {length: 1, rate: 2.5}, most: 3, least: 0.2}
simulator: "model:simulate"
budget: {rounds: 1}
"""
    box = StudyFile.read(write(folder, text)).space()
    assert box.names == ("length", "rate", "blades", "material")
    assert box.parameters[1:] == (Log(1e-4, 1.0), Integer(2, 8), Choice("steel", "no", "7"))
    assert box.constraints == (Linear({"length": 1.0, "rate": 2.5}, most=3.0, least=0.2),)


def test_a_nonlinear_constraint_is_a_function(folder):
    text = PLAIN.replace("simulator:", 'constraints: [{nonlinear: "model:roots"}]\nsimulator:').replace(
        "[1, 2]", "[0, 2]"
    )
    box = StudyFile.read(write(folder, text)).space()
    assert box.contains(torch.tensor([[0.9, 0.9], [0.1, 0.1]])).tolist() == [False, True]


def test_settings_of_strategies_and_stopping_rules(folder):
    text = PLAIN.replace("strategy: RandomSearch", "strategy: {name: TuRBO, settings: {points: 2, start: [0.5, 1.5]}}")
    file = StudyFile.read(write(folder, text))
    strategy = file.strategy()
    assert isinstance(strategy, TuRBO) and strategy.points == 2 and strategy.start == (0.5, 1.5)
    text = PLAIN.replace("objective: total + 2 * product\n", "").replace(
        "strategy: RandomSearch", 'strategy: {name: RandomSearch, settings: {objective: {import: "model:value"}}}'
    )
    assert StudyFile.read(write(folder, text)).strategy().objective.__name__ == "value"
    rule = "{name: NoImprovement, settings: {rounds: 1, objective: {formula: total * 0}}}"
    text = PLAIN.replace("{trials: 6}", f"{{trials: 60, stop: [{rule}]}}")
    study, history = StudyFile.read(write(folder, text)).run()
    assert study.stopped and len(history) < 60
    assert NoImprovement(1)


def test_a_program_with_files(folder):
    (folder / "deck.in").write_text("{a} {b:.2f}\n")
    text = """\
name: program
storage: kept/runs.db
space: {a: [0, 1], b: [1, 2]}
simulator:
  command:
    - sh
    - -c
    - |
      read a b < deck; echo $a > a.txt
      echo '{"k": {"n": 3}}' > k.json
      echo t,b; echo 0,$b
    - 4
  templates: {deck: {file: deck.in}}
  environment: {N: 3}
  folder: work
  keep: true
  outputs:
    b: {csv: b}
    k: {json: k.n, file: k.json}
    a: {reader: "model:read", file: a.txt}
    c: {numbers: -1, file: a.txt}
    d: ',([0-9.]+)'
strategy: Sobol
budget: {trials: 2, timeout: 30, max_failures: 1}
"""
    (folder / "kept").mkdir()
    file = StudyFile.read(write(folder, text))
    simulator = file.simulator()
    assert isinstance(simulator, ShellCommand) and simulator.timeout == 30 and simulator.arguments[-1] == "4"
    assert simulator.outputs["b"] == CSV("b") and simulator.outputs["k"] == JSON("k.n", "k.json")
    assert isinstance(simulator.outputs["a"], Reader) and simulator.outputs["c"] == Numbers(-1, "a.txt")
    assert simulator.outputs["d"] == Match(",([0-9.]+)") and simulator.environment == {"N": "3"}
    _, history = file.run()
    b, k, a, c, d = history.outcome.T
    assert torch.equal(torch.stack([a, c]), history.theta[:, :1].T.expand(2, 2)) and k.tolist() == [3.0, 3.0]
    torch.testing.assert_close(b, history.theta[:, 1], rtol=0, atol=0.0051)
    assert torch.equal(b, d)
    assert (folder / "kept" / "runs.db").is_file() and len(list((folder / "work").iterdir())) == 2


def test_the_example_runs_its_program(tmp_path):
    for path in EXAMPLE.parent.glob("beam.*"):
        if path.suffix in (".yaml", ".awk"):
            shutil.copy(path, tmp_path)
    file = StudyFile.read(tmp_path / "beam.yaml")
    outcome = file.simulator()(torch.tensor([[0.1, 0.01, 0.0, 4, 1.0]]), torch.Generator())
    mass, deflection, stress, bolt = outcome[0].tolist()
    inertia = (0.1**4 - 0.08**4) / 12
    assert mass == pytest.approx(2700 * 0.0036 * 2 + 0.8, rel=1e-5)
    assert deflection == pytest.approx(1e3 * 1500 * 2**3 / 3 / 70e9 / inertia, rel=1e-4)
    assert stress == pytest.approx(3000 * 0.05 / inertia / 1e6, rel=2e-3) and bolt == pytest.approx(7.5)
    _, history = file.run(trials=6)
    assert len(history) + len(history.failed) == 6
    objective = file.objective()
    assert objective is not None
    value = objective(history.outcome)
    assert bool((value >= history.outcome[:, 0]).all())


def bad(change, *expected):
    return pytest.param(change, expected, id=expected[0])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        bad(("seed: 0", "sed: 0"), "line 1, `sed`", "not known. Did you mean `seed`?"),
        bad(("seed: 0", "seed: -1"), "line 1, `seed`", "greater than or equal to 0, got -1"),
        bad(("seed: 0", "seed: one"), "line 1, `seed`", "valid integer, got 'one'"),
        bad(("seed: 0", "seed: 0\nseed: 1"), "line 2", "`seed` is there already"),
        bad(("seed: 0", "seed: &a 0\nname: *a"), "line 2", "no aliases"),
        bad(("seed: 0", "seed: [0"), "line 2", "expected ',' or ']'"),
        bad(("seed: 0", "seed: !!python/name:os.system 0"), "line 1", "could not determine a constructor"),
        bad(("a: [0, 1]", "a: [0]"), "line 3, `space.a`", "at least 2 items"),
        bad(("a: [0, 1]", "a: [1, 0]"), "line 3, `space", "reversed"),
        bad(("a: [0, 1]", "a: {rael: [0, 1]}"), "line 3, `space.a.rael`", "Did you mean `real`?"),
        bad(("a: [0, 1]", "a: {real: [0, 1], log: [1, 2]}"), "line 3, `space.a`", "one of the keys real, log"),
        bad(("a: [0, 1]", "a: {integer: [0.5, 2]}"), "line 3, `space.a.integer.0`", "valid integer, got 0.5"),
        bad(("a: [0, 1]", "a: {log: [0, 1]}"), "line 3, `space.a`", "0.0"),
        bad(("a: [0, 1]", "a: {choice: [x, x]}"), "line 3, `space.a`", "x"),
        bad(("RandomSearch", "Nonsense"), "line 6, `strategy", "there is no 'Nonsense'; there are", "'TuRBO'"),
        bad(("RandomSearch", "Study"), "line 6, `strategy", "there is no 'Study'"),
        bad(("RandomSearch", "Strategy"), "line 6, `strategy", "there is no 'Strategy'"),
        bad(
            ("RandomSearch", "{name: TuRBO, settings: {pints: 3}}"),
            "line 6, `strategy.settings.pints`",
            "TuRBO has no setting of this name; it has",
        ),
        bad(("RandomSearch", "{name: TuRBO, settings: {points: 0}}"), "line 6, `strategy`", "`points` must be"),
        bad(("total + 2 * product", "total + weight"), "line 7, `objective`", "names 'weight'"),
        bad(("total + 2 * product", "__import__('os')"), "line 7, `objective`", "calls '__import__'"),
        bad(("total + 2 * product", '"model:none"'), "line 7, `objective`", "there is no 'none' in model"),
        bad(("objective: total + 2 * product\n", ""), "line 1", "`objective` is missing", "['total', 'product']"),
        bad(("model:simulate", "nowhere:simulate"), "line 5, `simulator`", "nowhere cannot be imported"),
        bad(("model:simulate", "os.system('x')"), "line 5, `simulator`", "an import path is like"),
        bad(("{trials: 6}", "{trials: 6, rounds: 2}"), "line 8, `budget`", "got trials and rounds"),
        bad(("{trials: 6}", "{}"), "line 8, `budget`", "got none"),
        bad(("budget: {trials: 6}\n", ""), "line 1", "the key `budget` is missing"),
        bad(("{trials: 6}", "{trials: 6, timeout: 0}"), "line 8, `budget.timeout`", "greater than 0"),
        bad(("{trials: 6}", "{trials: 6, stop: [Nonsense]}"), "line 8, `budget.stop.0", "'NoImprovement'"),
        bad(("{import: ", "{command: [sh], import: "), "line 5, `simulator`", "got import and command"),
        bad(("names: [total, product]", "keep: true"), "line 5, `simulator`", "`keep` does not belong to `import`"),
    ],
)
def test_errors_name_the_key_and_the_line(folder, change, expected):
    path = write(folder, "seed: 0\n" + PLAIN.replace("name: plain\n", ""))
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises((ArgumentError, studies.StudyError)) as refused:
        StudyFile.read(path).run()
    for part in (str(path), *expected):
        assert part in str(refused.value), str(refused.value)
    assert not list(folder.glob("*.db"))


@pytest.mark.parametrize(
    ("simulator", "expected"),
    [
        ("{command: [echo, {a}, '{b}']}", "Put it in quotes: '{a}'"),
        ("{command: [echo, '{a}']}", "uses the parameters ['b'] nowhere"),
        ("{command: 'echo {a} {b}'}", "`simulator.command`"),
        ("{command: [nonsense-program, '{a}', '{b}']}", "no program 'nonsense-program'"),
        ("{command: [echo, '{a}', '{b}'], outputs: {y: {match: 'y'}}}", "`simulator.outputs.y`: `match` needs a group"),
        (
            "{command: [echo, '{a}', '{b}'], outputs: {y: {file: f}}}",
            "one of the keys match, json, csv, numbers, reader",
        ),
        ("{command: [echo, '{a}', '{b}'], outputs: {y: {match: '(.)', row: 1}}}", "belong to `csv`"),
        ("{command: [echo, '{a}', '{b}'], outputs: {y: {reader: 'a:b'}}}", "`reader` needs `file`"),
        ("{command: [echo, '{a}', '{b}'], outputs: {'y z': '(.)'}}", "letters, digits and _"),
        ("{command: [echo, '{a}', '{b}'], templates: {in: {file: none.in}}}", "none.in cannot be read"),
        ("{command: [echo, '{a}', '{b}'], names: [y]}", "`names` does not belong to `command`"),
    ],
)
def test_errors_of_commands_name_the_line(folder, simulator, expected):
    text = re.sub("simulator: .*", lambda _: f"simulator: {simulator}", PLAIN).replace("total + 2 * product", "y")
    with pytest.raises(ArgumentError) as refused:
        StudyFile.read(write(folder, text)).run()
    assert "line 5" in str(refused.value) and expected in str(refused.value), str(refused.value)


def test_what_is_no_study_file(folder):
    with pytest.raises(ArgumentError, match="cannot be read: No such file"):
        StudyFile.read(folder / "none.yaml")
    for content, problem in (
        (b"", "must hold keys"),
        (b"- 1", "must hold keys"),
        (b"\xff\xfe\x00", "no text in UTF-8"),
    ):
        (folder / "bad.yaml").write_bytes(content)
        with pytest.raises(ArgumentError, match=problem):
            StudyFile.read(folder / "bad.yaml")


def test_several_problems_are_told_at_once(folder):
    text = PLAIN.replace("name: plain", "nam: plain").replace("{trials: 6}", "{trials: 0}")
    with pytest.raises(ArgumentError) as refused:
        StudyFile.read(write(folder, text))
    lines = str(refused.value).splitlines()
    assert len(lines) == 2 and "line 1, `nam`" in lines[1] and "line 8, `budget.trials`" in lines[0]


def test_where_it_is_stored(folder):
    for given, expected in (
        ("", f"sqlite:///{folder}/study.db"),
        ("storage: sqlite:///x/runs.db", f"sqlite:///{folder}/x/runs.db"),
        ("storage: sqlite:////x/runs.db", "sqlite:////x/runs.db"),
        ("storage: memory", "memory"),
        ("storage: postgresql://me@there/base", "postgresql://me@there/base"),
    ):
        assert StudyFile.read(write(folder, f"{given}\n{PLAIN}")).storage == expected
