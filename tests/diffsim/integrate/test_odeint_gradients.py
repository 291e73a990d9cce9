"""Gradients through odeint: adjoint = backprop = finite differences, in constants, initial states and times."""

import gc
import weakref

import pytest
import torch
from torch import nn

from diffsim.errors import ArgumentError, IntegrationError
from diffsim.fields import FunctionField, HamiltonianField, NeuralField, Separable, mlp
from diffsim.integrate import Solver, odeint
from diffsim.integrate.solver import ADAPTIVE_METHODS, SEPARABLE_METHODS

FINE = {
    "dopri8": Solver("dopri8", rtol=1e-10, atol=1e-12),
    "dopri5": Solver("dopri5", rtol=1e-9, atol=1e-11),
    "bosh3": Solver("bosh3", rtol=1e-6, atol=1e-8),
    "fehlberg2": Solver("fehlberg2", rtol=1e-5, atol=1e-7),
    "adaptive_heun": Solver("adaptive_heun", rtol=1e-4, atol=1e-5),
    "euler": Solver("euler", step=1e-3),
    "midpoint": Solver("midpoint", step=5e-3),
    "heun2": Solver("heun2", step=5e-3),
    "heun3": Solver("heun3", step=1e-2),
    "rk4": Solver("rk4", step=2e-2),
    "explicit_adams": Solver("explicit_adams", step=1e-2),
    "implicit_adams": Solver("implicit_adams", rtol=1e-9, atol=1e-11, step=1e-2),
    "leapfrog": Solver("leapfrog", step=5e-3),
    "yoshida4": Solver("yoshida4", step=2e-2),
    "implicit_midpoint": Solver("implicit_midpoint", step=1e-2),
}
# Between the gradients of the computed and of the exact solution: the error of the method.
TOLERANCE = {"euler": 5e-3, "fehlberg2": 1e-3, "midpoint": 1e-4, "heun2": 1e-4, "leapfrog": 1e-4} | {
    "implicit_midpoint": 1e-4,
    "adaptive_heun": 1e-3,
}


class Spring(Separable):
    """H = p^2 / 2m + k q^2 / 2, with m a parameter and k a buffer."""

    stiffness: torch.Tensor

    def __init__(self, stiffness):
        super().__init__()
        self.mass = nn.Parameter(torch.tensor([1.3], dtype=torch.float64))
        self.register_buffer("stiffness", stiffness)

    def kinetic(self, p):
        return (p.square() / (2 * self.mass)).sum(-1)

    def potential(self, q):
        return (self.stiffness * q.square() / 2).sum(-1)


def solver_for(method, gradient):
    solver = FINE[method]
    return Solver(method, solver.rtol, solver.atol, solver.step, gradient)


def loss(y):
    return y[1].square().sum() + (y[-1, :, 0] - 2 * y[-2, :, 1]).sum()


def exact_loss(theta, mass, y0, t):
    q, p = y0.chunk(2, -1)
    omega = (theta / mass).sqrt()
    angle = omega * (t - t[0])[:, None, None]
    y = torch.cat(
        [q * angle.cos() + p / (mass * omega) * angle.sin(), p * angle.cos() - mass * omega * q * angle.sin()], -1
    )
    return loss(y)


