"""Trials as tensors side by side: what a history is read from, joined from blocks so that a long one stays fast."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal, Protocol

import torch
from torch import Tensor

__all__ = ["Columns", "Row", "join", "merged"]


class Row(Protocol):
    """What columns need of a trial."""

    @property
    def round(self) -> int:
        """The number of its round."""
        ...

    @property
    def theta(self) -> Tensor:
        """Its parameters, shape [d]."""
        ...

    @property
    def state(self) -> Literal["pending", "complete", "failed"]:
        """What became of it."""
        ...

    @property
    def outcome(self) -> Tensor | None:
        """What the simulator returned, shape [...]."""
        ...

    @property
    def x(self) -> Tensor | None:
        """Its inputs, shape [k]."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Consecutive trials as tensors.

    Args:
        theta: Parameters of all n trials, float64, shape [n, d].
        round: Their rounds, int64, shape [n].
        complete: Which of them are complete, bool, shape [n].
        failed: Which of them failed, bool, shape [n].
        outcome: Outcomes of the c complete ones, shape [c, ...]; None where there are none.
        x: Inputs of the complete ones, float64, shape [c, k]; None where one has none.
    """

    theta: Tensor
    round: Tensor
    complete: Tensor
    failed: Tensor
    outcome: Tensor | None
    x: Tensor | None

    @classmethod
    def of(cls, trials: Sequence[Row], dim: int) -> "Columns":
        """The columns of trials with d = `dim` parameters."""
        theta = [trial.theta for trial in trials]
        complete = [trial for trial in trials if trial.state == "complete"]
        inputs = [trial.x for trial in complete if trial.x is not None]
        return cls(
            torch.stack(theta) if theta else torch.empty(0, dim, dtype=torch.float64),
            torch.tensor([trial.round for trial in trials], dtype=torch.int64),
            torch.tensor([trial.state == "complete" for trial in trials], dtype=torch.bool),
            torch.tensor([trial.state == "failed" for trial in trials], dtype=torch.bool),
            _stack([trial.outcome for trial in complete if trial.outcome is not None]),
            _stack(inputs) if len(inputs) == len(complete) else None,
        )

    def __len__(self) -> int:
        """The number of trials, n."""
        return len(self.theta)


def join(blocks: Sequence[Columns]) -> Columns:
    """The columns of blocks that follow one another; new tensors, of the finer precision where blocks differ."""
    filled = [block for block in blocks if block.outcome is not None]
    outcomes = [block.outcome for block in filled if block.outcome is not None]
    inputs = [block.x for block in filled if block.x is not None]
    return Columns(
        torch.cat([block.theta for block in blocks]),
        torch.cat([block.round for block in blocks]),
        torch.cat([block.complete for block in blocks]),
        torch.cat([block.failed for block in blocks]),
        torch.cat(outcomes) if outcomes else None,
        torch.cat(inputs) if inputs and len(inputs) == len(filled) else None,
    )


def merged(blocks: Sequence[Columns]) -> list[Columns]:
    """The same columns in fewer blocks, each longer than the next; added one at a time, n rows stay in log n blocks."""
    blocks = list(blocks)
    while len(blocks) > 1 and len(blocks[-2]) <= len(blocks[-1]):
        blocks[-2:] = [join(blocks[-2:])]
    return blocks


def _stack(rows: Sequence[Tensor]) -> Tensor | None:
    if not rows:
        return None
    dtypes = {row.dtype for row in rows}
    dtype = reduce(torch.promote_types, dtypes)
    return torch.stack(list(rows) if len(dtypes) == 1 else [row.to(dtype) for row in rows])
