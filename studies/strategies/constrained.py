"""Bayesian optimisation under constraints on the outcome: improvement times the chance to be feasible."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from botorch.acquisition.logei import qLogNoisyExpectedImprovement
from botorch.acquisition.objective import GenericMCObjective
from botorch.models import SingleTaskGP
from botorch.sampling import SobolQMCNormalSampler
from torch import Tensor

from diffsim.errors import ArgumentError
from studies.history import History, Proposal
from studies.objective import Objective
from studies.strategies.model_based import ModelBased
from studies.strategies.modelling import modelling
from studies.strategies.outputs import Outputs, check_functions, predict
from studies.strategies.search import cover, search_minimum
from studies.strategies.settings import check_asked, check_count, check_objective, start_point
from studies.strategies.success import Success, coordinates

__all__ = ["ConstrainedImprovement"]

_SAMPLES = 128
_CANDIDATES = 512


@dataclass(frozen=True, slots=True)
class ConstrainedImprovement:
    """Minimises an objective where constraints on the outcome hold; one is met where it is at most 0.

    The objective and each constraint have a Gaussian process of their own. A point counts by its expected improvement
    on the best feasible one times its chance to be feasible.

    Args:
        objective: What is minimised, of the outcome (and the inputs x, where observed); None: the outcome itself.
        constraints: Functions of the same arguments; feasible where each is at most 0.
        probability: What the answer's chance to be feasible must be.
        initial: Trials, those of a Sobol sequence, before the model decides; 2 (d + 1), at most 20, by default.

    Raises:
        ArgumentError: There is no constraint, a count is too small, or the probability does not lie between 0 and 1.
        ArgumentTypeError: The objective or a constraint is no function.

    Source: Gardner et al., 2014, Bayesian optimization with inequality constraints; Ament et al., 2023, arXiv
    2310.20708.
    """

    objective: Objective | None = None
    constraints: Sequence[Objective] = ()
    probability: float = 0.95
    initial: int | None = None

    def __post_init__(self) -> None:
        check_objective(self.objective)
        check_functions("constraints", self.constraints)
        if not self.constraints:
            raise ArgumentError("`constraints` must hold one function at least. Without, use NoisyExpectedImprovement.")
        if not 0 < self.probability < 1:
            raise ArgumentError(f"`probability` must lie between 0 and 1, got {self.probability!r}.")
        if self.initial is not None:
            check_count("initial", self.initial)

    def propose(self, history: History, n: int, generator: torch.Generator) -> Proposal:
        outputs = self._outputs(history)
        initial = min(2 * (history.space.dim + 1), 20) if self.initial is None else self.initial
        start = initial if len(outputs) else len(history.tried) + n + 1  # nothing is known: go on with the sequence
        inner = ModelBased(lambda _: outputs.fit(), lambda model, _: self._improvement(model, outputs), start=start)
        with modelling(generator):
            return inner.propose(outputs.history, n, generator)

    def recommend(self, history: History) -> Tensor:
        """The lowest mean objective where trials succeed, feasibly, with the probability asked, shape [d].

        Where there is none, the point that is most likely feasible; the centre without any complete trial.
        """
        outputs, space = self._outputs(history), history.space
        if len(outputs) == 0:
            return start_point(space, None)
        with modelling(torch.Generator().manual_seed(0)):
            model = outputs.fit()
            success = Success.of(space, outputs.theta, outputs.history.failed)

            def lacking(theta: Tensor) -> Tensor:
                chance = _log_feasible(*predict(model, theta))
                if success is not None:
                    chance = chance + success.log_chance(coordinates(space, theta))
                return float(np.log(self.probability)) - chance

            def penalised(theta: Tensor, weight: float) -> Tensor:
                return predict(model, theta)[0][:, 0] + weight * lacking(theta).clamp_min(0)

            candidates = torch.cat([outputs.theta, cover(space, _CANDIDATES, seed=0)])
            with torch.no_grad():
                allowed = candidates[lacking(candidates) <= 0]
                means = predict(model, allowed)[0][:, 0] if len(allowed) else None
            if means is None:
                return search_minimum(lacking, candidates, space)[0]
            best, value = allowed[means.argmin()], float(means.min())
            for weight in (1.0, 10.0, 100.0):  # an exact penalty: large enough, its minimum is feasible
                found, reached = search_minimum(partial(penalised, weight=weight), allowed, space)
                if reached < value and float(lacking(found[None]).detach()) <= 1e-6:
                    best, value = found, reached
        return best

    def estimate(self, history: History, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the model says of points.

        Args:
            history: The trials that it learns from, one complete at least.
            theta: Where, shape [n, d]; `recommend(history)[None]`, say.

        Returns:
            Mean objective, its standard deviation, and the probability of being feasible, float64, each of shape [n].

        Raises:
            ArgumentError: Theta has the wrong shape, or there is nothing to learn from.
            ArgumentTypeError: Theta is no tensor.
        """
        outputs = self._outputs(history)
        theta = check_asked(theta, history.space, len(outputs))
        with modelling(torch.Generator().manual_seed(0)):
            mean, deviation = (part.detach() for part in predict(outputs.fit(), theta))
        scale = outputs.scale[0]
        return scale * mean[:, 0], scale * deviation[:, 0], _log_feasible(mean, deviation).exp()

    def _outputs(self, history: History) -> Outputs:
        return Outputs([self.objective], self.constraints, history)

    def _improvement(self, model: SingleTaskGP, outputs: Outputs) -> qLogNoisyExpectedImprovement:
        sampler = SobolQMCNormalSampler(torch.Size([_SAMPLES]), seed=0)
        constraints = [partial(_output, place=place) for place in range(1, 1 + len(self.constraints))]
        return qLogNoisyExpectedImprovement(
            model, outputs.theta, sampler=sampler, objective=GenericMCObjective(_gain), constraints=constraints
        )


def _gain(samples: Tensor, X: Tensor | None = None) -> Tensor:
    return -samples[..., 0]


def _output(samples: Tensor, place: int) -> Tensor:
    return samples[..., place]


def _log_feasible(mean: Tensor, deviation: Tensor) -> Tensor:
    """The logarithm of the probability that all constraints are met, shape [n, 1 + m] -> [n]."""
    return torch.special.log_ndtr(-mean[:, 1:] / deviation[:, 1:]).sum(1)
