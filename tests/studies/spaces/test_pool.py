"""Pools: candidates, membership, draws."""

import math

import pytest
import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.spaces.base import Space
from studies.spaces.pool import Pool


def test_pool_holds_its_candidates():
    pool = Pool(torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]), names=["a", "b"])
    assert isinstance(pool, Space) and len(pool) == 3 and pool.dim == 2
    assert pool.bounds.tolist() == [[0, 1], [4, 5]]
    assert pool.contains(torch.tensor([[2.0, 3.0], [2.0, 4.0]])).tolist() == [True, False]
    assert len(pool.sample(3, torch.Generator().manual_seed(0)).unique(dim=0)) == 3
    assert pool.without(pool.candidates[:2]).candidates.tolist() == [[4, 5]]


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (torch.zeros(0, 1), r"must have shape \[m, 1\]"),
        (torch.zeros(3), r"must have shape \[m, 1\]"),
        (torch.tensor([[math.nan]]), "must be finite"),
        (torch.zeros(2, 1), "repeated"),
    ],
)
def test_bad_candidates_are_named(candidates, message):
    with pytest.raises(ArgumentError, match=message):
        Pool(candidates, names=["a"])


@pytest.mark.parametrize(("candidates", "names"), [([[0.0], [1.0]], ["a"]), (torch.eye(2), "ab")])
def test_what_is_no_tensor_or_no_list_of_names_is_told(candidates, names):
    with pytest.raises(ArgumentTypeError, match=r"`candidates` must be a tensor and `names` a list"):
        Pool(candidates, names)


def test_a_used_up_pool_says_so():
    pool = Pool(torch.zeros(1, 1), names=["a"])
    with pytest.raises(ArgumentError, match="used up"):
        pool.without(torch.zeros(1, 1))
    with pytest.raises(ArgumentError, match="at most 1"):
        pool.sample(2, torch.Generator())
