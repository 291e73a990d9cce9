"""Figures of a study: plotly accepts them, and they hold the numbers that they should."""

import numpy as np
import plotly.graph_objects
import pytest
import torch

from studies.history import History
from studies.report.failures import causes
from studies.report.front import fronts
from studies.report.parameters import pairs, parallel, slices
from studies.report.path import acquisition, notes, region, steps
from studies.report.progress import convergence, durations, estimates, timeline
from studies.report.runs import recorded_runs
from studies.report.style import plain, thinned, to_json
from studies.report.view import Parameter, view_of
from studies.spaces.box import Box
from studies.spaces.parameters import Choice, Integer, Log
from studies.storage.base import StudyRecord
from studies.strategies.hypervolume import HypervolumeImprovement
from studies.strategies.trust_region import Region

MIXED = Box(
    {"length": (0.0, 2.0), "rate": Log(1e-4, 1.0), "blades": Integer(2, 8), "metal": Choice("steel", "brass")},
    units={"length": "m"},
)


def view(space, theta, outcome, info=(), **more):
    record = StudyRecord("study", to_plain(space.describe()), "Sobol()", 0, {}, "2026-11-21")
    history = History.from_tensors(space, theta, outcome, **more)
    return view_of(record, History(space, history.trials, tuple(info) or history.info))


def to_plain(description):
    return {key: list(value) if isinstance(value, tuple) else value for key, value in description.items()}


@pytest.fixture
def mixed():
    theta = MIXED.sobol(40, seed=0)
    outcome = theta[:, :1].square() + theta[:, 1:2].log10().square()
    return view(MIXED, theta, outcome, failed=MIXED.sobol(3, seed=1), pending=MIXED.sobol(2, seed=2))


def accepted(panel):
    """The panel's figure as plotly takes it: a wrong attribute raises."""
    return plotly.graph_objects.Figure(panel.figure)


def test_plotly_accepts_every_figure(mixed):
    panels = [convergence(mixed), parallel(mixed), *slices(mixed), *pairs(mixed)]
    assert len(panels) == 2 + 4 + 6
    for panel in panels:
        accepted(panel)
        to_json(panel.figure)


def test_best_so_far_falls_and_ends_at_the_smallest_value(mixed):
    trace = next(trace for trace in accepted(convergence(mixed)).data if trace.name == "best so far")
    assert list(trace.y) == sorted(trace.y, reverse=True)
    assert trace.y[-1] == pytest.approx(float(mixed.value[mixed.best]), rel=1e-5)
    assert trace.x[-1] == len(mixed.trials) - 1


def test_slices_know_scales_and_choices(mixed):
    panels = slices(mixed)
    assert panels[0].title == "length [m]"
    _, rate, _, metal = (accepted(panel).layout.xaxis for panel in panels)
    assert rate.type == "log"
    assert rate.range == pytest.approx((-4, 0), abs=0.1)
    assert list(metal.ticktext) == ["steel", "brass"]


def test_the_same_value_can_be_told_by_any_number_of_the_outcome():
    space = Box({"a": (0, 1)})
    outcome = torch.tensor([[1.0, 5.0], [2.0, 4.0]])
    shown = view(space, space.sobol(2, seed=0), outcome)
    assert shown.measure == "outcome[0]"
    assert shown.n_columns == 2
    other = view_of(shown.record, shown.history, column=1)
    assert other.measure == "outcome[1]"
    assert other.best == 1
    summed = view_of(shown.record, shown.history, objective=lambda y: y.sum(-1))
    assert summed.measure == "objective"
    assert summed.value.tolist() == [6.0, 6.0]


def test_the_way_of_a_trust_region_is_read_from_its_notes_and_nothing_else_breaks_it():
    space = Box({"a": (0, 10), "b": (0, 1)})
    regions = [Region((0.1 * k, 0.5), 0.2 / (k + 1), 4, 1, 0, gain=-1.0, error=0.5, rung="linear") for k in range(3)]
    wrong = [{"local": "<b>"}, {"local": {"center": [1]}}, {"local": None}, {"acquisition": "no"}, {"estimate": {}}]
    info = [*({"local": each.note} for each in regions), *wrong]
    shown = view(space, space.sobol(4, seed=0), torch.rand(4, 1), info)
    assert [step.round for step in steps(shown)] == [0, 1, 2]
    way = region(shown)
    assert {panel.key for panel in way} == {"region", "radius", "gain"}
    path = accepted(way[0]).data[-1]
    assert path.x == pytest.approx((0.0, 1.0, 2.0))
    assert path.y == pytest.approx((0.5, 0.5, 0.5))
    assert list(accepted(way[1]).data[0].y) == pytest.approx([0.2, 0.1, 0.2 / 3], rel=1e-4)
    assert acquisition(shown) is None
    assert estimates(shown) == []


