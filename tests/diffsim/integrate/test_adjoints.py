"""Gradients that cost less: equal to those with the graph of all steps, in less memory, and refused where they fail."""

import pytest
import torch

from diffsim.errors import ArgumentError, IntegrationError
from diffsim.fields import FunctionField, NeuralField, Separable, SeparableHamiltonian, mlp
from diffsim.integrate import Solver, odeint, solve
from diffsim.integrate.solver import DENSE_METHODS

F64 = torch.float64
EXPLICIT = ("euler", "midpoint", "heun2", "heun3", "rk4")


def neural(dtype=F64):
    return NeuralField(mlp(3, 2, (8,), dtype=dtype), time=True)


def separable():
    return SeparableHamiltonian(mlp(1, 1, (8,), dtype=F64), mlp(1, 1, (8,), seed=1, dtype=F64))


def states(shape=(4, 2), dtype=F64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0)).requires_grad_()


def gradients(field, solver, t, y0=None):
    y0 = states() if y0 is None else y0
    t = t.clone().requires_grad_()
    y = odeint(field, y0, t, solver)
    loss = (y * torch.arange(y.numel(), dtype=y.dtype).reshape(y.shape).sin()).sum()
    return y.detach(), torch.autograd.grad(loss, (y0, t, *field.parameters()))


def assert_close(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=tolerance * max(1.0, float(b.abs().max())))


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("method", EXPLICIT)
def test_checkpointed_steps_are_torchdiffeqs_to_rounding(method, direction):
    t = 0.2 + direction * torch.linspace(0, 2, 9, dtype=F64)  # between the steps too
    y, expected = gradients(neural(), Solver(method, step=0.07, gradient="backprop", backend="plain"), t)
    z, found = gradients(neural(), Solver(method, step=0.07, gradient="checkpoint", backend="plain"), t)
    assert torch.allclose(y, z, rtol=0, atol=1e-14)
    assert_close(found, expected, 1e-13)


@pytest.mark.parametrize("gradient", ["checkpoint", "reversible", "adjoint"])
@pytest.mark.parametrize("method", ["leapfrog", "yoshida4"])
def test_symplectic_steps_are_differentiated_to_rounding(method, gradient):
    t = torch.linspace(0, 5, 4, dtype=F64)
    y, expected = gradients(separable(), Solver(method, step=0.03, gradient="backprop", backend="plain"), t)
    z, found = gradients(separable(), Solver(method, step=0.03, gradient=gradient, backend="plain"), t)
    assert torch.equal(y, z)
    assert_close(found, expected, 1e-11)


@pytest.mark.parametrize("independent", [True, False])
@pytest.mark.parametrize("method", DENSE_METHODS)
def test_adaptive_steps_are_differentiated_to_rounding(method, independent):
    t = torch.linspace(0, 3, 7, dtype=F64)

    def solver(gradient):
        return Solver(method, rtol=1e-5, atol=1e-7, gradient=gradient, independent=independent, backend="plain")

    if method == "tsit5" or independent:
        y, expected = gradients(neural(), solver("backprop"), t)
        for gradient in ("checkpoint", "adjoint"):
            z, found = gradients(neural(), solver(gradient), t)
            assert torch.allclose(y, z, rtol=0, atol=1e-13)
            assert_close(found, expected, 1e-12)
    exact = gradients(neural(), Solver("dopri8", rtol=1e-11, atol=1e-12, gradient="backprop"), t)[1]
    for gradient in ("checkpoint", "interpolated"):
        assert_close(gradients(neural(), solver(gradient), t)[1], exact, 1e-3)
    fine = Solver(method, 1e-8, 1e-9, gradient="interpolated", independent=independent, backend="plain")
    assert_close(gradients(neural(), fine, t)[1], exact, 1e-6)


def test_the_interpolated_adjoint_follows_the_tolerance():
    t = torch.tensor([0.0, 3.0], dtype=F64)
    exact = gradients(neural(), Solver("dopri8", rtol=1e-11, atol=1e-12, gradient="backprop"), t)[1]
    errors = []
    for tolerance in (1e-4, 1e-7, 1e-10):
        solver = Solver("tsit5", tolerance, tolerance, gradient="interpolated", backend="plain")
        found = gradients(neural(), solver, t)[1]
        errors.append(max(float((a - b).abs().max()) for a, b in zip(found, exact, strict=True)))
    assert errors[0] > 30 * errors[1] > 900 * errors[2]


