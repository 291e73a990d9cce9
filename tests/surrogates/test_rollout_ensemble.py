"""Ensembles of fields as a BoTorch model: shapes, gradients through the solve, independent designs, divergence."""

import math

import pytest
import torch
from botorch.acquisition import qSimpleRegret
from botorch.acquisition.objective import LinearMCObjective
from botorch.optim import optimize_acqf
from botorch.posteriors.ensemble import EnsemblePosterior

from diffsim.errors import ArgumentError
from diffsim.fields.base import FunctionField
from diffsim.fields.gaussian_process import GaussianProcessHamiltonian
from diffsim.fields.hamiltonian import HamiltonianField
from diffsim.fields.neural import mlp
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver
from diffsim.systems import MassSpring, Pendulum
from surrogates.rollout_ensemble import RolloutEnsemble
from surrogates.rollout_model import RolloutModel

T = torch.linspace(0, 2, 5, dtype=torch.float64)
SPRINGS = [MassSpring(stiffness=k).double() for k in (1.0, 1.2, 0.8)]


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def networks(dtype=torch.float64):
    return [HamiltonianField(mlp(2, 1, (8,), seed=seed, dtype=dtype)) for seed in range(3)]


def blow_up(t, y):
    return y.square().sum(-1, keepdim=True) * y


@pytest.mark.parametrize("shape", [(4,), (5, 1), (2, 3), (2, 2, 3)])
def test_members_runs_are_exact_and_in_order(shape):
    model = RolloutEnsemble(SPRINGS, T)
    X = normal(*shape, 2)
    runs = model(X)
    assert runs.shape == (*shape[:-1], 3, shape[-1], 8) and runs.dtype == torch.float64
    assert model.num_outputs == 8 and model.batch_shape == torch.Size()
    for s, k in enumerate((1.0, 1.2, 0.8)):
        w = math.sqrt(k)
        angle = w * T[1:, None]
        q, p = X[..., None, :1], X[..., None, 1:]
        exact = torch.cat([q * angle.cos() + p / w * angle.sin(), p * angle.cos() - w * q * angle.sin()], -1)
        assert torch.allclose(runs[..., s, :, :], exact.flatten(-2), atol=1e-6)


def test_posterior_has_the_moments_of_the_members():
    model = RolloutEnsemble(SPRINGS, T)
    X = normal(4, 1, 2)
    posterior = model.posterior(X)
    assert isinstance(posterior, EnsemblePosterior)
    assert torch.allclose(posterior.mean, model(X).mean(-3))
    assert torch.allclose(posterior.variance, model(X).var(-3))
    assert posterior.rsample(torch.Size([7])).shape == (7, 4, 1, 8)


def test_the_response_is_a_root_of_the_members_covariance():
    model = RolloutEnsemble(networks(), T)
    X = normal(2, 3, 2)
    response = model.response(X)
    assert response.shape == (2, 3, 8, 3)
    flat = response.flatten(1, 2)
    members = model(X).transpose(-3, -2).transpose(-2, -1).flatten(1, 2)
    for b in range(2):
        assert torch.allclose(flat[b] @ flat[b].T, torch.cov(members[b]), atol=1e-10)
    longer = model.response(X, torch.linspace(0, 4, 9, dtype=torch.float64))
    assert torch.allclose(longer[:, :, :8], response, atol=1e-3)


def test_gradient_in_the_design():
    model = RolloutEnsemble(networks(), T, solver=Solver("rk4", step=0.25, gradient="backprop"))
    assert torch.autograd.gradcheck(model, normal(2, 1, 2).requires_grad_(True))
    assert torch.autograd.gradcheck(model.response, normal(1, 2, 2).requires_grad_(True))


def test_the_adjoint_gives_the_same_gradient():
    gradients = []
    for gradient in ("adjoint", "backprop"):
        X = normal(3, 1, 2).requires_grad_(True)
        model = RolloutEnsemble(networks(), T, solver=Solver("rk4", step=0.02, gradient=gradient))
        gradients += torch.autograd.grad(model(X).square().sum(), X)
    assert torch.allclose(*gradients, rtol=1e-6)


def test_designs_do_not_depend_on_their_neighbours():
    """The same design beside others, however wild, has the same run: an optimiser may move them all at once."""
    model = RolloutEnsemble([Pendulum(), Pendulum(gravity=8.0)], T)
    X = torch.cat([normal(1, 1, 2), 50 * normal(5, 1, 2, seed=1)])
    assert torch.equal(model(X)[:1], model(X[:1]))
    assert torch.equal(model(X)[0, :, 0], model(X[:, 0])[:, 0])
    weights = normal(6, 1, 1, 1)
    weights[0] = 1
    gradients = [
        torch.autograd.grad((model(x) * w).sum(), x)[0][0]
        for x, w in ((X.clone().requires_grad_(True), weights), (X[:1].clone().requires_grad_(True), weights[:1]))
    ]
    assert torch.equal(*gradients)