def inputs():
    theta = torch.tensor([[0.8, 9.0], [1.7, 9.0]], dtype=torch.float64, requires_grad=True)
    y0 = torch.tensor([[1.0, 0.2], [-0.4, 0.9]], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.3, 0.7, 1.05, 1.4], dtype=torch.float64, requires_grad=True)
    return theta, y0, t


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("gradient", ["adjoint", "backprop"])
@pytest.mark.parametrize("method", list(FINE))
def test_gradients_of_every_method_equal_those_of_the_exact_solution(method, gradient, backward):
    theta, y0, t = inputs()
    times = -t if backward else t
    field = Spring(theta[:, :1])  # a buffer that is not a leaf
    got = torch.autograd.grad(loss(odeint(field, y0, times, solver_for(method, gradient))), (theta, field.mass, y0, t))
    expected = torch.autograd.grad(exact_loss(theta[:, :1], field.mass, y0, times), (theta, field.mass, y0, t))
    tolerance = TOLERANCE.get(method, 1e-6) * max(float(b.abs().amax()) for b in expected)
    for a, b in zip(got, expected, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("gradient", ["adjoint", "backprop"])
@pytest.mark.parametrize("method", ["rk4", "leapfrog", "yoshida4", "implicit_midpoint", "explicit_adams"])
def test_gradients_of_coarse_steps_equal_finite_differences_of_the_computed_solution(method, gradient):
    if gradient == "adjoint" and method in ("rk4", "explicit_adams"):
        pytest.skip("the continuous adjoint carries the error of the step")
    theta, y0, t = (x.detach() for x in inputs())

    def solve(theta, y0):
        return loss(odeint(Spring(theta[:, :1]), y0, t, Solver(method, step=0.17, gradient=gradient)))

    a, b = theta.clone().requires_grad_(), y0.clone().requires_grad_()
    for x, g, f in zip((theta, y0), torch.autograd.grad(solve(a, b), (a, b)), (0, 1), strict=True):
        v = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(3))
        h = 1e-5
        args = [[theta, y0], [theta, y0]]
        args[0][f], args[1][f] = x + h * v, x - h * v
        assert (g * v).sum().item() == pytest.approx((solve(*args[0]) - solve(*args[1])).item() / (2 * h), rel=1e-8)


@pytest.mark.parametrize("method", ["dopri5", "rk4", "leapfrog", "implicit_midpoint"])
@pytest.mark.parametrize("make", ["neural", "hamiltonian"])
def test_networks(make, method):
    if method in SEPARABLE_METHODS:
        pytest.skip("needs a separable energy")
    net = mlp(2, 2 if make == "neural" else 1, (16,), dtype=torch.float64)
    field = NeuralField(net) if make == "neural" else HamiltonianField(net)
    y0 = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    t = torch.linspace(0, 1, 4, dtype=torch.float64)
    found = [
        torch.autograd.grad(loss(odeint(field, y0, t, solver_for(method, g))), (y0, *net.parameters()))
        for g in ("adjoint", "backprop")
    ]
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ["dopri5", "dopri8", "rk4", "leapfrog", "implicit_midpoint"])
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_loss_scale_does_not_change_the_gradients_accuracy(method, scale):
    theta, y0, t = inputs()
    t = t.detach()
    found = [
        torch.autograd.grad(s * loss(odeint(Spring(theta[:, :1]), y0, t, FINE[method])), (theta, y0))
        for s in (1.0, scale)
    ]
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a * scale, b, rtol=1e-10)


@pytest.mark.parametrize("method", list(FINE))
def test_no_graph_without_anything_that_requires_a_gradient(method):
    theta, y0, t = (x.detach() for x in inputs())
    field = Spring(theta[:, :1])
    with torch.no_grad():
        assert not odeint(field, y0, t, FINE[method]).requires_grad
    assert odeint(field, y0, t, FINE[method]).requires_grad
    field.mass.requires_grad_(False)
    assert not odeint(field, y0, t, FINE[method]).requires_grad


def test_adjoint_stores_no_graph_of_the_solve():
    theta, y0, t = inputs()
    calls = []

    def count(t, y, k):
        calls.append(torch.is_grad_enabled())
        return -k * y

    for solver in (Solver(), Solver("rk4", step=0.01)):
        calls.clear()
        odeint(FunctionField(count, k=theta[:, :1]), y0, t.detach()[[0, -1]], solver)
        assert sum(calls) == 1  # the check before the solve
    for solver in (Solver("implicit_midpoint", step=0.01), Solver("implicit_midpoint", step=0.01, gradient="backprop")):
        calls.clear()
        y = odeint(FunctionField(count, k=theta[:, :1]), y0, t.detach()[[0, -1]], solver)
        assert (sum(calls) == 1) == (solver.gradient == "adjoint")
        y.sum().backward()


