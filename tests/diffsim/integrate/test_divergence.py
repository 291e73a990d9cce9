"""Solves that fail: what is raised, and the rest of a batch that goes on."""

import pytest
import torch

from diffsim.errors import IntegrationError
from diffsim.fields import FunctionField, Separable
from diffsim.integrate import Solver, odeint, simulate
from diffsim.integrate.failure import DivergenceError

SOLVERS = {
    "dopri5": Solver("dopri5"),
    "dopri8": Solver("dopri8"),
    "rk4": Solver("rk4", step=0.02),
    "implicit_midpoint": Solver("implicit_midpoint", step=0.02),
}
T = torch.linspace(0, 2, 9, dtype=torch.float64)


def square():
    """dy/dt = y^2: y0 / (1 - y0 t), which blows up at t = 1 / y0 if y0 > 0."""
    return FunctionField(lambda t, y, k: k * y * y, k=torch.tensor(1.0, dtype=torch.float64, requires_grad=True))


def starts():
    return torch.tensor([[0.9], [0.1], [-1.0], [0.7], [5.0], [0.3]], dtype=torch.float64, requires_grad=True)


BLOWS_UP = [0, 3, 4]
SURVIVES = [1, 2, 5]


def solver_for(method, **changes):
    s = SOLVERS[method]
    return Solver(method, rtol=s.rtol, atol=s.atol, step=s.step, **changes)


@pytest.mark.parametrize("method", list(SOLVERS))
def test_a_blow_up_is_an_error_that_names_the_time_and_the_mend(method):
    with pytest.raises(IntegrationError, match=rf"{method} .* t = 0\.[12].* (shorten|Shorten) `t`.*'nan'") as caught:
        odeint(square(), starts(), T, SOLVERS[method])
    assert isinstance(caught.value, DivergenceError)
    assert caught.value.members[4] and not caught.value.members[SURVIVES].any()


@pytest.mark.parametrize("gradient", ["adjoint", "backprop"])
@pytest.mark.parametrize("method", list(SOLVERS))
def test_the_rest_of_the_batch_goes_on(method, gradient):
    y0 = starts()
    field = square()
    y = odeint(field, y0, T, solver_for(method, gradient=gradient, on_divergence="nan"))
    exact = y0 / (1 - y0 * T[:, None, None])
    assert torch.allclose(y[:, SURVIVES], exact[:, SURVIVES], rtol=1e-3)
    for i in BLOWS_UP:
        good = torch.isfinite(y[:, i, 0])
        pole = 1 / y0[i].item()
        # Good until shortly before the pole, NaN from the first output after it.
        assert good[T < pole - 0.15].all() and not good[T > pole + 0.02].any()
        assert torch.allclose(y[T < pole - 0.15, i], exact[T < pole - 0.15, i], rtol=1e-2)
    total = torch.where(torch.isfinite(y), y, 0.0).sum()
    g_y0, g_k = torch.autograd.grad(total, (y0, field.k))
    assert (g_y0[BLOWS_UP] == 0).all() and torch.isfinite(g_k)
    alone = y0.detach()[SURVIVES].requires_grad_()
    (expected,) = torch.autograd.grad((alone / (1 - alone * T[:, None, None])).sum(), alone)
    assert torch.allclose(g_y0[SURVIVES], expected, rtol=1e-3)


@pytest.mark.parametrize("method", list(SOLVERS))
def test_without_a_gradient_and_without_a_divergence_nothing_changes(method):
    y0 = starts().detach()[SURVIVES]
    with torch.no_grad():
        expected = odeint(square(), y0, T, SOLVERS[method])
        assert torch.equal(odeint(square(), y0, T, solver_for(method, on_divergence="nan")), expected)


