"""An ensemble of fields as a BoTorch model: each design is rolled out by every member, with gradients."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import cast

import torch
from botorch.models.ensemble import EnsembleModel
from torch import Tensor

from diffsim.errors import ArgumentError
from diffsim.fields.base import ConditionedField, VectorField
from diffsim.integrate.ensemble import odeint_ensemble
from diffsim.integrate.solver import Solver
from surrogates.rollout_model import RolloutModel

__all__ = ["RolloutEnsemble"]


class RolloutEnsemble(RolloutModel, EnsembleModel):
    """Several fields (fitted from different starts, or drawn from a posterior) that predict runs from designs.

    Gradients in the design go through the solve. A member that diverges predicts the initial state, at rest, from
    there on. The members' parameters are frozen.

    Args:
        fields: The k members; with `theta`, modules that are called as `field(t, y, theta)`.
        t: Output times of the runs, shape [T].
        noise: Standard deviation of the runs' measurement noise.
        state: Maps designs [..., j] to initial states [..., d].
        theta: Maps designs [..., j] to system parameters.
        solver: RK4 with a fiftieth of the span by default: adaptive steps would couple the designs of a batch.

    Raises:
        ArgumentError: There are fewer than two members.
    """

    def __init__(
        self,
        fields: Sequence[VectorField],
        t: Tensor,
        *,
        noise: float = 0.0,
        state: Callable[[Tensor], Tensor] | None = None,
        theta: Callable[[Tensor], Tensor] | None = None,
        solver: Solver | None = None,
    ) -> None:
        if len(fields) < 2:
            raise ArgumentError(f"`fields` must hold at least two members, got {len(fields)}: one cannot disagree.")
        super().__init__(t, noise, state, theta)
        self.ensemble_weights = None
        self.fields = torch.nn.ModuleList(fields).requires_grad_(False)
        self._n_outputs: int | None = None
        span = float((t[-1] - t[0]).abs())
        self.solver = solver or Solver("rk4", step=span / 50, gradient="backprop", on_divergence="nan")

    @property
    def num_outputs(self) -> int:
        """Number of outputs of a run, (T - 1) d; known after the first call."""
        if self._n_outputs is None:
            raise ArgumentError("`num_outputs` is known after the first call. Call the model on a design first.")
        return self._n_outputs

    @property
    def batch_shape(self) -> torch.Size:
        """The members are an ensemble dimension of the output, not a batch of models."""
        return torch.Size()

    def forward(self, X: Tensor) -> Tensor:
        """The members' runs without the initial state, [..., n, j] -> [..., k, n, (T - 1) d]."""
        runs = self._roll_out(X, self.t)
        self._n_outputs = runs.shape[-1]
        return runs

    def response(self, X: Tensor, t: Tensor | None = None) -> Tensor:
        runs = self._roll_out(X, self.t if t is None else t)
        deviations = (runs - runs.mean(-3, keepdim=True)) / (len(self.fields) - 1) ** 0.5
        return deviations.movedim(-3, -1)

    def _roll_out(self, X: Tensor, t: Tensor) -> Tensor:
        y0, theta = self.launch(X)
        constants = chain(self.fields.parameters(), self.fields.buffers())
        dtype = next((p.dtype for p in constants if p.is_floating_point()), y0.dtype)
        states = y0.to(dtype)
        members = [m if theta is None else ConditionedField(m, theta.to(dtype)) for m in self.fields]
        runs = odeint_ensemble(cast(Sequence[VectorField], members), states, t.to(dtype), self.solver)[:, 1:]
        runs = torch.where(torch.isfinite(runs), runs, states)
        return runs.movedim(1, -2).flatten(-2).movedim(0, -3).to(X)
