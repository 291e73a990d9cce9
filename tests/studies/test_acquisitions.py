"""Acquisitions for models of runs: brute-force posteriors, monotony, pending points, gradients, bad input."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields.gaussian_process import GaussianProcessHamiltonian
from diffsim.integrate.sensitivity import weight_sensitivity
from diffsim.systems import MassSpring, Pendulum
from studies.acquisitions.linear_gaussian import ExpectedErrorReduction, ResponseInformation
from studies.acquisitions.model_error import ErrorReduction, disagreement
from studies.history import History
from studies.spaces.box import Box
from studies.spaces.pool import Pool
from surrogates.rollout_ensemble import RolloutEnsemble
from surrogates.rollout_model import RolloutModel
from surrogates.rollout_posterior import RolloutPosterior

T = torch.linspace(0, 2, 5, dtype=torch.float64)
BOX = Box({"q": (-2, 2), "p": (-1, 1)})
HISTORY = History(BOX)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Linear(RolloutModel):
    """Runs that are smooth functions of the design times r standard normal unknowns: exactly linear-Gaussian."""

    def __init__(self, r, outputs=3, noise=0.3, seed=0):
        super().__init__(torch.linspace(0, 1, outputs + 1, dtype=torch.float64), noise)
        self.register_buffer("frequency", normal(2, outputs * r, seed=seed))
        self.register_buffer("phase", 3 * normal(outputs * r, seed=seed + 1))
        self.shape = outputs, r

    @property
    def num_outputs(self):
        return self.shape[0]

    @property
    def batch_shape(self):
        return torch.Size()

    def posterior(self, X, *arguments, **more):
        raise NotImplementedError

    def response(self, X, t=None):
        return (X @ self.frequency + self.phase).cos().unflatten(-1, self.shape)


def posterior_covariance(model, X):
    """Of the unknowns, after runs at X [n, 2]: from the precision matrix."""
    rows = model.response(X).flatten(0, 1)
    return torch.linalg.inv(torch.eye(rows.shape[1]).double() + rows.T @ rows / model.noise**2)


@given(r=st.integers(1, 14), q=st.integers(1, 4), b=st.integers(1, 3), seed=st.integers(0, 1000))
def test_both_acquisitions_against_the_dense_posterior(r, q, b, seed):
    """Over both branches: 3 q rows, fewer or more than r columns."""
    model = Linear(r, seed=seed)
    X, targets = normal(b, q, 2, seed=seed), normal(9, 2, seed=seed + 2)
    reduction = ExpectedErrorReduction(model, targets)(X)
    information = ResponseInformation(model)(X)
    response = model.response(targets)
    before = response.square().sum(-1)  # [m, o]
    weight = 1 / (before.mean(-1) + model.noise**2)
    for i in range(b):
        covariance = posterior_covariance(model, X[i])
        after = torch.einsum("mor,rs,mos->mo", response, covariance, response)
        exact = (weight * (before - after).mean(-1)).mean()
        assert torch.allclose(reduction[i], exact, rtol=1e-9, atol=1e-12)
        assert torch.allclose(information[i], -0.5 * torch.logdet(covariance), rtol=1e-9, atol=1e-12)


@given(r=st.integers(1, 14), seed=st.integers(0, 1000))
def test_more_points_never_teach_less_and_duplicates_teach_less_than_before(r, seed):
    model = Linear(r, seed=seed)
    X, targets = normal(5, 2, seed=seed), normal(9, 2, seed=seed + 2)
    for acquisition in (ExpectedErrorReduction(model, targets), ResponseInformation(model)):
        values = [float(acquisition(X[None, :n])) for n in range(1, 6)]
        assert values[0] >= 0
        assert all(a <= b + 1e-10 for a, b in itertools.pairwise(values))
        once = values[0]
        acquisition.set_X_pending(X[:1])
        assert float(acquisition(X[None, :1])) - once < once + 1e-12  # a repeated run teaches less than the first
        assert float(acquisition(X[None, 1:2])) == pytest.approx(values[1], rel=1e-9)
        acquisition.set_X_pending(None)
        assert float(acquisition(X[None, :1])) == once


def test_the_share_is_at_most_one_and_reached_by_endless_runs():
    model, targets = Linear(3, noise=1e-3), normal(20, 2, seed=1)
    few, many = normal(1, 1, 2), normal(1, 400, 2, seed=3)
    acquisition = ExpectedErrorReduction(model, targets)
    assert 0 < float(acquisition(few)) < float(acquisition(many)) <= 1
    assert float(acquisition(many)) > 0.999


def test_pending_points_of_a_batch_count_for_each_of_its_members():
    model = Linear(6)
    acquisition = ExpectedErrorReduction(model, normal(9, 2))
    X, pending = normal(3, 2, 2), normal(4, 2, seed=5)
    acquisition.set_X_pending(pending)
    got = acquisition(X)
    acquisition.set_X_pending(None)
    together = torch.stack([acquisition(torch.cat([x, pending])[None])[0] for x in X])
    assert torch.allclose(got, together)


def test_pending_points_are_rolled_out_once(monkeypatch):
    model, seen = Linear(6), []
    acquisition = ExpectedErrorReduction(model, normal(9, 2))
    monkeypatch.setattr(model, "response", lambda X: seen.append(X.shape[:-1].numel()) or Linear.response(model, X))
    acquisition.set_X_pending(normal(4, 2, seed=5))
    for seed in range(3):
        acquisition(normal(10, 1, 2, seed=seed))
    assert seen == [4, 10, 10, 10]


def test_a_single_batch_may_go_without_its_dimension():
    acquisition = ResponseInformation(Linear(4))
    assert torch.equal(acquisition(normal(2, 2)), acquisition(normal(2, 2)[None]))
    assert acquisition(normal(2, 2)).shape == (1,)


@pytest.mark.parametrize(("r", "q"), [(12, 1), (2, 3)])
@pytest.mark.parametrize("kind", ["reduction", "information"])
def test_gradients_in_the_design(r, q, kind):
    model = Linear(r)
    acquisition = ExpectedErrorReduction(model, normal(9, 2)) if kind == "reduction" else ResponseInformation(model)
    acquisition.set_X_pending(normal(1, 2, seed=7))
    assert torch.autograd.gradcheck(acquisition, normal(2, q, 2, seed=3).requires_grad_(True))


def fitted(noise=0.05):
    field = GaussianProcessHamiltonian(2, n_features=40)
    y = normal(8, 2)
    field.fit(y, Pendulum(gravity=1.0).double()(torch.tensor(0.0), y) + noise * normal(8, 2, seed=1))
    return field


def test_the_reduction_is_that_of_conditioning_the_field_on_more_runs():
    """Brute force: the field is conditioned on old and new rows together; the targets' variance is compared."""
    field, sigma = fitted(), 0.1
    model = RolloutPosterior(field, T, noise=sigma)
    X, targets = 0.8 * normal(2, 2, seed=3), 0.8 * normal(7, 2, seed=4)
    y = normal(8, 2)
    old = field.design(y).flatten(0, 1) / field.noise
    new = weight_sensitivity(field, X, T, step=model.step)[1][:, 1:].flatten(0, 2) / sigma
    rows = weight_sensitivity(field, targets, T, step=model.step)[1][:, 1:].flatten(1, 2)  # [m, o, F]

    def variance(design):
        other = fitted()
        other.condition(design, torch.zeros(len(design)).double(), 1.0)
        return (rows @ other.factor).square().sum(-1)

    before, after = variance(old), variance(torch.cat([old, new]))
    assert torch.allclose(before, model.response(targets).square().sum(-1), rtol=1e-8)
    weight = 1 / (before.mean(-1) + sigma**2)
    exact = float((weight * (before - after).mean(-1)).mean())
    assert float(ExpectedErrorReduction(model, targets)(X[None])) == pytest.approx(exact, abs=1e-8)
    assert exact > 0.05


