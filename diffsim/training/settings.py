"""How a fit is done: one frozen value."""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, get_args

from diffsim.errors import ArgumentError, ArgumentTypeError

__all__ = ["Optimizer", "Schedule", "Training"]

Optimizer = Literal["adam", "adamw", "lbfgs"]
Schedule = Literal["constant", "cosine", "one_cycle", "step"]


@dataclass(frozen=True, slots=True)
class Training:
    """How a fit is done.

    Attributes:
        optimizer: ``adam``, ``adamw`` (decoupled weight decay) or ``lbfgs`` (strong-Wolfe line search; all terms).
        steps: Largest number of steps; a step is one evaluation of the loss and its gradient.
        lr: Learning rate of Adam; None is 3e-3. L-BFGS takes none.
        batch: Terms of the loss (samples, windows or runs) in a mini-batch, or ``all``; None is 256 for Adam and
            all for L-BFGS.
        weight_decay: Of an L2 term, `weight_decay / 2` times the squared weights, which joins the loss; with
            ``adamw`` of the decay of the weights beside it.
        schedule: Of the learning rate over the steps: ``constant``, ``cosine`` (to zero), ``one_cycle`` (up for
            three tenths, then a cosine to zero) or ``step`` (a tenth after each quarter). For Adam only.
        clip: Largest norm of the gradient, which is shortened to it; None leaves it. For Adam only.
        holdout: Share of the data held out: of the runs, or the end of the run if there is only one.
        patience: Steps without improvement of the held-out loss (without one: of the training loss) before the
            fit stops; None never stops early.
        check_every: Steps between evaluations of the held-out loss.
        seed: Of the mini-batches and the held-out runs. Global random numbers are neither used nor changed.
        progress: Whether to show a progress bar.

    Raises:
        ArgumentError: A value out of range, or options that exclude each other.
        ArgumentTypeError: Something other than a number.
    """

    optimizer: Optimizer = "adam"
    steps: int = 2000
    lr: float | None = None
    batch: int | Literal["all"] | None = None
    weight_decay: float = 0.0
    schedule: Schedule = "cosine"
    clip: float | None = None
    holdout: float = 0.0
    patience: int | None = None
    check_every: int = 10
    seed: int = 0
    progress: bool = False

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("optimizer", self.optimizer, get_args(Optimizer)),
            ("schedule", self.schedule, get_args(Schedule)),
        ):
            if value not in choices:
                raise ArgumentError(f"`{name}` must be one of {', '.join(choices)}, got {value!r}.")
        self._check_types()
        for name, value in (("steps", self.steps), ("check_every", self.check_every), ("patience", self.patience)):
            if value is not None and value < 1:
                raise ArgumentError(f"`{name}` must be at least 1, got {value}.")
        if self.batch not in (None, "all") and (isinstance(self.batch, str) or self.batch < 1):
            raise ArgumentError(f"`batch` must be at least 1, or 'all', got {self.batch!r}.")
        for name, value in (("lr", self.lr), ("clip", self.clip)):
            if value is not None and not 0 < value < math.inf:
                raise ArgumentError(f"`{name}` must be above 0, got {value}.")
        if not 0 <= self.weight_decay < math.inf:
            raise ArgumentError(f"`weight_decay` must be at least 0, got {self.weight_decay}.")
        if not 0 <= self.holdout < 1:
            raise ArgumentError(f"`holdout` must lie in [0, 1), got {self.holdout}.")
        if self.optimizer == "lbfgs" and isinstance(self.batch, int):
            raise ArgumentError(f"`batch` must be 'all' with `optimizer` 'lbfgs', got {self.batch}. Use 'adam'.")
        if self.optimizer == "lbfgs" and self.lr is not None:
            raise ArgumentError(
                f"`lr` must be left out with `optimizer` 'lbfgs', which searches its steps, got {self.lr}."
            )
        if self.optimizer == "lbfgs" and self.clip is not None:
            raise ArgumentError(f"`clip` must be left out with `optimizer` 'lbfgs', got {self.clip}. Use 'adam'.")
        if self.patience is not None and self.batch_size is not None and not self.holdout:
            raise ArgumentError(
                "`patience` with mini-batches needs a held-out part. Set `holdout`, say to 0.2, or `batch` to 'all'."
            )

    def _check_types(self) -> None:
        whole, real = ("steps", "batch", "patience", "check_every", "seed"), ("lr", "weight_decay", "clip", "holdout")
        for name in (*whole, *real):
            value = getattr(self, name)
            kinds, what = (Integral, "an int") if name in whole else (Real, "a number")
            given = value is not None and not (name == "batch" and isinstance(value, str))
            if given and (isinstance(value, bool) or not isinstance(value, kinds)):
                raise ArgumentTypeError(f"`{name}` must be {what}, got {value!r}.")

    @property
    def batch_size(self) -> int | None:
        """Number of terms in a mini-batch; None takes all."""
        if self.batch is None:
            return None if self.optimizer == "lbfgs" else 256
        return None if isinstance(self.batch, str) else self.batch
