"""odeint: order of convergence, dense output, scales of time, directions, dtypes and shapes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffsim.errors import IntegrationError
from diffsim.fields import FunctionField, Separable
from diffsim.integrate import Solver, odeint
from diffsim.integrate.solver import ADAPTIVE_METHODS

FIXED = {
    "euler": 1,
    "midpoint": 2,
    "heun2": 2,
    "heun3": 3,
    "rk4": 4,
    "explicit_adams": 4,
    "implicit_adams": 4,
    "leapfrog": 2,
    "yoshida4": 4,
    "implicit_midpoint": 2,
}
AUTONOMOUS = ("leapfrog", "yoshida4")


class Oscillator(Separable):
    """H = (p^2 + omega^2 q^2) / 2."""

    omega: torch.Tensor

    def __init__(self, omega=1.0):
        super().__init__()
        self.register_buffer("omega", torch.as_tensor(omega, dtype=torch.float64))

    def kinetic(self, p):
        return p.square().sum(-1) / 2

    def potential(self, q):
        return (self.omega * q).square().sum(-1) / 2

    def solution(self, y0, t):
        q, p = y0.double().chunk(2, -1)
        angle = (self.omega * (t - t[0]).double()).reshape(-1, *[1] * y0.ndim)
        return torch.cat(
            [q * angle.cos() + p / self.omega * angle.sin(), p * angle.cos() - self.omega * q * angle.sin()], dim=-1
        )


class Driven(FunctionField):
    """dy/dt = cos(t) y, whose solution is y0 exp(sin t - sin t0)."""

    def __init__(self):
        super().__init__(lambda t, y: torch.cos(t) * y)

    def solution(self, y0, t):
        return y0.double() * (t.double().sin() - t[0].double().sin()).exp().reshape(-1, *[1] * y0.ndim)


def states(dtype=torch.float64):
    return torch.tensor([[1.0, 0.5], [-0.3, 0.8], [0.7, -1.1]], dtype=dtype)


def problem(method):
    return Oscillator() if method in AUTONOMOUS else Driven()


def times(direction, n=12, dtype=torch.float64):
    return 0.3 + direction * torch.linspace(0, 2.0, n, dtype=dtype)


def error(field, y0, t, solver):
    return float((odeint(field, y0, t, solver).double() - field.solution(y0, t)).abs().amax())


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("method", list(FIXED))
def test_fixed_step_methods_converge_with_their_order(method, direction):
    # Most outputs fall between the steps: the order is that of the dense output too.
    field, t = problem(method), times(direction, 98)
    errors = [error(field, states(), t, Solver(method, rtol=1e-12, atol=1e-12, step=2 / n)) for n in (41, 164)]
    order = math.log(errors[0] / errors[1], 4)
    assert FIXED[method] - 0.15 < order < FIXED[method] + (1.2 if "adams" in method else 0.3)


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("method", ADAPTIVE_METHODS)
def test_adaptive_methods_meet_their_tolerance_at_dense_outputs(method, direction):
    tolerance = {"fehlberg2": 1e-5, "adaptive_heun": 1e-5}.get(method, 1e-8)
    solver = Solver(method, rtol=tolerance, atol=tolerance)
    assert error(Driven(), states(), times(direction, 200), solver) < 300 * tolerance


@pytest.mark.parametrize("method", [*ADAPTIVE_METHODS, *FIXED])
def test_float32_in_float32_out(method):
    solver = Solver(method, rtol=1e-4, atol=1e-5, step=None if method in ADAPTIVE_METHODS else 0.01)
    field = problem(method).float()
    t = times(1, dtype=torch.float64)
    for s in (t, t.float()):
        y = odeint(field, states(torch.float32), s, solver)
        assert y.dtype == torch.float32
        tolerance = {"euler": 0.05, "fehlberg2": 0.01}.get(method, 2e-3)
        assert (y.double() - field.solution(states(), t)).abs().amax() < tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", ["dopri5", "dopri8", "rk4", "implicit_adams", "leapfrog", "implicit_midpoint"])
@settings(max_examples=6)
@given(exponent=st.integers(-9, 9), backward=st.booleans())
def test_scales_of_time(method, dtype, exponent, backward):
    scale = 10.0**exponent
    field = Oscillator(1 / scale).to(dtype)
    t = torch.linspace(0, 3 * scale, 7, dtype=torch.float64)
    t = -t if backward else t
    # q of order 1, p of order 1 / scale: the tolerance is relative.
    y0 = torch.tensor([[1.0, 0.5 / scale]], dtype=dtype)
    solver = Solver(method, rtol=1e-6, atol=1e-8 * min(1, 1 / scale), step=None if "dopri" in method else 0.02 * scale)
    y = odeint(field, y0, t, solver).double() * torch.tensor([1, scale])
    exact = field.double().solution(y0, t) * torch.tensor([1, scale])
    assert (y - exact).abs().amax() < (5e-4 if method in ("leapfrog", "implicit_midpoint") else 5e-5)


def test_float64_times_far_from_zero_stay_accurate():
    # Steps of 1e-6 at t = 1e9, where float64 resolves 1e-7 and float32 64.
    field = Oscillator(1e4)
    t = 1e9 + torch.arange(0, 11, dtype=torch.float64) * 1e-4
    for solver in (Solver(rtol=1e-8, atol=1e-10), Solver("rk4", step=1e-6), Solver("leapfrog", step=1e-7)):
        y0 = torch.tensor([1.0, 0.0], dtype=torch.float64)
        assert (odeint(field, y0, t, solver)[:, 0] - field.solution(y0, t)[:, 0]).abs().max() < 1e-5


@pytest.mark.parametrize("method", ["dopri5", "rk4", "implicit_midpoint"])
@pytest.mark.parametrize("shape", [(2,), (1, 2), (5, 2), (3, 4, 2), (2, 1, 3, 2)])
def test_any_batch_shape(method, shape):
    y0 = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    solver = Solver(method, step=None if method == "dopri5" else 0.05)
    y = odeint(Oscillator(), y0, times(1), solver)
    assert y.shape == (12, *shape)
    assert torch.equal(y[0], y0)
    assert torch.allclose(y, Oscillator().solution(y0, times(1)), atol=2e-3)


def test_non_contiguous_inputs():
    y0 = torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).T
    t = times(1, 24)[::2]
    assert not y0.is_contiguous() and not t.is_contiguous()
    for solver in (Solver(), Solver("rk4", step=0.05), Solver("leapfrog", step=0.05)):
        expected = odeint(Oscillator(), y0.contiguous(), t.contiguous(), solver)
        assert torch.equal(odeint(Oscillator(), y0, t, solver), expected)


def test_one_time_gives_the_initial_state():
    y0 = states()
    for solver in (Solver(), Solver("rk4", step=0.1), Solver("leapfrog", step=0.1)):
        y = odeint(Oscillator(), y0, torch.tensor([2.0]), solver)
        assert torch.equal(y, y0[None]) and y.data_ptr() != y0.data_ptr()


def test_the_step_is_never_the_output_spacing():
    # Two times, 10 apart: torchdiffeq without a step size would take a single step.
    t = torch.tensor([0.0, 10.0], dtype=torch.float64)
    assert error(Driven(), states(), t, Solver("rk4", step=0.01)) < 1e-8


@settings(max_examples=8)
@given(n=st.integers(2, 9), seed=st.integers(0, 99), backward=st.booleans())
def test_outputs_do_not_change_a_fixed_step_solution(n, seed, backward):
    # Any times with the same ends: the same steps, so the same last state.
    inner = torch.rand(n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).sort().values
    t = torch.cat([torch.zeros(1), 0.01 + 0.9 * inner.unique(), torch.ones(1)]).double()
    t = -t if backward else t
    for method in ("rk4", "explicit_adams", "leapfrog", "implicit_midpoint"):
        solver = Solver(method, step=0.013)
        y = odeint(problem(method), states(), t, solver)
        assert torch.allclose(y[-1], odeint(problem(method), states(), t[[0, -1]], solver)[-1], rtol=0, atol=1e-14)
        assert (y - problem(method).solution(states(), t)).abs().amax() < 1e-4


def test_outputs_on_the_steps_cost_no_evaluations():
    calls = 0

    def count(t, y):
        nonlocal calls
        calls += 1
        return -y

    t = torch.linspace(0, 3, 61)  # float32: the times are rounded
    odeint(FunctionField(count), torch.ones(2), t, Solver("rk4", step=0.05))
    assert calls == 1 + 4 * 60


def test_each_trajectory_meets_the_tolerance_whatever_the_batch():
    # One fast trajectory among 999 at rest: a mean over the batch would forgive it 30 times its error.
    y0 = torch.zeros(1000, 2, dtype=torch.float64)
    y0[17] = torch.tensor([1.0, 0.0])
    t = times(1, 5)
    alone = odeint(Oscillator(9.0), y0[17:18], t, Solver(rtol=1e-6, atol=1e-6))
    batch = odeint(Oscillator(9.0), y0, t, Solver(rtol=1e-6, atol=1e-6))
    assert torch.allclose(batch[:, 17:18], alone, rtol=0, atol=1e-12)


def test_the_field_is_not_called_outside_the_times():
    called = []

    def field(t, y):
        called.append(float(t))
        return -y

    for solver in (Solver(rtol=1e-3), Solver("dopri8", rtol=1e-3), Solver("rk4", step=0.3)):
        odeint(FunctionField(field), torch.ones(1, dtype=torch.float64), torch.tensor([1.0, 1.7, 2.0]), solver)
    assert min(called) >= 1 and max(called) <= 2 + 1e-12


def test_a_trial_step_out_of_the_domain_is_shortened():
    # y = (1 - t / 2)^2 reaches the edge of the square root's domain at t = 2.
    y = odeint(
        FunctionField(lambda t, y: -torch.sqrt(y)),
        torch.ones(1, dtype=torch.float64),
        torch.tensor([0.0, 1.999], dtype=torch.float64),
    )
    assert y[-1].item() == pytest.approx(0.0005**2, abs=1e-7)


def test_constant_and_zero_fields():
    t = torch.tensor([0.0, 1.0, 5.0], dtype=torch.float64)
    y0 = torch.zeros(2, 3, dtype=torch.float64)
    for rate in (0.0, 2.0):
        field = FunctionField(lambda t, y, rate=rate: torch.full_like(y, rate))
        for method in ("dopri5", "dopri8", "rk4", "implicit_adams", "implicit_midpoint"):
            y = odeint(field, y0, t, Solver(method, step=None if "dopri" in method else 0.1))
            assert torch.allclose(y, rate * t[:, None, None].expand(3, 2, 3), atol=1e-12)


def test_implicit_adams_that_does_not_converge_is_an_error():
    field = FunctionField(lambda t, y: -50 * y)
    with pytest.raises(IntegrationError, match=r"implicit_adams did not converge with step=0.1"):
        odeint(field, torch.ones(1), torch.tensor([0.0, 1.0]), Solver("implicit_adams", step=0.1))


def test_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    odeint(Oscillator(), states(), times(1))
    assert torch.equal(torch.get_rng_state(), before)
