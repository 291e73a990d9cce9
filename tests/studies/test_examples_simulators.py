"""The examples on real simulators: Cantera's reactor and ngspice's pair keep the contract and obey physics."""

import importlib.util
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from studies import CMAES, Study, examples
from surrogates.simulator import check_simulator

needs_cantera = pytest.mark.skipif(importlib.util.find_spec("cantera") is None, reason="Cantera is an extra")
needs_ngspice = pytest.mark.skipif(shutil.which("ngspice") is None, reason="the program ngspice is missing")


@pytest.fixture
def nominal(monkeypatch):
    """Draws without spread: each part has its nominal value."""
    monkeypatch.setattr(torch, "randn", lambda *shape, generator, dtype=None: torch.zeros(*shape, dtype=dtype))


def burn(**changes: float) -> Tensor:
    from studies.examples.cantera_laboratory import burner

    conditions = {"ratio": 0.6, "inlet": 650.0, "log10 time": -2.5, "pressure": 12.5} | changes
    return burner(torch.tensor([list(conditions.values())], dtype=torch.float64), torch.Generator())[0]


def measure(**changes: float) -> Tensor:
    from studies.examples.ngspice_laboratory import pair

    design = {"W": 20.0, "L": 0.7, "R_L": 9.0, "I": 150.0} | changes
    row = torch.tensor([list(design.values())], dtype=torch.float64)
    return torch.tensor(pair(row, torch.Generator())[0], dtype=torch.float64)


@needs_cantera
def test_the_reactor_keeps_the_contract():
    from studies.examples import cantera_reactor as example

    check_simulator(example.burner, example.BOX.sobol(4, seed=0))


@needs_ngspice
def test_the_pair_keeps_the_contract():
    from studies.examples import ngspice_pair as example

    check_simulator(example.pair, example.BOX.sobol(4, seed=0))


@needs_cantera
def test_the_reactor_is_where_a_long_integration_ends(nominal):
    import cantera

    from studies.examples.cantera_laboratory import gas

    steady = burn()
    gas.set_equivalence_ratio(0.6, "CH4", "O2:1, N2:3.76")
    gas.TP = 650, 12.5 * cantera.one_atm
    upstream = cantera.Reservoir(gas, clone=False)
    gas.equilibrate("HP")
    vessel, downstream = cantera.IdealGasReactor(gas, clone=False), cantera.Reservoir(gas, clone=False)  # fixed volume
    inflow = cantera.MassFlowController(upstream, vessel, mdot=lambda t: vessel.mass / 10**-2.5)
    outflow = cantera.PressureController(vessel, downstream, primary=inflow, K=1e-5)
    cantera.ReactorNet([vessel]).advance(0.1)
    assert outflow.mass_flow_rate > 0
    reached = torch.tensor([gas.T, *(1e6 * gas["NO", "CO"].X)], dtype=torch.float64)
    assert (steady / reached - 1).abs().max() < 2e-3


@needs_cantera
def test_the_reactor_obeys_chemistry(nominal):
    temperature, no, co = burn()
    for hotter in (burn(inlet=750), burn(ratio=0.7)):
        assert hotter[0] > temperature and hotter[1] > no  # thermal NO
    longer = burn(**{"log10 time": -2})
    assert longer[2] < co and longer[1] > no  # CO burns out, NO builds up
    assert burn(inlet=560, ratio=0.5)[1] < no
    assert (burn(pressure=20)[2]) < co
    blown = burn(ratio=0.4, inlet=450, **{"log10 time": -4})
    assert (blown[0] - 450).abs() < 1 and blown[1:].abs().max() < 1e-3


