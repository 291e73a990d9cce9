"""Columns of trials: joined from blocks they are what one stack gives, and a long study stays fast."""

import gc
import itertools
import math
import time
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from studies.columns import Columns, join, merged
from studies.history import History, Trial
from studies.spaces.box import Box
from studies.strategies.random import Random
from studies.study import Study

BOX = Box({"q": (-2, 2), "p": (-1, 1)})
NAMES = ("theta", "outcome", "x", "round", "pending", "failed", "tried")


def trial(number, state, dtype=torch.float64):
    theta = torch.full((2,), float(number), dtype=torch.float64)
    if state != "complete":
        return Trial(number, number // 3, theta, state)
    return Trial(number, number // 3, theta, state, torch.full((3,), number, dtype=dtype), x=theta[:1])


def assert_same(history, other):
    assert len(history) == len(other)
    for name in NAMES:
        ours, theirs = getattr(history, name), getattr(other, name)
        assert (ours is None) == (theirs is None), name
        assert ours is None or (ours.dtype == theirs.dtype and torch.equal(ours, theirs)), name


states = st.sampled_from(["complete", "failed", "pending"])


@given(
    st.lists(st.tuples(states, st.sampled_from([torch.float32, torch.float64])), max_size=20),
    st.lists(st.integers(0, 20), max_size=6),
)
def test_blocks_join_to_what_one_stack_gives(kinds, cuts):
    trials = [trial(number, *kind) for number, kind in enumerate(kinds)]
    ends = sorted({min(cut, len(trials)) for cut in cuts})
    blocks = [Columns.of(trials[a:b], 2) for a, b in zip([0, *ends], ends, strict=False)]
    whole = History(BOX, tuple(trials))
    assert_same(History(BOX, tuple(trials), known=tuple(blocks)), whole)
    assert_same(History(BOX, tuple(trials), known=tuple(merged(blocks))), whole)


def test_blocks_stay_few():
    blocks = []
    for number in range(1000):
        blocks = merged([*blocks, Columns.of([trial(number, "complete")], 2)])
        assert len(blocks) <= 1 + math.log2(number + 1)
    assert torch.equal(join(blocks).outcome[:, 0], torch.arange(1000.0, dtype=torch.float64))


def test_one_trial_without_inputs_hides_them_all():
    trials = (trial(0, "complete"), Trial(1, 0, torch.zeros(2), "complete", torch.zeros(3)))
    assert History(BOX, trials).x is None
    assert History(BOX, trials, known=(Columns.of(trials[:1], 2),)).x is None


@dataclass(frozen=True)
class Checked(Random):
    """Compares what it is given with the same history read anew; and spoils the columns that it reads."""

    def propose(self, history, n, generator):
        assert_same(history, History(history.space, history.trials, history.info))
        for name in NAMES:
            if (column := getattr(history, name)) is not None:
                column.zero_()
        return super().propose(history, n, generator)


def test_a_study_gives_its_strategy_the_same_columns():
    def simulator(theta, generator):
        if theta[0, 0] > 1:
            raise ValueError("the beam is off")
        return theta.float() if theta[0, 1] > 0 else theta

    study = Study(BOX, Checked())
    study.run(simulator, trials=30, batch=4)
    first, second, third = study.ask(2), study.ask(), study.ask(3)
    study.tell(third, third.theta)
    study.tell(first.trials[1], first.theta[1:])
    study.fail(second, "the beam is off")
    study.ask()
    study.tell(first.trials[0], first.theta[:1])
    study.ask()
    assert len(study.history.pending) == 2
    torch.testing.assert_close(study.history.outcome, study.history.theta, rtol=1e-6, atol=0)


def test_an_earlier_outcome_told_late_decides_the_shape():
    study = Study(BOX, Random())
    asked = study.ask(3)
    other = Study(BOX, Random(), study.storage)
    study.tell(asked.trials[1], [[1.0, 2.0]])
    assert len(study.history) == 1
    with pytest.raises(ValueError, match="where the study's first has"):
        study.tell(asked.trials[2], [[1.0]])
    # Another process may tell at the same moment; what was read before is then read again.
    other.storage.add_results("study", [evaluated(asked.trials[0], 1), evaluated(asked.trials[2], 1)])
    assert [trial.state for trial in study.history.trials] == ["complete", "failed", "complete"]
    assert study.history.outcome.shape == (2, 1)


def evaluated(number, size):
    from studies.storage.base import Result

    return Result(number, torch.ones(size, dtype=torch.float64).numpy())


@dataclass(frozen=True)
class Reader(Random):
    """Reads all columns at each proposal."""

    def propose(self, history, n, generator):
        assert all(getattr(history, name) is not None for name in NAMES if name != "x")
        return super().propose(history, n, generator)


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "limit"), [(1, 2e-3), (200, 2e-4)])
def test_three_thousand_trials_are_cheap(batch, limit):
    """Well under 2 ms a trial, and the last thousand no dearer than twice the first."""
    study = Study(BOX, Reader())
    clocks = [time.process_time()]
    for trials in (1000, 2000, 3000):
        study.run(lambda theta, generator: theta.sum(1), trials=trials, batch=batch, vectorized=batch > 1)
        clocks.append(time.process_time())
    seconds = [after - before for before, after in itertools.pairwise(clocks)]
    assert sum(seconds) / 3000 < limit
    assert seconds[2] < 2 * seconds[0] + 0.1


def test_reading_leaves_the_garbage_collector_as_it_was():
    study = Study(BOX, Random())
    study.tell(study.ask(3), torch.zeros(3, 1))
    for collects in (True, False):
        (gc.enable if collects else gc.disable)()
        try:
            assert len(study.history) == 3 and gc.isenabled() == collects
        finally:
            gc.enable()
