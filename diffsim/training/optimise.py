"""The optimisation loop under every fit: Adam and L-BFGS, schedules, early stopping, best weights kept."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from diffsim.errors import IntegrationError, TrainingError
from diffsim.training.report import FitReport, StopReason
from diffsim.training.settings import Schedule, Training

__all__ = ["optimise"]

_FACTOR: dict[Schedule, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "cosine": lambda s: 0.5 * (1 + math.cos(math.pi * s)),
    "one_cycle": lambda s: max(s / 0.3, 0.04) if s < 0.3 else 0.5 * (1 + math.cos(math.pi * (s - 0.3) / 0.7)),
    "step": lambda s: 0.1 ** int(4 * s),
}


class _Stopped(Exception):
    """Ends the optimiser's own loop."""


class _Fit:
    """The state of one optimisation; `evaluate` is the closure that the optimisers call."""

    def __init__(
        self,
        loss: Callable[[Tensor | None], Tensor],
        n_terms: int,
        weights: Sequence[nn.Parameter],
        extra: Sequence[nn.Parameter],
        held_out: Callable[[], Tensor] | None,
        training: Training,
        show: Callable[[int, float], None],
    ) -> None:
        self.loss, self.weights, self.held_out, self.training, self.show = loss, weights, held_out, training, show
        self.parameters = [*weights, *extra]
        size = training.batch_size
        self.batches = None if size is None or size >= n_terms else _batches(n_terms, size, training.seed)
        self.losses: list[float] = []
        self.held_out_losses: list[float] = []
        self.held_out_steps: list[int] = []
        self.keeps_best = held_out is not None or self.batches is None
        self.best_step, self.best_loss = 0, math.inf
        self.best = self._copy()
        self.finite = self._copy()
        self.stopped_because: StopReason = "steps"

    def evaluate(self) -> Tensor:
        """The loss and its gradient at the weights of now, recorded."""
        step, training = len(self.losses), self.training
        if step == training.steps:
            self._finish("steps")
        if not self._finite_parameters():
            return self._not_finite(math.nan, step, None)
        for parameter in self.parameters:
            parameter.grad = None
        index = next(self.batches) if self.batches else None
        cause: IntegrationError | None = None
        try:
            loss = self.loss(index)
            value = float(loss.detach())
            total = loss + self._penalty()
            if math.isfinite(value):
                total.backward()
                if training.clip is not None:
                    nn.utils.clip_grad_norm_(self.parameters, training.clip)
        except IntegrationError as error:
            total, value, cause = torch.tensor(math.nan), math.nan, error
        if not math.isfinite(value):
            return self._not_finite(value, step, cause)
        self.losses.append(value)
        self._copy(self.finite)
        self._judge(step, float(total.detach()))
        self.show(step + 1, value)
        return total.detach()

    def _penalty(self) -> Tensor | float:
        decay = self.training.weight_decay
        if not decay or self.training.optimizer == "adamw":  # which decays the weights itself
            return 0.0
        return 0.5 * decay * torch.stack([weight.square().sum() for weight in self.weights]).sum()

    @torch.no_grad()
    def place(self, values: Tensor) -> None:
        """Put the parameters at a point, shape [all of them]."""
        first = 0
        for parameter in self.parameters:
            parameter.copy_(values[first : first + parameter.numel()].reshape(parameter.shape))
            first += parameter.numel()

    def gradient(self) -> Tensor:
        """The gradient that `evaluate` left, float64 on the CPU, shape [number of parameters]."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        return torch.cat([gradient.detach().flatten().cpu().double() for gradient in gradients])

    def close(self) -> None:
        """Judge the weights after the last update, and give the parameters their best values."""
        step = len(self.losses)
        if not self.keeps_best:
            if not self._finite_parameters():
                self._not_finite(math.nan, step, None)
            self.best_step, self.best_loss = step, self.losses[-1]
            return
        value = math.inf
        if self._finite_parameters():
            value = self._value(self.held_out or self._total)
            if self.held_out:
                self._record_held_out(step, value)
        if value < self.best_loss:
            self.best_step, self.best_loss = step, value
        else:
            self._restore(self.best)

    def _finite_parameters(self) -> bool:
        return bool(torch.stack([parameter.detach().isfinite().all() for parameter in self.parameters]).all())

    def _total(self) -> Tensor:
        return self.loss(None) + self._penalty()

    def _value(self, loss: Callable[[], Tensor]) -> float:
        # Gradients stay on: the user's loss may take derivatives of the field.
        try:
            value = float(loss().detach())
        except IntegrationError:
            return math.inf
        return value if math.isfinite(value) else math.inf

    def _record_held_out(self, step: int, value: float) -> None:
        self.held_out_losses.append(value)
        self.held_out_steps.append(step)

    def _judge(self, step: int, value: float) -> None:
        if not self.keeps_best:
            return
        if self.held_out:
            if step % self.training.check_every:
                return
            value = self._value(self.held_out)
            self._record_held_out(step, value)
        if value < self.best_loss:
            self.best_step, self.best_loss = step, value
            self._copy(self.best)
        elif self.training.patience is not None and step - self.best_step >= self.training.patience:
            self._finish("patience")

    def _not_finite(self, value: float, step: int, cause: IntegrationError | None) -> Tensor:
        if self.training.optimizer == "lbfgs" and step:
            # A trial point of the line search: it turns back from a loss above all others, not from infinity.
            for parameter in self.parameters:
                parameter.grad = torch.zeros_like(parameter)
            self.losses.append(math.inf)
            return torch.tensor(1 + 2 * max(loss for loss in self.losses if math.isfinite(loss)))
        self._restore(self.finite)
        what = "the solver failed" if cause else f"the loss became {value}"
        mend = (
            "Lower `lr`, or use shorter windows."
            if step
            else "Check the data and the field's initial weights, or use shorter windows."
        )
        raise TrainingError(f"At step {step} {what}; the field has its last finite weights. {mend}") from cause

    def _finish(self, reason: StopReason) -> None:
        self.stopped_because = reason
        raise _Stopped

    def _copy(self, into: list[Tensor] | None = None) -> list[Tensor]:
        if into is None:
            return [parameter.detach().clone() for parameter in self.parameters]
        for target, parameter in zip(into, self.parameters, strict=True):
            target.copy_(parameter.detach())
        return into

    @torch.no_grad()
    def _restore(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)


def optimise(
    loss: Callable[[Tensor | None], Tensor],
    weights: Sequence[nn.Parameter],
    training: Training,
    *,
    n_terms: int = 1,
    extra: Sequence[nn.Parameter] = (),
    held_out: Callable[[], Tensor] | None = None,
) -> FitReport:
    """Minimise a loss in place, and leave the best weights behind.

    The best are those of the lowest held-out loss; without a held-out part those of the lowest training loss;
    with mini-batches and no held-out part the last.

    Args:
        loss: Maps the indices of a mini-batch, shape [batch], or None for all terms, to a scalar.
        weights: What is trained.
        training: How.
        n_terms: Number of terms that mini-batches choose from.
        extra: What is trained beside the weights, without weight decay, such as unknown initial states.
        held_out: The loss on the held-out part.

    Returns:
        The losses and why the optimisation stopped.

    Raises:
        TrainingError: The loss is not finite; the weights are then the last that had a finite one.
    """
    start = time.perf_counter()
    with _progress(training) as show:
        state = _Fit(loss, n_terms, weights, extra, held_out, training, show)
        try:
            if training.optimizer == "lbfgs":
                _run_lbfgs(state, training)
            else:
                _run_adam(state, training)
        except _Stopped:
            pass
        state.close()
    for parameter in state.parameters:
        parameter.grad = None
    return FitReport(
        losses=tuple(state.losses),
        held_out_losses=tuple(state.held_out_losses),
        held_out_steps=tuple(state.held_out_steps),
        best_step=state.best_step,
        best_loss=state.best_loss,
        seconds=time.perf_counter() - start,
        stopped_because=state.stopped_because,
        n_parameters=sum(weight.numel() for weight in weights),
    )


def _run_adam(state: _Fit, training: Training) -> None:
    if training.optimizer == "adamw":
        groups = [
            {"params": list(state.weights), "weight_decay": training.weight_decay},
            {"params": state.parameters[len(state.weights) :], "weight_decay": 0.0},
        ]
        kind = torch.optim.AdamW
    else:
        groups, kind = [{"params": state.parameters}], torch.optim.Adam
    lr = 3e-3 if training.lr is None else training.lr
    optimizer = kind(groups, lr=lr, foreach=True)
    for step in range(training.steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * _FACTOR[training.schedule](step / training.steps)
        optimizer.step(state.evaluate)


def _run_lbfgs(state: _Fit, training: Training) -> None:
    # SciPy's, not torch's, whose line search does not survive a trial point with a very large loss.
    def evaluate(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        state.place(torch.from_numpy(x))
        value = float(state.evaluate())
        scale = state.losses[0] or 1.0  # the tolerances are relative to the first loss
        return value / scale, state.gradient().numpy() / scale

    start = parameters_to_vector(state.parameters).detach().cpu().double().numpy()
    limits = {"maxiter": training.steps, "maxfun": 2 * training.steps, "maxcor": 30, "ftol": 1e-15, "gtol": 1e-12}
    scipy.optimize.minimize(evaluate, start, jac=True, method="L-BFGS-B", options=limits)
    state.stopped_because = "converged"


def _batches(n_terms: int, size: int, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(n_terms, generator=generator)[: n_terms - n_terms % size].split(size)


@contextmanager
def _progress(training: Training) -> Generator[Callable[[int, float], None]]:
    if not training.progress:
        yield lambda step, loss: None
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task("fit", total=training.steps)
        yield lambda step, loss: bar.update(task, completed=step, description=f"fit, loss {loss:.3g}")
