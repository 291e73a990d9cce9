"""The examples on MuJoCo and on the measured pendulum: MuJoCo agrees with our systems, and short studies learn."""

import importlib.util
import re
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from diffsim import DoublePendulum, Hamiltonian, Pendulum, Solver, simulate
from studies.examples import real_pendulum

needs_mujoco = pytest.mark.skipif(importlib.util.find_spec("mujoco") is None, reason="MuJoCo is an extra")

T = torch.linspace(0, 2, 21, dtype=torch.float64)
BOB = (
    '<body pos="0 0 -{}"><joint axis="0 1 0"/><inertial pos="0 0 -{}" mass="{}" diaginertia="1e-9 1e-9 1e-9"/>{}</body>'
)
TO_ABSOLUTE = torch.tensor(
    [[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64
)  # angles from hanging, of MuJoCo's joint angles


def absolute(y: Tensor) -> Tensor:
    """Canonical states of absolute angles: the momenta change with the inverse transpose."""
    return torch.cat([y[..., :2] @ TO_ABSOLUTE.T, y[..., 2:] @ torch.linalg.inv(TO_ABSOLUTE)], dim=-1)


def draws(n: int, widths: list[float]) -> Tensor:
    unit = torch.rand(n, len(widths), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (2 * unit - 1) * torch.tensor(widths, dtype=torch.float64)


def laboratory_runs(bodies: str, y0: Tensor) -> Tensor:
    from studies.examples.mujoco_laboratory import laboratory

    return laboratory(bodies, T)(y0, torch.Generator()).transpose(0, 1)


def exact_runs(system: Hamiltonian, y0: Tensor) -> Tensor:
    return simulate(system, y0, T, Solver("dopri8", rtol=1e-10, atol=1e-12)).y


@needs_mujoco
def test_mujoco_pendulum_is_our_pendulum():
    system = Pendulum(mass=0.7, length=0.8)
    y0 = draws(6, [3.0, 3.0])
    runs = laboratory_runs(BOB.format(0, 0.8, 0.7, ""), y0)
    assert torch.equal(runs[0, :, 0], y0[:, 0])
    assert (runs - exact_runs(system, y0)).abs().max() < 1e-4
    assert (system.energy(runs) - system.energy(y0)).abs().max() < 1e-5


@needs_mujoco
def test_mujoco_double_pendulum_is_ours_in_absolute_angles():
    system = DoublePendulum(mass1=1.2, mass2=0.7, length1=0.9, length2=0.6)
    y0 = draws(6, [1.0, 1.0, 1.0, 0.3])
    runs = laboratory_runs(BOB.format(0, 0.9, 1.2, BOB.format(0.9, 0.6, 0.7, "")), y0)
    assert (absolute(runs) - exact_runs(system, absolute(y0))).abs().max() < 1e-4
    assert (system.energy(absolute(runs)) - system.energy(absolute(y0))).abs().max() < 1e-5


@needs_mujoco
def test_momenta_are_canonical_whatever_the_mass_matrix():
    import mujoco

    from studies.examples.mujoco_laboratory import DOUBLE_PENDULUM, WORLD, laboratory

    y0 = torch.tensor([[0.4, -1.1, 0.5, 0.3]], dtype=torch.float64)
    run = laboratory_runs(DOUBLE_PENDULUM, y0)
    assert (run[0] - y0).abs().max() < 1e-12  # p -> dq/dt -> p
    # The first steps move at M^-1 p, with MuJoCo's own mass matrix, column by column.
    model = mujoco.MjModel.from_xml_string(WORLD.format(DOUBLE_PENDULUM))
    data = mujoco.MjData(model)
    data.qpos = y0[0, :2].numpy()
    mujoco.mj_forward(model, data)
    inertia = torch.zeros(2, 2, dtype=torch.float64)
    for unit, row in zip(torch.eye(2, dtype=torch.float64), inertia, strict=True):
        mujoco.mj_mulM(model, data, row.numpy(), unit.numpy())
    assert inertia[0, 1] == inertia[1, 0] and abs(inertia[0, 1]) > 0.1
    short = laboratory(DOUBLE_PENDULUM, torch.tensor([0.0, 1e-4], dtype=torch.float64), n_steps=1)(
        y0, torch.Generator()
    )
    velocity = (short[0, 1, :2] - short[0, 0, :2]) / 1e-4
    assert (velocity - torch.linalg.solve(inertia, y0[0, 2:])).abs().max() < 1e-2


@needs_mujoco
def test_mujoco_study_learns_both_systems(capsys):
    from studies.examples import mujoco_pendulum as example

    prior = {"n_features": 64, "periods": [2 * torch.pi, None], "scale": [1, 3]}
    example.main(example.PENDULUM, {"q": 3, "p": 3}, batch=2, rounds=2, **prior)
    widths = {"q1": 0.2, "q2": 0.2, "p1": 0.4, "p2": 0.15}
    example.main(example.DOUBLE_PENDULUM, widths, batch=3, rounds=2, n_features=128, scale=[2, 1, 6, 3])
    lines = re.findall(r"(\w+): (\d+) runs, error/spread (\S+), valid (\S+) of 2 s", capsys.readouterr().out)
    assert [line[:2] for line in lines] == [("ModelBased", "4"), ("Random", "4"), ("ModelBased", "6"), ("Random", "6")]
    assert float(lines[0][2]) < 0.02 and float(lines[0][3]) > 1.9
    assert float(lines[2][2]) < 0.1 and float(lines[2][3]) > 1.8


def test_a_missing_mujoco_names_the_extra():
    program = "import sys; sys.modules['mujoco'] = None; import studies.examples.mujoco_laboratory"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode and 'pip install "diffsim-studies[mujoco]"' in ended.stderr


def test_real_pendulum_runs_on_the_stand_in_and_says_so(capsys):
    real_pendulum.main(steps=100)
    printed = capsys.readouterr().out
    assert "stand-in, not a measurement" in printed
    rows = {name: [float(x) for x in row.split()] for name, row in re.findall(r"(\w+Field) +(.*)", printed)}
    assert set(rows) == {"NeuralField", "HamiltonianField"}
    for train, test, energy in rows.values():
        assert 0 < train < 0.1 and 0 < test < 0.1 and 0 < energy < 2


def test_real_pendulum_reads_a_record(capsys, tmp_path):
    path = tmp_path / "record.txt"
    path.write_text("".join(f"0 {5 + i / 6} {0.9**i} {-0.5 * 0.9**i}\n" for i in range(40)))
    real_pendulum.main(path, steps=2)
    assert f"Record: {path}" in capsys.readouterr().out