def test_members_are_frozen():
    fields = networks()
    model = RolloutEnsemble(fields, T)
    assert not any(p.requires_grad for p in model.parameters())
    assert not model(normal(2, 1, 2)).requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_members_of_any_precision_take_double_designs(dtype):
    X = normal(2, 1, 2).requires_grad_(True)
    runs = RolloutEnsemble(networks(dtype), T)(X)
    assert runs.dtype == torch.float64
    doubles = [field.double() for field in networks(dtype)]
    assert torch.allclose(runs, RolloutEnsemble(doubles, T)(X), atol=1e-4)
    (gradient,) = torch.autograd.grad(runs.sum(), X)
    assert gradient.dtype == torch.float64 and torch.isfinite(gradient).all()


def test_a_member_that_diverges_rests_and_leaves_the_gradient_finite():
    model = RolloutEnsemble([*SPRINGS[:2], FunctionField(blow_up)], T)
    X = torch.tensor([[[0.1, 0.0]], [[3.0, 2.0]]], dtype=torch.float64, requires_grad=True)
    runs = model(X)
    assert torch.isfinite(runs).all()
    assert torch.allclose(runs[1, 2, 0], X[1, 0].repeat(4))  # at rest where it was set off
    assert torch.allclose(runs[0], model(X[:1])[0])
    (gradient,) = torch.autograd.grad(model.response(X).square().sum(), X)
    assert torch.isfinite(gradient).all()
    (alone,) = torch.autograd.grad(model.response(X[:1]).square().sum(), X)
    assert torch.allclose(gradient[0], alone[0])


def test_designs_of_states_and_parameters():
    class Spring(torch.nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.register_buffer("factor", torch.tensor(factor, dtype=torch.float64))

        def forward(self, t, y, theta):
            q, p = y.chunk(2, dim=-1)
            return torch.cat([p, -self.factor * theta * q], -1)

    model = RolloutEnsemble(
        [Spring(1.0), Spring(1.1)],
        T,
        state=lambda X: torch.cat([X[..., :1], torch.zeros_like(X[..., :1])], -1),
        theta=lambda X: X[..., 1:],
    )
    X = torch.tensor([[[0.5, 1.0]], [[0.5, 4.0]]], dtype=torch.float64, requires_grad=True)
    runs = model(X)
    exact = X[:, 0, :1] * torch.cos(X[:, 0, 1:].sqrt() * T[1:])
    assert torch.allclose(runs[:, 0, 0, ::2], exact, atol=1e-5)
    (gradient,) = torch.autograd.grad(runs.sum(), X)
    assert gradient[..., 1].all()


def test_posterior_samples_are_members():
    field = GaussianProcessHamiltonian(2, n_features=30)
    y = normal(30, 2)
    field.fit(y, Pendulum(gravity=1.0).double()(torch.tensor(0.0), y))
    samples = field.sample(3, torch.Generator().manual_seed(0))
    X = 0.5 * normal(2, 1, 2)
    runs = RolloutEnsemble(samples, T)(X)
    assert torch.equal(RolloutEnsemble(samples, T.float())(X), runs)  # the members say the precision, not the times
    one = odeint(samples[1], X[:, 0], T, Solver("rk4", step=0.04))[1:]
    assert torch.allclose(runs[:, 1, 0], one.transpose(0, 1).flatten(1), atol=1e-12)


def test_botorch_optimises_over_the_designs():
    """Where does the mean spring go furthest to the right? From the largest momentum and displacement."""
    model = RolloutEnsemble(SPRINGS, torch.tensor([0.0, math.pi / 4], dtype=torch.float64))
    objective = LinearMCObjective(torch.tensor([1.0, 0.0], dtype=torch.float64))
    model(normal(1, 1, 2))
    bounds = torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        best, _ = optimize_acqf(qSimpleRegret(model, objective=objective), bounds, q=1, num_restarts=2, raw_samples=8)
    assert torch.allclose(best, torch.ones(1, 2).double(), atol=1e-6)


def test_is_a_model_of_runs():
    assert isinstance(RolloutEnsemble(SPRINGS, T), RolloutModel)


def test_bad_input():
    with pytest.raises(ArgumentError, match="two members"):
        RolloutEnsemble(SPRINGS[:1], T)
    with pytest.raises(ArgumentError, match="`noise`"):
        RolloutEnsemble(SPRINGS, T, noise=-1.0)
    for t in (T[:1], T[None]):
        with pytest.raises(ArgumentError, match="`t`"):
            RolloutEnsemble(SPRINGS, t)
    with pytest.raises(ArgumentError, match="first call"):
        _ = RolloutEnsemble(SPRINGS, T).num_outputs
