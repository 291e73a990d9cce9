"""The Gaussian-process Hamiltonian: its posterior is that of Bayesian linear regression, and it is calibrated."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffsim.contracts import check_vector_field
from diffsim.errors import ArgumentError, TrainingError
from diffsim.fields.base import ConditionedField
from diffsim.fields.fourier_features import FourierFeatures
from diffsim.fields.gaussian_process import FourierHamiltonian, GaussianProcessHamiltonian
from diffsim.systems import MassSpring, Pendulum

ZERO = torch.tensor(0.0, dtype=torch.float64)
TURN = 2 * math.pi


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pendulum_data(n=40, seed=0, noise=0.0):
    y = normal(n, 2, seed=seed)
    return y, Pendulum(gravity=1.0).double()(ZERO, y) + noise * normal(n, 2, seed=seed + 1)


FIELDS = {
    "plain": dict(dim=4),
    "theta": dict(dim=2, n_theta=2),
    "periods": dict(dim=2, periods=[TURN, None]),
    "coordinates": dict(dim=4, coordinates=torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, -1.0, 0.0, 0.5]])),
    "known": dict(dim=2, known=Pendulum(gravity=1.0).double()),
    "all": dict(
        dim=4, n_theta=1, coordinates=torch.tensor([[1.0, -1.0, 0.0, 0.0]]), known=MassSpring(stiffness=2.0).double()
    ),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_energy_gradient_jacobian_and_design_are_of_one_energy(kind):
    field = GaussianProcessHamiltonian(n_features=30, **FIELDS[kind])
    field.weights, field.waves = normal(30, seed=1), field.features.at(field.scale * 0.7)
    y = normal(3, 2, field.dim, seed=2).requires_grad_(True)
    theta = normal(3, 2, field.n_theta, seed=3) if field.n_theta else None
    energy = field.energy(y, theta)
    assert energy.shape == (3, 2)
    (gradient,) = torch.autograd.grad(energy.sum(), y)
    assert torch.allclose(field.energy_gradient(y, theta), gradient, atol=1e-12)
    slope = field(ZERO, y, theta)
    k = field.dim // 2
    assert torch.allclose(slope, torch.cat([gradient[..., k:], -gradient[..., :k]], -1), atol=1e-12)
    rows = [torch.autograd.grad(slope[..., i].sum(), y, retain_graph=True)[0] for i in range(field.dim)]
    assert torch.allclose(field.linearise(y, theta)[1], torch.stack(rows, -2), atol=1e-10)
    known = 0 if field.known is None else field.known(ZERO, y)
    assert torch.allclose(field.design(y, theta) @ field.weights, slope - known, atol=1e-12)


@pytest.mark.parametrize("n_rows", [4, 60])
def test_the_posterior_is_that_of_bayesian_linear_regression(n_rows):
    field = GaussianProcessHamiltonian(2, n_features=24)
    field.signal, noise = torch.tensor(1.7, dtype=torch.float64), 0.2
    design, target = normal(n_rows, 24, seed=1), normal(n_rows, seed=2)
    field.condition(design, target, noise)
    precision = design.T @ design / noise**2 + torch.eye(24, dtype=torch.float64) / field.signal**2
    covariance = torch.linalg.inv(precision)
    assert torch.allclose(field.weights, covariance @ design.T @ target / noise**2, rtol=1e-9, atol=1e-11)
    assert torch.allclose(field.factor @ field.factor.T, covariance, rtol=1e-9, atol=1e-11)


def test_conditioning_starts_from_the_prior_and_rows_may_repeat():
    field = GaussianProcessHamiltonian(2, n_features=24)
    design, target = normal(10, 24, seed=1), normal(10, seed=2)
    field.condition(design, target, 0.1)
    first = field.weights, field.factor @ field.factor.T
    field.condition(design, target, 0.1)
    assert torch.equal(field.weights, first[0])
    field.condition(design.repeat(4, 1), target.repeat(4), 0.2)  # four rows of noise .2 are one of noise .1
    assert torch.allclose(field.weights, first[0]) and torch.allclose(field.factor @ field.factor.T, first[1])


@pytest.mark.parametrize("theta", [False, True])
def test_the_fit_is_kriging_with_the_kernel_of_the_derivatives(theta):
    """Function-space view: predictions from the dense covariance of all derivatives, with the found parameters."""
    n_theta = int(theta)
    y, dy = pendulum_data(25, noise=0.05)
    p = normal(25, 1, seed=8) if theta else None
    field = GaussianProcessHamiltonian(2, n_theta=n_theta, n_features=80)
    evidence = field.fit(y, dy, p)
    assert torch.equal(field.noise, evidence.noise) and torch.equal(field.lengthscale, evidence.lengthscale)
    z, pz = normal(7, 2, seed=9), normal(7, 1, seed=10) if theta else None
    data, test = field.design(y, p).flatten(0, 1), field.design(z, pz).flatten(0, 1)
    gram = field.signal**2 * data @ data.T + field.noise**2 * torch.eye(50, dtype=torch.float64)
    cross = field.signal**2 * test @ data.T
    mean = cross @ torch.linalg.solve(gram, dy.flatten())
    variance = field.signal**2 * test @ test.T - cross @ torch.linalg.solve(gram, cross.T)
    assert torch.allclose(field(ZERO, z, pz).flatten(), mean, atol=1e-7)
    got = (test @ field.factor) @ (test @ field.factor).T
    assert torch.allclose(got, variance, atol=1e-7)


def test_the_kernel_of_derivatives_is_the_second_derivative_of_the_squared_exponential():
    field = GaussianProcessHamiltonian(2, n_features=6000, scale=[0.8, 1.3])
    y = normal(12, 2)
    rates = field.design(y)
    got = torch.einsum("nif,mjf->nimj", rates, rates)
    ell2 = field.scale.square()
    difference = y[:, None] - y
    kernel = torch.exp(-0.5 * (difference.square() / ell2).sum(-1))
    a = difference / ell2
    hessian = (torch.diag(1 / ell2) - a[..., :, None] * a[..., None, :]) * kernel[..., None, None]
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    exact = torch.einsum("ia,nmab,jb->nimj", turn, hessian, turn)
    assert (got - exact).abs().amax() < 0.05


def test_samples_have_the_mean_and_the_covariance_of_the_posterior():
    field = GaussianProcessHamiltonian(2, n_features=40, known=MassSpring().double())
    field.fit(*pendulum_data(8, noise=0.1))
    before = torch.get_rng_state()
    samples = field.sample(4000, torch.Generator().manual_seed(0))
    assert torch.equal(before, torch.get_rng_state())
    weights = torch.stack([sample.weights for sample in samples])
    z = normal(5, 2, seed=4)
    design = field.design(z).flatten(0, 1)
    exact = (design @ field.factor) @ (design @ field.factor).T
    rates = weights @ design.T
    deviation = exact.diagonal().sqrt()
    error = (rates.mean(0) - design @ field.weights) / deviation
    assert error.abs().amax() < 4.5 / math.sqrt(4000)
    correlation = torch.cov(rates.T) / deviation / deviation[:, None]
    assert (correlation - exact / deviation / deviation[:, None]).abs().amax() < 0.1
    assert torch.allclose(samples[0](ZERO, z), (design @ weights[0]).reshape(5, 2) + MassSpring().double()(ZERO, z))
    again = field.sample(2, torch.Generator().manual_seed(1))
    for a, b in zip(again, field.sample(2, torch.Generator().manual_seed(1)), strict=True):
        assert torch.equal(a.weights, b.weights)


def test_a_prior_sample_has_the_prior_variance():
    field = GaussianProcessHamiltonian(2, n_features=50)
    energies = torch.stack([s.energy(normal(6, 2)) for s in field.sample(3000, torch.Generator().manual_seed(0))])
    assert torch.allclose(energies.var(0), torch.ones(6, dtype=torch.float64), rtol=0.15)


def test_held_out_derivatives_are_calibrated():
    """z-scores of held-out derivatives are standard normal when the truth comes from the prior."""
    scores = []
    for seed in range(20):
        prior = GaussianProcessHamiltonian(2, n_features=100, scale=[1.0, 1.0], seed=seed)
        truth = prior.sample(1, torch.Generator().manual_seed(seed))[0]
        y, noise = normal(20, 2, seed=1000 + seed), 0.1
        dy = truth(ZERO, y) + noise * normal(20, 2, seed=2000 + seed)
        field = GaussianProcessHamiltonian(2, n_features=100, scale=[1.0, 1.0], seed=seed)
        field.fit(y, dy)
        z = normal(30, 2, seed=3000 + seed)
        deviation = (field.design(z) @ field.factor).norm(dim=-1)
        scores.append((field(ZERO, z) - truth(ZERO, z)) / deviation)
    scores = torch.stack(scores).flatten()
    assert scores.mean().abs() < 0.15
    assert 0.8 < scores.std() < 1.25
    assert 0.90 < (scores.abs() < 2).double().mean() < 0.99


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_learns_the_pendulum(noise):
    field = GaussianProcessHamiltonian(2, n_features=200, periods=[TURN, None])
    evidence = field.fit(*pendulum_data(150, noise=noise))
    if noise:
        assert float(evidence.noise) == pytest.approx(noise, rel=0.15)
    z, exact = pendulum_data(100, seed=50)
    assert (field(ZERO, z) - exact).square().mean().sqrt() < (0.05 if noise else 1e-3)


def test_the_periodic_pendulum_extrapolates_over_turns():
    field = GaussianProcessHamiltonian(2, n_features=100, periods=[TURN, None])
    field.fit(*pendulum_data(60))
    z = normal(10, 2, seed=3)
    assert torch.allclose(
        field(ZERO, z), field(ZERO, z + torch.tensor([3 * TURN, 0.0], dtype=torch.float64)), atol=1e-9
    )


def test_parameters_of_the_system_are_inputs():
    length = torch.rand(200, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.7
    y = normal(200, 2, seed=1)
    truth = Pendulum(length=length, gravity=1.0).double()
    field = GaussianProcessHamiltonian(2, n_theta=1, n_features=300)
    field.fit(y, truth(ZERO, y), length)
    z, other = normal(40, 2, seed=5) / 2, torch.full((40, 1), 1.1, dtype=torch.float64)
    exact = Pendulum(length=1.1, gravity=1.0).double()(ZERO, z)
    assert (field(ZERO, z, other) - exact).abs().amax() < 0.02
    assert torch.equal(ConditionedField(field, other)(ZERO, z), field(ZERO, z, other))


def test_a_known_kinetic_energy_leaves_the_potential_to_learn():
    class Kinetic(MassSpring):
        def potential(self, q):
            return torch.zeros_like(q[..., 0])

        def force(self, q):
            return torch.zeros_like(q)

    y, dy = pendulum_data(15)
    field = GaussianProcessHamiltonian(
        2, n_features=60, periods=[TURN], coordinates=torch.tensor([[1.0, 0.0]]), known=Kinetic().double()
    )
    field.fit(y, dy)
    z = normal(20, 2, seed=7)
    assert torch.allclose(field(ZERO, z)[:, 0], z[:, 1], atol=1e-12)  # dq/dt = p, exactly
    assert torch.allclose(field(ZERO, z)[:, 1], -z[:, 0].sin(), atol=2e-3)


def test_coordinates_make_an_energy_invariant():
    """An energy of separations only keeps the total momentum, whatever the data say."""
    field = GaussianProcessHamiltonian(
        4, n_features=40, coordinates=torch.tensor([[1.0, -1.0, 0.0, 0.0]]), known=MassSpring().double()
    )
    field.fit(normal(20, 4), normal(20, 4, seed=1))
    z = normal(5, 4, seed=2)
    learnt = field(ZERO, z) - MassSpring().double()(ZERO, z)
    assert torch.allclose(learnt[:, 2] + learnt[:, 3], torch.zeros(5, dtype=torch.float64), atol=1e-12)


@given(batch=st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_data_may_have_any_batch_shape(batch):
    y = normal(*batch, 2)
    dy = torch.stack([y[..., 1], -y[..., 0]], -1)
    fields = [GaussianProcessHamiltonian(2, n_features=20) for _ in range(2)]
    fields[0].fit(y, dy)
    fields[1].fit(y.reshape(-1, 2), dy.reshape(-1, 2))
    assert torch.equal(fields[0].weights, fields[1].weights)


def test_data_that_say_nothing_are_no_error():
    for y in (torch.zeros(6, 2), torch.ones(6, 2), torch.ones(1, 2)):
        field = GaussianProcessHamiltonian(2, n_features=20)
        field.fit(y, torch.zeros_like(y))
        assert torch.isfinite(field.weights).all() and torch.isfinite(field.factor).all()


def fitted():
    field = GaussianProcessHamiltonian(2, n_features=30, known=Pendulum(gravity=1.0).double())
    field.fit(*pendulum_data(20))
    return field


@pytest.mark.parametrize("kind", ["fitted", "sample", "conditioned"])
def test_contract(kind):
    y0 = torch.tensor([[0.3, -0.2], [1.0, 0.4], [-0.6, 0.8]], dtype=torch.float64)
    if kind == "conditioned":
        field = GaussianProcessHamiltonian(2, n_theta=1, n_features=30)
        field.fit(*pendulum_data(20), normal(20, 1))
        check_vector_field(ConditionedField(field, torch.tensor([0.4], dtype=torch.float64)), y0)
    else:
        field = fitted()
        check_vector_field(field if kind == "fitted" else field.sample(1, torch.Generator().manual_seed(0))[0], y0)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (dict(dim=3), "`dim`"),
        (dict(dim=0), "`dim`"),
        (dict(dim=2, n_features=7), "`n_features`"),
        (dict(dim=2, scale=[1.0]), "`scale`"),
        (dict(dim=2, scale=[1.0, -1.0]), "`scale`"),
        (dict(dim=2, scale=[1.0, math.nan]), "`scale`"),
        (dict(dim=2, periods=[1.0]), "`periods`"),
        (dict(dim=2, coordinates=torch.ones(1, 3)), "`coordinates`"),
        (dict(dim=2, coordinates=torch.ones(2)), "`coordinates`"),
    ],
)
def test_bad_constants(arguments, name):
    with pytest.raises(ArgumentError, match=name):
        GaussianProcessHamiltonian(**arguments)


@pytest.mark.parametrize(
    ("y", "dy", "theta", "error", "name"),
    [
        (torch.ones(3, 2), torch.ones(2, 2), None, ArgumentError, "same shape"),
        (torch.ones(3, 4), torch.ones(3, 4), None, ArgumentError, r"\[\.\.\., 2\]"),
        (torch.ones(3, 2), torch.ones(3, 2), torch.ones(3, 1), ArgumentError, "`theta`"),
        (torch.ones(0, 2), torch.ones(0, 2), None, TrainingError, "empty"),
        (torch.full((3, 2), math.nan), torch.ones(3, 2), None, TrainingError, "finite"),
        (torch.ones(3, 2), torch.full((3, 2), math.inf), None, TrainingError, "finite"),
    ],
)
def test_bad_data(y, dy, theta, error, name):
    with pytest.raises(error, match=name):
        GaussianProcessHamiltonian(2, n_features=10).fit(y, dy, theta)


def test_bad_parameters():
    field = GaussianProcessHamiltonian(2, n_theta=1, n_features=10)
    with pytest.raises(ArgumentError, match="`theta`"):
        field.fit(torch.ones(3, 2), torch.ones(3, 2))
    with pytest.raises(TrainingError, match="`theta`"):
        field.fit(torch.ones(3, 2), torch.ones(3, 2), torch.full((3, 1), math.nan))
    with pytest.raises(ArgumentError, match="3 inputs, got 2"):
        field(ZERO, normal(4, 2))
    with pytest.raises(ArgumentError, match="3 inputs, got 5"):
        FourierHamiltonian(FourierFeatures(3, 10).at(torch.ones(3)), normal(10))(ZERO, normal(4, 4), normal(1))
