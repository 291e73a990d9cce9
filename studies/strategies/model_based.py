"""Bayesian optimisation and active learning in one strategy: fit a model to the history, maximise an acquisition."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

import torch
from botorch.acquisition.acquisition import AcquisitionFunction
from botorch.exceptions import UnsupportedError
from botorch.optim import optimize_acqf
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.history import History, Proposal
from studies.spaces.base import Rounded, Space
from studies.spaces.box import Box
from studies.spaces.pool import Pool
from studies.strategies.base import Strategy
from studies.strategies.modelling import quiet
from studies.strategies.projected_search import descend_projected
from studies.strategies.random import Random
from studies.strategies.settings import check_count
from studies.strategies.sobol import Sobol
from studies.strategies.success import Success, coordinates

__all__ = ["ModelBased"]

M = TypeVar("M")
_CHUNK = 128
_optimize = cast("Callable[..., tuple[Tensor, Tensor]]", optimize_acqf)  # one value, as q is 1


@dataclass(frozen=True)
class ModelBased(Generic[M]):
    """Fit a model to the history, then take the designs that maximise an acquisition function.

    A round of several trials is chosen one after the other, each knowing those before it and the pending ones
    (`X_pending`). Over a `Box` the acquisition is searched on a scrambled Sobol sample, then climbed by L-BFGS from
    its best points; over a `Pool` every untried candidate is looked at. Over other spaces, such as an `EnergyShell`,
    and under constraints it is climbed by steps that are moved back into the space. Where trials tend to fail none is
    placed.

    Args:
        fit: Fits a model to a history, of at least one complete trial.
        acquire: Makes a BoTorch acquisition function of the model and the history; larger is better there.
        start: Number of trials, complete or pending, from which the model decides.
        initial: The strategy before that; Sobol by default (random over a pool).
        candidates: Number of Sobol candidates.
        climb: L-BFGS iterations from the best candidates; 0 takes the best candidate itself.
        restarts: Number of candidates from which it climbs.

    Raises:
        ArgumentError: A count is out of its range, or trials are pending (or a round has several) and the acquisition
            cannot take them into account.
        ArgumentTypeError: `fit` or `acquire` is no function, or the latter makes no acquisition function.

    Source: Jones, Schonlau and Welch, 1998; Balandat et al., 2020, arXiv 1910.06403.
    """

    fit: Callable[[History], M]
    acquire: Callable[[M, History], AcquisitionFunction]
    start: int = 2
    initial: Strategy | None = None
    candidates: int = 256
    climb: int = 20
    restarts: int = 4

    def __post_init__(self) -> None:
        for name, function in (("fit", self.fit), ("acquire", self.acquire)):
            if not callable(function):
                raise ArgumentTypeError(f"`{name}` must be a function, got {function!r}.")
        for name, least in (("start", 1), ("candidates", 1), ("climb", 0), ("restarts", 1)):
            check_count(name, getattr(self, name), least)

    def propose(self, history: History, n: int, generator: torch.Generator) -> Proposal:
        missing = self.start - len(history) - len(history.pending)
        if missing > 0 or len(history) == 0:
            default = Sobol() if isinstance(history.space, Box) else Random()
            return (self.initial or default).propose(history, n, generator)
        acquisition = self.acquire(self.fit(history), history)
        if not isinstance(acquisition, AcquisitionFunction):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(f"`acquire` must return a BoTorch AcquisitionFunction, got {acquisition!r}.")
        success = Success.of(history.space, history.theta, history.failed)
        chosen: list[Tensor] = []
        values: list[float] = []
        for _ in range(n):
            taken = torch.cat([history.pending, *chosen])
            if len(taken):
                _set_pending(acquisition, taken)
            theta, value = self._best(acquisition, success, history, taken, generator)
            chosen.append(theta)
            values.append(value)
        return Proposal(torch.cat(chosen), {"acquisition": values})

    def _best(
        self,
        acquisition: AcquisitionFunction,
        success: Success | None,
        history: History,
        taken: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, float]:
        candidates = self._candidates(history, taken, generator)
        allowed = _allowed(success, history.space, candidates)
        candidates = candidates[allowed] if bool(allowed.any()) else candidates
        with torch.no_grad():
            values = torch.cat([acquisition(part[:, None]) for part in candidates.split(_CHUNK)])
        values = torch.where(torch.isfinite(values), values, -torch.inf)
        order = values.argsort(descending=True, stable=True)
        theta, value = candidates[order[:1]], float(values[order[0]])
        space, starts = history.space, candidates[order[: self.restarts]]
        if not self.climb or not isinstance(space, Rounded):
            return theta, value
        if isinstance(space, Box) and space.is_continuous and not space.constraints:
            with quiet():
                climbed, reached = _optimize(
                    acquisition,
                    space.bounds,
                    q=1,
                    num_restarts=self.restarts,
                    batch_initial_conditions=starts[:, None],
                    options={"maxiter": self.climb},
                )
            climbed, reached = climbed.detach(), float(reached)
        else:
            places, losses = descend_projected(lambda theta: -acquisition(theta[:, None]), starts, space, self.climb)
            climbed, reached = places[losses.argmin()][None], -float(losses.min())
        better = reached > value and (not bool(allowed.any()) or bool(_allowed(success, space, climbed).all()))
        return (climbed, reached) if better else (theta, value)

    def _candidates(self, history: History, taken: Tensor, generator: torch.Generator) -> Tensor:
        space = history.space
        if isinstance(space, Pool):
            return space.without(torch.cat([history.tried, taken])).candidates
        if isinstance(space, Box):
            return space.sobol(self.candidates, int(torch.randint(2**31, (), generator=generator)))
        return space.sample(self.candidates, generator)


def _allowed(success: Success | None, space: Space, theta: Tensor) -> Tensor:
    """Where trials tend to succeed, shape [n, d] -> [n], bool: everywhere as long as none failed."""
    if success is None:
        return torch.ones(len(theta), dtype=torch.bool)
    return success.allows(coordinates(space, theta))


def _set_pending(acquisition: AcquisitionFunction, taken: Tensor) -> None:
    try:
        acquisition.set_X_pending(taken)
    except UnsupportedError as error:
        raise ArgumentError(
            f"`acquire` gave a {type(acquisition).__name__}, which knows nothing of the {len(taken)} trials that are "
            "pending or chosen in this round. Use its Monte Carlo form, such as qLogExpectedImprovement, or run one "
            "trial at a time."
        ) from error
