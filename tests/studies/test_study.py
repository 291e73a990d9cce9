"""The study in one process: asking, telling, running, failures and bad input."""

import json
import math
import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.errors import ConflictError, StudyError
from studies.history import Proposal
from studies.spaces.box import Box
from studies.spaces.pool import Pool
from studies.storage.memory import MemoryStorage
from studies.strategies.random import Random
from studies.strategies.sobol import Sobol
from studies.study import Study

BOX = Box({"q": (-2, 2), "p": (-1, 1)})
TIMES = torch.linspace(0, 1, 5, dtype=torch.float64)


def square(theta, generator):
    return theta.square().sum(1)


def noisy(theta, generator):
    return theta + torch.randn(theta.shape, generator=generator) + torch.rand(1) + np.random.rand()


def rotate(theta, generator):
    return Trajectory(TIMES, torch.stack([theta * time for time in TIMES]))


@dataclass(frozen=True)
class Fixed:
    """Proposes what it is given."""

    proposal: object

    def propose(self, history, n, generator):
        return self.proposal


def errors(simulator, trials=4, **arguments):
    """The errors of a study whose first trial succeeds, so that it goes on."""
    calls = iter(range(trials))

    def run(theta, generator):
        return square(theta, generator) if next(calls) == 0 else simulator(theta, generator)

    history = Study(BOX, Random()).run(run, trials=trials, **arguments)
    assert [trial.number for trial in history.trials] == list(range(trials))
    assert [trial.state for trial in history.trials] == ["complete"] + ["failed"] * (trials - 1)
    return [trial.error for trial in history.trials[1:]]


# Running


def test_totals_include_what_is_there():
    study = Study(BOX, Random())
    assert len(study.run(square, trials=5, batch=2)) == 5
    assert len(study.run(square, trials=5, batch=2)) == 5
    assert len(study.run(square, rounds=5, batch=2)) == 9
    assert [len(study.run(square, rounds=rounds)) for rounds in (5, 6, 7)] == [9, 10, 11]
    assert study.history.round.tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 4, 5, 6]


@pytest.mark.parametrize("strategy", [Random(), Sobol()])
def test_equal_seeds_equal_studies(strategy):
    first, second, other = (Study(BOX, strategy, seed=seed).run(noisy, trials=6, batch=4) for seed in (1, 1, 2))
    assert torch.equal(first.theta, second.theta) and torch.equal(first.outcome, second.outcome)
    assert not torch.equal(first.theta, other.theta)


