"""Bayesian optimisation of several objectives at once: noisy expected improvement of the volume that is dominated."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from botorch.acquisition.multi_objective import logei
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.acquisition.multi_objective.objective import GenericMCMultiOutputObjective
from botorch.models import SingleTaskGP
from botorch.sampling import SobolQMCNormalSampler
from botorch.utils.multi_objective import Hypervolume, infer_reference_point, is_non_dominated
from torch import Tensor

from diffsim.errors import ArgumentError
from studies.history import History, Proposal
from studies.objective import Objective
from studies.strategies.model_based import ModelBased
from studies.strategies.modelling import modelling
from studies.strategies.outputs import Outputs, check_functions, predict
from studies.strategies.settings import check_count

__all__ = ["Front", "HypervolumeImprovement"]

_SAMPLES = 32


@dataclass(frozen=True, slots=True, eq=False)
class Front:
    """Simulated points of which none is better than another in all objectives, by the model's means.

    Args:
        theta: Shape [k, d], in the order of the first objective.
        mean: Their mean objectives, shape [k, m].
        deviation: The standard deviations of these, shape [k, m].
        volume: The volume between the front and the reference.
    """

    theta: Tensor
    mean: Tensor
    deviation: Tensor
    volume: float

    def __len__(self) -> int:
        return len(self.theta)


@dataclass(frozen=True, slots=True)
class HypervolumeImprovement:
    """Minimises several objectives: looks for the front of points that cannot be improved in all of them.

    Each objective has a Gaussian process of its own. There is no single answer: `front` has them all.

    Args:
        objectives: Functions of the outcome (and the inputs x, where observed), two at least; smaller is better.
        reference: A value of each objective that is just not good enough: the front is sought below. By default a tenth
            of the front's range above its largest values so far.
        constraints: Functions of the same arguments; feasible where each is at most 0.
        initial: Trials, those of a Sobol sequence, before the model decides; 2 (d + 1), at most 20, by default.

    Raises:
        ArgumentError: There are fewer than two objectives, or not one reference for each, or a count is too small.
        ArgumentTypeError: An objective or a constraint is no function.

    Source: Daulton, Balandat and Bakshy, 2021, arXiv 2105.08195; Ament et al., 2023, arXiv 2310.20708.
    """

    objectives: Sequence[Objective]
    reference: Sequence[float] | None = None
    constraints: Sequence[Objective] = ()
    initial: int | None = None

    def __post_init__(self) -> None:
        check_functions("objectives", self.objectives)
        check_functions("constraints", self.constraints)
        m = len(self.objectives)
        if m < 2:
            raise ArgumentError(f"`objectives` must hold at least two functions, got {m}.")
        if self.reference is not None:
            given = torch.as_tensor(self.reference, dtype=torch.float64)
            if given.shape != (m,) or not bool(given.isfinite().all()):
                raise ArgumentError(f"`reference` must hold {m} finite numbers, got {self.reference!r}.")
        if self.initial is not None:
            check_count("initial", self.initial)

    def propose(self, history: History, n: int, generator: torch.Generator) -> Proposal:
        outputs = self._outputs(history)
        initial = min(2 * (history.space.dim + 1), 20) if self.initial is None else self.initial
        start = initial if len(outputs) else len(history.tried) + n + 1  # nothing is known: go on with the sequence
        inner = ModelBased(
            lambda _: outputs.fit(),
            lambda model, _: self._improvement(model, outputs),
            start,
            candidates=128,
            restarts=2,
        )
        with modelling(generator):
            return inner.propose(outputs.history, n, generator)

    def front(self, history: History) -> Front:
        """The simulated points that no other dominates, by the model's means, not by lucky draws.

        Points that are likelier to break a constraint than not are left out.
        """
        outputs, m = self._outputs(history), len(self.objectives)
        if len(outputs) == 0:
            none = torch.empty(0, m, dtype=torch.float64)
            return Front(outputs.theta, none, none, 0.0)
        theta = outputs.theta.unique(dim=0)
        with modelling(torch.Generator().manual_seed(0)):
            mean, deviation = (part.detach() for part in predict(outputs.fit(), theta))
        allowed, scale = (mean[:, m:] <= 0).all(1), outputs.scale[:m]
        theta, mean, deviation = theta[allowed], scale * mean[allowed, :m], scale * deviation[allowed, :m]
        best = is_non_dominated(-mean) if len(mean) else torch.empty(0, dtype=torch.bool)
        order = mean[best, 0].argsort(stable=True)
        theta, mean, deviation = theta[best][order], mean[best][order], deviation[best][order]
        reference = scale * self._reference(outputs)
        inside = (mean < reference).all(1)
        volume = Hypervolume(-reference).compute(-mean[inside]) if bool(inside.any()) else 0.0
        return Front(theta, mean, deviation, volume)

    def _outputs(self, history: History) -> Outputs:
        return Outputs(self.objectives, self.constraints, history)

    def _reference(self, outputs: Outputs) -> Tensor:
        """The reference in units of the outputs' scale, shape [m]."""
        m = len(self.objectives)
        if self.reference is not None:
            return torch.as_tensor(self.reference, dtype=torch.float64) / outputs.scale[:m]
        feasible = (outputs.values[:, m:] <= 0).all(1)
        values = outputs.values[feasible if bool(feasible.any()) else slice(None), :m]
        return -infer_reference_point(-values[is_non_dominated(-values)], scale_max_ref_point=False)

    def _improvement(self, model: SingleTaskGP, outputs: Outputs) -> qLogNoisyExpectedHypervolumeImprovement:
        m = len(self.objectives)
        logei.__dict__["_load_attempted"] = True  # it would run a C++ compiler, for minutes, when it is first used
        constraints = [partial(_output, place=m + place) for place in range(len(self.constraints))]
        return qLogNoisyExpectedHypervolumeImprovement(
            model,
            -self._reference(outputs),
            outputs.theta,
            sampler=SobolQMCNormalSampler(torch.Size([_SAMPLES]), seed=0),
            objective=GenericMCMultiOutputObjective(partial(_gains, m=m)),
            constraints=constraints or None,
            prune_baseline=True,
        )


def _gains(samples: Tensor, X: Tensor | None = None, *, m: int) -> Tensor:
    return -samples[..., :m]


def _output(samples: Tensor, place: int) -> Tensor:
    return samples[..., place]
