"""What neural surrogates share: bad input, degenerate data, held-out parameters, common random numbers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffsim.errors import ArgumentError, ArgumentTypeError, TrainingError
from diffsim.training.settings import Training
from surrogates.generators.continuous_flow import ContinuousFlow
from surrogates.generators.cramer_gan import CramerGAN
from surrogates.generators.flow import ConditionalFlow
from surrogates.generators.gaussian import GaussianNetwork
from surrogates.generators.mixture import MixtureDensityNetwork
from surrogates.generators.neural import hold_out
from surrogates.standardise import Standardisation

KINDS = [GaussianNetwork, MixtureDensityNetwork, ConditionalFlow, ContinuousFlow, CramerGAN]
DENSITIES = KINDS[:-1]
QUICK = Training(steps=20, lr=1e-2, batch=64)
every_kind = pytest.mark.parametrize("kind", KINDS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def uniform(*shape, seed=0):
    return 2 * torch.rand(*shape, dtype=torch.float64, generator=generator(seed)) - 1


def data(n=100, m=1, k=0):
    theta, x = uniform(n, 2), uniform(n, k, seed=1) if k else None
    return theta, theta[:, :1] + uniform(n, m, seed=2), x


NAN = torch.tensor(torch.nan, dtype=torch.float64)


@every_kind
@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda t, y: (t[:, :1], y, None), ArgumentError, r"`theta` must have shape \[n, 2\]"),
        (lambda t, y: (t, y[:, 0], None), ArgumentError, r"Pass outcome\[:, None\]"),
        (lambda t, y: (t, y[:50], None), ArgumentError, r"`outcome` must have shape \[100, 1\]"),
        (lambda t, y: (t[None], y[None], None), ArgumentError, "`theta` must have shape"),
        (lambda t, y: (t, torch.where(t[:, :1] > 0.9, NAN, y), None), ArgumentError, r"NaN.*Leave these"),
        (lambda t, y: (t / 0, y, None), ArgumentError, "`theta` must be finite"),
        (lambda t, y: (t[:1], y[:1], None), ArgumentError, "at least 2 rows, got 1. Simulate more"),
        (lambda t, y: (t, y, t), ArgumentError, "`x` must be left out"),
        (lambda t, y: (t.long(), y, None), ArgumentTypeError, r"Pass theta.double\(\)"),
        (lambda t, y: (t.numpy(), y, None), ArgumentTypeError, "`theta` must be a floating-point tensor"),
    ],
)
def test_bad_data_are_refused_before_anything_is_learnt(kind, spoil, error, words):
    surrogate = kind(2)
    before = {name: value.clone() for name, value in surrogate.state_dict().items()}
    theta, outcome, _ = data()
    with pytest.raises(error, match=words):
        surrogate.fit(*spoil(theta, outcome), training=QUICK)
    assert all(torch.equal(value, before[name]) for name, value in surrogate.state_dict().items())


@every_kind
def test_inputs_are_asked_for(kind):
    surrogate = kind(2, 1, 3)
    theta, outcome, x = data(k=3)
    with pytest.raises(ArgumentError, match=r"`x` must be given, shape \[n, 3\]"):
        surrogate.fit(theta, outcome, training=QUICK)
    with pytest.raises(ArgumentError, match=r"`x` must be given, shape \[..., 3\]"):
        surrogate(theta)
    with pytest.raises(ArgumentError, match=r"`x` must have shape \[..., 3\]"):
        surrogate(theta, x[:, :2])
    with pytest.raises(ArgumentError, match="broadcast"):
        surrogate(theta[:7], x)
    with pytest.raises(ArgumentError, match="`x` must be left out"):
        kind(2)(theta, x)


@pytest.mark.parametrize("kind", DENSITIES)
def test_bad_constructions_are_refused(kind):
    with pytest.raises(ArgumentError, match="`dim` must be at least 1, got 0"):
        kind(0)
    with pytest.raises(ArgumentTypeError, match="`n_outcomes` must be an int"):
        kind(2, 1.0)
    with pytest.raises(ArgumentError, match="`precision`"):
        kind(2, precision=-1.0)
    with pytest.raises(ArgumentError, match="`hidden`"):
        kind(2, hidden=(0,))


@pytest.mark.parametrize("kind", DENSITIES)
def test_a_constant_outcome_has_next_to_no_spread(kind):
    theta = uniform(100, 2)
    surrogate = kind(2, 2)
    surrogate.fit(theta, torch.tensor([[3.0, 0.0]], dtype=torch.float64).expand(100, 2), training=QUICK)
    distribution = surrogate(theta[:5])
    draws = surrogate.sample(theta[:5], None, 10, generator())
    torch.testing.assert_close(draws, torch.tensor([3.0, 0.0], dtype=torch.float64).expand_as(draws), atol=1e-4, rtol=0)
    assert bool(distribution.log_prob(draws).isfinite().all())


@every_kind
def test_nothing_depends_on_a_parameter_that_did_not_vary(kind):
    theta, outcome, _ = data()
    theta[:, 1] = 5.0
    surrogate = kind(2)
    surrogate.fit(theta, outcome, training=QUICK)
    at = theta[:3].clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(surrogate.sample(at, None, 50, generator()).sum(), at)
    assert bool((slope[:, 0] != 0).all()) and bool((slope[:, 1] == 0).all())


@every_kind
def test_two_rows_are_enough(kind):
    surrogate = kind(2)
    report = surrogate.fit(*data(2), training=Training(steps=5))
    assert report.steps == 5
    assert bool(surrogate.sample(uniform(3, 2), None, 10, generator()).isfinite().all())


@pytest.mark.parametrize("kind", DENSITIES)
def test_held_out_parameters_stop_the_fit_early(kind):
    training = Training(steps=400, lr=0.05, batch=32, holdout=0.25, patience=20, check_every=5, schedule="constant")
    report = kind(2).fit(*data(60), training=training)
    assert report.stopped_because == "patience" and report.steps < 400
    assert report.best_loss == min(report.held_out_losses)


@pytest.mark.parametrize("kind", DENSITIES)
def test_one_theta_has_nothing_to_hold_out(kind):
    theta, outcome, _ = data()
    theta = theta[:1].expand(100, 2)
    surrogate = kind(2)
    with pytest.raises(ArgumentError, match=r"1 distinct theta.*holdout=0"):
        surrogate.fit(theta, outcome, training=Training(steps=5, holdout=0.2))
    assert bool((surrogate.units.shift == 0).all())  # nothing was learnt
    assert surrogate.fit(theta, outcome, training=QUICK).steps == 20


@given(n=st.integers(2, 30), repeats=st.integers(1, 5), share=st.floats(0.1, 0.9), seed=st.integers(0, 99))
def test_equal_theta_are_held_out_together(n, repeats, share, seed):
    theta = uniform(n, 2, seed=seed).repeat(repeats, 1)
    training = Training(holdout=share, seed=seed)
    if not 0 < round(share * n) < n:
        with pytest.raises(ArgumentError, match="holdout"):
            hold_out(theta, training)
        return
    held, kept = hold_out(theta, training)
    assert sorted([*held.tolist(), *kept.tolist()]) == list(range(n * repeats))
    assert len(held) == repeats * round(share * n)
    assert not {tuple(row) for row in theta[held].tolist()} & {tuple(row) for row in theta[kept].tolist()}


@every_kind
def test_random_numbers_are_common_to_theta_and_not_to_x(kind):
    theta, x = uniform(1, 2).expand(3, 2), uniform(1, 1).expand(4, 1)
    alone = kind(2).sample(theta, None, 5, generator())
    torch.testing.assert_close(alone[:, 0], alone[:, 2])
    draws = kind(2, 1, 1).sample(theta[:, None], x, 5, generator())
    assert draws.shape == (5, 3, 4, 1)
    torch.testing.assert_close(draws[:, 0], draws[:, 2])
    assert not torch.allclose(draws[:, :, 0], draws[:, :, 1])


@every_kind
def test_seeds(kind):
    def draw(seed, training_seed):
        surrogate = kind(2, seed=seed)
        surrogate.fit(*data(), training=Training(steps=10, batch=32, seed=training_seed))
        return surrogate.sample(uniform(3, 2), None, 5, generator())

    state = torch.get_rng_state()
    first = draw(0, 0)
    torch.testing.assert_close(draw(0, 0), first)
    assert not torch.allclose(draw(1, 0), first)
    assert not torch.allclose(draw(0, 1), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_second_fit_goes_on_from_the_first():
    surrogate = MixtureDensityNetwork(2)
    first = surrogate.fit(*data(), training=Training(steps=100, lr=1e-2, batch="all"))
    second = surrogate.fit(*data(), training=Training(steps=5, lr=1e-3, batch="all"))
    assert second.losses[0] < first.losses[10]


def test_a_loss_that_is_not_finite_is_an_error():
    with pytest.raises(TrainingError, match="Lower `lr`"):
        GaussianNetwork(2).fit(*data(), training=Training(steps=50, lr=1e20, batch="all"))


def test_standardisation_knows_what_is_constant():
    units = Standardisation(3)
    columns = torch.tensor([[1.0, 5.0, 0.0], [3.0, 5.0, 0.0]], dtype=torch.float64)
    units.learn(columns)
    torch.testing.assert_close(units(columns), torch.tensor([[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(units.scale, torch.tensor([1.0, 5e-6, 1e-6], dtype=torch.float64))