def test_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    Study(BOX, Random()).run(noisy, trials=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_trial_has_the_same_numbers_in_any_batch():
    theta = torch.zeros(4, 2)
    alone = Study(BOX, Fixed(Proposal(theta[:1])))
    assert alone.run(noisy, trials=1).outcome.shape == (1, 2)
    together = Study(BOX, Fixed(Proposal(theta))).run(noisy, trials=4, batch=4)
    assert torch.equal(together.outcome[:1], alone.history.outcome)
    assert len(together.outcome.unique(dim=0)) == 4


def test_sobol_covers_the_box_in_one_sequence():
    history = Study(BOX, Sobol(), seed=3).run(square, trials=16, batch=5)
    assert torch.equal(history.theta, BOX.sobol(16, history.info[0]["sobol"]["seed"]))
    quarters = (history.theta > 0).long() @ torch.tensor([2, 1])
    assert quarters.bincount().tolist() == [4, 4, 4, 4]


def test_a_pool_is_tried_without_repeats():
    pool = Pool(torch.arange(6.0)[:, None], names=["a"])
    history = Study(pool, Random()).run(square, trials=6, batch=4)
    assert sorted(history.theta.flatten().tolist()) == list(range(6))
    with pytest.raises(ArgumentError, match="used up"):
        Study(pool, Random()).run(square, trials=7)
    with pytest.raises(ArgumentTypeError, match="`Sobol` needs a Box"):
        Study(pool, Sobol()).run(square, trials=1)


def test_vectorized_calls_once_a_round():
    shapes = []

    def simulator(theta, generator):
        shapes.append(theta.shape[0])
        return torch.where(theta[:, 0] < 0, torch.nan, theta[:, 0])

    history = Study(BOX, Sobol()).run(simulator, trials=10, batch=4, vectorized=True, executor="here")
    assert shapes == [4, 4, 2]
    assert (history.theta[:, 0] >= 0).all() and (history.failed[:, 0] < 0).all() and len(history.tried) == 10


@pytest.mark.parametrize(
    ("returned", "shape", "dtype"),
    [
        (torch.ones(1), (), torch.float32),
        (torch.ones(1, 2, 3, dtype=torch.float32), (2, 3), torch.float32),
        (torch.ones(1, 2, dtype=torch.float64, requires_grad=True), (2,), torch.float64),
        (torch.ones(1, dtype=torch.int64), (), torch.float64),
        (torch.ones(1, dtype=torch.bfloat16), (), torch.float64),
        (np.ones((1, 2)), (2,), torch.float64),
        (np.broadcast_to(1.0, (1, 2)), (2,), torch.float64),
        ([[1.0, 1.0]], (2,), torch.float64),
        ([torch.tensor(1.0)], (), torch.float64),
        (Trajectory(TIMES, torch.ones(5, 1, 2, dtype=torch.float64)), (5, 2), torch.float64),
    ],
)
def test_outcomes_of_many_kinds(returned, shape, dtype):
    history = Study(BOX, Random()).run(lambda theta, generator: returned, trials=2)
    assert history.outcome.shape == (2, *shape)
    assert history.outcome.dtype == dtype and not history.outcome.requires_grad
    assert (history.outcome == 1).all()


def test_runs_come_back_as_a_trajectory():
    history = Study(BOX, Sobol()).run(rotate, trials=3)
    torch.testing.assert_close(history.runs(TIMES).y, rotate(history.theta, None).y)


def test_trials_are_timed():
    trial = Study(BOX, Random()).run(square, trials=1).trials[0]
    assert trial.seconds >= 0 and trial.started > 1.7e9 and ":" in trial.host


# Failures


def test_what_a_simulator_raises_is_recorded_with_its_traceback():
    def explode(theta, generator):
        raise ValueError("the beam is off")

    for error in errors(explode):
        assert "the beam is off" in error and "in explode" in error and "Traceback" in error
    assert all("\\udce9" in error for error in errors(lambda theta, generator: open("\udce9.txt")))
    assert all("SystemExit" in error for error in errors(lambda theta, generator: exit(3)))


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "got NoneType"),
        ("text", "got str"),
        ({"y": 1}, "got dict"),
        (np.array([None]), "got ndarray"),
        (torch.ones(1, dtype=torch.complex64), "complex64"),
        (torch.tensor(1.0), r"shape \[1, ...\], got \[\]"),
        (1.0, r"shape \[1, ...\], got \[\]"),
        (torch.ones(2), r"shape \[1, ...\], got \[2\]"),
        (torch.ones(1, 0), r"shape \[1, ...\], got \[1, 0\]"),
        (torch.tensor([math.nan]), "1 of its 1 numbers are NaN or infinite"),
        (torch.tensor([[1.0, -math.inf, 0.0]]), "1 of its 3 numbers are NaN or infinite"),
        (torch.ones(1, 3), r"shape \[3\] where the study's first has \[\]"),
    ],
)
def test_what_a_simulator_may_not_return_is_a_failed_trial(returned, message):
    for error in errors(lambda theta, generator: returned):
        assert re.search(message, error), error


def test_a_study_whose_first_trials_all_fail_stops_and_shows_why():
    def explode(theta, generator):
        raise ValueError("the beam is off")

    study = Study(BOX, Random())
    with pytest.raises(StudyError, match=r"(?s)first 4 trials failed.*the beam is off"):
        study.run(explode, trials=100, max_failures=4)
    assert len(study.history.failed) == 4
    with pytest.raises(StudyError, match="first 2 trials failed"):
        Study(BOX, Random()).run(explode, trials=2)
    assert len(study.run(square, trials=6)) == 2  # a mended simulator goes on


def test_late_failures_do_not_stop_a_study():
    calls = iter(range(100))
    history = Study(BOX, Random()).run(
        lambda theta, generator: theta if next(calls) == 0 else None, trials=8, max_failures=3
    )
    assert len(history) == 1 and len(history.failed) == 7


def test_an_interrupted_study_keeps_what_was_told():
    calls = iter(range(100))

    def interrupted(theta, generator):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return noisy(theta, generator)

    study = Study(BOX, Random())
    with pytest.raises(KeyboardInterrupt):
        study.run(interrupted, trials=6, batch=4, executor="here")
    assert len(study.history) == 3 and len(study.history.pending) == 1
    unbroken = Study(BOX, Random()).run(noisy, trials=6, batch=4)
    assert torch.equal(study.run(noisy, trials=6, batch=4).outcome, unbroken.outcome)


# Asking and telling