def test_gradient_through_roll_outs():
    model = RolloutPosterior(fitted(), T[:3], step=0.5)
    X = 0.8 * normal(2, 1, 2, seed=3).requires_grad_(True)
    acquisition = ExpectedErrorReduction(model, 0.8 * normal(5, 2))
    (gradient,) = torch.autograd.grad(acquisition(X).sum(), X)
    for index in itertools.product(range(2), [0], range(2)):
        unit = torch.zeros_like(X).index_put([torch.tensor(i) for i in index], torch.tensor(1e-5).double())
        with torch.no_grad():
            difference = (acquisition(X + unit) - acquisition(X - unit)).sum() / 2e-5
        assert float(gradient[index]) == pytest.approx(float(difference), rel=1e-5, abs=1e-8)


def test_the_targets_times_are_an_argument():
    model = RolloutPosterior(fitted(), T)
    targets = 0.5 * normal(5, 2)
    longer = torch.linspace(0, 6, 13, dtype=torch.float64)
    acquisition = ExpectedErrorReduction(model, targets, longer)
    variance = model.response(targets, longer).square().sum(-1).mean(-1)
    assert acquisition.error == pytest.approx(variance.sqrt().median().item())
    assert acquisition.error > ExpectedErrorReduction(model, targets).error


@pytest.mark.parametrize("model", ["ensemble", "posterior"])
def test_an_unknown_frequency_is_learned_where_it_shows(model):
    """Springs that differ in stiffness agree at rest and differ most at the largest amplitude."""
    if model == "ensemble":
        springs = [MassSpring(stiffness=k).double() for k in (0.9, 1.0, 1.1)]
        rollouts = RolloutEnsemble(springs, T, noise=0.01)
    else:
        rollouts = RolloutPosterior(fitted(), T, noise=0.01)
    rest, wide = torch.zeros(1, 1, 2, dtype=torch.float64), torch.tensor([[[1.9, 0.0]]], dtype=torch.float64)
    for acquisition in (disagreement(rollouts, HISTORY), ErrorReduction()(rollouts, HISTORY)):
        assert acquisition(rest) < acquisition(wide)
        if model == "ensemble":
            assert acquisition(rest).abs() < 1e-12


