"""The ladder of surrogates of a local descent: fitted to the rows of a region, scored on held-out theta, searched."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from diffsim.errors import ArgumentTypeError
from diffsim.training.settings import Training
from studies.history import History
from studies.objective import Objective
from studies.spaces.box import Box
from studies.strategies.success import Success
from surrogates.generators.response import LinearResponse, ProcessResponse, QuadraticResponse, Response
from surrogates.surrogate import Surrogate

__all__ = ["LocalModel", "Rows", "fit_ladder", "search_ball"]

PROCESS = "process"  # the rung that judges: directions chosen from the same rows would be too sure
OUTCOME = "process of the outcome"
HELD_OUT = 0.25
MANY = 10  # parameters: above, few directions are looked for
DIRECTIONS = 3
WIDE = 20  # parameters: above, no quadratic response
N_INPUTS, N_DRAWS = 64, 16  # that an expected objective is the mean of


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Simulations: parameters in units of the box, outcomes, inputs and objectives.

    Attributes:
        unit: Shape [n, d].
        outcome: Shape [n, ...].
        x: Shape [n, k], or None.
        value: The objective, shape [n].
    """

    unit: Tensor
    outcome: Tensor
    x: Tensor | None
    value: Tensor

    @classmethod
    def of(cls, history: History, value: Tensor) -> "Rows":
        """The complete trials of a history in a box, with their objective, shape [n]."""
        return cls(cast(Box, history.space).to_unit(history.theta), history.outcome, history.x, value)

    def __len__(self) -> int:
        return len(self.value)

    def take(self, which: Tensor) -> "Rows":
        """The rows of a mask or of indices."""
        return Rows(self.unit[which], self.outcome[which], None if self.x is None else self.x[which], self.value[which])


@dataclass(frozen=True, slots=True, eq=False)
class LocalModel:
    """A fitted surrogate of the expected objective, and the response that judges significance beside it.

    Attributes:
        name: Its rung.
        mean: Expected objective at parameters in units of the box, differentiable, [n, d] -> [n].
        judged: The same by the Gaussian process of the objective.
        response: That process, on all rows.
        scores: Held-out mean squared error of each rung, as a share of the variance.
        surrogate: The surrogate of the outcome, where the rung is one.
        success: The chance that a simulation succeeds, where some near there failed.
    """

    name: str
    mean: Callable[[Tensor], Tensor]
    judged: Callable[[Tensor], Tensor]
    response: Response
    scores: dict[str, float]
    surrogate: Surrogate | None = None
    success: Success | None = None

    @property
    def is_given(self) -> bool:
        """Whether the rung is one of the user's surrogates."""
        return self.surrogate is not None and self.name != OUTCOME

    def wary(self, unit: Tensor, failed: Tensor) -> "LocalModel":
        """The model to which failing is as bad as the worst mean at the rows, [n, d]; others failed, [m, d]."""
        success = Success.learn(unit, failed)
        if success is None:
            return self
        means = _wary(self.mean, success, unit), _wary(self.judged, success, unit)
        return replace(self, mean=means[0], judged=means[1], success=success)


def _wary(mean: Callable[[Tensor], Tensor], success: Success, unit: Tensor) -> Callable[[Tensor], Tensor]:
    with torch.no_grad():
        worst = mean(unit).max()
    return lambda at: worst + success.log_chance(at).exp() * (mean(at) - worst)


def fit_ladder(
    rows: Rows,
    objective: Objective | None,
    surrogates: Sequence[Callable[[], Surrogate]],
    seed: int,
    first: str = PROCESS,
) -> LocalModel:
    """The rung that predicts the objective of held-out theta best; the first, if there, where none is clearly better.

    The rungs: responses of the objective itself (linear, quadratic, a Gaussian process, in many dimensions one with few
    directions), a Gaussian process of the outcome where the objective is a function of it, and the given surrogates.
    """
    train, test = _split(rows.unit, seed)
    learn, judge = rows.take(train), rows.take(test)
    spread = float(judge.value.var(correction=0)) or 1.0
    responses = {name: _fit_response(kind, learn, seed) for name, kind in _responses(rows).items()}
    errors: dict[str, Tensor] = {}
    for name, response in responses.items():
        errors[name] = (response(judge.unit, judge.x).mean[:, 0] - judge.value).square() / spread
    generative = _generative(rows, objective, surrogates)
    fitted: dict[str, Surrogate] = {}
    for name, surrogate in generative.items():
        outcome = learn.outcome.double().reshape(len(learn), -1)
        surrogate.fit(learn.unit, outcome, learn.x)
        fitted[name] = surrogate
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            values = _flat(objective, rows.outcome.shape[1:])
            predicted = surrogate.expectation(values, judge.unit, judge.x, N_INPUTS, generator)
        # An objective may have no value at outcomes that a surrogate draws: such a rung is out.
        errors[name] = ((predicted - judge.value).square() / spread).nan_to_num(nan=torch.inf)
    for response in responses.values():
        response.condition(rows.unit, rows.value[:, None], rows.x, seed)
    name, process = _best(errors, first if first in errors else PROCESS), responses[PROCESS]

    def judged(unit: Tensor) -> Tensor:
        return process.mean(unit)[..., 0]

    scores = {rung: float(error.mean()) for rung, error in errors.items()}
    if name in fitted:
        surrogate = fitted[name]
        if isinstance(surrogate, Response):
            surrogate.condition(rows.unit, rows.outcome.double().reshape(len(rows), -1), rows.x, seed)
        mean = expected(surrogate, objective, rows, seed)
        return LocalModel(name, mean, judged, process, scores, surrogate)
    best = responses[name]
    return LocalModel(name, lambda unit: best.mean(unit)[..., 0], judged, process, scores)


