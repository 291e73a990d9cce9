"""CMA-ES, the covariance matrix adaptation evolution strategy of the `cma` library, as a pure strategy."""

import copy
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from studies.history import History, Proposal
from studies.objective import Objective
from studies.randomness import isolated
from studies.spaces.base import Space
from studies.strategies.plan import Plan
from studies.strategies.settings import box_of, check_count, check_objective, start_point, widths_of

__all__ = ["CMAES"]

_Generation = tuple[int, tuple[float | None, ...]]  # its seed, and the mean objective of each of its points
_Origin = tuple[tuple[float, ...], tuple[float, ...], int | None]  # start and sigma in the unit cube, population
_KEPT: dict[tuple[_Origin, tuple[_Generation, ...]], Any] = {}  # spares replays; a state in it is never changed
_N_KEPT = 64


@dataclass(frozen=True, slots=True)
class CMAES:
    """CMA-ES: a Gaussian that moves to where a population's best points lie, and learns its scales and correlations.

    Each generation is a population of points, simulated `repeats` times and ranked by their mean objective. Seeds and
    means ride in the rounds' notes, and the library's state is replayed from them. A point whose simulations all fail
    ranks last.

    Args:
        objective: What is minimised, of the outcome (and the inputs x, where observed); None: the outcome itself.
        start: The first mean; the centre of the box by default.
        sigma: The first standard deviation, in the parameters' units (for a Log in natural logarithms): one number,
            or one for each parameter; a fifth of the box's widths by default.
        repeats: Simulations of each point, averaged.
        population: Points a generation; 4 + 3 ln d by default.

    Raises:
        ArgumentError: A count is too small, the start lies outside the box, or sigma is not positive.
        ArgumentTypeError: The space is no box, or the objective no function.
        ImportError: The library is missing.

    Source: Hansen, 2016, The CMA evolution strategy: a tutorial, arXiv 1604.00772.
    """

    objective: Objective | None = None
    start: Sequence[float] | None = None
    sigma: float | Sequence[float] | None = None
    repeats: int = 1
    population: int | None = None

    def __post_init__(self) -> None:
        check_objective(self.objective)
        check_count("repeats", self.repeats)
        if self.population is not None:
            check_count("population", self.population, least=4)

    def propose(self, history: History, n: int, generator: torch.Generator) -> Proposal:
        plan = self._plan(history)
        if plan is not None and not plan.is_finished(history):
            return Proposal(plan.next(history, n))
        generations = self._generations(plan, history)
        seed = int(torch.randint(2**31, (), generator=generator))
        state = copy.deepcopy(_replay(self._origin(history.space), generations))
        with _quiet(seed):
            unit = torch.from_numpy(np.asarray(state.ask()))
        told = list(generations[-1][1]) if generations else []
        notes = {"seed": seed, "told": told, "origin": _plain(self._origin(history.space))}
        plan = Plan(box_of(history.space, self).from_unit(unit), self.repeats, history.n_rounds, notes)
        return Proposal(plan.next(history, n), {"cma": plan.note})

    def recommend(self, history: History) -> Tensor:
        """The mean of the Gaussian, shape [d]."""
        generations = self._generations(self._plan(history), history)
        state = _replay(self._origin(history.space), generations)
        return box_of(history.space, self).from_unit(torch.from_numpy(np.array(state.result.xfavorite)))

    def batch(self, history: History) -> int:
        """The trials that are left of the generation, or those of the next one."""
        plan = self._plan(history)
        if plan is None or plan.is_finished(history):
            size = self.population or int(4 + 3 * np.log(history.space.dim))
            return size * self.repeats
        return max(plan.left(history), 1)

    def _plan(self, history: History) -> Plan | None:
        """The last generation; None at the beginning, or where it is another start's."""
        plan = Plan.last(history, "cma")
        return plan if plan and plan.notes["origin"] == _plain(self._origin(history.space)) else None

    def _generations(self, plan: Plan | None, history: History) -> tuple[_Generation, ...]:
        """The finished generations."""
        if plan is None:
            return ()
        notes = [info["cma"] for info in history.info if "cma" in info]
        first = max(number for number, note in enumerate(notes) if not note["told"])
        past = [(note["seed"], tuple(later["told"])) for note, later in pairwise(notes[first:])]
        if plan.is_finished(history):
            means: list[float] = plan.means(self.objective, history).tolist()
            past.append((plan.notes["seed"], tuple(None if np.isnan(mean) else mean for mean in means)))
        return tuple(past)

    def _origin(self, space: Space) -> _Origin:
        """What the first generation depends on, in the unit cube."""
        box = box_of(space, self)
        start = box.to_unit(start_point(box, self.start))
        low, high = box.to_scale(box.bounds)
        sigma = torch.full_like(low, 0.2) if self.sigma is None else widths_of("sigma", self.sigma, box) / (high - low)
        return tuple(start.tolist()), tuple(sigma.tolist()), self.population


def _replay(origin: _Origin, generations: tuple[_Generation, ...]) -> Any:  # noqa: ANN401 - the library has no types
    """The library's state after generations; the caller must not change it."""
    for done in (len(generations), max(len(generations) - 1, 0)):
        if (kept := _KEPT.get((origin, generations[:done]))) is not None:
            state = copy.deepcopy(kept)
            break
    else:
        state, done = _begin(origin), 0
    for seed, values in generations[done:]:
        good = [value for value in values if value is not None]
        if good:
            with _quiet(seed):
                state.tell(state.ask(), [max(good) if value is None else value for value in values])
    while len(_KEPT) >= _N_KEPT:
        _KEPT.pop(next(iter(_KEPT)), None)
    _KEPT[origin, generations] = state
    return state


def _begin(origin: _Origin) -> Any:  # noqa: ANN401
    try:
        import cma
    except ImportError as error:
        raise ImportError('CMA-ES needs the library cma: pip install "diffsim-studies[cma]"') from error
    start, sigma, population = origin
    bounds = [[0] * len(start), [1] * len(start)]
    settings: dict[str, Any] = {"bounds": bounds, "randn": _normal, "seed": np.nan, "verbose": -10, "verb_log": 0}
    if len(start) == 1:
        settings["maxstd"] = np.inf  # the library cannot limit a single one
    if population is not None:
        settings["popsize"] = population
    if len(set(sigma)) > 1:
        settings["CMA_stds"] = [width / sigma[0] for width in sigma]
    with _quiet(0):
        return cma.CMAEvolutionStrategy(list(start), sigma[0], settings)


def _normal(*shape: int) -> NDArray[np.float64]:
    """Global random numbers; a copy of numpy's own function would draw from a copy of their state."""
    return np.random.randn(*shape)


@contextmanager
def _quiet(seed: int) -> Generator[None]:
    """The library draws globally, and warns of flat objectives and the like."""
    with isolated(torch.Generator().manual_seed(seed)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _plain(origin: _Origin) -> list[Any]:
    start, sigma, population = origin
    return [list(start), list(sigma), population]
