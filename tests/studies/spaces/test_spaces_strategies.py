"""Strategies on boxes that are not plain: logarithmic parameters are searched as such, others taken or refused."""

import pytest
import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.contracts import check_strategy
from studies.spaces.box import Box
from studies.spaces.constraints import Linear, Nonlinear
from studies.spaces.energy_shell import EnergyShell
from studies.spaces.parameters import Choice, Integer, Log
from studies.strategies.cma_es import CMAES
from studies.strategies.finite_differences import FiniteDifferences
from studies.strategies.local_descent import LocalDescent
from studies.strategies.paper_loop import PaperLoop
from studies.strategies.random import Random
from studies.strategies.random_search import RandomSearch
from studies.strategies.settings import start_point
from studies.strategies.sobol import Sobol
from studies.strategies.turbo import TuRBO
from studies.study import Study
from surrogates.generators.gaussian import GaussianNetwork

RATES = Box({"rate": Log(1e-6, 1.0), "gain": (-1, 1)})
MIXED = Box({"rate": Log(1e-4, 1.0), "blades": Integer(2, 8), "material": Choice("steel", "brass")})
LIMITED = Box({"a": (0, 1), "b": (0, 1)}, constraints=[Nonlinear(lambda theta: 0.2 - (theta - 0.5).square().sum(-1))])
PAPER = PaperLoop(lambda: GaussianNetwork(2), eps=2.0, points=6, repeats=1, lr=1.0, samples=100)
LOCAL = [CMAES(), TuRBO(), LocalDescent(), FiniteDifferences(step=0.5, lr=1.0), PAPER]


def valley(theta, generator):
    """The lowest point is (1e-4, 0.3); 4 / 6 of the width of the logarithm away from the upper end."""
    return ((theta[:, :1].log10() + 4) / 2).square() + (theta[:, 1:] - 0.3).square()


@pytest.mark.parametrize(
    ("strategy", "trials"),
    [
        (CMAES(), 120),
        (TuRBO(), 40),
        (LocalDescent(), 120),
        (FiniteDifferences(step=[0.1, 0.05], lr=[0.7, 0.1]), 160),
    ],
    ids=repr,
)
def test_optimisers_find_a_minimum_on_a_logarithmic_scale(strategy, trials):
    study = Study(RATES, strategy, seed=0)
    study.run(valley, trials=trials, vectorized=True, executor="here", progress=False)
    rate, gain = study.recommend().tolist()
    assert rate == pytest.approx(1e-4, rel=0.7)
    assert gain == pytest.approx(0.3, abs=0.15)


def test_the_paper_loop_steps_along_logarithms():
    study = Study(RATES, PAPER, seed=0)
    history = study.run(valley, trials=7, vectorized=True, executor="here", progress=False)
    ratio = (history.theta[:6, 0] / history.theta[6, 0]).log()
    assert history.theta[6].tolist() == pytest.approx([1e-3, 0.0])
    assert ratio.abs().max() <= 2.0 and ratio.abs().max() > 1.0
    assert study.ask(7).theta[6, 0] < 1e-3


@pytest.mark.parametrize("strategy", LOCAL, ids=lambda strategy: type(strategy).__name__)
@pytest.mark.parametrize(("box", "what"), [(MIXED, r"\['blades', 'material'\]"), (LIMITED, "the constraints")])
def test_local_strategies_refuse_and_name_others(strategy, box, what):
    with pytest.raises(
        ArgumentError, match=f"`{type(strategy).__name__}` needs .*{what}.*Use NoisyExpectedImprovement, RandomSearch"
    ):
        Study(box, strategy).run(valley, trials=1, executor="here", progress=False)


@pytest.mark.parametrize("strategy", [*LOCAL, Sobol()], ids=lambda strategy: type(strategy).__name__)
def test_strategies_for_boxes_refuse_other_spaces(strategy):
    shell = EnergyShell(lambda y: y.square().sum(-1), 1.0, Box({"q": (-2, 2), "p": (-2, 2)}))
    with pytest.raises(ArgumentTypeError, match=r"needs a Box.*Use Random"):
        Study(shell, strategy).run(valley, trials=1, executor="here", progress=False)


@pytest.mark.parametrize("strategy", [Sobol(), Random(), RandomSearch(repeats=2)], ids=repr)
@pytest.mark.parametrize("box", [RATES, MIXED, LIMITED], ids=["rates", "mixed", "limited"])
def test_plain_strategies_take_any_box(strategy, box):
    check_strategy(strategy, box)


def test_random_search_averages_over_neighbours_of_the_same_option():
    def simulator(theta, generator):
        return theta[:, 2:] * 5 + 0.1 * torch.randn(len(theta), 1, generator=generator)

    study = Study(MIXED, RandomSearch(), seed=0)
    study.run(simulator, trials=30, vectorized=True, executor="here", progress=False)
    assert MIXED.to_dict(study.recommend())["material"] == "steel"


def test_a_start_is_allowed_and_in_the_middle():
    assert start_point(RATES, None).tolist() == pytest.approx([1e-3, 0.0])
    half = Box({"a": (0, 1), "n": Integer(0, 3)}, constraints=[Linear({"a": 1.0}, most=0.25)])
    assert half.contains(start_point(half, None)[None]).all()
    with pytest.raises(ArgumentError, match="must lie in"):
        start_point(half, [0.5, 1.0])
    with pytest.raises(ArgumentError, match="must lie in"):
        start_point(half, [0.2, 1.5])
