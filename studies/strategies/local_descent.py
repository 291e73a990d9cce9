"""Local surrogates in a trust region: descent of a stochastic black box by gradients that it does not have."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.history import History, Proposal
from studies.objective import Objective
from studies.spaces.box import Box
from studies.strategies.local_evidence import difference, evidence_of
from studies.strategies.local_models import OUTCOME, LocalModel, Rows, fit_ladder, search_ball
from studies.strategies.local_rounds import asked, fails, finished
from studies.strategies.penalties import learnable
from studies.strategies.settings import box_of, check_count, check_objective, start_point
from studies.strategies.success import good_and_bad, parted
from studies.strategies.trust_region import GROW, LARGEST, SHRINK, SIGNIFICANT, Region, judge, reject
from surrogates.simulator import Cost
from surrogates.surrogate import Surrogate

__all__ = ["LocalDescent"]

LEAST = 8  # rows for a first fit
WAIT = 1.5  # times the simulations, before surrogates that did not lead are fitted again
PATIENCE = 3  # rounds in which nothing is seen in the whole box, before the descent starts anew
_CACHE: dict[tuple[object, ...], tuple[Region, LocalModel | None]] = {}  # spares a second fit; changes no number
_N_CACHED = 8


@dataclass(frozen=True, slots=True, eq=False)
class LocalDescent:
    """Descent with surrogates that are fitted around the current point, in a trust region.

    Each round simulates a space-filling sample of a cube about the current point, one simulation a theta, and fits a
    ladder of surrogates to all simulations near there: responses of the objective (linear, quadratic, a Gaussian
    process, one with few directions in many dimensions) and generative surrogates of the outcome. The one that predicts
    held-out theta best says where the objective is smallest within reach: there the next round looks. Its simulations
    test the step: it is taken back where the objective got significantly worse; the region shrinks where the model was
    significantly too hopeful or has found its minimum, and grows where a step went to its boundary as predicted. Where
    nothing is seen above the noise it grows and takes more samples. From a plateau as wide as the box it starts anew.
    Where simulations tend to fail it does not go.

    All lengths are in units of the box; there is nothing to tune. What was decided is in `Proposal.info["local"]`.

    Args:
        surrogate: Makes a surrogate of the outcome, such as `lambda: ConditionalFlow(2, 2)`, or several such functions:
            further rungs of the ladder.
        objective: What is minimised, of the outcome (and the inputs x, where observed); None: the outcome itself.
        start: Where to start; by default the best of the trials that a study was given, or the centre of the box.
        radius: Half-width of the first region as a share of the box's widths; 0.2 / sqrt(d) by default.
        size: Simulations of the first round; 24 + 2 d by default.
        cost: The simulator's; where setting up a theta costs more than a simulation, each is simulated several times.

    Raises:
        ArgumentError: The start lies outside the box, or a number is out of range.
        ArgumentTypeError: The space is no box, or a function is none.

    Source: Shirobokov et al., 2020, arXiv 2002.04632, for the surrogates; Shashaani, Hashemi and Pasupathy, 2018,
        arXiv 1610.06506, for trust regions under noise.
    """

    surrogate: Callable[[], Surrogate] | Sequence[Callable[[], Surrogate]] | None = None
    objective: Objective | None = None
    start: Sequence[float] | None = None
    radius: float | None = None
    size: int | None = None
    cost: Cost | None = None

    def __post_init__(self) -> None:
        check_objective(self.objective)
        for make in self._surrogates:
            if isinstance(make, Surrogate) or not callable(make):
                raise ArgumentTypeError(
                    f"`surrogate` must be a function that makes one, got {make!r}. Pass "
                    "`lambda: ConditionalFlow(2)`, say."
                )
        if not isinstance(self.cost, Cost | None):
            raise ArgumentTypeError(f"`cost` must be a Cost, got {self.cost!r}. Pass `Cost(setup=100)`, say.")
        if self.radius is not None and not 0 < self.radius <= LARGEST:
            raise ArgumentError(f"`radius` must lie above 0 and be at most {LARGEST}, got {self.radius}.")
        if self.size is not None:
            check_count("size", self.size, least=LEAST)

    def propose(self, history: History, n: int, generator: torch.Generator) -> Proposal:
        box = box_of(history.space, self)
        last = self._last(history)
        if last is None:
            region = self._first(history, int(torch.randint(2**31, (), generator=generator)))
        elif not finished(history, *last):
            return Proposal(box.from_unit(last[1].points(asked(history, last[0]), n)))
        else:
            region, _ = self._next(history, *last)
        return Proposal(box.from_unit(region.points(0, n)), {"local": region.note})

    def batch(self, history: History) -> int:
        """The trials that are left of the round, or those of the next one."""
        last = self._last(history)
        if last is None:
            box = box_of(history.space, self)
            start_point(box, self.start)  # refuses one outside the box
            return self._size(box) * self._repeats(1.0, 10**9)
        if finished(history, *last):
            return self._next(history, *last)[0].size
        return max(last[1].size - asked(history, last[0]), 1)

    def recommend(self, history: History) -> Tensor:
        """The mean of the descent's last points, shape [d]."""
        box = box_of(history.space, self)
        last = self._last(history)
        if last is None:
            return self._start(history)
        regions, model = [region for _, region in Region.all(history, "local")], None
        if len(history) >= LEAST:
            region, model = self._next(history, *last)
            regions.append(region)
        best = _best(regions, model)
        if model is not None and model.success is not None and not bool(model.success.allows(best)):
            good = box.to_unit(good_and_bad(history, self.objective)[0])
            best = good[model.mean(good).argmin()]
        return box.from_unit(best)

    @property
    def _surrogates(self) -> Sequence[Callable[[], Surrogate]]:
        given = () if self.surrogate is None else self.surrogate
        return tuple(given) if isinstance(given, Sequence) else (given,)

    def _last(self, history: History) -> tuple[int, Region] | None:
        regions = Region.all(history, "local")
        return regions[-1] if regions else None

    def _first(self, history: History, seed: int) -> Region:
        box, repeats = box_of(history.space, self), self._repeats(1.0, 10**9)
        center = box.to_unit(self._start(history))
        return Region(tuple(center.tolist()), self._radius(box), self._size(box) * repeats, repeats, seed)

    def _start(self, history: History) -> Tensor:
        """The given start; else, of trials that were there before, the one of the least mean; else the centre."""
        box, value = box_of(history.space, self), learnable(self.objective, history)
        good = value.isfinite()
        theta = history.theta[good]
        if self.start is not None or len(theta) < LEAST or len(theta.unique(dim=0)) < 4:
            return start_point(box, self.start)
        rows = Rows.of(history, value).take(good)
        model = fit_ladder(rows, self.objective, (), 0)
        with torch.no_grad():
            return theta[model.mean(rows.unit).argmin()]

    def _size(self, box: Box) -> int:
        return self.size or 24 + 2 * box.dim

    def _radius(self, box: Box) -> float:
        return self.radius or 0.2 / math.sqrt(box.dim)

    def _repeats(self, ratio: float, most: int) -> int:
        """Simulations of each theta, from the variance within theta over that between them."""
        cost = self.cost or Cost()
        if cost.setup == 0:
            return 1
        best = math.sqrt(cost.setup / max(cost.simulation, 1e-12) * ratio)
        return max(1, min(round(best), most))

    def _next(self, history: History, began: int, region: Region) -> tuple[Region, LocalModel | None]:
        """The region after the last one's simulations, and the model that it came from."""
        key = (self, history.space, region.seed, began, len(history.trials), _digest(history))
        if key not in _CACHE:
            while len(_CACHE) >= _N_CACHED:
                _CACHE.pop(next(iter(_CACHE)))
            _CACHE[key] = self._advance(history, began, region)
        return _CACHE[key]

    def _advance(self, history: History, began: int, region: Region) -> tuple[Region, LocalModel | None]:
        box = cast(Box, history.space)
        seed = int(torch.randint(2**31, (), generator=torch.Generator().manual_seed(region.seed)))
        region = replace(region, seed=seed)
        rows, new, failed = self._rows(history, began, region)
        if len(rows) < LEAST or len(rows.unit.unique(dim=0)) < 4:
            return _seek(region, rows), None
        due = len(history) >= region.wait
        model = fit_ladder(rows, self.objective, self._surrogates if due else (), seed)
        model = model.wary(rows.unit, failed)
        if due:
            region = replace(region, wait=0 if model.is_given else math.ceil(WAIT * len(history)))
        tested = region
        if region.previous is not None and finished(history, began, region) and fails(history, began, int(new.sum())):
            tested = reject(region, f"only {int(new.sum())} simulations succeeded")
        elif region.previous is not None and int(new.sum()) >= 4 and int((~new).sum()) >= LEAST:
            tested = judge(region, evidence_of(model.response, rows, new, region))
        if tested.blind >= PATIENCE and tested.radius >= LARGEST:
            return self._restart(box, tested, model), model
        return self._step(box, tested, region, rows, model), model

    def _step(self, box: Box, tested: Region, before: Region, rows: Rows, model: LocalModel) -> Region:
        with torch.no_grad():
            means = model.mean(rows.unit)
        center = tested.middle
        starts = torch.cat([center[None], rows.unit[means.argsort()[:3]]])
        for mean in (model.mean, model.judged):  # the process's own step, where it sees a loss in the other
            target = search_ball(mean, center, tested.ball, starts)
            gain, error = difference(model.response, target, center)
            if gain <= SIGNIFICANT * error:
                break
        step = float((target - center).norm()) / tested.ball
        clear = float(means.std()) > SIGNIFICANT * error
        resolved = tested.decision == "kept" and step < 0.5 and clear
        variance = float(model.response(rows.unit, rows.x).variance.mean())
        repeats = self._repeats(variance / max(float(means.var()), 1e-300), tested.size)
        usual = self._size(box) * repeats
        return replace(
            tested,
            center=tuple(target.tolist()),
            radius=SHRINK * tested.radius if resolved else tested.radius,
            decision="shrunk: the minimum lies inside" if resolved else tested.decision,
            size=min(max(tested.size, usual, len(rows) // 10), max(usual, len(rows) // 2)),
            repeats=repeats,
            previous=tuple(center.tolist()),
            previous_radius=before.radius,
            gain=gain,
            error=error,
            step=step,
            rung=model.name,
            scores=model.scores,
        )

    def _restart(self, box: Box, region: Region, model: LocalModel) -> Region:
        generator = torch.Generator().manual_seed(region.seed)
        center = torch.rand(box.dim, dtype=torch.float64, generator=generator)
        fresh = Region(tuple(center.tolist()), self._radius(box), self._size(box) * region.repeats, region.repeats, 0)
        best = _best([region], model)
        value = float(model.response.mean(best[None]))
        fresh = replace(fresh, best=tuple(best.tolist()), best_value=value, decision="restarted: a plateau")
        return replace(fresh, seed=region.seed, descent=region.descent + 1)

    def _rows(self, history: History, began: int, region: Region) -> tuple[Rows, Tensor, Tensor]:
        """The good rows near a region, which of them are of its own round, and where others failed near there."""
        value, box = learnable(self.objective, history), cast(Box, history.space)
        unit, failed = box.to_unit(history.theta), box.to_unit(parted(value.isfinite(), history)[1])
        which, near = value.isfinite() & region.near(unit), region.near(failed)
        return Rows.of(history, value).take(which), (history.round >= began)[which], failed[near]

    def answer(self, history: History, objective: Objective) -> Tensor:
        """The best parameters for another objective, from the trials so far, shape [d].

        Surrogates of the outcome are fitted to all trials and searched within the part of the box that was simulated.

        Raises:
            ArgumentError: There are too few trials.
        """
        box, value = box_of(history.space, self), learnable(objective, history)
        good = value.isfinite()
        if int(good.sum()) < LEAST:
            raise ArgumentError(f"`history` must hold at least {LEAST} trials with a finite objective. Simulate more.")
        rows = Rows.of(history, value).take(good)
        model = fit_ladder(rows, objective, self._surrogates, 0, first=OUTCOME)
        with torch.no_grad():
            best = rows.unit[model.mean(rows.unit).argsort()[:5]]
        low, high = rows.unit.aminmax(dim=0)
        found = search_ball(model.mean, best[0], float((high - low).norm()) / 4, best)
        return box.from_unit(found.clamp(low, high))


def _best(regions: Sequence[Region], model: LocalModel | None) -> Tensor:
    """The descent's answer, or that of an earlier descent where it was better, shape [d]."""
    last, answer = regions[-1], _average(regions)
    if last.best is None or last.best_value is None:
        return answer
    better = model is not None and float(model.response.mean(answer[None])) < last.best_value
    return answer if better else torch.tensor(last.best, dtype=torch.float64)


def _average(regions: Sequence[Region]) -> Tensor:
    """The mean of the last centres, weighted by their samples: those since the last long step, near the last one."""
    last = regions[-1]
    total, weight = torch.zeros(len(last.center), dtype=torch.float64), 0
    for region in reversed(regions):
        if float((region.middle - last.middle).norm()) > 0.5 * last.ball:
            break
        total, weight = total + region.size * region.middle, weight + region.size
        if region.step > 0.5 or region.previous is None:
            break
    return total / weight


def _seek(region: Region, rows: Rows) -> Region:
    """Where to go while too few simulations succeeded for a fit: to the best of them, or further afield."""
    if not len(rows):
        return replace(region, radius=min(GROW * region.radius, LARGEST), decision="grown: no simulation succeeded")
    center, radius = tuple(rows.unit[rows.value.argmin()].tolist()), SHRINK * region.radius
    decision = f"shrunk: {len(rows)} simulations succeeded"
    return replace(region, center=center, radius=radius, previous=None, decision=decision)


def _digest(history: History) -> int:
    return hash((history.theta.numpy().tobytes(), history.outcome.numpy().tobytes()))
