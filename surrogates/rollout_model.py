"""What acquisitions need of a model of runs: a BoTorch model that also says how each run moves with what is unknown."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from botorch.models.model import Model
from torch import Tensor

from diffsim.errors import ArgumentError

__all__ = ["RolloutModel"]


class RolloutModel(Model, ABC):
    """A model that maps designs to runs: run = mean + response z + noise, with z standard normal of r components.

    Args:
        t: Output times of the runs, shape [T]; the first is that of the initial state.
        noise: Standard deviation of the runs' measurement noise.
        state: Maps designs [..., k] to initial states [..., d]; the design itself by default.
        theta: Maps designs [..., k] to system parameters [..., j], where the fields depend on them.
    """

    t: Tensor

    def __init__(
        self,
        t: Tensor,
        noise: float,
        state: Callable[[Tensor], Tensor] | None = None,
        theta: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if t.ndim != 1 or len(t) < 2:
            raise ArgumentError(f"`t` must hold at least two times, shape [T], got {list(t.shape)}.")
        if not noise >= 0:
            raise ArgumentError(f"`noise` must not be negative, got {noise}.")
        self.register_buffer("t", t)
        self.noise = noise
        self.state = state
        self.theta = theta

    @abstractmethod
    def response(self, X: Tensor, t: Tensor | None = None) -> Tensor:
        """How runs respond to the unknown, [..., n, k] -> [..., n, (T - 1) d, r]; zero where a run diverges.

        Args:
            X: Designs, shape [..., n, k].
            t: Output times, if not the model's own.
        """

    def launch(self, X: Tensor) -> tuple[Tensor, Tensor | None]:
        """Initial states [..., d] and system parameters [..., j] (or None) of designs [..., k]."""
        design = X.to(torch.float64)
        y0 = design if self.state is None else self.state(design)
        return y0, None if self.theta is None else self.theta(design)