@needs_cantera
def test_the_reactors_objective_is_that_of_the_page():
    from studies.examples.cantera_reactor import objective

    y = torch.tensor([[1750.0, 10.0, 100 * (torch.e - 1)], [1e4, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(objective(y), torch.tensor([3.0, 0.0], dtype=torch.float64))


@needs_ngspice
def test_the_pair_obeys_circuit_theory(nominal):
    gain, bandwidth, offset, power, overdrive = measure()
    assert offset.abs() < 1e-6  # a matched pair
    assert abs(power / (2 * 1.8 * 0.15) - 1) < 0.02  # the reference and its mirror, at 1.8 V
    # The square law: gm = I / overdrive, with W / L from the overdrive and the mirrored current.
    current, mirror = 2 * 75e-6, power / 1.8e3 - 150e-6
    assert abs(overdrive / (1e3 * (current * 0.7 / (3e-4 * 20)) ** 0.5) - 1) < 0.1
    output = 1 / (1 / 9e3 + (0.1 / 0.7) * mirror / 2)
    assert abs(10 ** (gain / 20) / (mirror / (overdrive / 1e3) * output) - 1) < 0.15
    pole = 1 / (2 * torch.pi * output * 300e-15)
    assert 0.7 * pole < bandwidth < pole  # the inputs' capacitances cost the rest
    more = measure(R_L=11.0)
    assert more[0] > gain and more[1] < bandwidth
    assert measure(W=30.0)[4] < overdrive and measure(L=1.4)[4] > overdrive
    assert measure(R_L=40.0)[0] < 0  # the outputs have no room: the gain collapses


@needs_ngspice
def test_mismatch_of_the_pair_is_as_large_as_stated():
    from studies.examples.ngspice_laboratory import pair

    theta = torch.tensor([[20.0, 0.7, 9.0, 150.0]], dtype=torch.float64).expand(100, 4)
    gain, _, offset, _, overdrive = torch.tensor(pair(theta, torch.Generator().manual_seed(0))).T
    at_input = (offset / 10 ** (gain / 20)).std()
    # Thresholds, and relative differences of k' and R times half the overdrive.
    expected = 2**0.5 * torch.tensor([10.0, *(overdrive.mean() / 2 * torch.tensor([0.05, 0.03]))]).norm()
    assert 0.8 < at_input / expected < 1.2


@needs_ngspice
def test_a_failure_of_ngspice_is_recorded_and_the_study_goes_on():
    from studies.examples import ngspice_pair as example

    def spoilt(theta, generator):
        return example.pair(torch.where(theta[:, :1] < 31, torch.nan, theta), generator)

    history = Study(example.BOX, CMAES(example.objective), seed=0).run(spoilt, trials=8, max_failures=8)
    states = {trial.state for trial in history.trials}
    assert states == {"complete", "failed"}
    assert any("ngspice failed" in (trial.error or "") for trial in history.trials)


@needs_ngspice
def test_the_pairs_optimum_lies_inside_the_box(nominal):
    from studies.examples.ngspice_pair import BOX, objective

    best = torch.tensor([20.0, 0.7, 9.0, 150.0], dtype=torch.float64)
    inside = objective(measure()[None])
    for k, name in enumerate(BOX.names):
        for bound in BOX.bounds[:, k]:
            assert objective(measure(**{name: float(bound)})[None]) > inside + 0.3
    assert bool(BOX.contains(best[None]))


@pytest.mark.slow
@needs_cantera
def test_the_reactor_example_improves(capsys):
    from studies.examples import cantera_reactor as example

    example.main(trials=100)
    start, end = _values(capsys.readouterr().out)
    assert start == pytest.approx(3.8, abs=0.2) and end < 3.0


@pytest.mark.slow
@needs_ngspice
def test_the_pair_example_improves(capsys):
    from studies.examples import ngspice_pair as example

    example.main(trials=100)
    start, end = _values(capsys.readouterr().out)
    assert end < start / 2


def _values(printed: str) -> tuple[float, float]:
    found = re.match(r"start (\S+), after \d+ runs (\S+) at {", printed)
    assert found
    return float(found[1]), float(found[2])


def test_a_missing_simulator_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cantera", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, hint in (("cantera", 'pip install "diffsim-studies[cantera]"'), ("ngspice", "apt-get install ngspice")):
        with pytest.raises(ImportError, match=re.escape(hint)):
            runpy.run_path(str(Path(examples.__file__).with_name(f"{name}_laboratory.py")))
