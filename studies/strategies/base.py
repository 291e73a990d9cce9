"""The strategy protocol: a pure function from a history to the next round's proposal."""

import json
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from studies.errors import StudyError
from studies.history import History, Proposal
from studies.spaces.base import Space

__all__ = ["Batched", "Optimiser", "Strategy", "Versatile", "checked", "round_size"]


class Strategy(Protocol):
    """What chooses the next trials.

    A strategy is pure: the same history and generator give the same proposal, so that a resumed study equals an
    unbroken one. What it must remember rides in `Proposal.info`. Its repr is part of the study's record: a frozen
    dataclass has a good one. `studies.contracts.check_strategy` checks these rules.
    """

    def propose(self, history: History, n: int, generator: torch.Generator) -> Proposal:
        """The next round.

        Args:
            history: All trials so far; some may be pending or failed, and it may be empty.
            n: How many trials to propose.
            generator: The round's own random numbers.

        Returns:
            A proposal of n rows inside `history.space`.
        """
        ...


@runtime_checkable
class Optimiser(Strategy, Protocol):
    """A strategy that has an answer: the parameters that it believes best. Smaller is better."""

    def recommend(self, history: History) -> Tensor:
        """The best parameters by the strategy's own model, not the luckiest draw, shape [d]."""
        ...


@runtime_checkable
class Versatile(Optimiser, Protocol):
    """An optimiser that also answers for another objective of the same outcomes."""

    def answer(self, history: History, objective: Callable[..., Tensor]) -> Tensor:
        """The best parameters for an objective that the study did not minimise, from its trials alone, shape [d]."""
        ...


@runtime_checkable
class Batched(Strategy, Protocol):
    """A strategy that knows how many trials its next round needs: what `Study.run(batch=None)` asks for."""

    def batch(self, history: History) -> int:
        """The number of trials of the next round."""
        ...


def round_size(strategy: Strategy, history: History) -> int:
    """The number of trials of the next round: the strategy's own, or 1.

    Raises:
        StudyError: It is not a positive integer.
    """
    batch = getattr(strategy, "batch", None)  # a tenth of the time of a look at the protocol
    if batch is None:
        return 1
    n = batch(history)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise StudyError(f"A strategy's `batch` must return a positive integer, got {n!r}.")
    return n


def checked(proposal: Proposal, space: Space, n: int) -> tuple[Tensor, dict[str, Any]]:
    """A proposal's theta, float64 on the CPU, and its info as it comes back from JSON.

    Raises:
        StudyError: The proposal breaks a rule; the message names it.
    """
    if not isinstance(proposal, Proposal):
        raise StudyError(f"A strategy must return a Proposal, got {proposal!r}. Return Proposal(theta).")
    theta = torch.as_tensor(proposal.theta).detach().to("cpu", torch.float64, copy=True)
    if theta.shape != (n, space.dim):
        raise StudyError(f"A proposal's theta must have shape {[n, space.dim]}, got {list(theta.shape)}.")
    if not theta.isfinite().all():
        raise StudyError(f"A proposal's theta must be finite, got {theta.tolist()}.")
    if not (inside := space.contains(theta)).all():
        raise StudyError(f"A proposal must lie in {space!r}, got {theta[~inside].tolist()}. Clamp it to space.bounds.")
    try:
        info = json.loads(json.dumps(dict(proposal.info)))
    except (TypeError, ValueError) as error:
        raise StudyError(f"A proposal's info must be a JSON mapping, got {proposal.info!r} ({error}).") from None
    return theta, info