def test_default_targets_cover_the_whole_space():
    model = Linear(4)
    acquisition = ErrorReduction()(model, HISTORY)
    gram = acquisition.target_gram
    even = BOX.sobol(64, seed=0)
    assert torch.equal(gram, ExpectedErrorReduction(model, even).target_gram)
    assert (even.amin(0) < torch.tensor([-1.9, -0.95])).all() and (even.amax(0) > torch.tensor([1.9, 0.95])).all()
    pool = Pool(normal(80, 2), ["q", "p"])
    assert torch.isfinite(ErrorReduction()(model, History(pool)).target_gram).all()


def test_default_targets_of_a_small_pool_are_all_its_candidates():
    pool, model = Pool(normal(5, 2), ["q", "p"]), Linear(4)
    gram = ErrorReduction()(model, History(pool)).target_gram
    assert torch.allclose(gram, ExpectedErrorReduction(model, pool.candidates).target_gram)


def test_the_noise_has_a_floor():
    exact = Linear(4, noise=0.0)
    for acquisition in (ResponseInformation(exact), ExpectedErrorReduction(exact, normal(3, 2))):
        assert acquisition.noise == 1e-4 and torch.isfinite(acquisition(normal(2, 3, 2))).all()
    assert ResponseInformation(Linear(4, noise=0.5)).noise == 0.5


@pytest.mark.parametrize("targets", [torch.ones(3), torch.ones(3, 3), torch.ones(0, 2)])
def test_bad_targets(targets):
    with pytest.raises(ArgumentError, match=r"`targets` must have shape \[m, 2\]"):
        ErrorReduction(targets)(Linear(4), HISTORY)


def test_bad_models_and_floors():
    for acquire in (disagreement, ErrorReduction()):
        with pytest.raises(ArgumentTypeError, match="RolloutEnsemble or a RolloutPosterior"):
            acquire(torch.nn.Linear(2, 1), HISTORY)
    for floor in (0.0, -1.0, float("nan")):
        with pytest.raises(ArgumentError, match="`floor`"):
            ResponseInformation(Linear(4), floor)
        with pytest.raises(ArgumentError, match="`floor`"):
            ExpectedErrorReduction(Linear(4), normal(3, 2), floor=floor)