def test_ask_and_tell_equal_run():
    study = Study(BOX, Sobol())
    for _ in range(3):
        asked = study.ask(2)
        assert torch.equal(study.history.pending, asked.theta)
        study.tell(asked, asked.theta.square().sum(1))
    run = Study(BOX, Sobol()).run(square, trials=6, batch=2)
    assert torch.equal(study.history.theta, run.theta) and torch.equal(study.history.outcome, run.outcome)


def test_trials_are_told_in_any_order_and_read_in_theirs():
    study = Study(BOX, Random())
    first, second = study.ask(2), study.ask(1)
    study.tell(second, [[5.0]])
    study.tell(first.trials[1], np.array([[4.0]]))
    study.fail(first.trials[0], "the beam is off")
    history = study.history
    assert history.outcome.tolist() == [[4.0], [5.0]] and history.trials[0].error == "the beam is off"


def test_told_rows_that_are_not_finite_fail():
    study = Study(BOX, Random())
    study.tell(study.ask(2), [1.0, math.nan])
    assert [trial.state for trial in study.history.trials] == ["complete", "failed"]


def test_bad_tells_are_refused_and_leave_nothing():
    study = Study(BOX, Random())
    asked = study.ask(2)
    for trials, outcome, error, message in (
        (asked, [1.0], ArgumentError, r"must have shape \[2, ...\], got \[1\]"),
        (asked, None, ArgumentTypeError, "got NoneType"),
        ([0, 7], [1.0, 2.0], ArgumentError, r"\[7\], which were not asked"),
        ([0, 0], [1.0, 2.0], ArgumentError, "must differ"),
        ([0.0, 1.0], [1.0, 2.0], ArgumentTypeError, r"`trials` must be a round, .* got \[0.0, 1.0\]"),
        ("ab", [1.0, 2.0], ArgumentTypeError, "got 'ab'"),
        (None, [1.0], ArgumentTypeError, "got None"),
    ):
        with pytest.raises(error, match=message):
            study.tell(trials, outcome)
    assert len(study.history.pending) == 2
    study.tell(np.int64(0), [1.0])
    with pytest.raises(ConflictError, match="told already"):
        study.tell(0, [1.0])
    with pytest.raises(ArgumentError, match=r"has shape \[3\] where the study.s first has \[\]"):
        study.tell(1, [[1.0, 2.0, 3.0]])


def test_one_number_a_trial_has_one_shape():
    """A table's column is [n, 1], and most simulators return [n]: both are one number a trial."""
    study = Study(BOX, Random())
    study.tell(study.ask(1), [[3.0]])
    history = study.run(square, trials=3)
    assert history.outcome.shape == (3, 1) and not len(history.failed)
    other = Study(BOX, Random())
    other.tell(other.ask(1), [3.0])
    assert other.run(lambda theta, generator: square(theta, generator)[:, None], trials=3).outcome.shape == (3,)


def test_run_completes_what_was_asked_first():
    study = Study(BOX, Random())
    asked = study.ask(3)
    study.tell(asked.trials[1], [7.0])
    history = study.run(square, trials=3)
    assert history.outcome[1] == 7 and len(history) == 3 and history.n_rounds == 1


# Strategies that break the rules, bad arguments


@pytest.mark.parametrize(
    ("proposal", "message"),
    [
        (torch.zeros(1, 2), "must return a Proposal"),
        (Proposal(torch.zeros(2, 2)), r"must have shape \[1, 2\], got \[2, 2\]"),
        (Proposal(torch.full((1, 2), math.nan)), "must be finite"),
        (Proposal(torch.full((1, 2), 5.0)), r"must lie in Box\(.*, got \[\[5.0, 5.0\]\]"),
        (Proposal(torch.zeros(1, 2), {"t": torch.zeros(1)}), "must be a JSON mapping"),
    ],
)
def test_bad_proposals_are_named_and_leave_nothing(proposal, message):
    study = Study(BOX, Fixed(proposal))
    with pytest.raises(StudyError, match=message):
        study.ask()
    assert study.history.n_rounds == 0