def expected(surrogate: Surrogate, objective: Objective | None, rows: Rows, seed: int) -> Callable[[Tensor], Tensor]:
    """The expected objective under a surrogate, over its noise and the inputs, a smooth function [n, d] -> [n]."""
    order, x = torch.Generator().manual_seed(seed), rows.x
    inputs = None if x is None else x[torch.randperm(len(x), generator=order)[:N_INPUTS]]
    draws = N_INPUTS if inputs is None else N_DRAWS
    values = _flat(objective, rows.outcome.shape[1:])

    def mean(unit: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        if inputs is None:
            return surrogate.expectation(values, unit, None, draws, generator)
        return surrogate.expectation(values, unit[:, None], inputs, draws, generator).mean(1)

    return mean


def search_ball(mean: Callable[[Tensor], Tensor], center: Tensor, ball: float, starts: Tensor) -> Tensor:
    """Where a function is smallest in a ball about the centre and in the unit cube; L-BFGS from starts [s, d]."""

    def place(free: Tensor) -> Tensor:
        return (center + ball * free / (1 + free.square().sum()).sqrt()).clamp(0, 1)

    def evaluate(free: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        values = torch.tensor(free, dtype=torch.float64, requires_grad=True)
        value = (mean(place(values)[None])[0] - zero) / unit
        (gradient,) = torch.autograd.grad(value, values)
        return float(value.detach()), gradient.numpy()

    with torch.no_grad():  # tolerances of the search are absolute: its function has zero and unit of its own
        levels = mean(torch.cat([center[None], starts]))
    zero, unit = float(levels[0]), float((levels - levels[0]).abs().max()) or 1.0
    best, least = center, torch.inf
    for start in starts:
        offset = (start - center) / ball
        offset = offset * min(1.0, 0.9 / max(float(offset.norm()), 1e-12))
        free = offset / (1 - offset.square().sum()).sqrt()
        found = minimize(
            evaluate, free.numpy(), jac=True, method="L-BFGS-B", bounds=[(-20, 20)] * len(free), options={"maxiter": 50}
        )
        if float(found.fun) < least:
            best, least = place(torch.from_numpy(found.x)), float(found.fun)
    return best


def _best(errors: dict[str, Tensor], first: str) -> str:
    """The rung of the least mean error; the first one where that is no more than a standard error better."""
    least = min(errors, key=lambda name: float(errors[name].mean()))
    better = errors[first] - errors[least]
    # Not a number where the first one's error is infinite.
    return first if float(better.mean()) <= float(better.std()) / len(better) ** 0.5 else least


def _split(unit: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Indices to learn from and to judge on; rows of one theta stay together."""
    _, group = unit.unique(dim=0, return_inverse=True)
    order = torch.randperm(int(group.max()) + 1, generator=torch.Generator().manual_seed(seed))
    held = order[group] < max(1, round(HELD_OUT * len(order)))
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]


def _responses(rows: Rows) -> dict[str, Response]:
    d, k = rows.unit.shape[1], 0 if rows.x is None else rows.x.shape[1]
    rungs: dict[str, Response] = {PROCESS: ProcessResponse(d, 1, k)}
    if d > MANY:
        rungs["linear"] = LinearResponse(d, 1, k)
        rungs["process, few directions"] = ProcessResponse(d, 1, k, directions=DIRECTIONS)
    if d <= WIDE and len(rows) > (d + 1) * (d + 2):
        rungs["quadratic"] = QuadraticResponse(d, 1, k)
    return rungs


def _fit_response(response: Response, rows: Rows, seed: int) -> Response:
    response.fit(rows.unit, rows.value[:, None], rows.x, Training(seed=seed % 2**31))
    return response


def _generative(
    rows: Rows, objective: Objective | None, surrogates: Sequence[Callable[[], Surrogate]]
) -> dict[str, Surrogate]:
    rungs: dict[str, Surrogate] = {}
    width = rows.outcome[0].numel()
    d, k = rows.unit.shape[1], 0 if rows.x is None else rows.x.shape[1]
    if objective is not None and width <= MANY and not _is_affine(rows):
        rungs[OUTCOME] = ProcessResponse(d, width, k)
    for number, make in enumerate(surrogates):
        surrogate = make()
        if not isinstance(surrogate, Surrogate):
            raise ArgumentTypeError(f"`surrogate` must make a Surrogate, got {surrogate!r} from {make!r}.")
        name = type(surrogate).__name__
        rungs[name if name not in rungs else f"{name} {number}"] = surrogate
    return rungs


def _is_affine(rows: Rows) -> bool:
    """Whether the objective is, but for scale and shift, the outcome itself: a number a row."""
    outcome = rows.outcome.double().reshape(len(rows), -1)
    if outcome.shape[1] > 1:
        return False
    line = torch.cat([torch.ones_like(outcome), outcome], 1)
    fitted = line @ torch.linalg.lstsq(line, rows.value[:, None]).solution
    return bool((fitted[:, 0] - rows.value).abs().max() <= 1e-6 * rows.value.std(correction=0))


def _flat(objective: Objective | None, shape: Sequence[int]) -> Callable[..., Tensor]:
    """The objective of outcomes of any batch shape, [..., m] (, [..., k]) -> [...], from one of rows of a shape."""

    def values(outcome: Tensor, x: Tensor | None = None) -> Tensor:
        batch, rows = outcome.shape[:-1], outcome.reshape(-1, *shape)
        if objective is None:
            return rows.reshape(*batch, -1).squeeze(-1)
        result = objective(rows) if x is None else objective(rows, x.reshape(-1, x.shape[-1]))
        return result.reshape(batch)

    return values
