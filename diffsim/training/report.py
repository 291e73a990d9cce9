"""What a fit returns: its losses, its length and why it stopped."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["FitReport", "StopReason"]

StopReason = Literal["steps", "patience", "converged"]


@dataclass(frozen=True, slots=True)
class FitReport:
    """The record of a fit.

    Attributes:
        losses: Training loss at each step, before its update; of the mini-batch, if there was one. Infinite where
            the line search of L-BFGS tried weights without a finite loss.
        held_out_losses: Loss of the held-out part at `held_out_steps`; empty without one.
        held_out_steps: Steps at which the held-out part was evaluated.
        best_step: The step whose weights the field now has.
        best_loss: Their loss: of the held-out part if there is one, else of the training data, with the L2 term.
        seconds: Wall-clock time.
        stopped_because: ``steps`` (all were taken), ``patience`` (no improvement for so many) or ``converged``
            (L-BFGS found nothing better).
        n_parameters: Number of trained weights, without free initial states.
    """

    losses: tuple[float, ...]
    held_out_losses: tuple[float, ...]
    held_out_steps: tuple[int, ...]
    best_step: int
    best_loss: float
    seconds: float
    stopped_because: StopReason
    n_parameters: int

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return len(self.losses)

    def __str__(self) -> str:
        reason = {"steps": "all steps taken", "patience": "no more improvement", "converged": "converged"}
        kind = "held-out" if self.held_out_losses else "training"
        return (
            f"{self.steps} steps in {self.seconds:.1f} s ({reason[self.stopped_because]}), "
            f"{self.n_parameters} weights; {kind} loss {self.best_loss:.3g} at step {self.best_step}"
        )
