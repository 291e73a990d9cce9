"""The example that descends an integration, run as it is."""

import runpy
from pathlib import Path

import studies

SCRIPT = Path(studies.__file__).parent / "examples" / "descend_pendulum.py"


def test_the_script_finds_length_angle_and_rate(capsys):
    names = runpy.run_path(str(SCRIPT), run_name="__main__")
    assert (names["study"].recommend() - names["truth"]).abs().max() < 0.05  # the record is noisy
    best = float(names["history"].outcome[:, 0].min())
    assert 0.5 * 0.02**2 < best < 1.5 * 0.02**2
    assert "found" in capsys.readouterr().out
