"""Adaptive steps of each trajectory for itself: accuracy, cost, dense output, batches, times, failures."""

import math

import pytest
import torch

from diffsim.errors import ArgumentError, IntegrationError
from diffsim.fields import FunctionField, NeuralField, mlp
from diffsim.integrate import Solver, odeint, solve
from diffsim.integrate.failure import DivergenceError
from diffsim.integrate.solver import DENSE_METHODS
from diffsim.integrate.tableaux import ADAPTIVE_TABLEAUX, FIXED_TABLEAUX

F64 = torch.float64


def driven():
    """dy/dt = cos(t) y, whose solution is y0 exp(sin t - sin t0)."""
    return FunctionField(lambda t, y: torch.cos(t) * y)


def exact(y0, t):
    return y0 * (t.sin() - t[0].sin()).exp().reshape(-1, *[1] * y0.ndim)


def rates():
    return torch.logspace(0, 3, 4, dtype=F64)[:, None]


def relaxing(k):
    return FunctionField(lambda t, y, k: -k * (y - torch.cos(t)), k=k)


@pytest.mark.parametrize("name", [*ADAPTIVE_TABLEAUX, *FIXED_TABLEAUX])
def test_coefficients_meet_the_order_conditions(name):
    tableau = ADAPTIVE_TABLEAUX.get(name) or FIXED_TABLEAUX[name]
    b, c, a = tableau.b, tableau.c, tableau.a
    order = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "bosh3": 3, "rk4": 4}.get(name, 5)
    for power in range(order):
        assert b @ c**power == pytest.approx(1 / (power + 1), abs=1e-13)
    if order >= 3:
        assert b @ a @ c == pytest.approx(1 / 6, abs=1e-13)
    if order >= 4:
        assert b @ a @ c**2 == pytest.approx(1 / 12, abs=1e-13)
        assert b @ a @ a @ c == pytest.approx(1 / 24, abs=1e-13)


@pytest.mark.parametrize("name", list(ADAPTIVE_TABLEAUX))
def test_dense_coefficients_join_the_steps_smoothly(name):
    tableau = ADAPTIVE_TABLEAUX[name]
    n = len(tableau.b)
    assert tableau.dense.sum(1) == pytest.approx(tableau.b, abs=1e-12)
    assert tableau.dense[:, 0] == pytest.approx([1.0] + [0.0] * (n - 1), abs=1e-12)
    assert tableau.dense @ [1, 2, 3, 4] == pytest.approx([0.0] * (n - 1) + [1.0], abs=1e-11)
    assert tableau.error.sum() == pytest.approx(0.0, abs=1e-14)


@pytest.mark.parametrize("independent", [True, False])
@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("method", DENSE_METHODS)
def test_the_tolerance_is_met_at_and_between_the_outputs(method, direction, independent):
    y0 = torch.tensor([[1.0, 0.5], [-0.3, 0.8], [0.0, 0.0]], dtype=F64)
    t = 0.3 + direction * torch.linspace(0, 4, 7, dtype=F64)
    solution = solve(driven(), y0, t, Solver(method, rtol=1e-8, atol=1e-8, independent=independent))
    assert (solution.y - exact(y0, t)).abs().max() < 3e-7
    between = 0.3 + direction * torch.linspace(0, 4, 101, dtype=F64)
    assert (solution(between) - exact(y0, between)).abs().max() < (1e-6 if method == "tsit5" else 3e-6)
    assert torch.equal(solution.y[0], y0)


@pytest.mark.parametrize("method", ["dopri5", "tsit5"])
def test_the_dense_output_is_of_fourth_order(method):
    # Over steps of length h the error of a quartic is of order h^5, and h goes with rtol^(1/5).
    y0, t = torch.ones(1, 1, dtype=F64), torch.linspace(0, 6, 2, dtype=F64)
    between = torch.linspace(0, 6, 301, dtype=F64)
    found = []
    for tolerance in (1e-6, 1e-10):
        solution = solve(driven(), y0, t, Solver(method, rtol=tolerance, atol=tolerance))
        found.append((float(solution.steps[0]), float((solution(between) - exact(y0, between)).abs().max())))
    (n, coarse), (m, fine) = found
    assert 3.7 < math.log(coarse / fine) / math.log(m / n) < 6


def test_a_stiff_trajectory_does_not_slow_the_others_down():
    y0, t = torch.ones(4, 1, dtype=F64), torch.linspace(0, 2, 5, dtype=F64)
    solution = solve(relaxing(rates()), y0, t)
    steps = solution.steps.tolist()
    assert steps == sorted(steps) and steps[-1] > 20 * steps[0]
    together = solve(relaxing(rates()), y0, t, Solver())
    assert together.steps.tolist() == [steps[-1]] * 4
    for i in range(4):
        alone = solve(relaxing(rates()[i]), y0[i], t)
        assert int(alone.steps) == steps[i] and int(alone.rejected) == solution.rejected[i]
        assert torch.allclose(alone.y, solution.y[:, i], rtol=1e-9)


