"""How a study asks: its strategy proposes a round from the history, and the round is appended to the record."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from studies.errors import ConflictError
from studies.history import History
from studies.ledger import Ledger
from studies.randomness import isolated, key_generator
from studies.record import strategy_repr
from studies.spaces.base import Space
from studies.storage.base import RoundRecord
from studies.strategies.base import Strategy, checked, round_size

__all__ = ["Asker", "Goal"]


@dataclass(frozen=True, slots=True)
class Goal:
    """How large a study shall become.

    Args:
        trials: Number of trials, failed ones included; None is any.
        rounds: Number of rounds; None is any.
        batch: Trials a round; None is the strategy's own number.
    """

    trials: int | None = None
    rounds: int | None = None
    batch: int | None = None

    def size(self, strategy: Strategy, history: History) -> int:
        """The size of the next round; 0 where the goal is reached."""
        if self.reached(len(history.trials), history.n_rounds):
            return 0
        left = math.inf if self.trials is None else self.trials - len(history.trials)
        return int(min(left, self.batch or round_size(strategy, history)))

    def reached(self, n_trials: int, n_rounds: int) -> bool:
        """Whether so many are enough."""
        return (self.trials is not None and n_trials >= self.trials) or (
            self.rounds is not None and n_rounds >= self.rounds
        )

    def expected(self, strategy: Strategy, history: History) -> int:
        """How many trials there will be, as far as is known now."""
        if self.trials is not None or self.rounds is None:
            return max(len(history.trials), self.trials or 0)
        left = self.rounds - history.n_rounds
        return len(history.trials) + (left * self.size(strategy, history) if left > 0 else 0)


class Asker:
    """Asks for rounds of a study.

    Args:
        ledger: What is known of the study.
        space: Its space.
        strategy: Its strategy.
        seed: Its seed.
    """

    def __init__(self, ledger: Ledger, space: Space, strategy: Strategy, seed: int) -> None:
        self.ledger, self.space, self.strategy, self.seed = ledger, space, strategy, seed

    @property
    def history(self) -> History:
        """The history as it was last read."""
        return self.ledger.history(self.space)

    def ask(
        self, size: Callable[[History], int], worker: str | None = None, seconds: float = 0.0
    ) -> RoundRecord | None:
        """Proposes a round, knowing what was last read, and appends it.

        Args:
            size: How many trials it has, given the history; where it says 0, nothing is asked.
            worker: Who gets the lease of the trials; None leaves them free.
            seconds: How long the lease holds.

        Raises:
            StudyError: The strategy's proposal breaks a rule.
        """
        while n := size(history := self.history):
            number = history.n_rounds
            with isolated(key_generator(self.seed, number, "propose", 1)):
                proposal = self.strategy.propose(history, n, key_generator(self.seed, number, "propose"))
            theta, info = checked(proposal, self.space, n)
            round = RoundRecord(number, len(history.trials), theta.numpy(), info, strategy_repr(self.strategy))
            try:
                self.ledger.add_round(round, worker, seconds)
            except ConflictError:
                self.ledger.read()  # another process asked meanwhile: propose again, knowing its round
                continue
            return round
        return None
