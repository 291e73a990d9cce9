"""Sensitivities of runs: finite differences, symplectic tangent flow, order of convergence, gradients."""

import itertools
import math

import pytest
import torch

from diffsim.errors import ArgumentError
from diffsim.fields.base import ConditionedField
from diffsim.fields.gaussian_process import FourierHamiltonian, GaussianProcessHamiltonian
from diffsim.integrate.odeint import odeint
from diffsim.integrate.sensitivity import runge_kutta, weight_sensitivity
from diffsim.integrate.solver import Solver
from diffsim.systems import HenonHeiles, Pendulum

ZERO = torch.tensor(0.0, dtype=torch.float64)
T = torch.tensor([0.0, 0.3, 0.5, 1.4], dtype=torch.float64)
STEP = 0.05


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


FIELDS = {
    "plain": dict(dim=2),
    "two degrees": dict(dim=4),
    "theta": dict(dim=2, n_theta=1),
    "coordinates": dict(dim=4, coordinates=torch.tensor([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])),
    "known": dict(dim=2, known=Pendulum(gravity=1.0).double()),
    "known, two degrees": dict(dim=4, known=HenonHeiles().double()),
}


def make(kind, n_features=16):
    field = GaussianProcessHamiltonian(n_features=n_features, **FIELDS[kind])
    field.weights = normal(n_features, seed=1)
    theta = normal(3, 1, seed=2) if field.n_theta else None
    return field, 0.3 * normal(3, field.dim, seed=3), theta


def run(field, y0, theta, weights=None, t=T):
    return weight_sensitivity(with_weights(field, weights), y0, t, step=STEP, theta=theta)[0]


def with_weights(field, weights):
    weights = field.weights if weights is None else weights
    return FourierHamiltonian(field.waves, weights, field.coordinates, field.known)


