"""Constraints of boxes: membership, draws however small the allowed part is, the nearest allowed point."""

import copy
import functools
import json
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.spaces.box import Box
from studies.spaces.constraints import Linear, Nonlinear
from studies.spaces.parameters import Choice, Integer, Log

SEED = st.integers(0, 2**31)


def in_disc(theta):
    return 0.25 - (theta - 1).square().sum(-1)


DISC = Box({"a": (0, 2), "b": (0, 2)}, constraints=[Nonlinear(in_disc)])
PUMP = Box(
    {"length": (0.0, 2.0), "rate": Log(1e-3, 1.0), "blades": Integer(1, 9), "material": Choice("steel", "brass")},
    constraints=[Linear({"length": 1.0, "blades": 0.5}, most=3.0), Nonlinear(lambda t: t[:, 0] * t[:, 1] - 0.01)],
)


def simplex(d, most):
    names = [f"x{k}" for k in range(d)]
    return Box(dict.fromkeys(names, (0, 1)), constraints=[Linear(dict.fromkeys(names, 1.0), most=most)])


def draws(box, n, seed=0):
    return box.sample(n, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("box", [DISC, PUMP, simplex(3, 1.0)])
def test_all_draws_satisfy_the_constraints(box):
    for theta in (draws(box, 300), box.sobol(300, seed=1)):
        assert theta.shape == (300, box.dim) and theta.dtype == torch.float64
        assert box.contains(theta).all()
        assert (box.slack(theta) >= 0).all()
        assert len(theta.unique(dim=0)) == 300
        assert torch.equal(box.round(theta), theta)


@pytest.mark.parametrize("box", [DISC, PUMP, simplex(6, 0.3)])
def test_draws_repeat_and_leave_the_global_state(box):
    before = torch.get_rng_state()
    assert torch.equal(draws(box, 40, seed=3), draws(box, 40, seed=3))
    assert not torch.equal(draws(box, 40, seed=3), draws(box, 40, seed=4))
    parts = [box.sobol(n, seed=7, skip=skip) for n, skip in ((1, 0), (30, 1), (9, 31))]
    assert torch.equal(torch.cat(parts), box.sobol(40, seed=7))
    assert torch.equal(torch.get_rng_state(), before)


def test_draws_from_a_disc_are_uniform():
    radius = (draws(DISC, 20_000) - 1).norm(dim=1)
    assert (radius.square() / 0.25).mean().item() == pytest.approx(0.5, abs=0.01)  # the squared radius is uniform
    assert (radius.square() / 0.25).var().item() == pytest.approx(1 / 12, abs=0.005)


@pytest.mark.parametrize(("d", "most"), [(4, 0.5), (6, 0.3), (10, 0.1)])
def test_draws_from_a_tiny_simplex_are_uniform(d, most):
    """Its share of the cube is 3e-3, 1e-6 and 3e-17; the sum of a uniform draw is `most` times a Beta(d, 1)."""
    theta = draws(simplex(d, most), 1500)
    assert ((theta.mean(0) / (most / (d + 1)) - 1).abs() < 0.2).all()
    share = theta.sum(1) / most
    assert share.mean().item() == pytest.approx(d / (d + 1), abs=0.03)
    assert share.std().item() == pytest.approx(math.sqrt(d / (d + 1) ** 2 / (d + 2)), rel=0.25)


def test_draws_from_a_few_points_of_a_lattice_are_uniform():
    box = Box({"a": Integer(0, 10_000), "b": Integer(0, 10_000)}, constraints=[Linear({"a": 1.0, "b": 1.0}, most=2.0)])
    found, counts = draws(box, 1200).unique(dim=0, return_counts=True)
    assert found.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [2, 0]]
    assert ((counts - 200).abs() < 80).all()


def test_two_far_parts_are_both_found():
    box = Box({"a": (0, 1), "b": (0, 1)}, constraints=[Nonlinear(lambda t: ((t - 0.5).abs() - 0.49).amin(1))])
    corners = draws(box, 400) > 0.5
    assert len(corners.unique(dim=0)) == 4


@settings(max_examples=15)
@given(st.lists(st.floats(-1, 3), min_size=2, max_size=2))
def test_rounding_into_a_disc_goes_to_its_nearest_point(point):
    theta = torch.tensor([point], dtype=torch.float64).clamp(0, 2)
    away = theta - 1
    nearest = 1 + away * (0.5 / away.norm()).clamp_max(1)
    rounded = DISC.round(torch.tensor([point], dtype=torch.float64))
    assert DISC.contains(rounded).all()
    assert torch.allclose(rounded, nearest, atol=1e-5)


@settings(max_examples=15)
@given(SEED, st.integers(2, 4))
def test_rounding_into_a_polytope_goes_to_its_nearest_point(seed, d):
    generator = torch.Generator().manual_seed(seed)
    point = torch.rand(1, d, dtype=torch.float64, generator=generator)
    box = simplex(d, 0.5 * float(point.sum()))
    rounded = box.round(point)
    assert box.contains(rounded).all()
    # Of all points that are allowed none is on the near side of the plane through the nearest one.
    assert ((draws(box, 200) - rounded) @ (point - rounded)[0] <= 1e-6).all()