@pytest.mark.parametrize("method", list(SOLVERS))
def test_all_members_and_single_states(method):
    solver = solver_for(method, on_divergence="nan")
    with torch.no_grad():
        y = odeint(square(), starts()[[0, 4]], T, solver)
        assert torch.isnan(y[-1]).all() and torch.isfinite(y[0]).all()
        one = odeint(square(), starts()[4], T, solver)
        assert one.shape == (9, 1) and torch.isnan(one[-1]).all() and torch.isfinite(one[0]).all()
        grid = odeint(square(), starts()[:4].reshape(2, 2, 1), T, solver)
        assert torch.isfinite(grid[-1].flatten()).tolist() == [False, True, True, False]


def test_a_separable_energy_without_a_bottom():
    class Inverted(Separable):
        def kinetic(self, p):
            return p.square().sum(-1) / 2

        def potential(self, q):
            return -q.pow(4).sum(-1)

    y0 = torch.tensor([[2.0, 0.0], [0.1, 0.0]], dtype=torch.float64, requires_grad=True)
    t = torch.linspace(0, 3, 7, dtype=torch.float64)
    with pytest.raises(IntegrationError, match="leapfrog gave a state that is not finite"):
        odeint(Inverted(), y0, t, Solver("leapfrog", step=0.05))
    y = odeint(Inverted(), y0, t, Solver("leapfrog", step=0.05, on_divergence="nan"))
    assert torch.isnan(y[-1, 0]).all() and torch.isfinite(y[:, 1]).all()
    (g,) = torch.autograd.grad(y[-1, 1].sum(), y0)
    assert torch.isfinite(g).all() and (g[0] == 0).all()


def test_times_of_a_diverged_trajectory_carry_no_gradient():
    t = T.clone().requires_grad_()
    y = odeint(square(), starts(), t, Solver(on_divergence="nan"))
    (g,) = torch.autograd.grad(torch.where(torch.isfinite(y), y, 0.0)[-1].sum(), t)
    exact = starts()[SURVIVES] / (1 - starts()[SURVIVES] * 2)
    assert g[-1].item() == pytest.approx(exact.square().sum().item(), rel=1e-4)


def test_max_steps_is_a_bound_on_the_whole_solve():
    y0, t = torch.ones(1, dtype=torch.float64), torch.linspace(0, 100, 1001, dtype=torch.float64)
    field = FunctionField(lambda t, y: torch.cos(t) * y)
    with pytest.raises(IntegrationError, match=r"dopri5 stopped at t = .*max_steps=50 steps were not enough"):
        odeint(field, y0, t, Solver(max_steps=50))
    with pytest.raises(IntegrationError, match=r"step=1e-09 needs 1e\+11 steps .* more than max_steps=100000"):
        odeint(field, y0, t, Solver("rk4", step=1e-9))
    assert odeint(field, y0, t, Solver("rk4", step=0.1, max_steps=1000)).shape == (1001, 1)


def test_the_adjoint_has_the_same_bound():
    y0, t = torch.ones(1, dtype=torch.float64, requires_grad=True), torch.linspace(0, 20, 2, dtype=torch.float64)
    y = odeint(FunctionField(lambda t, y: torch.cos(9 * t) * y), y0, t, Solver(max_steps=400))
    y.backward(torch.ones_like(y))
    with pytest.raises(IntegrationError, match="max_steps=20 steps were not enough"):
        z = odeint(FunctionField(lambda t, y: torch.cos(9 * t) * y), y0, t, Solver(rtol=1e-1, max_steps=20))
        z.backward(torch.ones_like(z))


def test_an_error_of_the_users_own_field_passes():
    def field(t, y):
        if float(t) > 0.5:
            raise AssertionError("my own")
        return -y

    for solver in (Solver(), Solver("rk4", step=0.1)):
        with pytest.raises(AssertionError, match="my own"):
            odeint(FunctionField(field), torch.ones(1), torch.tensor([0.0, 1.0]), solver)


def test_simulate_refuses_diverged_runs():
    with pytest.raises(IntegrationError, match=r"3 of 6 runs diverged \(numbers \[0, 3, 4\]\).*Call odeint"):
        simulate(square(), starts(), T, Solver(on_divergence="nan"))
