"""The rounds of a local descent in a history: what was asked for, what ended, and whether it fails more than before."""

from studies.history import History
from studies.strategies.trust_region import Region

__all__ = ["asked", "fails", "finished"]


def asked(history: History, began: int) -> int:
    """Number of trials since a round."""
    return sum(trial.round >= began for trial in history.trials)


def finished(history: History, began: int, region: Region) -> bool:
    """Whether as many trials as a region asks for have ended since its round."""
    trials = [trial for trial in history.trials if trial.round >= began]
    return sum(trial.state != "pending" for trial in trials) >= region.size


def fails(history: History, began: int, good: int) -> bool:
    """Whether the simulations since a round, of which so many are good, fail much more often than those before."""
    late = [trial.round >= began for trial in history.trials if trial.state != "pending"]
    return good * late.count(False) < 0.5 * int((history.round < began).sum()) * late.count(True)