@settings(max_examples=8)
@given(SEED)
def test_rounding_a_mixed_row_gives_one_that_is_allowed_and_near(seed):
    theta = 10 * torch.rand(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    rounded = PUMP.round(theta)
    assert PUMP.contains(rounded).all()
    low, high = PUMP.bounds
    features, others = PUMP.features(theta.clamp(low, high)), PUMP.features(draws(PUMP, 50, seed=1))
    reached = (PUMP.features(rounded) - features).norm(dim=1)
    assert (reached <= torch.cdist(features, others).amin(1) + 0.2).all()


def test_rounding_moves_integers_where_reals_cannot_help():
    box = Box({"n": Integer(0, 9), "m": Integer(0, 9)}, constraints=[Linear({"n": 1.0, "m": 1.0}, most=4.0)])
    assert box.round(torch.tensor([[2.2, 1.6], [9.0, 0.0]])).tolist() == [[2.0, 2.0], [4.0, 0.0]]


def test_a_sum_at_its_limit_is_allowed_whatever_the_rounding():
    theta = torch.tensor([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.3, 0.2, 0.1 + 1e-9]], dtype=torch.float64)
    assert 0.1 + 0.2 + 0.3 > 0.6  # in float64
    assert simplex(3, 0.6).contains(theta).tolist() == [True, True, False]


def test_least_and_most_are_both_kept():
    box = Box({"a": (0, 1), "b": (0, 1)}, constraints=[Linear({"a": 1, "b": -1}, most=0.1, least=-0.1)])
    theta = torch.tensor([[0.5, 0.5], [0.7, 0.5], [0.5, 0.7]])
    assert box.contains(theta).tolist() == [True, False, False]
    assert box.slack(theta.double())[0].tolist() == pytest.approx([0.1, 0.1])
    assert (draws(box, 200) @ torch.tensor([1.0, -1.0]).double()).abs().max() <= 0.1 + 1e-9


def test_slack_can_be_differentiated():
    theta = torch.tensor([[1.0, 0.5, 2.0, 0.0]], dtype=torch.float64, requires_grad=True)
    slack = PUMP.slack(theta)
    assert slack.tolist() == [pytest.approx([1.0, 0.49])]
    rows = [torch.autograd.grad(value, theta, retain_graph=True)[0][0] for value in slack[0]]
    assert torch.allclose(torch.stack(rows), torch.tensor([[-1.0, 0, -0.5, 0], [0.5, 1.0, 0, 0]]).double())


def test_nan_is_not_allowed():
    box = Box({"a": (-1, 1)}, constraints=[Nonlinear(lambda t: t[:, 0].sqrt())])
    assert box.contains(torch.tensor([[-0.5], [0.5]])).tolist() == [False, True]
    assert (draws(box, 50) >= 0).all()


@pytest.mark.parametrize(
    "constraint",
    [Nonlinear(lambda t: -1 - t[:, 0]), Nonlinear(lambda t: t[:, 0] * math.nan), Linear({"a": 1.0}, most=-1)],
)
def test_a_box_that_allows_nothing_says_so(constraint):
    box = Box({"a": (0, 1)}, constraints=[constraint])
    for call in (lambda: draws(box, 3), lambda: box.sobol(3, seed=0), lambda: box.round(torch.zeros(1, 1))):
        with pytest.raises(ArgumentError, match="No point was found that satisfies the constraints"):
            call()


def test_constrained_boxes_are_values():
    assert pickle.loads(pickle.dumps(DISC)) == DISC == copy.deepcopy(DISC)
    assert simplex(3, 1.0) == simplex(3, 1.0) != simplex(3, 2.0)
    assert hash(simplex(3, 1.0)) == hash(simplex(3, 1.0))
    assert eval(repr(simplex(3, 1.0))) == simplex(3, 1.0)


def test_constraints_are_described_by_numbers_and_names():
    described = json.loads(json.dumps(DISC.describe()["constraints"]))
    assert described == [{"kind": "Nonlinear", "function": "in_disc"}]
    assert simplex(2, 1.0).describe()["constraints"] == [
        {"kind": "Linear", "weights": {"x0": 1.0, "x1": 1.0}, "most": 1.0, "least": None}
    ]
    assert Nonlinear(functools.partial(in_disc)).describe()["function"] == "in_disc"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Linear({}, most=1), "one that is not 0"),
        (lambda: Linear({"a": 0.0}, most=1), "one that is not 0"),
        (lambda: Linear({"a": "x"}, most=1), "must be a number"),
        (lambda: Linear({"a": math.inf}, most=1), "must be finite"),
        (lambda: Linear({"a": 1}), "`most` or `least`"),
        (lambda: Linear({"a": 1}, most=1, least=1), "below `most`.* use a Manifold"),
        (lambda: Linear([1.0], most=1), "must be a mapping"),
        (lambda: Nonlinear(3), "must be a function"),
        (lambda: Box({"a": (0, 1)}, constraints=[Linear({"b": 1}, most=1)]), r"\['b'\], which the box lacks"),
        (lambda: Box({"a": Choice("x", "y")}, constraints=[Linear({"a": 1}, most=1)]), "weighs the choice"),
        (lambda: Box({"a": (0, 1)}, constraints=[lambda theta: theta]), "Linear and Nonlinear"),
        (lambda: Box({"a": (0, 1)}, constraints=[Nonlinear(lambda theta: theta)]), r"shape \[2\], got \[2, 1\]"),
        (lambda: Box({"a": (0, 1)}, constraints=[Nonlinear(lambda theta: 1.0)]), r"shape \[2\], got 1.0"),
    ],
)
def test_bad_constraints_are_named(make, message):
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        make()
