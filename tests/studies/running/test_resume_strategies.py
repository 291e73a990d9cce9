"""For every strategy: a study that stops half-way and is made again equals an unbroken one, bit for bit."""

import pytest
import torch
from botorch.acquisition import LogExpectedImprovement
from botorch.models import SingleTaskGP

import studies
from studies.gradients import with_gradient
from studies.spaces.box import Box
from studies.study import Study
from surrogates.generators.response import LinearResponse

BOX = Box({"a": (-1.0, 2.0), "b": (0.0, 1.0)})


def bowl(theta):
    return (theta - 0.3).square().sum(-1)


def noisy(theta, generator):
    return bowl(theta)[:, None] + 0.05 * torch.randn(len(theta), 2, generator=generator, dtype=torch.float64)


def first(outcome):
    return outcome[..., 0]


def second(outcome):
    return outcome[..., 1]


def process(history):
    return SingleTaskGP(history.theta, -history.outcome[:, :1])


def improvement(model, history):
    return LogExpectedImprovement(model, -history.outcome[:, 0].min())


WITH_GRADIENT = with_gradient(bowl)
CASES = {
    "CMAES": (studies.CMAES(first), noisy),
    "ConstrainedImprovement": (studies.ConstrainedImprovement(first, [second], initial=3), noisy),
    "FiniteDifferences": (studies.FiniteDifferences(first), noisy),
    "GradientDescent": (studies.GradientDescent(), WITH_GRADIENT),
    "GradientImprovement": (studies.GradientImprovement(), WITH_GRADIENT),
    "HypervolumeImprovement": (studies.HypervolumeImprovement([first, second], initial=3), noisy),
    "LocalDescent": (studies.LocalDescent(objective=first), noisy),
    "ModelBased": (studies.ModelBased(process, improvement), noisy),
    "NoisyExpectedImprovement": (studies.NoisyExpectedImprovement(first, initial=3), noisy),
    "PaperLoop": (studies.PaperLoop(lambda: LinearResponse(2, 2), first, points=3, repeats=2, samples=20), noisy),
    "Random": (studies.Random(), noisy),
    "RandomSearch": (studies.RandomSearch(first), noisy),
    "Sobol": (studies.Sobol(), noisy),
    "TuRBO": (studies.TuRBO(first, initial=3), noisy),
}


def is_strategy(value):
    return isinstance(value, type) and hasattr(value, "propose") and not getattr(value, "_is_protocol", False)


def test_every_strategy_is_here():
    assert {name for name in studies.__all__ if is_strategy(getattr(studies, name))} == set(CASES)


@pytest.mark.parametrize("half", [3, pytest.param(25, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
@pytest.mark.parametrize("name", CASES)
def test_two_halves_equal_the_whole(tmp_path, name, half):
    strategy, simulator = CASES[name]
    whole = Study(BOX, strategy, seed=7).run(simulator, trials=2 * half, batch=1)
    Study(BOX, strategy, tmp_path / "runs.db", seed=7).run(simulator, trials=half, batch=1)
    halves = Study(BOX, strategy, tmp_path / "runs.db", seed=7).run(simulator, trials=2 * half, batch=1)
    assert len(whole) == 2 * half and torch.equal(halves.theta, whole.theta)
    assert torch.equal(halves.outcome, whole.outcome) and halves.info == whole.info
