"""Uniform random choice: the baseline of every study."""

from dataclasses import dataclass

import torch

from studies.history import History, Proposal
from studies.spaces.pool import Pool

__all__ = ["Random"]


@dataclass(frozen=True, slots=True)
class Random:
    """Uniform draws from the space; from a pool, without replacement over the whole study."""

    def propose(self, history: History, n: int, generator: torch.Generator) -> Proposal:
        space = history.space.without(history.tried) if isinstance(history.space, Pool) else history.space
        return Proposal(space.sample(n, generator))