@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("t", [T, -T], ids=["forward", "backward"])
def test_sensitivities_are_finite_differences_of_runs(kind, t):
    field, y0, theta = make(kind)
    states, s, s0 = weight_sensitivity(field, y0, t, step=STEP, theta=theta)
    d, h = field.dim, 1e-5
    assert states.shape == (3, 4, d) and s.shape == (3, 4, d, 16) and s0.shape == (3, 4, d, d)
    assert torch.equal(s0[:, 0], torch.eye(d).double().expand(3, d, d)) and not s[:, 0].any()
    for i in range(0, 16, 5):
        unit = torch.eye(16, dtype=torch.float64)[i]
        sides = [run(field, y0, theta, field.weights + sign * h * unit, t) for sign in (1, -1)]
        assert torch.allclose(s[..., i], (sides[0] - sides[1]) / (2 * h), atol=1e-7, rtol=1e-6)
    for i in range(d):
        unit = torch.eye(d, dtype=torch.float64)[i]
        sides = [run(field, y0 + sign * h * unit, theta, t=t) for sign in (1, -1)]
        assert torch.allclose(s0[..., i], (sides[0] - sides[1]) / (2 * h), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("kind", FIELDS)
def test_the_states_are_those_of_a_precise_solver(kind):
    field, y0, theta = make(kind)
    plain = field if theta is None else ConditionedField(field, theta)
    exact = odeint(plain, y0, T, Solver("dopri8", rtol=1e-11, atol=1e-12)).transpose(0, 1)
    assert torch.allclose(run(field, y0, theta), exact, atol=1e-5)


@pytest.mark.parametrize("kind", FIELDS)
def test_the_tangent_flow_is_symplectic_and_the_way_back_its_inverse(kind):
    field, y0, theta = make(kind)
    states, _, s0 = weight_sensitivity(field, y0, T, step=STEP / 2, theta=theta)
    k = field.dim // 2
    eye, null = torch.eye(k, dtype=torch.float64), torch.zeros(k, k, dtype=torch.float64)
    form = torch.cat([torch.cat([null, eye], 1), torch.cat([-eye, null], 1)])
    assert torch.allclose(s0.mT @ form @ s0, form.expand(s0.shape), atol=1e-5)
    back, _, inverse = weight_sensitivity(field, states[:, -1], T.flip(0), step=STEP / 2, theta=theta)
    assert torch.allclose(back[:, -1], y0, atol=1e-6)
    assert torch.allclose(inverse[:, -1] @ s0[:, -1], torch.eye(2 * k).double().expand(3, -1, -1), atol=1e-5)


def test_the_sensitivity_converges_with_fourth_order():
    field, y0, _ = make("plain")
    t = torch.tensor([0.0, 2.0], dtype=torch.float64)
    exact = weight_sensitivity(field, y0, t, step=1 / 512)[1]
    errors = [(weight_sensitivity(field, y0, t, step=h)[1] - exact).norm().item() for h in (1 / 8, 1 / 16, 1 / 32)]
    for coarse, fine in itertools.pairwise(errors):
        assert 3.5 < math.log2(coarse / fine) < 4.7


def test_outputs_end_steps_and_do_not_change_them():
    """A step never exceeds `step`, and more outputs on the same grid change nothing."""
    calls = []

    def slope(y):
        calls.append(None)
        return y

    one = torch.ones(1, 1, dtype=torch.float64)
    dense = runge_kutta(slope, one, torch.linspace(0, 1, 11, dtype=torch.float64), 0.1)
    assert len(calls) == 4 * 10
    sparse = runge_kutta(slope, one, torch.tensor([0.0, 1.0], dtype=torch.float64), 0.1)
    assert torch.allclose(dense[:, -1], sparse[:, -1], rtol=1e-14)
    calls.clear()
    runge_kutta(slope, one, torch.tensor([0.0, 0.25, 0.3], dtype=torch.float64), 0.1)
    assert len(calls) == 4 * (3 + 1)


def test_runs_do_not_depend_on_their_neighbours():
    field, y0, _ = make("plain")
    together = weight_sensitivity(field, y0, T, step=STEP)
    for i in range(3):
        for a, b in zip(weight_sensitivity(field, y0[i : i + 1], T, step=STEP), together, strict=True):
            assert torch.allclose(a[0], b[i], rtol=1e-12, atol=1e-13)


def test_differentiable_in_the_initial_state_and_the_parameters():
    field, y0, theta = make("theta", n_features=6)
    t = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64)

    def sensitivities(y0, theta):
        return weight_sensitivity(field, y0, t, step=0.2, theta=theta)

    assert torch.autograd.gradcheck(
        sensitivities, (y0[:2].requires_grad_(True), theta[:2].clone().requires_grad_(True))
    )


def test_differentiable_with_a_known_part():
    field, y0, _ = make("known", n_features=4)
    t = torch.tensor([0.0, 0.5], dtype=torch.float64)
    y0 = y0[:1].requires_grad_(True)
    assert torch.autograd.gradcheck(lambda y0: weight_sensitivity(field, y0, t, step=0.25), y0)


def test_the_gradient_of_a_run_is_its_initial_sensitivity():
    field, y0, _ = make("plain")
    y0.requires_grad_(True)
    states, _, s0 = weight_sensitivity(field, y0, T, step=STEP)
    (got,) = torch.autograd.grad(states[:, -1, 0].sum(), y0)
    assert torch.allclose(got, s0[:, -1, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("y0", "t", "step", "name"),
    [
        (torch.ones(2).double(), T, 0.1, r"y0\[None\]"),
        (torch.ones(1, 1, 2).double(), T, 0.1, "`y0`"),
        (torch.ones(1, 2).double(), T[0], 0.1, "`t`"),
        (torch.ones(1, 2).double(), T[:0], 0.1, "`t`"),
        (torch.ones(1, 2).double(), T, 0.0, "`step`"),
        (torch.ones(1, 2).double(), T, -0.1, "`step`"),
        (torch.ones(1, 2).double(), T, math.nan, "`step`"),
    ],
)
def test_bad_input(y0, t, step, name):
    with pytest.raises(ArgumentError, match=name):
        weight_sensitivity(make("plain")[0], y0, t, step=step)
