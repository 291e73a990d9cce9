"""Events: times and states with gradients, starts on the surface, close crossings, batches, none until t_max."""

import math

import pytest
import torch

from diffsim.errors import ArgumentError, ArgumentTypeError, IntegrationError
from diffsim.fields import FunctionField
from diffsim.integrate import Solver, odeint_event

F64 = torch.float64
OSCILLATOR = FunctionField(lambda t, y: torch.stack([y[..., 1], -y[..., 0]], -1))


def fall(g):
    return FunctionField(lambda t, y, g: torch.stack([y[..., 1], -g + 0 * y[..., 1]], -1), g=g)


def leaf(value):
    return torch.tensor(value, dtype=F64, requires_grad=True)


@pytest.mark.parametrize("method", ["dopri5", "tsit5", "bosh3"])
@pytest.mark.parametrize("gradient", ["adjoint", "backprop", "interpolated"])
def test_times_states_and_their_gradients_are_those_of_a_fall(method, gradient):
    g, floor, t0 = leaf(9.81), leaf(0.5), leaf(0.3)
    y0 = leaf([[10.0, 0.0], [20.0, 1.0], [3.0, -2.0]])
    solver = Solver(method, gradient=gradient, rtol=1e-9, atol=1e-9)
    found = odeint_event(fall(g), y0, lambda t, y: y[..., 0] - floor, t0, solver, t_max=9.0)
    z, v = y0.unbind(-1)
    after = (v + (v * v + 2 * g * (z - floor)).sqrt()) / g
    assert found.happened.all()
    assert torch.allclose(found.t, t0 + after, rtol=1e-9)
    assert torch.allclose(found.y, torch.stack([floor.expand(3), v - g * after], -1), rtol=1e-8)
    inputs = (g, floor, t0, y0)
    for got, expected in ((found.t, t0 + after), (found.y[:, 1], v - g * after)):
        pairs = zip(
            torch.autograd.grad(got.square().sum(), inputs, retain_graph=True),
            torch.autograd.grad(expected.square().sum(), inputs, retain_graph=True, materialize_grads=True),
            strict=True,
        )
        for a, b in pairs:
            assert torch.allclose(a, b, rtol=1e-7, atol=1e-7)


def test_gradients_equal_finite_differences_for_a_moving_curved_surface():
    y0 = torch.tensor([[1.0, 0.2], [0.4, -0.9]], dtype=F64)
    damped = FunctionField(
        lambda t, y, c: torch.cat([y[..., 1:], torch.cos(t) - y[..., :1] - c * y[..., 1:]], -1), c=leaf(0.3)
    )

    def event(t, y, r):
        return y[..., 0] - r * torch.sin(y[..., 1] + t[..., 0])

    solver = Solver("tsit5", rtol=1e-10, atol=1e-10)
    r = leaf(0.7)
    found = odeint_event(damped, y0, lambda t, y: event(t, y, r), 0.0, solver, t_max=20.0)
    (g,) = torch.autograd.grad((found.t + found.y[:, 1]).sum(), r)
    values = []
    for shift in (1e-5, -1e-5):
        end = odeint_event(damped, y0, lambda t, y, s=shift: event(t, y, 0.7 + s), 0.0, solver, t_max=20.0)
        values.append(float((end.t + end.y[:, 1]).detach().sum()))
    assert found.happened.all()
    assert g.item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def test_a_ball_bounces():
    # Each start lies on the surface but for rounding, on either side of it.
    field, flights = fall(torch.tensor(9.81, dtype=F64)), []
    y, t = torch.tensor([0.0, 5.0], dtype=F64), 0.0
    for _ in range(5):
        end = odeint_event(field, y, lambda t, y: y[..., 0], t, t_max=t + 50.0)
        assert end.happened
        flights.append(float(end.t) - t)
        y, t = end.y * torch.tensor([1.0, -0.8], dtype=F64), float(end.t)
    assert flights == pytest.approx([2 * 5 * 0.8**i / 9.81 for i in range(5)], rel=1e-9)
    stays = odeint_event(field, -1e-9 + 0 * y, lambda t, y: y[..., 0], 0.0, t_max=1.0)
    assert not stays.happened and stays.t == 1.0


def test_two_crossings_within_a_step_are_seen():
    y0 = torch.tensor([0.0, 1.0], dtype=F64)
    solver = Solver("tsit5", rtol=1e-3, atol=1e-3)  # steps of about 1; above the surface for 0.28
    end = odeint_event(OSCILLATOR, y0, lambda t, y: y[..., 0] - 0.99, 0.0, solver, t_max=3.0)
    assert end.happened and float(end.t) == pytest.approx(math.asin(0.99), abs=5e-3)


