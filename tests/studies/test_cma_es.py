"""CMA-ES: the library's own numbers, replay, convergence under noise, ranking, restarts, and the missing library."""

import sys
import warnings
from dataclasses import replace

import cma
import numpy as np
import pytest
import torch

from diffsim.errors import ArgumentError
from studies.history import History
from studies.randomness import isolated
from studies.spaces.box import Box
from studies.strategies import cma_es
from studies.strategies.cma_es import CMAES
from studies.study import Study

BOX = Box({name: (-2.0, 3.0) for name in "abcd"})
SQUARE = Box({"a": (-5.0, 5.0), "b": (0.0, 0.1)})  # in different units


def ellipsoid(theta, generator):
    """A rotated quadratic of condition 100, smallest at 1."""
    turned = (theta - 1) @ torch.linalg.qr(torch.arange(16.0).reshape(4, 4).sin().double() + torch.eye(4)).Q
    return (turned.square() * torch.tensor([1.0, 4.0, 25.0, 100.0])).sum(1)


def grow(strategy, n_generations, failing=(), space=SQUARE):
    """A study by hand: quadratic outcomes, and rows of the first generation that fail."""
    study = Study(space, strategy, seed=7)
    for generation in range(n_generations):
        round = study.ask(strategy.batch(study.history))
        value = (round.theta / space.bounds.diff(dim=0)).square().sum(1)
        value[[*failing] if generation == 0 else []] = torch.nan
        study.tell(round, value)
    return study


def test_the_numbers_are_the_librarys():
    study = Study(SQUARE, CMAES(start=(2.0, 0.05), sigma=(1.0, 0.02)), seed=3)
    history = study.run(
        lambda theta, generator: (theta * torch.tensor([1.0, 50.0])).square().sum(1), trials=30, batch=6
    )
    low, high = SQUARE.bounds
    with isolated(torch.Generator().manual_seed(0)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = {"bounds": [0, 1], "CMA_stds": [1, 2], "verbose": -10, "verb_log": 0, "seed": np.nan}
        peer = cma.CMAEvolutionStrategy([0.7, 0.5], 0.1, settings)
        for generation, note in enumerate(info["cma"] for info in history.info):
            rows = slice(6 * generation, 6 * generation + 6)
            with isolated(torch.Generator().manual_seed(note["seed"])):
                unit = peer.ask()
                peer.tell(unit, history.outcome[rows].tolist())
            assert torch.allclose(low + (high - low) * torch.tensor(np.array(unit)), history.theta[rows], atol=1e-9)
    mean = low + (high - low) * torch.tensor(peer.result.xfavorite)
    assert torch.allclose(study.recommend(), mean, atol=1e-9)


def test_a_replay_from_nothing_equals_the_kept_state():
    strategy = CMAES(repeats=2)
    history = grow(strategy, 12).history
    warm = strategy.propose(history, 12, torch.Generator().manual_seed(0)), strategy.recommend(history)
    cma_es._KEPT.clear()
    cold = strategy.propose(history, 12, torch.Generator().manual_seed(0)), strategy.recommend(history)
    assert torch.equal(warm[0].theta, cold[0].theta) and warm[0].info == cold[0].info
    assert torch.equal(warm[1], cold[1])
    assert len(cma_es._KEPT) <= cma_es._N_KEPT


def test_an_ill_conditioned_quadratic_is_solved():
    study = Study(BOX, CMAES(), seed=1)
    study.run(ellipsoid, trials=1200, vectorized=True, progress=False, batch=8)
    assert (study.recommend() - 1).abs().max() < 1e-4


def test_noise_is_averaged_away():
    def noisy(theta, generator):
        return ellipsoid(theta, generator) + torch.randn(len(theta), generator=generator, dtype=theta.dtype)

    study = Study(BOX, CMAES(repeats=20), seed=2)
    study.run(noisy, trials=160 * 25, vectorized=True, progress=False, batch=160)
    assert float(ellipsoid(study.recommend()[None], None)) < 0.5  # of some hundred at the first points


def test_a_point_that_fails_ranks_last():
    failed = grow(CMAES(), 1, failing=(0, 3)).history
    trials = failed.trials
    worst = torch.stack([trial.outcome for trial in trials if trial.outcome is not None]).max()
    told = [trial if trial.outcome is not None else replace(trial, state="complete", outcome=worst) for trial in trials]
    bad = History(SQUARE, tuple(told), failed.info)
    first, second = (CMAES().propose(h, 6, torch.Generator().manual_seed(0)).theta for h in (failed, bad))
    assert torch.equal(first, second)


def test_a_generation_that_fails_altogether_is_drawn_again():
    study = grow(CMAES(), 1, failing=range(6))
    assert torch.allclose(study.recommend(), torch.tensor([0.0, 0.05]).double())
    first = study.history.tried
    again = study.ask(6).theta
    assert not torch.equal(first, again) and study.history.info[1]["cma"]["told"] == [None] * 6


def test_other_settings_start_anew():
    history = grow(CMAES(start=(4.0, 0.09)), 3).history
    proposal = CMAES(start=(-4.0, 0.01)).propose(history, 6, torch.Generator().manual_seed(0))
    assert proposal.info["cma"]["told"] == []
    assert CMAES(start=(-4.0, 0.01)).recommend(history).tolist() == pytest.approx([-4.0, 0.01])
    more = CMAES(start=(4.0, 0.09), repeats=3).propose(history, 6, torch.Generator().manual_seed(0))
    assert len(more.info["cma"]["told"]) == 6  # another number of repetitions goes on


def test_the_width_is_that_of_the_box_unless_given():
    wide = CMAES(population=300).propose(History(SQUARE), 300, torch.Generator().manual_seed(0)).theta
    low, high = SQUARE.bounds
    assert torch.allclose(wide.std(0) / (high - low), torch.full((2,), 0.2).double(), atol=0.04)
    narrow = CMAES(population=300, sigma=(0.5, 0.001)).propose(History(SQUARE), 300, torch.Generator().manual_seed(0))
    assert torch.allclose(narrow.theta.std(0), torch.tensor([0.5, 0.001]).double(), rtol=0.1)
    for sigma in (0.0, (1.0,), (1.0, -1.0)):
        with pytest.raises(ArgumentError, match="`sigma`"):
            CMAES(sigma=sigma).propose(History(SQUARE), 1, torch.Generator())
    with pytest.raises(ArgumentError, match="`population`"):
        CMAES(population=2)


@pytest.mark.parametrize("dim", [1, 12])
def test_any_number_of_parameters(dim):
    space = Box({f"p{i}": (0.0, 1.0) for i in range(dim)})
    study = grow(CMAES(start=(1.0,) * dim), 4, space=space)
    assert space.contains(study.recommend()[None]).all() and study.history.theta.shape[1] == dim


def test_the_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cma", None)
    cma_es._KEPT.clear()
    with pytest.raises(ImportError, match=r'pip install "diffsim-studies\[cma\]"'):
        CMAES().propose(History(SQUARE), 1, torch.Generator().manual_seed(0))
