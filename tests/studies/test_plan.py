"""Plans: asked piece by piece, finished in any order, with failures, lost trials and equal points."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from studies.history import History, Trial
from studies.spaces.box import Box
from studies.strategies.plan import Plan

BOX = Box({"a": (0.0, 1.0), "b": (0.0, 1.0)})
POINTS = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], dtype=torch.float64)


def told(rows, states, outcomes=None, round=0, before=()):
    outcomes = [float(row.sum()) for row in rows] if outcomes is None else outcomes
    trials = [
        Trial(0, round, row, state, torch.tensor([y], dtype=torch.float64) if state == "complete" else None)
        for row, state, y in zip(rows, states, outcomes, strict=True)
    ]
    return History(BOX, (*before, *trials), ({},) * (round + 1))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.integers(1, 3))
def test_pieces_of_any_size_make_the_whole(sizes, repeats):
    plan, history, rows = Plan(POINTS, repeats, 0, {}), History(BOX, (), ({},)), []
    for size in sizes:
        rows += list(plan.next(history, size))
        history = told(rows, ["pending"] * len(rows))
        assert plan.left(history) == max(3 * repeats - len(rows), 0) and not plan.is_finished(history)
    whole = plan.next(History(BOX), 3 * repeats)
    assert torch.equal(whole, POINTS.repeat_interleave(repeats, 0))
    both = min(len(rows), len(whole))
    assert torch.equal(torch.stack(rows)[:both], whole[:both])
    counts = [sum(torch.equal(row, point) for row in rows) for point in POINTS]
    assert len(rows) < 3 * repeats or max(counts) - min(counts) <= 1  # more of it is spread evenly


def test_a_plan_is_read_back_from_the_last_note():
    plan = Plan(POINTS / 3, 2, 1, {"seed": 5})
    history = History(BOX, (), ({"mine": {"points": [], "repeats": 9}}, {"mine": plan.note}, {"other": 1}))
    read = Plan.last(history, "mine")
    assert torch.equal(read.points, plan.points) and (read.repeats, read.round, read.notes) == (2, 1, {"seed": 5})
    assert Plan.last(history, "its") is None


def test_a_trial_that_never_comes_back_holds_nothing_up():
    plan = Plan(POINTS, 2, 0, {})
    rows = plan.next(History(BOX), 6)
    assert not plan.is_finished(told(rows, ["complete"] * 5 + ["pending"]))
    more = torch.cat([rows, plan.next(told(rows, ["complete"] * 5 + ["pending"]), 1)])
    history = told(more, ["complete"] * 5 + ["pending", "complete"])
    assert plan.is_finished(history)
    assert torch.allclose(plan.means(None, history), POINTS.sum(1))


def test_failures_and_rows_that_are_not_finite_cost_themselves_only():
    plan = Plan(POINTS, 2, 0, {})
    states = ["complete", "failed", "failed", "failed", "complete", "complete"]
    history = told(plan.next(History(BOX), 6), states, outcomes=[1.0, 9.0, 9.0, 9.0, 4.0, torch.inf])
    assert plan.is_finished(history)
    means = plan.means(None, history)
    assert means[0] == 1 and means[1].isnan() and means[2] == 4


def test_only_its_own_trials_count():
    earlier = Trial(0, 0, POINTS[0], "complete", torch.tensor([100.0]))
    plan = Plan(POINTS, 1, 1, {})
    rows = torch.cat([POINTS, torch.tensor([[0.9, 0.9]])])
    history = told(rows, ["complete"] * 4, round=1, before=(earlier,))
    assert torch.allclose(plan.means(None, history), POINTS.sum(1)) and plan.is_finished(history)
    assert not plan.is_finished(told(rows[2:], ["complete"] * 2, round=1, before=(earlier,)))


def test_equal_points_share_their_trials():
    plan = Plan(POINTS[[0, 1, 0]], 2, 0, {})
    rows = plan.next(History(BOX), 4)
    assert plan.n_trials == 4 and torch.equal(rows, POINTS[[0, 0, 1, 1]])
    history = told(rows, ["complete"] * 4, outcomes=[1.0, 3.0, 5.0, 5.0])
    assert plan.left(history) == 0 and plan.is_finished(history)
    assert plan.means(None, history).tolist() == [2.0, 5.0, 2.0]
