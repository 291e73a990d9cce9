"""Kinds of parameters: coordinates, rounding, shares of draws, names of values."""

import copy
import json
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.history import History
from studies.record import make_record
from studies.spaces.base import Rounded
from studies.spaces.box import Box
from studies.spaces.parameters import Choice, Integer, Log, Real
from studies.strategies.sobol import Sobol

PUMP = Box(
    {
        "length": (0.1, 2.0),
        "rate": Log(1e-4, 1.0),
        "blades": Integer(2, 8),
        "material": Choice("steel", "brass", "zinc"),
    },
    units={"length": "m"},
)

finite = st.floats(allow_nan=False, allow_infinity=False)
reals = st.tuples(finite, finite).filter(lambda pair: pair[0] < pair[1]).map(lambda pair: Real(*pair))
logs = st.tuples(st.floats(1e-300, 1e300), st.floats(1.001, 1e6)).map(lambda pair: Log(pair[0], pair[0] * pair[1]))
integers = st.tuples(st.integers(-(2**50), 2**50), st.integers(1, 2**20)).map(lambda pair: Integer(pair[0], sum(pair)))
choices = st.lists(st.text(max_size=3), min_size=2, max_size=5, unique=True).map(lambda names: Choice(*names))
boxes = st.dictionaries(st.text(min_size=1, max_size=4), reals | logs | integers | choices, min_size=1, max_size=5).map(
    Box
)


@given(boxes, st.integers(0, 2**31))
def test_all_draws_lie_in_a_mixed_box(box, seed):
    for theta in (box.sample(20, torch.Generator().manual_seed(seed)), box.sobol(20, seed)):
        assert theta.dtype == torch.float64
        assert box.contains(theta).all()
        assert torch.equal(box.round(theta), theta)


@given(boxes, st.integers(0, 2**31))
def test_coordinates_lead_there_and_back(box, seed):
    theta = box.sample(20, torch.Generator().manual_seed(seed))
    unit = box.to_unit(theta)
    assert ((unit >= 0) & (unit <= 1)).all()
    again = box.from_unit(unit)
    assert box.contains(again).all()
    whole = torch.tensor([kind in ("integer", "choice") for kind in box.kinds])
    assert torch.equal(again[:, whole], theta[:, whole])
    assert torch.allclose(box.to_unit(again)[:, ~whole], unit[:, ~whole], rtol=0, atol=1e-9)


@given(boxes, st.integers(0, 2**31))
def test_values_by_name_lead_there_and_back(box, seed):
    (row,) = box.sample(1, torch.Generator().manual_seed(seed))
    values = box.to_dict(row)
    assert torch.equal(box.from_dict(values), row)
    assert torch.equal(box.from_dict(json.loads(json.dumps(values))), row)
    kinds = {"real": float, "log": float, "integer": int, "choice": str}
    assert [type(value) for value in values.values()] == [kinds[kind] for kind in box.kinds]


@given(boxes, st.lists(finite, min_size=5, max_size=5))
def test_any_point_rounds_into_a_box(box, values):
    theta = torch.tensor([values[: box.dim]], dtype=torch.float64)
    rounded = box.round(theta)
    assert box.contains(rounded).all()
    low, high = box.bounds
    assert ((rounded - theta.clamp(low, high)).abs() <= 0.5).all()


@given(boxes)
def test_a_mixed_box_is_a_value(box):
    assert pickle.loads(pickle.dumps(box)) == box == copy.deepcopy(box)
    assert hash(copy.deepcopy(box)) == hash(box)
    assert eval(repr(box)) == box
    assert json.loads(json.dumps(box.describe()))["names"] == list(box.names)
    assert isinstance(box, Rounded)


def test_a_log_is_drawn_and_centred_by_ratios():
    theta = Box({"rate": Log(1e-4, 1.0)}).sample(20_000, torch.Generator().manual_seed(0)).log10()
    assert theta.mean().item() == pytest.approx(-2, abs=0.03)
    assert theta.var().item() == pytest.approx(16 / 12, abs=0.03)
    assert PUMP.from_unit(torch.full((1, 4), 0.5))[0, 1].item() == pytest.approx(1e-2)


def test_integers_and_options_have_equal_shares():
    theta = PUMP.sample(21_000, torch.Generator().manual_seed(0))
    for column, values in ((2, range(2, 9)), (3, range(3))):
        found, counts = theta[:, column].unique(return_counts=True)
        expected = len(theta) / len(values)
        assert found.tolist() == list(values)
        assert ((counts - expected).abs() < 4 * math.sqrt(expected)).all()