def test_each_trajectory_has_its_own_event_or_none():
    y0 = torch.tensor([[0.0, 1.0], [0.0, 0.6], [0.0, 0.4]], dtype=F64, requires_grad=True)
    end = odeint_event(OSCILLATOR, y0, lambda t, y: y[..., 0] - 0.5, 1.0, Solver(rtol=1e-9, atol=1e-9), t_max=4.0)
    assert end.happened.tolist() == [True, True, False]
    assert end.t.tolist() == pytest.approx([1 + math.asin(0.5), 1 + math.asin(0.5 / 0.6), 4.0], rel=1e-7)
    assert end.y[2].tolist() == pytest.approx([0.4 * math.sin(3), 0.4 * math.cos(3)], rel=1e-7)
    (g,) = torch.autograd.grad(end.t[2], y0, retain_graph=True)
    assert (g == 0).all()
    (g,) = torch.autograd.grad(end.y[2, 0], y0)
    assert g[2].tolist() == pytest.approx([math.cos(3), math.sin(3)], rel=1e-6) and (g[:2] == 0).all()


def test_backward_in_time_any_batch_shape_and_float32():
    y0 = torch.tensor([0.0, 1.0]).expand(2, 3, 2)
    end = odeint_event(OSCILLATOR, y0, lambda t, y: y[..., 0] - 0.5, 0.0, t_max=-9.0)
    assert end.t.shape == end.happened.shape == (2, 3) and end.y.shape == (2, 3, 2) and end.t.dtype == torch.float32
    assert torch.allclose(end.t, torch.tensor(-math.pi - math.asin(0.5)), rtol=1e-5)
    at = odeint_event(OSCILLATOR, y0, lambda t, y: t[..., 0] + 1.5, 0.0, t_max=-9.0)
    assert torch.allclose(at.t, torch.tensor(-1.5))


def test_a_blow_up_after_the_event_is_no_failure():
    y0 = torch.tensor([[1.0], [0.5], [5.0]], dtype=F64)
    field = FunctionField(lambda t, y: y * y)
    end = odeint_event(field, y0, lambda t, y: y[..., 0] - 10, 0.0, t_max=50.0)
    assert torch.allclose(end.t, 1 / y0[:, 0] - 0.1, rtol=1e-6)
    with pytest.raises(IntegrationError, match="the step underflows"):
        odeint_event(field, y0, lambda t, y: y[..., 0] + 10, 0.0, t_max=50.0)
    lost = odeint_event(field, y0, lambda t, y: y[..., 0] + 10, 0.0, Solver(on_divergence="nan"), t_max=50.0)
    assert not lost.happened.any() and torch.isnan(lost.t).all() and torch.isnan(lost.y).all()


def test_what_is_refused():
    y0 = torch.ones(3, 2, dtype=F64)
    with pytest.raises(ArgumentError, match=r"`event` must return shape .* Take t\[..., 0\]"):
        odeint_event(OSCILLATOR, y0, lambda t, y: t - 1, 0.0, t_max=2.0)
    with pytest.raises(ArgumentError, match="dense output"):
        odeint_event(OSCILLATOR, y0, lambda t, y: y[..., 0], 0.0, Solver("rk4", step=0.1), t_max=2.0)
    for t0 in (0.0, torch.zeros(1)):
        with pytest.raises(ArgumentError, match=r"`t0` must be one number other than t_max=0\.0"):
            odeint_event(OSCILLATOR, y0, lambda t, y: y[..., 0], t0, t_max=0.0)
    with pytest.raises(ArgumentTypeError, match=r"`event` must be a function.* third argument"):
        odeint_event(OSCILLATOR, y0, torch.tensor(0.0), lambda t, y: y[..., 0], t_max=1.0)
    with pytest.raises(IntegrationError, match="event's value is not finite"):
        odeint_event(OSCILLATOR, y0, lambda t, y: (y[..., 0] - 0.5).log(), 0.0, t_max=2.0)
    level = leaf(0.5)
    end = odeint_event(OSCILLATOR, y0, lambda t, y: y[..., 0] - level, 0.0, Solver(gradient="backprop"), t_max=9.0)
    with pytest.raises(IntegrationError, match="An event has first derivatives only"):
        torch.autograd.grad(end.t.sum(), level, create_graph=True)