def test_gradients_at_only_some_outputs():
    theta, y0, t = inputs()
    for i in range(4):
        found = [
            torch.autograd.grad(
                odeint(Spring(theta[:, :1]), y0, t, solver_for("dopri5", g))[i].sum(),
                (theta, y0, t),
                allow_unused=True,
                materialize_grads=True,
            )
            for g in ("adjoint", "backprop")
        ]
        for a, b in zip(*found, strict=True):
            assert torch.allclose(a, b, atol=1e-7)


def test_times_between_the_steps_have_gradients_too():
    theta, y0, t = inputs()
    (g,) = torch.autograd.grad(odeint(Spring(theta[:, :1]), y0, t, Solver("rk4", step=0.1))[1].sum(), t)
    exact = torch.autograd.grad(odeint(Spring(theta[:, :1]), y0, t, Solver("dopri8", rtol=1e-11))[1].sum(), t)[0]
    assert torch.allclose(g, exact, atol=1e-4)
    assert g[2] == g[3] == 0


def test_float32_states_and_float64_times():
    theta, y0, t = inputs()
    field = Spring(theta[:, :1]).float()
    for solver in (Solver(), Solver("rk4", step=0.05), Solver("leapfrog", step=0.05)):
        y = odeint(field, y0.float(), t, solver)
        grads = torch.autograd.grad(loss(y), (y0, t, field.mass))
        assert [g.dtype for g in grads] == [torch.float64, torch.float64, torch.float32]


def test_fields_that_ignore_the_state_or_their_constants():
    rate = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    unused = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    field = FunctionField(lambda t, y, rate, unused: rate * torch.ones_like(y), rate=rate, unused=unused)
    y0 = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.0, 3.0], dtype=torch.float64)
    for method in ("dopri5", "rk4", "implicit_midpoint"):
        for gradient in ("adjoint", "backprop"):
            y = odeint(field, y0, t, Solver(method, step=None if method == "dopri5" else 0.1, gradient=gradient))
            g = torch.autograd.grad(y[-1].sum(), (rate, unused, y0), allow_unused=True, materialize_grads=True)
            assert [x.flatten()[0].item() for x in g] == pytest.approx([6.0, 0.0, 1.0])
    constant = FunctionField(lambda t, y: torch.ones_like(y))
    assert torch.autograd.grad(odeint(constant, y0, t)[-1].sum(), y0)[0].flatten().tolist() == [1, 1]


def test_gradients_at_rest_are_finite():
    # Zero errors and zero differences meet square roots in the choice of the step.
    y0 = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    theta, _, t = inputs()
    for method in ADAPTIVE_METHODS:
        for gradient in ("adjoint", "backprop"):
            y = odeint(Spring(theta[:, :1]), y0, t, Solver(method, gradient=gradient))
            for g in torch.autograd.grad(y.sum(), (y0, theta)):
                assert torch.isfinite(g).all()


def test_a_constant_hidden_from_the_adjoint_is_an_error():
    rate = torch.tensor(2.0, requires_grad=True)
    y0, t = torch.ones(2), torch.tensor([0.0, 1.0])
    with pytest.raises(ArgumentError, match=r"neither its parameters nor its buffers .* pass them to FunctionField"):
        odeint(FunctionField(lambda t, y: -rate * y), y0, t)
    with pytest.raises(ArgumentError, match="neither its parameters nor"):
        odeint(FunctionField(lambda t, y: -rate.exp() * y), y0, t)
    with torch.no_grad():
        odeint(FunctionField(lambda t, y: -rate * y), y0, t)
    assert torch.autograd.grad(odeint(FunctionField(lambda t, y, rate: -rate * y, rate=rate), y0, t).sum(), rate)


@pytest.mark.parametrize("method", ["dopri5", "leapfrog"])
def test_constants_replaced_before_the_gradient_are_an_error(method):
    theta, y0, t = inputs()
    field = Spring(theta[:, :1])
    y = odeint(field, y0, t.detach(), FINE[method])
    field.stiffness = theta[:, 1:]
    with pytest.raises(IntegrationError, match="was replaced between the solve and its gradient"):
        y.sum().backward()


