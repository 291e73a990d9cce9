"""Symplectic solvers: energy, reversibility, the symplectic form and quadratic invariants."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields import FunctionField, HamiltonianField, Separable, mlp
from diffsim.integrate import Solver, odeint

METHODS = ["leapfrog", "yoshida4", "implicit_midpoint"]
ORDER = {"leapfrog": 2, "yoshida4": 4, "implicit_midpoint": 2}


class Pendulum(Separable):
    def kinetic(self, p):
        return p.square().sum(-1) / 2

    def potential(self, q):
        return (1 - q.cos()).sum(-1)


class Coupled(Separable):
    """Two coupled anharmonic oscillators (Henon-Heiles)."""

    def kinetic(self, p):
        return p.square().sum(-1) / 2

    def potential(self, q):
        x, y = q.unbind(-1)
        return (x * x + y * y) / 2 + x * x * y - y**3 / 3


class Planet(Separable):
    """Kepler's problem in the plane; angular momentum is a quadratic invariant."""

    def kinetic(self, p):
        return p.square().sum(-1) / 2

    def potential(self, q):
        return -1 / q.norm(dim=-1)

    @staticmethod
    def angular_momentum(y):
        return y[..., 0] * y[..., 3] - y[..., 1] * y[..., 2]


def symplectic_form(k):
    j = torch.zeros(2 * k, 2 * k, dtype=torch.float64)
    j[:k, k:], j[k:, :k] = torch.eye(k), -torch.eye(k)
    return j


@pytest.mark.parametrize("method", METHODS)
def test_the_energy_does_not_drift(method):
    y0 = torch.tensor([[1.0, 0.0], [2.5, 0.0], [0.0, 1.5]], dtype=torch.float64)
    t = torch.linspace(0, 250, 201, dtype=torch.float64)
    h = 0.125
    energy = Pendulum().energy(odeint(Pendulum(), y0, t, Solver(method, step=h)))
    error = (energy - energy[0]).abs()
    assert error.amax() < 2 * h ** ORDER[method]
    # No trend: the second half is no worse than the first. A Runge-Kutta method of the same step drifts.
    assert error[100:].amax() < 1.1 * error[:101].amax()


def test_a_method_that_is_not_symplectic_drifts():
    y0, t = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.linspace(0, 500, 201, dtype=torch.float64)
    energy = Pendulum().energy(odeint(Pendulum(), y0, t, Solver("midpoint", step=0.1)))
    error = (energy - energy[0]).abs()
    assert error[100:].amax() > 1.8 * error[:101].amax() > 2 * 0.1**2


def test_outputs_off_the_steps_keep_the_energy():
    # Steps that landed on such outputs would be unequal and let the energy drift.
    generator = torch.Generator().manual_seed(0)
    t = torch.cat([torch.zeros(1), 500 * torch.rand(300, generator=generator).sort().values]).double()
    y = odeint(Pendulum(), torch.tensor([[2.0, 0.0]], dtype=torch.float64), t, Solver("leapfrog", step=0.1))
    error = (Pendulum().energy(y) - Pendulum().energy(y[0])).abs()
    assert error[150:].amax() < 1.1 * error[:151].amax()


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=5)
@given(seed=st.integers(0, 1000), step=st.floats(0.02, 0.3))
def test_time_reversal_gives_the_initial_state_back(method, seed, step):
    y0 = 0.3 * torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    t = torch.tensor([0.0, 3.0], dtype=torch.float64)
    solver = Solver(method, step=step)
    forth = odeint(Coupled(), y0, t, solver)[-1]
    assert torch.allclose(odeint(Coupled(), forth, t.flip(0), solver)[-1], y0, rtol=0, atol=1e-12)
    # The same with the momenta reversed instead of the time.
    flip = torch.tensor([1, 1, -1, -1], dtype=torch.float64)
    assert torch.allclose(flip * odeint(Coupled(), flip * forth, t, solver)[-1], y0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gradient", ["adjoint", "backprop"])
@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=3)
@given(seed=st.integers(0, 1000))
def test_the_flow_is_symplectic(method, gradient, seed):
    y0 = 0.3 * torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    t = torch.tensor([0.0, 2.0], dtype=torch.float64)

    def flow(y):
        return odeint(Coupled(), y, t, Solver(method, step=0.2, gradient=gradient))[-1]

    m = torch.autograd.functional.jacobian(flow, y0)
    j = symplectic_form(2)
    assert torch.allclose(m.T @ j @ m, j, rtol=0, atol=1e-12)


