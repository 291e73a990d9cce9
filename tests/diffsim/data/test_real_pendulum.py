"""The measured pendulum: reading its file format, and the stand-in's physics."""

import pytest
import torch

from diffsim.data.real_pendulum import load_schmidt_lipson, schmidt_lipson_stand_in
from diffsim.errors import ArgumentError

LINES = "%o v\n  0.0e+000  5.0e+000  1.1e+000  9.1e-001 \n 0 5.25 1.2 7e-1\n\n 0 6.0 1.3 5e-1\n"


def test_reads_the_format(tmp_path):
    path = tmp_path / "record.txt"
    path.write_text(LINES)
    data = load_schmidt_lipson(path)
    assert data.t.tolist() == [5.0, 5.25, 6.0] and data.n == 1 and data.names == ("theta", "omega")
    assert data.y[:, 0].tolist() == [[1.1, 0.91], [1.2, 0.7], [1.3, 0.5]]
    assert data.dtype == torch.float64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no data"),
        ("%o v\n", "holds no data"),
        ("0 1 2\n", "line 1: expected"),
        (LINES + "0 7 x 1\n", "line 6: expected"),
        (LINES + "0 7 nan 1\n", "line 6: expected"),
        (LINES + "1 7 1 1\n", "several trials"),
        (LINES + "0 5.5 1 1\n", "strictly increasing"),
    ],
)
def test_malformed_files_are_refused(tmp_path, text, message):
    (tmp_path / "record.txt").write_text(text)
    with pytest.raises(ArgumentError, match=message):
        load_schmidt_lipson(tmp_path / "record.txt")


def test_a_missing_file_names_the_stand_in(tmp_path):
    with pytest.raises(FileNotFoundError, match="schmidt_lipson_stand_in"):
        load_schmidt_lipson(tmp_path / "record.txt")


def test_the_stand_in_has_the_shape_and_the_physics_of_the_record():
    data = schmidt_lipson_stand_in(0)
    assert data.y.shape == (556, 1, 2) and data.dtype == torch.float64
    spacing = (data.t.diff() * 6).round()
    assert [int((spacing == k).sum()) for k in (1, 2, 3)] == [545, 8, 2]
    theta, omega = data.y[:, 0].unbind(-1)
    energy = 2.4 * (1 - theta.cos()) + omega.square()
    assert energy[:50].mean() > 1.3 * energy[-50:].mean()  # friction
    assert theta.abs().max() < 1.55 and omega.abs().max() < 1.55
    assert torch.equal(data.y, schmidt_lipson_stand_in(0).y)
    assert not torch.equal(data.t, schmidt_lipson_stand_in(1).t)