def test_notes_come_back_as_from_a_file():
    study = Study(BOX, Fixed(Proposal(torch.zeros(1, 2), {"pair": (1, 2)})))
    study.ask()
    assert study.history.info == ({"pair": [1, 2]},)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Give `trials` or `rounds`"),
        ({"trials": 1, "rounds": 1}, "Give `trials` or `rounds`"),
        ({"trials": 0}, "`trials` must be an integer of at least 1, got 0"),
        ({"trials": 2.0}, "`trials` must be an integer of at least 1"),
        ({"rounds": True}, "`rounds` must be an integer of at least 1"),
        ({"trials": 1, "batch": -1}, "`batch` must be an integer of at least 1"),
        ({"trials": 1, "workers": 0}, "`workers` must be an integer of at least 1"),
        ({"trials": 1, "retries": -1}, "`retries` must be an integer of at least 0"),
        ({"trials": 1, "max_failures": 0}, "`max_failures` must be an integer of at least 1"),
        ({"trials": 1, "stop": [3]}, "`stop` must be a sequence of rules"),
        ({"trials": 1, "executor": "here", "workers": 2}, "one call at a time and cannot end it, got workers=2"),
        ({"trials": 1, "executor": "here", "timeout": 2.0}, "one call at a time and cannot end it"),
        ({"trials": 1, "executor": "there"}, "`executor` must be a concurrent.futures.Executor"),
        ({"trials": 1, "executor": 4}, "`executor` must be a concurrent.futures.Executor"),
        ({"trials": 1, "executor": list}, "`executor` must be a concurrent.futures.Executor"),
    ],
)
def test_bad_runs_are_refused(arguments, message):
    study = Study(BOX, Random())
    with pytest.raises((ArgumentError, ArgumentTypeError), match=message):
        study.run(square, **arguments)
    assert study.history.n_rounds == 0


def test_bad_studies_are_refused():
    for arguments, message in (
        (({"q": (0, 1)}, Random()), "`space` must be a design space"),
        ((Box, Random()), "`space` must be a design space"),
        ((BOX, Random), "`strategy` must have a method `propose`"),
        ((BOX, None), "`strategy` must have a method `propose`"),
    ):
        with pytest.raises(ArgumentTypeError, match=message):
            Study(*arguments)
    for options, message in (
        ({"seed": -1}, "`seed`"),
        ({"seed": 0.5}, "`seed`"),
        ({"name": ""}, "`name`"),
        ({"name": "a\0b"}, "`name`"),
        ({"name": "\udcff"}, "`name`"),
    ):
        with pytest.raises(ArgumentError, match=message):
            Study(BOX, Random(), **options)
    with pytest.raises(ArgumentTypeError, match="`simulator` must be callable"):
        Study(BOX, Random()).run(3, trials=1)


def test_recommend_is_for_optimisers():
    @dataclass(frozen=True)
    class Best(Random):
        def recommend(self, history):
            return history.theta[history.outcome.argmin()]

    with pytest.raises(StudyError, match=r"Sobol\(\) does not optimise"):
        Study(BOX, Sobol()).recommend()
    study = Study(BOX, Best())
    history = study.run(square, trials=5)
    assert torch.equal(study.recommend(), history.theta[history.outcome.argmin()])


# Resuming, in memory


def test_a_study_is_resumed_by_name():
    storage = MemoryStorage()
    Study(BOX, Sobol(), storage).run(square, trials=3)
    assert len(Study(BOX, Sobol(), storage).history) == 3
    assert len(Study(BOX, Sobol(), storage, name="other").history) == 0
    with pytest.raises(StudyError, match="stored with the seed 0, got 1"):
        Study(BOX, Sobol(), storage, seed=1)
    with pytest.raises(StudyError, match="stored with the space"):
        Study(Box({"q": (-2, 2)}), Sobol(), storage)


def test_another_strategy_goes_on_with_a_warning():
    storage = MemoryStorage()
    Study(BOX, Sobol(), storage).run(square, trials=1)
    with pytest.warns(UserWarning, match=r"made with the strategy Sobol\(\) and goes on with Random\(\)"):
        study = Study(BOX, Random(), storage)
    study.run(square, trials=2)
    rounds, _ = storage.read("study")
    assert [round.strategy for round in rounds] == ["Sobol()", "Random()"]


def test_the_record_holds_what_made_it():
    storage = MemoryStorage()
    Study(BOX, Fixed(test_bad_studies_are_refused), storage, seed=5)
    (record,) = storage.studies()
    assert record.seed == 5 and record.versions["torch"] == torch.__version__
    assert " at 0x" not in record.strategy and "test_bad_studies_are_refused" in record.strategy
    assert json.loads(json.dumps(BOX.describe())) == record.space


# Progress


def test_progress_is_a_few_lines_outside_a_terminal(capsys):
    Study(BOX, Random()).run(square, trials=50)
    assert capsys.readouterr().err == ""
    Study(BOX, Random(), name="valley").run(square, trials=50, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 11 and lines[-1].startswith("valley: 50 of 50 trials")
