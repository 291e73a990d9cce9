"""Boxes: bounds, membership, draws."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.spaces.base import Space
from studies.spaces.box import Box

bound = st.floats(allow_nan=False, allow_infinity=False)
interval = st.tuples(bound, bound).filter(lambda pair: pair[0] != pair[1]).map(lambda pair: tuple(sorted(pair)))
boxes = st.dictionaries(st.text(min_size=1, max_size=4), interval, min_size=1, max_size=4).map(Box)


@given(boxes, st.integers(0, 2**31))
def test_all_draws_lie_in_the_box(box, seed):
    draws = box.sample(20, torch.Generator().manual_seed(seed)), box.sobol(20, seed), box.bounds
    for theta in draws:
        assert theta.dtype == torch.float64
        assert theta.isfinite().all()
        assert box.contains(theta).all()


@given(boxes)
def test_a_box_is_a_value(box):
    again = Box({name: (low, high) for name, low, high in zip(box.names, box.low, box.high, strict=True)})
    assert again == box and hash(again) == hash(box)
    assert pickle.loads(pickle.dumps(box)) == box == copy.deepcopy(box)
    assert eval(repr(box)) == box
    assert isinstance(box, Space)


def test_box_keeps_order_and_units():
    box = Box({"q": (-2, 2), "p": (-1, 1)}, units={"q": "rad"})
    assert box.names == ("q", "p") and box.dim == 2 and box.units == {"q": "rad"}
    assert torch.equal(box.bounds, torch.tensor([[-2.0, -1.0], [2.0, 1.0]], dtype=torch.float64))
    assert box.to_dict(torch.tensor([0.5, -0.5])) == {"q": 0.5, "p": -0.5}
    with pytest.raises(AttributeError):
        box.low = (0.0, 0.0)


def test_contains_faces_not_beyond():
    box = Box({"q": (0, 1)})
    theta = torch.tensor([[0.0], [1.0], [1.0 + 1e-6], [-1e-9], [math.nan]])
    assert box.contains(theta).tolist() == [True, True, False, False, False]


def test_sobol_goes_on_where_it_stopped():
    box = Box({"q": (-2, 2), "p": (-1, 1)})
    parts = [box.sobol(n, seed=7, skip=skip) for n, skip in ((1, 0), (5, 1), (3, 6))]
    assert torch.equal(torch.cat(parts), box.sobol(9, seed=7))
    assert not torch.equal(box.sobol(9, seed=7), box.sobol(9, seed=8))


def test_uniform_draws_have_the_moments_of_the_box():
    theta = Box({"q": (-2, 4)}).sample(20_000, torch.Generator().manual_seed(0))
    assert theta.mean().item() == pytest.approx(1, abs=0.05)
    assert theta.var().item() == pytest.approx(3, abs=0.1)  # 6^2 / 12


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({}, "at least one parameter"),
        ({"q": (1, -1)}, "'q' are reversed"),
        ({"q": (1, 1)}, "'q' are equal"),
        ({"q": (math.nan, 1)}, "'q' must be finite"),
        ({"q": (0, math.inf)}, "'q' must be finite"),
        ({"": (0, 1)}, "must not be empty"),
        ({1: (0, 1)}, "must be strings"),
        ({"q": 3}, "must be two numbers"),
        ({"q": (0, 1, 2)}, "must be two numbers"),
        ({"q": ("a", "b")}, "must be two numbers"),
        ([(0, 1)], "must be a mapping"),
    ],
)
def test_bad_bounds_are_named(bounds, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        Box(bounds)


def test_bad_units_and_shapes_are_named():
    with pytest.raises(ArgumentError, match=r"\['x'\], which the box lacks"):
        Box({"q": (0, 1)}, units={"x": "m"})
    with pytest.raises(ArgumentError, match=r"must have shape \[n, 1\], got \[1\]"):
        Box({"q": (0, 1)}).contains(torch.zeros(1))
    with pytest.raises(ArgumentError, match=r"must have shape \[1\], got \[1, 1\]"):
        Box({"q": (0, 1)}).to_dict(torch.zeros(1, 1))
