"""The trust region by itself: its points, the rows near it, its notes, and each way to judge a step."""

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from studies.strategies.trust_region import LARGEST, Evidence, Region, judge, reject

REGION = Region((0.6, 0.4), 0.2, 40, 1, 7, previous=(0.4, 0.4), previous_radius=0.2, gain=-1.0, error=0.1, step=0.5)
GOOD = Evidence(change=-1.0, change_error=0.1, trend=3.0, surprise=0.0, surprise_error=0.1)


def test_a_significantly_worse_point_is_taken_back():
    worse = judge(REGION, replace(GOOD, change=1.0))
    assert worse.center == REGION.previous and worse.radius < REGION.radius and worse.decision.startswith("rejected")
    first = judge(replace(REGION, previous=None), replace(GOOD, change=1.0))
    assert first.center == REGION.center
    assert reject(REGION, "it rains").decision == "rejected: it rains"


def test_a_round_that_is_significantly_worse_than_predicted_shrinks_the_region():
    judged = judge(REGION, replace(GOOD, surprise=1.0))
    assert judged.center == REGION.center and judged.radius < REGION.radius and judged.decision.startswith("shrunk")
    better = judge(REGION, replace(GOOD, surprise=-1.0))
    assert better.radius >= REGION.radius


def test_where_nothing_is_seen_it_asks_for_more_and_never_shrinks():
    region, unseen = REGION, Evidence(change=0.0, change_error=1.0, trend=0.0, surprise=0.0, surprise_error=1.0)
    for rounds in range(1, 8):
        judged = judge(region, unseen)
        assert judged.size >= region.size and judged.radius >= region.radius and judged.blind == rounds
        assert judged.size > region.size or judged.radius > region.radius
        assert judged.decision.endswith("nothing seen")
        region = judged
    assert region.radius == LARGEST
    assert judge(region, GOOD).blind == 0
    exact = judge(REGION, Evidence(change=0.0, change_error=0.0, trend=0.0, surprise=0.0, surprise_error=0.0))
    assert exact.blind == 1  # a constant objective


def test_of_two_centres_that_noise_hides_the_better_one_is_kept():
    unseen = Evidence(change=0.5, change_error=1.0, trend=0.0, surprise=0.0, surprise_error=1.0)
    for step in (0.5, 1.0):
        region = replace(REGION, step=step)
        assert judge(region, unseen).center == REGION.previous
        assert judge(region, unseen).radius >= REGION.radius  # noise never shrinks it
        assert judge(region, replace(unseen, change=-0.5)).center == REGION.center
        assert judge(replace(region, previous=None), unseen).center == REGION.center


def test_a_step_to_the_boundary_that_went_as_predicted_grows_the_region():
    judged = judge(replace(REGION, step=1.0), GOOD)
    assert judged.radius > REGION.radius and judged.decision.startswith("grown") and judged.size <= REGION.size
    assert judge(replace(REGION, step=1.0, radius=LARGEST), GOOD).radius == LARGEST
    kept = judge(replace(REGION, step=0.1), GOOD)
    assert kept.radius == REGION.radius and kept.decision == "kept"


def test_a_clear_trend_needs_fewer_samples():
    assert judge(REGION, replace(GOOD, trend=50.0)).size < REGION.size


number = st.floats(-1e3, 1e3)
positive = st.floats(0, 1e3)


@given(
    evidence=st.builds(Evidence, number, positive, number, number, positive),
    radius=st.floats(1e-6, LARGEST),
    before=st.floats(1e-6, LARGEST),
    size=st.integers(1, 1000),
    step=st.floats(0, 1),
    blind=st.integers(0, 5),
)
def test_whatever_the_evidence_the_region_stays_sound(evidence, radius, before, size, step, blind):
    region = replace(REGION, radius=radius, previous_radius=before, size=size, step=step, blind=blind)
    judged = judge(region, evidence)
    assert 0 < judged.radius <= LARGEST and judged.size >= 1 and judged.blind >= 0
    assert judged.center in (region.center, region.previous)
    back = judged.decision.startswith("rejected") or judged.decision.endswith("from the centre before")
    assert (judged.center == region.previous) == back
    assert not back or evidence.change > 0
    assert Region.read(json.loads(json.dumps(judged.note))) == judged
    within = evidence.change <= evidence.change_error and evidence.surprise <= evidence.surprise_error
    if within:  # noise is no reason to shrink
        assert judged.radius >= radius


@given(
    center=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    radius=st.floats(1e-6, LARGEST),
    repeats=st.integers(1, 5),
    skip=st.integers(0, 30),
    n=st.integers(1, 40),
)
def test_points_lie_in_region_and_box_and_do_not_depend_on_the_pieces(center, radius, repeats, skip, n):
    region = Region(tuple(center), radius, 40, repeats, 3)
    whole = region.points(0, skip + n)
    assert whole.shape == (skip + n, len(center)) and whole.dtype == torch.float64
    assert bool(((whole >= 0) & (whole <= 1)).all())
    assert bool(((whole - region.middle).abs() <= radius + 1e-12).all())
    assert torch.equal(region.points(skip, n), whole[skip:])
    assert torch.equal(whole[::repeats].repeat_interleave(repeats, 0)[: skip + n], whole)


def test_points_fill_the_region_evenly():
    points = Region((0.5, 0.5), 0.2, 64, 1, 3).points(0, 64)
    torch.testing.assert_close(points.mean(0), torch.full((2,), 0.5).double(), atol=0.01, rtol=0)
    quarters = ((points > 0.5).long() @ torch.tensor([1, 2])).bincount(minlength=4)
    assert quarters.tolist() == [16] * 4
    other = Region((0.5, 0.5), 0.2, 64, 1, 4).points(0, 64)
    assert not torch.equal(points, other)


def test_near_are_rows_about_this_centre_and_the_one_before():
    region = Region((0.8, 0.5), 0.02, 40, 1, 0, previous=(0.3, 0.5), previous_radius=0.03)
    unit = torch.tensor([[0.8, 0.5], [0.82, 0.52], [0.3, 0.5], [0.33, 0.47], [0.55, 0.5], [0.8, 0.9]]).double()
    assert region.near(unit).tolist() == [True, True, True, True, False, False]
    assert replace(region, previous=None).near(unit).tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize("d", [1, 3, 12, 300])
def test_the_longest_step_is_the_typical_distance_of_samples(d):
    region = Region((0.5,) * d, 0.1, 40, 1, 0)
    typical = float((region.points(0, 512) - region.middle).square().sum(1).mean().sqrt())
    assert region.ball == pytest.approx(max(typical, 0.1), rel=0.02)
    assert region.ball >= region.radius and math.isfinite(region.ball)
