"""A scrambled Sobol sequence: even cover of a box, without a model."""

from dataclasses import dataclass

import torch

from diffsim.errors import ArgumentTypeError
from studies.history import History, Proposal
from studies.spaces.box import Box

__all__ = ["Sobol"]


@dataclass(frozen=True, slots=True)
class Sobol:
    """The points of one scrambled Sobol sequence, in order, round after round.

    The scrambling comes from the study's seed and is noted in `Proposal.info`, so that rounds continue one sequence.

    Source: Owen, 1998, Scrambling Sobol' and Niederreiter-Xing points, Journal of Complexity 14.
    """

    def propose(self, history: History, n: int, generator: torch.Generator) -> Proposal:
        if not isinstance(history.space, Box):
            raise ArgumentTypeError(f"`Sobol` needs a Box, got {history.space!r}. Use Random() for this space.")
        seed = int(torch.randint(2**31, (), generator=generator))
        state = next((info["sobol"] for info in reversed(history.info) if "sobol" in info), {"seed": seed, "next": 0})
        theta = history.space.sobol(n, state["seed"], skip=state["next"])
        return Proposal(theta, {"sobol": {"seed": state["seed"], "next": state["next"] + n}})
