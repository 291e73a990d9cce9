"""Pools: design spaces of finitely many candidates."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.spaces.base import check_names, check_theta

__all__ = ["Pool"]


class Pool:
    """A finite design space: m candidates, one a row.

    Args:
        candidates: Shape [m, d]; rows must be finite and differ.
        names: The parameters' names, d of them.

    Raises:
        ArgumentError: The shape is wrong, a candidate is not finite or repeated, or names are missing.
        ArgumentTypeError: The candidates are no tensor, or the names no list of strings.

    Example:
        >>> pool = Pool(torch.tensor([[0.0], [1.0], [2.0]]), names=["length"])
        >>> pool.without(torch.tensor([[1.0]])).candidates.flatten().tolist()
        [0.0, 2.0]
    """

    def __init__(self, candidates: Tensor, names: Sequence[str]) -> None:
        if isinstance(names, str) or not isinstance(candidates, Tensor):
            raise ArgumentTypeError(
                f"`candidates` must be a tensor and `names` a list of strings, got a {type(candidates).__name__} and "
                f"{names!r}. Pass Pool(torch.as_tensor(candidates), ['a', 'b'])."
            )
        self.names = check_names(list(names))
        if candidates.ndim != 2 or candidates.shape[1] != len(self.names) or candidates.shape[0] == 0:
            raise ArgumentError(
                f"`candidates` must have shape [m, {len(self.names)}] with m > 0, got {list(candidates.shape)}. "
                "Pass one candidate a row, one name a column."
            )
        self.candidates = candidates.detach().to("cpu", torch.float64).clone()
        if not self.candidates.isfinite().all():
            raise ArgumentError("`candidates` must be finite, got NaN or infinite ones. Remove these rows.")
        if self.candidates.unique(dim=0).shape[0] < len(self):
            raise ArgumentError("`candidates` must differ, got repeated rows. Pass candidates.unique(dim=0).")

    def __len__(self) -> int:
        return self.candidates.shape[0]

    def __repr__(self) -> str:
        return f"Pool({len(self)} candidates, names={list(self.names)})"

    @property
    def dim(self) -> int:
        """The number of parameters, d."""
        return len(self.names)

    @property
    def bounds(self) -> Tensor:
        """Smallest and largest values among the candidates, float64, shape [2, d]."""
        return torch.stack([self.candidates.amin(0), self.candidates.amax(0)])

    def contains(self, theta: Tensor) -> Tensor:
        """Which rows are candidates, shape [n, d] -> [n], bool."""
        theta = check_theta(theta, self.dim).to(self.candidates)
        return (theta[:, None] == self.candidates).all(-1).any(-1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Uniform draws without replacement, float64, shape [n, d]."""
        if n > len(self):
            raise ArgumentError(f"`n` must be at most {len(self)}, the candidates there are, got {n}.")
        return self.candidates[torch.randperm(len(self), generator=generator)[:n]]

    def without(self, theta: Tensor) -> "Pool":
        """The pool of the candidates that are not rows of theta, shape [n, d]."""
        theta = check_theta(theta, self.dim).to(self.candidates)
        left = self.candidates[~(self.candidates[:, None] == theta).all(-1).any(-1)]
        if left.shape[0] == 0:
            raise ArgumentError(f"The pool is used up: all {len(self)} candidates have been tried. Pass a larger pool.")
        return Pool(left, self.names)

    def to_dict(self, row: Tensor) -> dict[str, float]:
        """One row of theta by name, shape [d]."""
        if row.shape != (self.dim,):
            raise ArgumentError(f"`row` must have shape [{self.dim}], got {list(row.shape)}. Pass one row of theta.")
        values: list[float] = row.tolist()
        return dict(zip(self.names, values, strict=True))

    def describe(self) -> dict[str, Any]:
        """The pool as a JSON mapping."""
        return {"kind": "Pool", "names": self.names, "candidates": self.candidates.tolist()}