@pytest.mark.parametrize("gradient", ["backprop", "checkpoint", "interpolated"])
def test_dense_output_is_differentiable(gradient):
    rate = torch.tensor([[0.5], [2.0]], dtype=F64, requires_grad=True)
    y0 = torch.tensor([[1.0], [3.0]], dtype=F64, requires_grad=True)
    field = FunctionField(lambda t, y, rate: -rate * y, rate=rate)
    solution = solve(
        field, y0, torch.tensor([0.0, 2.0], dtype=F64), Solver("tsit5", 1e-9, 1e-9, gradient=gradient, independent=True)
    )
    at = torch.tensor([1.7, 0.4, 1.1], dtype=F64, requires_grad=True)
    exact = y0 * (-rate * at[:, None, None]).exp()
    found = solution(at)
    assert torch.allclose(found, exact, rtol=1e-6)
    weights = torch.tensor([1.0, -2.0, 3.0], dtype=F64)[:, None, None]
    pairs = [torch.autograd.grad((weights * y).sum(), (rate, y0, at)) for y in (found, exact)]
    for a, b in zip(*pairs, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_the_loss_scale_does_not_change_the_accuracy(scale):
    t, field = torch.linspace(0, 2, 4, dtype=F64), neural()
    y = odeint(field, states(), t, Solver("tsit5", gradient="interpolated", independent=True, backend="plain"))
    one = torch.autograd.grad(y.sum(), tuple(field.parameters()), retain_graph=True)
    other = torch.autograd.grad(scale * y.sum(), tuple(field.parameters()))
    for a, b in zip(one, other, strict=True):
        assert torch.allclose(a * scale, b, rtol=1e-9)


class Kept:
    """A tensor that is saved for a backward pass; the bytes of all that still are."""

    bytes = 0

    def __init__(self, x):
        self.x = x
        Kept.bytes += x.nbytes

    def __del__(self):
        Kept.bytes -= self.x.nbytes


def saved(field, solver, end):
    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.x):
        y = odeint(field, states((16, 2)), torch.tensor([0.0, end], dtype=F64), solver)
        assert y.requires_grad
        return Kept.bytes


def test_memory_grows_as_promised():
    step = 0.01
    for field, method, gradient, most in (
        (neural(), "rk4", "backprop", None),
        (neural(), "rk4", "checkpoint", 5.0),
        (separable(), "leapfrog", "checkpoint", 5.0),
        (separable(), "leapfrog", "reversible", 1.001),
    ):
        solver = Solver(method, step=step, gradient=gradient, backend="plain")
        short, long = saved(field, solver, 50 * step), saved(field, solver, 800 * step)
        if most is None:
            assert long > 10 * short
        else:
            assert long < most * short


def test_second_derivatives_need_backprop():
    t = torch.linspace(0, 1, 3, dtype=F64)
    for field, solver in (
        (neural(), Solver("rk4", step=0.1, gradient="checkpoint", backend="plain")),
        (separable(), Solver("leapfrog", step=0.1, gradient="reversible", backend="plain")),
        (neural(), Solver("tsit5", gradient="checkpoint", backend="plain")),
        (neural(), Solver("tsit5", gradient="interpolated", backend="plain")),
    ):
        y0 = states()
        with pytest.raises(IntegrationError, match=r"no derivatives of gradients .* gradient='backprop'"):
            torch.autograd.grad(odeint(field, y0, t, solver).square().sum(), y0, create_graph=True)
    rate = torch.tensor(0.7, dtype=F64, requires_grad=True)
    decay = FunctionField(lambda t, y, rate: -rate * y, rate=rate)
    for independent in (True, False):
        solver = Solver("tsit5", 1e-10, 1e-10, gradient="backprop", independent=independent)
        y = odeint(decay, torch.ones(3, 1, dtype=F64), t, solver)[-1].sum()
        (first,) = torch.autograd.grad(y, rate, create_graph=True)
        (second,) = torch.autograd.grad(first, rate)
        assert second.item() == pytest.approx(3 * torch.tensor(-0.7).exp().item(), rel=1e-6)


def test_a_way_back_that_is_lost_is_an_error():
    class Cubic(Separable):
        def kinetic(self, p):
            return p.square().sum(-1) / 2

        def potential(self, q):
            return 30 * (q**4).sum(-1) - 40 * (q**2).prod(-1)

    y0 = torch.tensor([[0.9, -0.4, 1.0, 2.0]], requires_grad=True)  # chaotic, in float32
    t = torch.tensor([0.0, 20.0])
    y = odeint(Cubic(), y0, t, Solver("leapfrog", step=0.01, gradient="reversible"))
    with pytest.raises(IntegrationError, match=r"Going back does not find the states again.*'checkpoint'"):
        y[-1].sum().backward()


def test_constants_replaced_before_the_gradient_are_an_error():
    rate, other = (torch.tensor(x, dtype=F64, requires_grad=True) for x in (1.0, 2.0))
    for gradient in ("checkpoint", "interpolated"):
        field = FunctionField(lambda t, y, rate: -rate * y, rate=rate)
        y = odeint(field, states(), torch.linspace(0, 1, 3, dtype=F64), Solver("tsit5", gradient=gradient))
        field.rate = other
        with pytest.raises(IntegrationError, match="was replaced between the solve and its gradient"):
            y.sum().backward()


@pytest.mark.parametrize(
    ("method", "gradient"),
    [
        ("explicit_adams", "checkpoint"),
        ("dopri8", "checkpoint"),
        ("rk4", "reversible"),
        ("implicit_midpoint", "reversible"),
        ("dopri5", "reversible"),
        ("rk4", "interpolated"),
        ("adaptive_heun", "interpolated"),
    ],
)
def test_gradients_that_a_method_does_not_have_are_refused(method, gradient):
    step = None if method in ("dopri8", "dopri5", "adaptive_heun") else 0.1
    with pytest.raises(ArgumentError, match=f"`gradient` must not be '{gradient}' for '{method}': .* Pass gradient="):
        Solver(method, step=step, gradient=gradient)