@pytest.mark.parametrize("method", ["dopri5", "rk4", "leapfrog"])
def test_constants_changed_in_place_before_the_gradient_are_an_error(method):
    theta, y0, t = inputs()
    field = Spring(theta[:, :1])
    y = odeint(field, y0, t.detach(), FINE[method])
    with torch.no_grad():
        field.mass += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("method", ["dopri5", "rk4", "leapfrog", "implicit_midpoint"])
def test_second_derivatives_need_backprop(method):
    theta, y0, t = inputs()
    t = t.detach()
    y = odeint(Spring(theta[:, :1]), y0, t, FINE[method])
    with pytest.raises(IntegrationError, match="no derivatives of gradients"):
        torch.autograd.grad(loss(y), y0, create_graph=True)
    y = odeint(Spring(theta[:, :1]), y0, t, solver_for(method, "backprop"))
    if method == "implicit_midpoint":
        with pytest.raises(IntegrationError, match="no derivatives of gradients"):
            torch.autograd.grad(loss(y), y0, create_graph=True)
        return
    (g,) = torch.autograd.grad(loss(y), theta, create_graph=True)
    second = torch.autograd.grad(g[:, 0].sum(), theta)[0][:, 0]
    mass = torch.tensor([1.3], dtype=torch.float64)
    (e,) = torch.autograd.grad(exact_loss(theta[:, :1], mass, y0, t), theta, create_graph=True)
    expected = torch.autograd.grad(e[:, 0].sum(), theta)[0][:, 0]
    assert torch.allclose(second, expected, rtol=1e-3)


def test_times_have_no_second_derivatives():
    theta, y0, t = inputs()
    y = odeint(Spring(theta[:, :1]), y0, t, solver_for("rk4", "backprop"))
    with pytest.raises(IntegrationError, match=r"pass t.detach\(\)"):
        torch.autograd.grad(loss(y), t, create_graph=True)


def test_an_adjoint_that_does_not_retrace_the_solution_is_an_error():
    # Forward the solution decays by e^-30; backward its rounding errors grow by as much.
    rate = torch.tensor(30.0, dtype=torch.float64, requires_grad=True)
    field = FunctionField(lambda t, y, rate: -rate * (y - torch.cos(t)), rate=rate)
    y0, t = torch.ones(1, 1, dtype=torch.float64), torch.tensor([0.0, 2.0], dtype=torch.float64)
    with pytest.raises(IntegrationError, match="does not retrace the solution"):
        odeint(field, y0, t).sum().backward()
    (expected,) = torch.autograd.grad(odeint(field, y0, t, Solver(rtol=1e-9, gradient="backprop")).sum(), rate)
    (dense,) = torch.autograd.grad(odeint(field, y0, torch.linspace(0, 2, 81, dtype=t.dtype))[[0, -1]].sum(), rate)
    assert dense.item() == pytest.approx(expected.item(), rel=1e-3)


def test_a_gradient_that_is_not_finite_is_named():
    theta, y0, t = inputs()
    y = odeint(Spring(theta[:, :1]), y0, t.detach())
    with pytest.raises(IntegrationError, match=r"not finite. Look for NaN in the loss"):
        (y.sum() * float("nan")).backward()


@pytest.mark.parametrize("gradient", ["adjoint", "backprop"])
@pytest.mark.parametrize("method", ["dopri5", "rk4", "leapfrog", "implicit_midpoint"])
def test_a_gradient_frees_the_solve(method, gradient):
    theta, y0, t = inputs()
    field = Spring(theta[:, :1])
    gone = weakref.ref(field)
    y = odeint(field, y0, t, Solver(method, step=None if method == "dopri5" else 0.2, gradient=gradient))
    loss(y).backward()
    del field, y
    gc.collect()
    assert gone() is None
