"""Active learning of outcomes by Gaussian processes: against dense formulas, in a loop, with pending points."""

import warnings

import pytest
import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.acquisitions.gaussian_process import IntegratedVariance, PosteriorInformation
from studies.acquisitions.model_error import ErrorReduction, disagreement
from studies.contracts import check_strategy
from studies.history import History
from studies.spaces.box import Box
from studies.spaces.pool import Pool
from studies.strategies.model_based import ModelBased
from studies.study import Study
from surrogates.gaussian_process import gaussian_process

SQUARE = Box({"a": (-1.0, 2.0), "b": (0.0, 1.0)})


def waves(theta, generator=None):
    return torch.stack([(2 * theta[:, 0]).sin() + theta[:, 1].square(), 100 * (3 * theta[:, 1]).cos()], -1)


def learn(history):
    return gaussian_process(history.theta, history.outcome, bounds=history.space.bounds)


def value(acquisition, X):
    return float(acquisition(X).detach())


def history_of(n, outputs=1, space=SQUARE):
    theta = space.sobol(n, seed=0)
    return History.from_tensors(space, theta, waves(theta)[:, :outputs])


def test_the_unit_of_the_outcome_changes_no_choice():
    theta = SQUARE.sobol(8, seed=0)
    strategy, choices = ModelBased(learn, disagreement), []
    for unit in (1.0, 2.0**-30):
        history = History.from_tensors(SQUARE, theta, unit * waves(theta)[:, :1])
        choices.append(strategy.propose(history, 3, torch.Generator().manual_seed(0)).theta)
    assert torch.allclose(choices[0], choices[1], atol=1e-3)


def test_a_search_that_ends_early_is_no_warning():
    study = Study(Box({"a": (-1, 2), "b": (0, 1)}), ModelBased(learn, IntegratedVariance()))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        study.run(lambda theta, generator: theta.sum(1), trials=6, batch=2, executor="here", progress=False)


@pytest.mark.parametrize("acquire", [IntegratedVariance(), disagreement])
def test_contract(acquire):
    history = history_of(8)
    check_strategy(ModelBased(learn, acquire, candidates=32), SQUARE, [history, History(SQUARE)], n=[2])


def test_integrated_variance_against_a_refit_of_the_posterior():
    history, targets = history_of(10), SQUARE.sobol(20, seed=5)
    model = learn(history)
    acquisition = IntegratedVariance(targets)(model, history)
    for X in SQUARE.sobol(6, seed=7).reshape(3, 2, 2):
        joint = torch.cat([targets, X])
        covariance = model.posterior(joint).distribution.covariance_matrix.detach()
        noise = (model.posterior(X, observation_noise=True).variance - model.posterior(X).variance).detach()
        gain = covariance[20:, 20:] + noise.flatten().diag()
        left = covariance[:20, :20] - covariance[:20, 20:] @ torch.linalg.solve(gain, covariance[20:, :20])
        assert value(acquisition, X[None]) == pytest.approx(-float(left.diagonal().mean()), rel=1e-3)


def test_outputs_count_in_units_of_their_own_spread():
    history = history_of(12, outputs=2)
    X = SQUARE.sobol(1, seed=3)[None]
    small = value(IntegratedVariance()(learn(history), history), X)
    scaled = History.from_tensors(SQUARE, history.theta, history.outcome * torch.tensor([1e4, 1e-4]))
    assert value(IntegratedVariance()(learn(scaled), scaled), X) == pytest.approx(small, rel=0.05)


def test_information_against_the_entropies_and_under_pending_points():
    history = history_of(10, outputs=2)
    model = learn(history)
    X, pending = SQUARE.sobol(3, seed=3), SQUARE.sobol(2, seed=4)
    acquisition = disagreement(model, history)
    assert isinstance(acquisition, PosteriorInformation)
    noisy = model.posterior(X, observation_noise=True)
    exact = model.posterior(X)
    added = noisy.distribution.covariance_matrix - exact.distribution.covariance_matrix
    entropy = (torch.logdet(noisy.distribution.covariance_matrix) - added.diagonal().log().sum()) / 2
    assert added.diagonal().min() > 1e-8  # the noise's floor
    assert value(acquisition, X[None]) == pytest.approx(float(entropy.detach()), rel=1e-2)
    together = value(acquisition, torch.cat([X, pending])[None])
    acquisition.set_X_pending(pending)
    assert value(acquisition, X[None]) == pytest.approx(together, rel=1e-6)
    acquisition.set_X_pending(X[:1])
    again, new = value(acquisition, X[None, :1]), value(acquisition, X[None, 1:2])
    assert again < new  # a repeated point teaches less


@pytest.mark.parametrize("acquire", [IntegratedVariance(), disagreement])
def test_what_is_chosen_lowers_the_error_as_promised(acquire):
    """From a corner: a model that chooses learns the whole square."""
    corner = Box({"a": (-1.0, 0.0), "b": (0.0, 0.3)}).sobol(6, seed=0)
    given = [History.from_tensors(SQUARE, corner, waves(corner)[:, :1])]
    test = SQUARE.sobol(200, seed=9)
    strategy = ModelBased(learn, acquire, candidates=64)
    chosen = strategy.propose(given[0], 6, torch.Generator().manual_seed(0)).theta
    theta = torch.cat([corner, chosen])
    errors = [
        float((learn(known).posterior(test).mean.detach() - waves(test)[:, :1]).square().mean().sqrt())
        for known in (given[0], History.from_tensors(SQUARE, theta, waves(theta)[:, :1]))
    ]
    assert errors[1] < 0.35 * errors[0]


def test_a_pool_is_its_own_target():
    pool = Pool(SQUARE.sample(50, torch.Generator().manual_seed(0)), ["a", "b"])
    study = Study(pool, ModelBased(learn, IntegratedVariance(), start=4), seed=0)
    history = study.run(lambda theta, _: waves(theta)[:, :1], trials=10, batch=3, progress=False)
    assert len(history.theta.unique(dim=0)) == 10


def test_bad_models_targets_and_floors():
    history = history_of(5)
    with pytest.raises(ArgumentTypeError, match="Gaussian process"):
        IntegratedVariance()(torch.nn.Linear(2, 1), history)
    with pytest.raises(ArgumentTypeError, match="RolloutEnsemble"):
        ErrorReduction()(learn(history), history)
    with pytest.raises(ArgumentError, match="`targets`"):
        IntegratedVariance(torch.ones(3, 1))(learn(history), history)
    with pytest.raises(ArgumentError, match="`floor`"):
        PosteriorInformation(learn(history), floor=0.0)