def test_acquisition_estimates_and_other_notes_are_shown():
    space = Box({"a": (0, 1)})
    info = [
        {"acquisition": [0.5], "estimate": [1.0, 0.1], "turbo": {"length": 0.8 / (k + 1), "seed": k}} for k in range(3)
    ]
    shown = view(space, space.sobol(3, seed=0), torch.rand(3, 1), info)
    assert list(accepted(acquisition(shown)).data[0].y) == [0.5, 0.5, 0.5]
    assert [mean for _, mean, _ in estimates(shown)] == [1.0, 1.0, 1.0]
    assert [panel.title for panel in notes(shown)] == ["turbo length"]


def test_a_front_is_drawn_in_the_plane_of_each_two_objectives():
    space = Box({"a": (0, 1)})
    theta = space.sobol(12, seed=0)
    outcome = torch.cat([theta, 1 - theta, (theta - 0.5).square()], 1)
    strategy = HypervolumeImprovement([lambda y: y[:, 0], lambda y: y[:, 1], lambda y: y[:, 2]])
    panels = fronts(view(space, theta, outcome, failed=torch.tensor([[0.5]])), strategy)
    assert [panel.title for panel in panels] == ["Objectives 0 and 1", "Objectives 0 and 2", "Objectives 1 and 2"]
    trials, front = accepted(panels[0]).data
    assert len(trials.x) == 12 and len(front.x) == len(front.error_y.array) == 12, "no point is better than another"
    assert np.allclose(np.add(front.x, front.y), 1, atol=0.05)
    assert fronts(view(space, theta[:0], outcome[:0]), strategy) == []


def test_runs_are_drawn_in_the_plane_of_position_and_momentum():
    space = Box({"q": (0, 1), "p": (0, 1)})
    outcome = torch.rand(3, 50, 4, generator=torch.Generator().manual_seed(0))
    shown = view(space, space.sobol(3, seed=0), outcome)
    assert shown.measure == ""
    assert convergence(shown) is None
    (panel,) = recorded_runs(shown.history)
    assert list(accepted(panel).data[1].x) == pytest.approx(outcome[1, :, 0].tolist(), rel=1e-4)
    assert list(accepted(panel).data[1].y) == pytest.approx(outcome[1, :, 2].tolist(), rel=1e-4)


def test_failures_that_end_alike_are_one_cause():
    space = Box({"a": (0, 1)})
    shown = view(space, space.sobol(1, seed=0), torch.rand(1, 1), failed=space.sobol(30, seed=1))
    (cause,) = causes(shown)
    assert cause.words == "given as failed"
    assert len(cause.trials) == 30
    assert cause.where.endswith("… (30 in all)")


def test_times_need_to_be_recorded(mixed):
    assert durations(mixed) is None
    assert timeline(mixed) is None


def test_text_and_numbers_are_made_safe_for_a_page():
    assert plain("<b>&amp;") == "&lt;b&gt;&amp;amp;"
    assert plain("a\nb\x00c") == "a b c"
    assert len(plain("x" * 1000)) == 160
    assert "<" not in to_json({"a": "</script><!--"})
    with pytest.raises(ValueError, match="JSON"):
        to_json([float("nan")])


def test_long_studies_are_thinned_and_keep_their_best():
    rows = thinned(np.arange(100_000), keep=77_777)
    assert len(rows) <= 2001
    assert 77_777 in rows
    assert {rows[0], rows[-1]} == {0, 99_999}


def test_parameters_go_to_the_unit_interval_and_back_on_their_own_scale():
    rate = Parameter("rate", "", 1e-4, 1.0, "log")
    assert rate.to_unit(np.array([1e-4, 1e-2, 1.0])) == pytest.approx([0, 0.5, 1])
    assert rate.from_unit(0.5) == pytest.approx(1e-2)
    assert Parameter("metal", "", 0, 1, "choice", ("steel", "brass")).text(1.0) == "brass"
    assert Parameter("blades", "", 2, 8, "integer").text(3.0) == "3"