def test_rounding_goes_to_the_nearest_value():
    theta = torch.tensor([[3.0, 2.0, 2.49, 0.6], [0.0, 1e-9, 9.5, 7.0]])
    assert PUMP.round(theta).tolist() == [[2.0, 1.0, 2.0, 1.0], [0.1, 1e-4, 8.0, 2.0]]
    with pytest.raises(ArgumentError, match="must be finite"):
        PUMP.round(torch.tensor([[math.nan, 1.0, 2.0, 0.0]]))


def test_whole_parameters_hold_whole_numbers_only():
    theta = torch.tensor([[1.0, 0.1, 3.0, 1.0], [1.0, 0.1, 3.5, 1.0], [1.0, 0.1, 3.0, 0.5]])
    assert PUMP.contains(theta).tolist() == [True, False, False]


def test_what_a_box_says_of_its_parameters():
    assert PUMP.kinds == ("real", "log", "integer", "choice")
    assert PUMP.choices == {"material": ("steel", "brass", "zinc")}
    assert not PUMP.is_continuous and Box({"a": (0, 1), "b": Log(1, 2)}).is_continuous
    assert PUMP.to_dict(torch.tensor([0.5, 0.25, 3.0, 2.0])) == {
        "length": 0.5,
        "rate": 0.25,
        "blades": 3,
        "material": "zinc",
    }


def test_options_are_equally_far_apart():
    rows = torch.tensor([[1.0, 0.1, 2.0, option] for option in (0.0, 1.0, 2.0)] + [[1.0, 0.1, 8.0, 0.0]])
    distances = torch.cdist(PUMP.features(rows), PUMP.features(rows))
    assert torch.allclose(distances[:3, :3], 1 - torch.eye(3).double())
    assert distances[0, 3].item() == pytest.approx(6 / 7)


def test_coordinates_can_be_differentiated():
    box = Box({"a": (0, 4), "b": Log(1, 100)})
    theta = torch.tensor([[1.0, 10.0]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(box.to_unit(theta).sum(), theta)
    assert torch.allclose(slope, torch.tensor([[1 / 4, 1 / (10 * math.log(100))]]).double())
    unit = torch.tensor([[0.5, 0.5]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(box.from_unit(unit).sum(), unit)
    assert torch.allclose(slope, torch.tensor([[4.0, 10 * math.log(100)]]).double())


def test_records_of_plain_boxes_have_not_changed():
    plain = Box({"a": (0, 1)}, units={"a": "m"})
    assert plain.describe() == {"kind": "Box", "names": ("a",), "low": (0.0,), "high": (1.0,), "units": {"a": "m"}}
    assert (
        make_record("s", Box({"a": Real(0, 1)}), Sobol(), 0).space
        == make_record("s", Box({"a": (0, 1)}), Sobol(), 0).space
    )
    assert (
        make_record("s", Box({"a": Log(1, 2)}), Sobol(), 0).space
        != make_record("s", Box({"a": (1, 2)}), Sobol(), 0).space
    )


def test_a_history_of_a_mixed_box_is_a_dataset():
    theta = PUMP.sobol(4, 0)
    dataset = History.from_tensors(PUMP, theta, theta[:, :1]).to_xarray()
    assert dataset.theta.values.tolist() == theta.tolist()
    assert json.loads(dataset.attrs["space"])["choices"] == {"material": ["steel", "brass", "zinc"]}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Log(0, 1), "must be positive"),
        (lambda: Log(2, 1), "reversed"),
        (lambda: Log(1, math.inf), "must be finite"),
        (lambda: Log(1e300, math.nextafter(1e300, math.inf)), "differ in their logarithms"),
        (lambda: Log("a", 1), "must be two numbers"),
        (lambda: Integer(3, 3), "must rise"),
        (lambda: Integer(1.0, 3), "must be integers"),
        (lambda: Integer(False, 3), "must be integers"),
        (lambda: Integer(0, 2**53), r"2\*\*52"),
        (lambda: Choice("a"), "two options"),
        (lambda: Choice("a", "a"), "all different"),
        (lambda: Choice("a", 1), "must be strings"),
        (lambda: Box({"a": Choice}), "two numbers, or a Log, Integer or Choice"),
    ],
)
def test_bad_parameters_are_named(make, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        make()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blades": 2.5}, "'blades' must be a whole number"),
        ({"blades": 9}, "'blades' must lie from 2 to 8"),
        ({"rate": "fast"}, "'rate' must be a number"),
        ({"material": "wood"}, r"'material' must be one of \['steel', 'brass', 'zinc'\]"),
        ({"depth": 1.0}, "must name"),
    ],
)
def test_bad_values_are_named(change, message):
    values = {"length": 1.0, "rate": 0.5, "blades": 3, "material": "brass"}
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        PUMP.from_dict({**values, **change})
