"""ModelBased: Bayesian optimisation and active learning by one strategy; batches, pools, failures, resume."""

import itertools
import math

import pytest
import torch
from botorch.acquisition import LogExpectedImprovement, qLogNoisyExpectedImprovement
from botorch.acquisition.acquisition import AcquisitionFunction

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields.gaussian_process import GaussianProcessHamiltonian
from diffsim.integrate.solver import Solver
from diffsim.systems import MassSpring
from studies.acquisitions.model_error import ErrorReduction, disagreement
from studies.contracts import check_strategy
from studies.history import History
from studies.spaces.box import Box
from studies.spaces.pool import Pool
from studies.strategies.model_based import ModelBased
from studies.strategies.random import Random
from studies.study import Study
from surrogates.gaussian_process import gaussian_process
from surrogates.rollout_ensemble import RolloutEnsemble
from surrogates.rollout_posterior import RolloutPosterior

SQUARE = Box({"a": (-1.0, 2.0), "b": (0.0, 1.0)})
T = torch.linspace(0, 2, 5, dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Bump(AcquisitionFunction):
    """A smooth acquisition whose maximum is known; it falls near pending points."""

    def __init__(self, peak):
        super().__init__(torch.nn.Identity())
        self.register_buffer("peak", torch.tensor(peak, dtype=torch.float64))

    def forward(self, X):
        value = -(X - self.peak).square().sum((-1, -2))
        if self.X_pending is not None:
            value = value - torch.exp(-30 * (X - self.X_pending).square().sum(-1)).sum(-1)
        return value

    X_pending = None


def bump(peak=(0.3, 0.4)):
    return lambda model, history: Bump(peak)


def nothing(history):
    return None


def springs(history):
    members = [MassSpring(stiffness=k).double() for k in (0.8, 1.0, 1.3)]
    return RolloutEnsemble(members, T, noise=0.05, solver=Solver("rk4", step=0.5, gradient="backprop"))


def hamiltonian(history):
    field = GaussianProcessHamiltonian(2, n_features=40)
    field.fit(history.theta, MassSpring().double()(T[0], history.theta))
    return RolloutPosterior(field, T, noise=0.05, step=0.25)


def regression(history):
    return gaussian_process(history.theta, history.outcome.flatten(1)[:, :1], bounds=history.space.bounds)


def improvement(model, history):
    return LogExpectedImprovement(model, history.outcome.min(), maximize=False)


def noisy_improvement(model, history):
    from botorch.acquisition.objective import LinearMCObjective
    from botorch.sampling import SobolQMCNormalSampler

    return qLogNoisyExpectedImprovement(
        model,
        history.theta,
        sampler=SobolQMCNormalSampler(torch.Size([64]), seed=0),
        objective=LinearMCObjective(torch.tensor([-1.0], dtype=torch.float64)),
        prune_baseline=False,
    )


def branin(theta, generator):
    x, y = theta.unbind(-1)
    inner = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return (inner**2 + 10 * (1 - 1 / (8 * math.pi)) * x.cos() + 10)[:, None]


BRANIN, LEAST = Box({"x": (-5, 10), "y": (0, 15)}), 0.397887


# Where


def test_the_maximum_of_the_acquisition_is_found():
    history = History.from_tensors(SQUARE, SQUARE.sample(3, seeded()), torch.zeros(3, 1))
    climbed = ModelBased(nothing, bump(), start=1).propose(history, 1, seeded(1))
    assert torch.allclose(climbed.theta, torch.tensor([[0.3, 0.4]]).double(), atol=1e-4)
    assert climbed.info["acquisition"][0] == pytest.approx(0, abs=1e-7)
    rough = ModelBased(nothing, bump(), start=1, climb=0).propose(history, 1, seeded(1))
    assert (rough.theta - torch.tensor([0.3, 0.4])).norm() < 0.2
    assert rough.info["acquisition"][0] < climbed.info["acquisition"][0]


def test_a_maximum_outside_the_box_is_sought_on_its_face():
    history = History.from_tensors(SQUARE, SQUARE.sample(3, seeded()), torch.zeros(3, 1))
    theta = ModelBased(nothing, bump((9.0, 0.5)), start=1).propose(history, 1, seeded()).theta
    assert theta[0, 0] == 2.0 and SQUARE.contains(theta).all()


def test_a_batch_and_the_pending_trials_keep_apart():
    theta = SQUARE.sample(3, seeded())
    pending = torch.tensor([[0.3, 0.4]], dtype=torch.float64)
    history = History.from_tensors(SQUARE, theta, torch.zeros(3, 1), pending=pending)
    batch = ModelBased(nothing, bump()).propose(history, 4, seeded(2)).theta
    for a, b in itertools.combinations(torch.cat([batch, pending]), 2):
        assert (a - b).norm() > 0.1
    alone = ModelBased(nothing, bump()).propose(History(SQUARE, history.trials[:3], ({},)), 1, seeded(2)).theta
    assert torch.allclose(alone, pending, atol=1e-4)


@pytest.mark.parametrize("acquire", [disagreement, ErrorReduction()])
def test_a_batch_of_runs_is_diverse(acquire):
    """A run and its repetition say less of an unknown energy than two runs at different places."""
    space = Box({"q": (-1, 1), "p": (-1, 1)})
    history = History.from_tensors(space, space.sample(2, seeded()), torch.zeros(2, 5, 2))
    batch = ModelBased(hamiltonian, acquire, candidates=64).propose(history, 3, seeded()).theta
    assert torch.pdist(batch).min() > 0.1


# When


def test_until_start_the_initial_strategy_decides():
    strategy = ModelBased(nothing, bump(), start=4, initial=Random())
    theta = SQUARE.sample(5, seeded())
    few = History.from_tensors(SQUARE, theta[:3], torch.zeros(3, 1))
    assert torch.equal(strategy.propose(few, 2, seeded(5)).theta, Random().propose(few, 2, seeded(5)).theta)
    none_done = History.from_tensors(SQUARE, theta[:0], torch.zeros(0), pending=theta)
    assert torch.equal(strategy.propose(none_done, 2, seeded(5)).theta, Random().propose(none_done, 2, seeded(5)).theta)
    for history in (
        History.from_tensors(SQUARE, theta[:4], torch.zeros(4, 1)),
        History.from_tensors(SQUARE, theta[:2], torch.zeros(2, 1), pending=theta[2:4]),
    ):
        assert "acquisition" in strategy.propose(history, 1, seeded()).info


def test_failed_trials_are_not_learned_from_but_their_surroundings_avoided():
    seen = []

    def record(history):
        seen.append(history.theta)

    theta = SQUARE.sample(40, seeded())
    left = theta[:, 0] < 0.0  # the bump's peak, at .3, lies where trials fail
    torn = History.from_tensors(SQUARE, theta[left], torch.zeros(int(left.sum()), 1), failed=theta[~left])
    strategy = ModelBased(record, bump())
    placed = strategy.propose(torn, 3, seeded()).theta
    assert torch.equal(seen[0], theta[left])
    assert bool((placed[:, 0] < 0.15).all()) and bool((placed[:, 0] > -0.5).any())
    only_failed = History.from_tensors(SQUARE, theta[:0], torch.zeros(0), failed=theta)
    assert "sobol" in strategy.propose(only_failed, 2, seeded()).info


def test_a_study_goes_on_past_failures():
    def fragile(theta, generator):
        if theta[0, 0] > 5:
            raise RuntimeError("out of range")
        return branin(theta, generator)

    strategy = ModelBased(regression, improvement, start=5, candidates=64)
    history = Study(BRANIN, strategy, seed=1).run(fragile, trials=12)
    assert len(history.trials) == 12 and len(history.failed) > 0
    assert len(history) + len(history.failed) == 12


# Contracts


@pytest.mark.parametrize(
    ("fit", "acquire"),
    [(nothing, bump()), (regression, noisy_improvement), (springs, disagreement), (springs, ErrorReduction())],
    ids=["bump", "noisy improvement", "disagreement", "error reduction"],
)
@pytest.mark.parametrize("space", ["box", "pool"])
def test_contract(fit, acquire, space):
    strategy = ModelBased(fit, acquire, candidates=32, climb=5)
    check_strategy(strategy, SQUARE if space == "box" else Pool(SQUARE.sample(40, seeded()), ["a", "b"]))


def test_an_acquisition_without_pending_points_says_so():
    theta = SQUARE.sample(4, seeded())
    outcome = theta.square().sum(1, keepdim=True)
    strategy = ModelBased(regression, improvement, candidates=32)
    assert strategy.propose(History.from_tensors(SQUARE, theta, outcome), 1, seeded()).theta.shape == (1, 2)
    with pytest.raises(ArgumentError, match=r"LogExpectedImprovement.*Monte Carlo"):
        strategy.propose(History.from_tensors(SQUARE, theta, outcome), 2, seeded())
    with pytest.raises(ArgumentError, match="pending"):
        strategy.propose(History.from_tensors(SQUARE, theta[:3], outcome[:3], pending=theta[3:]), 1, seeded())


@pytest.mark.parametrize(
    ("arguments", "name"), [({"start": 0}, "start"), ({"candidates": 0}, "candidates"), ({"climb": -1}, "climb")]
)
def test_bad_counts(arguments, name):
    with pytest.raises(ArgumentError, match=f"`{name}`"):
        ModelBased(nothing, bump(), **arguments)


def test_functions_that_are_none_are_refused():
    with pytest.raises(ArgumentTypeError, match="`fit` must be a function, got None"):
        ModelBased(None, bump())
    with pytest.raises(ArgumentTypeError, match="`acquire` must be a function, got 'ei'"):
        ModelBased(nothing, "ei")
    history = History.from_tensors(SQUARE, SQUARE.sample(3, seeded()), torch.zeros(3))
    with pytest.raises(ArgumentTypeError, match="`acquire` must return a BoTorch AcquisitionFunction, got None"):
        ModelBased(nothing, lambda model, history: None).propose(history, 1, seeded())


# Studies


def test_a_pool_is_used_up_candidate_by_candidate():
    pool = Pool(SQUARE.sample(12, seeded()), ["a", "b"])
    history = Study(pool, ModelBased(nothing, bump()), seed=3).run(lambda theta, g: theta.sum(1), trials=12, batch=5)
    assert sorted(history.theta.tolist()) == sorted(pool.candidates.tolist())
    best_first = (history.theta[5:] - torch.tensor([0.3, 0.4])).norm(dim=1)
    assert best_first[0] == best_first.min()


@pytest.mark.parametrize(("acquire", "batch"), [(improvement, 1), (noisy_improvement, 1), (noisy_improvement, 3)])
def test_finds_the_minimum_of_branin(acquire, batch):
    def exact(history):  # an estimated noise is never below a hundredth of the outcomes' spread, here .6
        return gaussian_process(history.theta, history.outcome, bounds=history.space.bounds, noise=0.01)

    strategy = ModelBased(exact, acquire, start=6, candidates=128)
    for seed in range(2):
        trials = 25 if batch == 1 else 33  # a batch knows less
        history = Study(BRANIN, strategy, seed=seed).run(branin, trials=trials, batch=batch)
        assert float(history.outcome.min()) - LEAST < 0.1
        random = Study(BRANIN, Random(), seed=seed).run(branin, trials=trials)
        assert history.outcome.min() < random.outcome.min()


def test_a_resumed_study_equals_an_unbroken_one_bit_for_bit(tmp_path):
    strategy = ModelBased(regression, noisy_improvement, start=4, candidates=64)
    whole = Study(BRANIN, strategy, seed=4).run(branin, trials=12, batch=2)
    storage = f"sqlite:///{tmp_path}/runs.db"
    calls = iter(range(100))

    def killed(theta, generator):
        if next(calls) == 7:
            raise KeyboardInterrupt
        return branin(theta, generator)

    with pytest.raises(KeyboardInterrupt):
        Study(BRANIN, strategy, storage, seed=4).run(killed, executor="here", trials=12, batch=2)
    torch.rand(3)  # what happened meanwhile does not matter
    resumed = Study(BRANIN, strategy, storage, seed=4).run(branin, trials=12, batch=2)
    assert torch.equal(resumed.theta, whole.theta) and torch.equal(resumed.outcome, whole.outcome)
    assert resumed.info == whole.info
