"""Responses: known truths, calibrated errors, control variates, varying noise, directions, saving, degenerate data."""

import io
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.training.settings import Training
from surrogates.contracts import check_surrogate
from surrogates.generators.response import LinearResponse, ProcessResponse, QuadraticResponse

KINDS = [LinearResponse, QuadraticResponse, ProcessResponse]
every_kind = pytest.mark.parametrize("kind", KINDS)
SLOPE = torch.tensor([1.0, -0.5, 0.2], dtype=torch.float64)


def uniform(*shape, seed=0):
    return 2 * torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 1


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def linear(theta):
    return 3 + theta @ SLOPE


def quadratic(theta):
    return linear(theta) + theta[..., 0] * theta[..., 1] - theta[..., 2].square()


def smooth(theta):
    return torch.sin(2 * theta @ SLOPE) + torch.cos(theta[..., 0])


def fitted(kind, truth, n=80, noise=0.5, seed=0):
    theta = uniform(n, 3, seed=seed)
    response = kind(3)
    response.fit(theta, (truth(theta) + noise * normal(n, seed=seed + 1000))[:, None])
    return response


def saved(response):
    file = io.BytesIO()
    torch.save(response.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@every_kind
@pytest.mark.parametrize(("n_outcomes", "n_inputs"), [(1, 0), (2, 1)])
def test_contract(kind, n_outcomes, n_inputs):
    check_surrogate(lambda: kind(2, n_outcomes, n_inputs), n=600, tolerance=0.15)


def test_contract_with_directions():
    check_surrogate(lambda: ProcessResponse(4, directions=2), n=300, tolerance=0.2)


@pytest.mark.parametrize(
    ("kind", "truth"),
    [
        (LinearResponse, linear),
        (QuadraticResponse, linear),
        (QuadraticResponse, quadratic),
        (ProcessResponse, linear),
        (ProcessResponse, quadratic),
        (ProcessResponse, smooth),
    ],
)
def test_a_truth_of_its_kind_is_found_without_noise(kind, truth):
    response, at = fitted(kind, truth, noise=0.0), 0.8 * uniform(50, 3, seed=5)
    error = response.mean(at)[:, 0] - truth(at)
    assert float(error.square().mean().sqrt()) < (0.02 if kind is ProcessResponse else 1e-3) * float(truth(at).std())


@pytest.mark.parametrize(
    ("kind", "truth", "doubt"),
    [
        (LinearResponse, linear, 1.0),
        (QuadraticResponse, quadratic, 1.0),
        (ProcessResponse, smooth, 1.4),  # hyper-parameters are not integrated over: somewhat too sure
    ],
)
def test_stated_errors_are_calibrated(kind, truth, doubt):
    """Over 40 data sets: errors at a point and of a difference, in units of what is stated, against chi-square."""
    points, differences, covered = [], [], []
    for seed in range(40):
        response, at = fitted(kind, truth, seed=seed), 0.9 * uniform(10, 3, seed=seed + 500)
        distribution = response(at)
        noise = response.columns[0].noise(response.units(at), None).sqrt() * response.outcome_units.scale
        error = (distribution.mean - truth(at)[:, None])[:, 0]
        spread = (distribution.stddev[:, 0].square() - noise.square()).sqrt()
        points.append(error[0] / spread[0])
        covered.append((error.abs() < 1.96 * spread).double().mean())
        change, deviation = response.difference(at[:1], at[1])
        differences.append((float(change) - float(truth(at[0]) - truth(at[1]))) / float(deviation))
        assert 0.3 < float(noise[0]) < 0.75
    for errors in (points, differences):
        total = float(torch.tensor(errors).square().sum()) / doubt**2
        assert 17.9 < total * doubt**2 and total < 73.4  # 1 in 1000 either way, 40 degrees of freedom
        assert abs(float(torch.tensor(errors).mean())) < 3.3 * doubt / math.sqrt(40)
    assert float(torch.stack(covered).mean()) > (0.9 if doubt == 1 else 0.83)


@every_kind
def test_difference_is_that_of_means_and_its_error_the_spread_over_replications(kind):
    at, other = torch.tensor([[0.5, 0.5, -0.5], [0.0, 0.2, 0.9]]).double(), torch.tensor([-0.4, 0.6, 0.1]).double()
    found, stated = [], []
    responses = [fitted(kind, linear, n=60, seed=seed) for seed in range(20)]
    for response in responses:
        change, error = response.difference(at, other)
        means = response.mean(torch.cat([at, other[None]]))[:, 0]
        torch.testing.assert_close(change, means[:2] - means[2])
        found.append(change)
        stated.append(error)
    ratio = torch.stack(found).std(0) / torch.stack(stated).mean(0)
    assert bool(((ratio > 0.6) & (ratio < 1.6)).all())
    nothing = responses[-1].difference(other[None], other)
    assert float(nothing[0].abs()) < 1e-9 and float(nothing[1].abs()) < 1e-6


@every_kind
def test_inputs_are_control_variates(kind):
    errors = {0: 0.0, 1: 0.0}
    for seed in range(4):
        theta, x = uniform(150, 2, seed=seed), 2 * uniform(150, 1, seed=seed + 50)
        outcome = theta @ SLOPE[:2] + 2 * torch.sin(2 * x[:, 0]) + 0.2 * normal(150, seed=seed + 99)
        for k in errors:
            response = kind(2, 1, k)
            response.fit(theta, outcome[:, None], x if k else None)
            at = torch.zeros(1, 2).double().requires_grad_()
            (gradient,) = torch.autograd.grad(response.mean(at).sum(), at)
            errors[k] += float((gradient[0] - SLOPE[:2]).norm())
    assert errors[1] < 0.3 * errors[0]


def test_a_mean_that_depends_on_theta_and_x_together_is_averaged_over_x():
    theta, x = uniform(250, 1), uniform(250, 1, seed=1)
    response = ProcessResponse(1, 1, 1)
    response.fit(theta, theta * (1 + 2 * torch.sin(3 * x)) + 0.1 * normal(250, 1, seed=2), x)
    at = torch.tensor([[-0.5], [0.0], [0.5]]).double()
    average = (1 + 2 * torch.sin(3 * x)).mean() * at
    torch.testing.assert_close(response.mean(at), average, atol=0.06, rtol=0)
    given = response(at, torch.full((1, 1), 0.6).double()).mean
    torch.testing.assert_close(given, at * (1 + 2 * math.sin(1.8)), atol=0.25, rtol=0)


def test_noise_that_depends_on_x_is_found_and_weighs_rows():
    with_x, plain, scaled = [], [], []
    for seed in range(8):
        theta, x = uniform(200, 2, seed=seed), 3 * uniform(200, 1, seed=seed + 100)
        noise = x[:, 0].abs() ** 1.5 * normal(200, seed=seed + 200) + 0.1 * normal(200, seed=seed + 300)
        outcome = (theta[:, 0] + noise)[:, None]
        response = LinearResponse(2, 1, 1)
        response.fit(theta, outcome, x)
        assert response.columns[0].noise_slopes is not None
        spread = response(torch.zeros(3, 2).double(), torch.tensor([[0.0], [1.5], [3.0]]).double()).stddev[:, 0]
        assert spread[0] < spread[1] < spread[2] and spread[2] > 3 * spread[0]
        change, error = response.difference(torch.tensor([[1.0, 0.0]]).double(), torch.tensor([-1.0, 0.0]).double())
        with_x.append(float(change) - 2)
        scaled.append(with_x[-1] / float(error))
        rows = torch.cat([torch.ones(200, 1).double(), theta], 1)
        plain.append(float(2 * torch.linalg.lstsq(rows, outcome).solution[1, 0] - 2))
    found, scaled = torch.tensor(with_x), torch.tensor(scaled)
    assert found.square().mean() < 0.6 * torch.tensor(plain).square().mean()
    assert abs(float(found.mean())) < 3.3 * float(found.std()) / math.sqrt(8)
    assert float(scaled.square().sum()) < 30.0  # 1 in 5,000 at 8 degrees of freedom


def test_equal_noise_is_taken_as_equal():
    response = fitted(LinearResponse, linear, n=200)
    assert response.columns[0].noise_slopes is None
    torch.testing.assert_close(response(uniform(1, 3)).stddev, torch.full((1, 1), 0.5).double(), rtol=0.15, atol=0)


@every_kind
def test_the_gradient_is_that_of_finite_differences(kind):
    response, at = fitted(kind, smooth), 0.8 * uniform(4, 3, seed=3)
    for function in (lambda point: response.mean(point)[:, 0], lambda point: response(point).stddev[:, 0]):
        assert torch.autograd.gradcheck(function, at.clone().requires_grad_(), eps=1e-5, atol=1e-5)


@every_kind
def test_conditioned_on_all_rows_it_is_as_fitted(kind):
    theta, x = uniform(120, 2), uniform(120, 1, seed=1)
    outcome = torch.stack([theta[:, 0] + x[:, 0], theta[:, 1].square()], 1) + 0.3 * normal(120, 2, seed=2)
    response, at = kind(2, 2, 1), uniform(9, 2, seed=4)
    response.fit(theta, outcome, x)
    first = response(at, x[:9]), response.mean(at), response.difference(at, at[0])
    response.condition(theta[:40], outcome[:40], x[:40], seed=1)
    fewer = response(at, x[:9]), response.difference(at, at[0])
    assert not torch.allclose(fewer[0].mean, first[0].mean, atol=1e-3) and bool(
        (fewer[1][1][1:] > first[2][1][1:]).all()
    )
    response.condition(theta, outcome, x, seed=3)
    again = response(at, x[:9]), response.mean(at), response.difference(at, at[0])
    torch.testing.assert_close(again[0].mean, first[0].mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(again[0].stddev, first[0].stddev, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(again[1:], first[1:], rtol=1e-4, atol=1e-5)


def test_many_rows_rest_on_some_of_them():
    response = fitted(ProcessResponse, smooth, n=1500)
    at = 0.9 * uniform(100, 3, seed=7)
    assert len(response.columns[0].z) < 1500
    assert float((response.mean(at)[:, 0] - smooth(at)).square().mean().sqrt()) < 0.12


def test_two_directions_of_thirty_are_found():
    plane = torch.linalg.qr(normal(30, 2, seed=5)).Q

    def truth(theta):
        p = 2 * theta @ plane
        return p[:, 0].square() - 2 * torch.sin(p[:, 1])

    theta, new = uniform(300, 30, seed=7), uniform(300, 30, seed=9)
    outcome = (truth(theta) + 0.2 * normal(300, seed=8))[:, None]
    errors = []
    for response in (ProcessResponse(30, directions=3), ProcessResponse(30)):
        response.fit(theta, outcome)
        errors.append(float((response.mean(new)[:, 0] - truth(new)).square().mean() / truth(new).var()))
        if response.directions:
            assert float(torch.linalg.svdvals(response.bases[0][:, :3].T @ plane)[-1]) > 0.9
    assert errors[0] < 0.6 * errors[1]


@every_kind
def test_a_constant_outcome_is_answered_with_itself(kind):
    response, theta = kind(2, 2), uniform(60, 2)
    outcome = torch.stack([torch.full((60,), 7.0).double(), theta[:, 0] + 0.1 * normal(60, seed=1)], 1)
    response.fit(theta, outcome)
    distribution = response(uniform(20, 2, seed=2))
    torch.testing.assert_close(distribution.mean[:, 0], torch.full((20,), 7.0).double(), rtol=1e-4, atol=0)
    assert bool((distribution.stddev[:, 0] < 1e-3).all())
    assert float((distribution.mean[:, 1] - uniform(20, 2, seed=2)[:, 0]).abs().max()) < 0.15
    alone = kind(2)
    alone.fit(theta, torch.zeros(60, 1).double())
    assert float(alone.mean(theta).abs().max()) < 1e-6
    assert all(bool(part.isfinite().all()) for part in alone.difference(theta[:3], theta[4]))


@every_kind
def test_nothing_depends_on_a_parameter_that_did_not_vary(kind):
    theta = uniform(60, 2)
    theta[:, 1] = 5.0
    response = kind(2)
    response.fit(theta, theta[:, :1] + 0.1 * normal(60, 1, seed=1))
    at = theta[:3].clone().requires_grad_()
    (slope,) = torch.autograd.grad(response.mean(at).sum(), at)
    assert bool((slope[:, 0] > 0.8).all()) and bool((slope[:, 1] == 0).all())


@every_kind
def test_repeated_rows_count_as_often_as_they_come(kind):
    theta = uniform(12, 2).repeat(8, 1)
    truth = theta[:, 0] - theta[:, 1]
    response = kind(2)
    response.fit(theta, (truth + 0.3 * normal(96, seed=1))[:, None])
    at = theta[:12]
    means = response.mean(at)[:, 0]
    assert float((means - truth[:12]).square().mean().sqrt()) < 0.15
    stated = response.difference(at[:1], at[1])[1]
    assert float(stated) < 0.3 * math.sqrt(2 / 8) * 1.3


@every_kind
@given(n=st.integers(2, 12), d=st.integers(1, 14), k=st.integers(0, 2), seed=st.integers(0, 99))
@settings(max_examples=8)
def test_few_rows_give_finite_answers_that_are_unsure(kind, n, d, k, seed):
    theta, x = uniform(n, d, seed=seed), uniform(n, k, seed=seed + 1) if k else None
    response = kind(d, 1, k)
    response.fit(theta, normal(n, 1, seed=seed + 2), x)
    at = uniform(5, d, seed=seed + 3)
    distribution = response(at, None if x is None else x[:1])
    change, error = response.difference(at, at[0])
    for part in (distribution.mean, distribution.stddev, response.mean(at), change, error):
        assert bool(part.isfinite().all())
    assert bool((distribution.stddev > 0).all()) and bool((error[1:] > 0).all())


@every_kind
def test_eight_rows_are_enough_for_a_steep_slope(kind):
    theta = uniform(8, 1)
    response = kind(1)
    response.fit(theta, 10 * theta + 0.1 * normal(8, 1, seed=1))
    change, error = response.difference(torch.tensor([[0.4]]).double(), torch.tensor([-0.4]).double())
    assert abs(float(change) - 8) < 1.0 and float(error) < 1.0


@pytest.mark.parametrize("units", [1e-6, 1.0, 1e6])
def test_units_do_not_matter(units):
    theta, at = uniform(80, 2), uniform(5, 2, seed=3)
    outcome = torch.sin(3 * theta[:, :1]) + 0.2 * normal(80, 1, seed=1)
    plain, other = ProcessResponse(2), ProcessResponse(2)
    plain.fit(theta, outcome)
    other.fit(theta * units + 3 * units, outcome * units - 5 * units)
    found = other(at * units + 3 * units)
    torch.testing.assert_close((found.mean + 5 * units) / units, plain(at).mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.stddev / units, plain(at).stddev, rtol=1e-3, atol=1e-4)


def test_outcomes_are_fitted_each_by_itself():
    theta = uniform(80, 2)
    outcome = torch.stack([theta[:, 0], 100 * torch.cos(2 * theta[:, 1])], 1) + 0.1 * normal(80, 2, seed=1)
    both, second = ProcessResponse(2, 2), ProcessResponse(2)
    both.fit(theta, outcome)
    second.fit(theta, outcome[:, 1:])
    at = uniform(5, 2, seed=3)
    assert both.mean(at).shape == both(at).mean.shape == (5, 2)
    torch.testing.assert_close(both.mean(at)[:, 1:], second.mean(at), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(both.mean(at[None]), both.mean(at)[None])
    first, error = both.difference(at, at[0])
    torch.testing.assert_close(first, both.mean(at)[:, 0] - both.mean(at)[0, 0], rtol=0, atol=1e-9)
    assert bool((error < 0.1).all())


@pytest.mark.parametrize(
    ("kind", "options"), [(LinearResponse, {}), (QuadraticResponse, {}), (ProcessResponse, {"directions": 2})]
)
@pytest.mark.parametrize("other", [{}, {"directions": 1}])
def test_saved_and_loaded_predictions_are_equal(kind, options, other):
    theta, x = uniform(60, 4), uniform(60, 1, seed=1)
    response, fresh = kind(4, 2, 1, **options), kind(4, 2, 1, **other)
    outcome = torch.stack([theta[:, 0], theta[:, 1].square()], 1) + (0.05 + x.abs()) * normal(60, 2, seed=2)
    response.fit(theta, outcome, x)
    fresh.load_state_dict(saved(response))
    at = uniform(6, 4, seed=3)
    for mine, its in zip(
        (response.mean(at), response(at, x[:6]).stddev, *response.difference(at, at[0])),
        (fresh.mean(at), fresh(at, x[:6]).stddev, *fresh.difference(at, at[0])),
        strict=True,
    ):
        assert torch.equal(mine, its)
    for each in (response, fresh):
        each.condition(theta[:30], outcome[:30], x[:30])
    assert torch.equal(response.mean(at), fresh.mean(at))


def test_one_that_was_never_fitted_can_be_saved_and_loaded():
    fresh = ProcessResponse(2)
    fresh.load_state_dict(saved(ProcessResponse(2)))
    with pytest.raises(ArgumentError, match="must be fitted"):
        fresh(uniform(1, 2))


@every_kind
def test_single_precision_goes_in_and_comes_out(kind):
    theta = uniform(50, 2).float()
    response = kind(2)
    response.fit(theta, theta[:, :1] + 0.1 * normal(50, 1, seed=1).float())
    for dtype in (torch.float32, torch.float64):
        at = uniform(4, 2, seed=3).to(dtype)
        assert response(at).mean.dtype == response(at).stddev.dtype == response.mean(at).dtype == dtype
    torch.testing.assert_close(response.mean(at.float()).double(), response.mean(at), rtol=1e-5, atol=1e-5)


@every_kind
def test_equal_seeds_give_equal_fits_and_global_random_numbers_are_left_alone(kind):
    theta, before = uniform(400, 2), torch.get_rng_state()
    outcome = theta[:, :1] + normal(400, 1, seed=1)
    means = []
    for seed in (0, 0, 1):
        response = kind(2)
        report = response.fit(theta, outcome, training=Training(seed=seed))
        means.append(response.mean(theta))
    assert report.steps == 0 and report.seconds > 0
    assert torch.equal(means[0], means[1]) and not torch.equal(means[0], means[2])
    assert torch.equal(before, torch.get_rng_state())


@every_kind
@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda t, y: (t[:, :1], y), ArgumentError, r"`theta` must have shape \[n, 2\]"),
        (lambda t, y: (t, y[:, 0]), ArgumentError, r"Pass outcome\[:, None\]"),
        (lambda t, y: (t, y[:9]), ArgumentError, r"`outcome` must have shape \[20, 1\]"),
        (lambda t, y: (t, y / 0), ArgumentError, r"`outcome` must be finite.*Leave these"),
        (lambda t, y: (t * torch.nan, y), ArgumentError, r"`theta` must be finite"),
        (lambda t, y: (t, y, t), ArgumentError, "`x` must be left out"),
        (lambda t, y: (t[:1], y[:1]), ArgumentError, "at least 2 rows"),
        (lambda t, y: (t.long(), y), ArgumentTypeError, "floating-point"),
    ],
)
def test_bad_data_are_refused_and_what_was_learnt_stays(kind, spoil, error, words):
    theta = uniform(20, 2)
    outcome = theta[:, :1] + 1
    response = kind(2)
    response.fit(theta, outcome)
    before = response.mean(theta)
    for learn in (response.fit, response.condition):
        with pytest.raises(error, match=words):
            learn(*spoil(theta, outcome))
    assert torch.equal(response.mean(theta), before)


@every_kind
def test_use_before_fit_and_wrong_shapes_are_told(kind):
    response, theta = kind(2, 1, 1), uniform(20, 2)
    for use in (
        lambda: response(theta, theta[:, :1]),
        lambda: response.mean(theta),
        lambda: response.difference(theta, theta[0]),
        lambda: response.condition(theta, theta[:, :1], theta[:, :1]),
    ):
        with pytest.raises(ArgumentError, match=f"`{kind.__name__}` must be fitted before"):
            use()
    response.fit(theta, theta[:, :1], theta[:, 1:])
    with pytest.raises(ArgumentError, match=r"`x` must be given"):
        response(theta)
    with pytest.raises(ArgumentError, match=r"`theta` must have shape \[\.\.\., n, 2\]"):
        response.mean(theta[:, :1])
    with pytest.raises(ArgumentError, match=r"`theta` must have shape \[\.\.\., 2\]"):
        response(theta[:, :1], theta[:, :1])


@pytest.mark.parametrize("directions", [0, 4, -1])
def test_directions_are_fewer_than_parameters(directions):
    with pytest.raises(ArgumentError, match="`directions` must lie between 1 and 3"):
        ProcessResponse(4, directions=directions)


@pytest.mark.parametrize("k", [0, 2])
def test_draws_at_many_parameters_are_those_at_each(k, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    theta, x = (torch.randn(40, width, generator=generator, dtype=torch.float64) for width in (2, k))
    inputs = x[:7] if k else None
    response = ProcessResponse(2, 2, k)
    response.fit(theta, torch.stack([theta.sum(1), theta.prod(1)], 1), x if k else None)
    monkeypatch.setattr("surrogates.generators.response._AT_ONCE", 20)  # in several parts

    def draws(rows):
        at = rows[:, None] if k else rows
        return response.sample(at, inputs, 5, torch.Generator().manual_seed(3))

    whole = draws(theta)
    assert whole.shape == ((5, 40, 7, 2) if k else (5, 40, 2))
    torch.testing.assert_close(whole, torch.cat([draws(row[None]) for row in theta], 1))  # common random numbers
    spread = response(theta[:, None] if k else theta, inputs).stddev
    many = response.sample(theta[:1, None] if k else theta[:1], inputs, 4000, generator)
    torch.testing.assert_close(many.std(0)[0], spread[0], rtol=0.06, atol=0)


@pytest.mark.parametrize("seed", range(3))
def test_errors_of_differences_are_calibrated_where_noise_hides_the_bends_of_some_parameters(seed):
    """A valley: the rows show the walls of some parameters, and those of the others are as steep."""

    def valley(theta):
        return 4 * (theta[..., 1:] - theta[..., :-1].square()).square().sum(-1)

    rows = 0.5 * uniform(150, 10, seed=seed)
    response = ProcessResponse(10, 1)
    response.fit(rows, (valley(rows) + normal(150, seed=seed + 10))[:, None], training=Training(seed=seed))
    asked, middle = 0.5 * uniform(300, 10, seed=seed + 20), torch.zeros(10, dtype=torch.float64)
    mean, error = response.difference(asked, middle)
    surprise = (mean - valley(asked) + valley(middle)) / error
    assert 0.4 < float(surprise.square().mean().sqrt()) < 2


@pytest.mark.parametrize("kind", [LinearResponse, ProcessResponse])
def test_no_rows_give_no_draws(kind):
    theta = torch.rand(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    surrogate = kind(2, 2)
    surrogate.fit(theta, theta)
    assert surrogate.sample(theta[:0], None, 5, torch.Generator()).shape == (5, 0, 2)
    with pytest.raises(ArgumentError, match="`n` must be at least 1"):
        surrogate.expectation(lambda y: y[..., 0], theta, None, 0, torch.Generator())
