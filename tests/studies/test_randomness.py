"""Keyed randomness and the isolation of global random state."""

import random

import numpy as np
import pytest
import torch

from studies.randomness import isolated, key_generator, key_seed


def draw():
    return torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()


def test_isolated_blocks_are_repeatable_and_leave_the_state():
    before = draw_state()
    with isolated(torch.Generator().manual_seed(3)):
        first = draw()
    assert draw_state() == before
    with isolated(torch.Generator().manual_seed(3)):
        assert draw() == first
    with isolated(torch.Generator().manual_seed(4)):
        assert draw() != first


def test_isolated_restores_after_an_error():
    before = draw_state()
    with pytest.raises(ZeroDivisionError), isolated(torch.Generator()):
        draw()
        raise ZeroDivisionError
    assert draw_state() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_isolated_holds_on_the_gpu_too():
    torch.rand(1, device="cuda")
    before, draws = torch.cuda.get_rng_state(), []
    for _ in range(2):
        with isolated(torch.Generator().manual_seed(3)):
            draws.append(torch.rand(3, device="cuda"))
    assert torch.equal(*draws) and torch.equal(torch.cuda.get_rng_state(), before)


def draw_state():
    return torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()


def test_keys_differ_in_each_part():
    seeds = [
        key_seed(*key) for key in ((0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b"), (0, 0, "a", 1), (0, 11, "a"))
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert key_seed(1, 2, "simulate", 3) == 2040019384468600964  # a record of years ago must still resume
    assert torch.equal(
        torch.rand(2, generator=key_generator(0, 0, "a")), torch.rand(2, generator=key_generator(0, 0, "a"))
    )