def test_a_runge_kutta_flow_is_not_symplectic():
    t = torch.tensor([0.0, 2.0], dtype=torch.float64)
    solver = Solver("rk4", step=0.2, gradient="backprop")
    y0 = torch.full((4,), 0.3, dtype=torch.float64)
    m = torch.autograd.functional.jacobian(lambda y: odeint(Coupled(), y, t, solver)[-1], y0)
    assert not torch.allclose(m.T @ symplectic_form(2) @ m, symplectic_form(2), rtol=0, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_quadratic_invariants_are_exact(method):
    y0 = torch.tensor([[1.0, 0.0, 0.0, 1.1], [0.7, 0.0, 0.2, 1.2]], dtype=torch.float64)
    t = torch.linspace(0, 20, 5, dtype=torch.float64)
    momentum = Planet.angular_momentum(odeint(Planet(), y0, t, Solver(method, step=0.05)))
    assert torch.allclose(momentum, momentum[0].expand_as(momentum), rtol=0, atol=1e-13)


def test_implicit_midpoint_keeps_any_quadratic_energy():
    # A quadratic energy that mixes q and p, which no splitting can treat.
    a = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    field = FunctionField(lambda t, y, a: (y @ a) @ torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=y.dtype), a=a)
    y0 = torch.tensor([[1.0, -0.4]], dtype=torch.float64)
    y = odeint(field, y0, torch.linspace(0, 30, 16, dtype=torch.float64), Solver("implicit_midpoint", step=0.2))
    energy = ((y @ a) * y).sum(-1)
    assert torch.allclose(energy, energy[0].expand_as(energy), rtol=1e-13)


def test_implicit_midpoint_solves_an_energy_that_does_not_separate():
    field = HamiltonianField(mlp(2, 1, (16,), dtype=torch.float64))
    y0 = torch.tensor([[0.5, -0.4]], dtype=torch.float64)
    t = torch.linspace(0, 5, 6, dtype=torch.float64)
    reference = odeint(field, y0, t, Solver("dopri8", rtol=1e-11, atol=1e-12))
    assert torch.allclose(odeint(field, y0, t, Solver("implicit_midpoint", step=0.02)), reference, atol=1e-4)


def test_implicit_midpoint_solves_a_stiff_field():
    # h L = 25: the fixed-point iteration diverges, Newton's takes over.
    field = FunctionField(lambda t, y, rate: -rate * (y - torch.cos(t)), rate=torch.tensor(500.0, requires_grad=True))
    y0 = torch.tensor([[1.0], [0.9]], dtype=torch.float64, requires_grad=True)
    t = torch.linspace(0, 3, 4, dtype=torch.float64)
    y = odeint(field.double(), y0, t, Solver("implicit_midpoint", step=0.05))
    assert torch.allclose(y[1:, 0, 0], t[1:].cos(), atol=2e-2)
    loss = y[-1].sum()
    g_y0, g_rate = torch.autograd.grad(loss, (y0, field.rate))

    def value(rate):
        with torch.no_grad():
            constant = FunctionField(lambda t, y: -rate * (y - torch.cos(t)))
            return odeint(constant, y0, t, Solver("implicit_midpoint", step=0.05))[-1].sum()

    assert g_rate.item() == pytest.approx((value(500.01) - value(499.99)).item() / 0.02, rel=1e-6, abs=1e-12)
    factor = (1 - 12.5) / (1 + 12.5)
    assert torch.allclose(g_y0, torch.full_like(g_y0, factor**60), rtol=1e-6)


def test_implicit_midpoint_is_exact_for_a_linear_field():
    rate = torch.tensor([[-1.0, 2.0], [-3.0, 0.5]], dtype=torch.float64)
    field = FunctionField(lambda t, y, rate: y @ rate.T, rate=rate)
    y0 = torch.tensor([0.3, -1.0], dtype=torch.float64)
    y = odeint(field, y0, torch.tensor([0.0, 1.0], dtype=torch.float64), Solver("implicit_midpoint", step=0.1))
    one = torch.eye(2, dtype=torch.float64)
    step = torch.linalg.solve(one - 0.05 * rate, one + 0.05 * rate)
    assert torch.allclose(y[-1], torch.linalg.matrix_power(step, 10) @ y0, rtol=1e-13)


@pytest.mark.parametrize("method", ["leapfrog", "yoshida4"])
def test_splittings_refuse_fields_that_do_not_separate(method):
    solver = Solver(method, step=0.1)
    y0, t = torch.ones(1, 2), torch.tensor([0.0, 1.0])
    with pytest.raises(ArgumentTypeError, match=r"`field` must be Separable .*'implicit_midpoint' for any other"):
        odeint(HamiltonianField(mlp(2, 1, (4,))), y0, t, solver)

    class Damped(Pendulum):
        def forward(self, t, y):
            return super().forward(t, y) - 0.1 * y

    with pytest.raises(ArgumentError, match="Damped has a `forward` of its own"):
        odeint(Damped(), y0, t, solver)


def test_leapfrog_takes_one_force_a_step():
    calls = 0

    class Counted(Pendulum):
        def force(self, q):
            nonlocal calls
            calls += 1
            return super().force(q)

    odeint(Counted(), torch.ones(1, 2), torch.tensor([0.0, 10.0]), Solver("leapfrog", step=0.1))
    assert calls == 100 + 1 + 1  # the first kick, and the check of the field