def test_finished_trajectories_are_not_evaluated():
    sizes = []

    def count(t, y):
        sizes.append(len(y))
        return -torch.where(y > 2, 400 * (y - 3) * (y - 2.5), y)

    y0 = torch.tensor([[3.4], [1.0], [1.5], [0.5], [1.2]], dtype=F64)
    solution = solve(FunctionField(count), y0, torch.tensor([0.0, 1.0], dtype=F64))
    assert solution.steps[0] > 2 * solution.steps[1:].max()
    assert sizes[-1] == 1 and max(sizes) == 5
    # A field with a constant for each trajectory needs all of them.
    sizes.clear()
    shift = torch.zeros(5, 1, dtype=F64)
    with_constant = FunctionField(lambda t, y, shift: count(t, y) + shift, shift=shift)
    again = solve(with_constant, y0, torch.tensor([0.0, 1.0], dtype=F64))
    assert set(sizes) == {5, 3}  # 3: whether it takes some of them is tried once
    assert torch.equal(again.steps, solution.steps) and torch.allclose(again.y, solution.y, rtol=1e-12)


@pytest.mark.parametrize("shape", [(2,), (1, 2), (5, 2), (3, 4, 2), (2, 1, 3, 2)])
def test_any_batch_shape(shape):
    y0 = torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0, 2, 6, dtype=F64)
    solution = solve(driven(), y0, t)
    assert solution.y.shape == (6, *shape) and solution.steps.shape == solution.rejected.shape == shape[:-1]
    assert torch.allclose(solution.y, exact(y0, t), rtol=1e-4)
    assert solution(t[2]).shape == shape
    bound = torch.rand(shape[:-1], dtype=F64, generator=torch.Generator().manual_seed(1))[..., None]
    own = FunctionField(lambda t, y, bound: bound - y, bound=bound)
    assert torch.allclose(odeint(own, y0, t, Solver("tsit5", independent=True)), odeint(own, y0, t), rtol=1e-4)


def test_odeint_gives_the_states_of_solve():
    y0, t = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.linspace(0, 3, 9)
    field = NeuralField(mlp(3, 2, (8,)), time=True)
    for independent in (True, False):
        solver = Solver("tsit5", rtol=1e-5, atol=1e-6, independent=independent, backend="plain")
        states = odeint(field, y0, t, solver)
        assert states.dtype == torch.float32
        assert torch.equal(states, solve(field, y0, t, solver).y)
        assert torch.allclose(states, odeint(field, y0, t, Solver("dopri8")), atol=2e-4)


def test_a_field_that_does_not_take_a_time_for_each_trajectory_is_refused():
    y0, t = torch.ones(3, 2), torch.tensor([0.0, 1.0])
    wrong = [
        FunctionField(lambda t, y: -y if float(t) > 0.5 else y),
        FunctionField(lambda t, y: y * torch.stack([t, t])),
        FunctionField(lambda t, y: y * t.exp().sum()),
    ]
    for field in wrong:
        with pytest.raises(ArgumentError, match=r"take times of shape \[..., 1\].*\[3, 1\].*independent=False"):
            solve(field, y0, t)
        assert torch.isfinite(solve(field, y0, t, Solver("tsit5")).y).all()


def test_methods_without_dense_output_are_refused():
    y0, t = torch.ones(3, 2), torch.tensor([0.0, 1.0])
    with pytest.raises(ArgumentError, match=r"must have a method with dense output .* got 'rk4'. Call odeint"):
        solve(driven(), y0, t, Solver("rk4", step=0.1))
    with pytest.raises(
        ArgumentError, match=r"`independent` must be False for 'dopri8'. Use 'dopri5', 'tsit5', 'bosh3'"
    ):
        Solver("dopri8", independent=True)
    with pytest.raises(ArgumentError, match=r"T >= 2, got \[1\]"):
        solve(driven(), y0, t[:1])
    with pytest.raises(ArgumentError, match=r"lie in \[0, 1\], got \[\] between 1.5 and 1.5"):
        solve(driven(), y0, t)(torch.tensor(1.5))


@pytest.mark.parametrize("independent", [True, False])
def test_trajectories_fail_alone(independent):
    y0 = torch.tensor([[0.9], [0.1], [-1.0], [0.3]], dtype=F64, requires_grad=True)
    t = torch.linspace(0, 2, 9, dtype=F64)
    field = FunctionField(lambda t, y: y * y)
    solver = Solver("tsit5", independent=independent)
    with pytest.raises(DivergenceError, match=r"tsit5 stopped at t = 1\.11111: the step underflows") as caught:
        odeint(field, y0, t, solver)
    assert caught.value.members.tolist() == [True, False, False, False]
    solver = Solver("tsit5", independent=independent, on_divergence="nan")
    y = odeint(field, y0, t, solver)
    expected = y0 / (1 - y0 * t[:, None, None])
    assert torch.allclose(y[:, 1:], expected[:, 1:], rtol=1e-5)
    assert torch.isfinite(y[:5, 0]).all() and torch.isnan(y[5:, 0]).all()
    (g,) = torch.autograd.grad(torch.where(torch.isfinite(y), y, 0.0).sum(), y0)
    (e,) = torch.autograd.grad(expected[:, 1:].sum(), y0)
    assert torch.allclose(g, e, rtol=1e-4) and g[0] == 0


def test_max_steps_bounds_each_trajectory():
    y0, t = torch.ones(4, 1, dtype=F64), torch.tensor([0.0, 2.0], dtype=F64)
    with pytest.raises(IntegrationError, match="max_steps=60 steps were not enough"):
        solve(relaxing(rates()), y0, t, Solver("tsit5", max_steps=60, independent=True))
    solver = Solver("tsit5", max_steps=60, independent=True, on_divergence="nan")
    solution = solve(relaxing(rates()), y0, t, solver)
    assert torch.isfinite(solution.y[-1, :2]).all() and torch.isnan(solution.y[-1, -1])
    assert (solution.steps + solution.rejected)[-1] == 60
