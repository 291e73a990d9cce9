"""Steps compiled by torch against the plain ones."""

import shutil
import warnings

import pytest
import torch

from diffsim.errors import ArgumentError
from diffsim.fields.base import VectorField
from diffsim.fields.hamiltonian import HamiltonianField
from diffsim.fields.neural import mlp
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver
from diffsim.native.choose import backend_of
from diffsim.systems import HenonHeiles

needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="torch compiles with a C++ compiler")
T = torch.tensor([0.0, 0.2, 0.5], dtype=torch.float64)


class Driven(VectorField):
    def __init__(self):
        super().__init__()
        self.stiffness = torch.nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

    def forward(self, t, y):
        q, p = y.chunk(2, -1)
        return torch.cat([p, -self.stiffness * torch.sin(q) + torch.cos(t)], -1)


class Branching(VectorField):
    """What torch cannot compile whole: a decision by a number of the state."""

    def forward(self, t, y):
        return -y if y.sum().item() > 0 else y


def results(field, y0, solver):
    start = y0.clone().requires_grad_(True)
    states = odeint(field, start, T, solver)
    return [states.detach(), *torch.autograd.grad(states.square().sum(), [start, *field.parameters()])]


def assert_same(field, y0, method, gradient):
    mine = results(field, y0, Solver(method, step=0.1, gradient=gradient, backend="compiled"))
    exact = results(field, y0, Solver(method, step=0.1, gradient="backprop", backend="plain"))
    for a, b in zip(mine, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def initial(d, n=3):
    return 0.3 * torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@needs_compiler
@pytest.mark.parametrize("gradient", ["backprop", "checkpoint"])
def test_compiled_steps_equal_plain_ones(gradient):
    """A parameter that is changed between two solves is seen by the second."""
    field = Driven()
    assert_same(field, initial(2), "midpoint", gradient)
    with torch.no_grad():
        field.stiffness += 1
    assert_same(field, initial(2), "midpoint", gradient)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("method", ["euler", "heun2", "heun3", "rk4", "leapfrog", "yoshida4"])
def test_compiled_methods(method):
    assert_same(HenonHeiles().double(), initial(4), method, "backprop")


@needs_compiler
@pytest.mark.slow
def test_an_energy_is_differentiated_within_the_step():
    field = HamiltonianField(mlp(2, 1, (16,), dtype=torch.float64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(field, initial(2), "rk4", "adjoint")


def test_what_torch_cannot_compile_is_solved_with_one_warning():
    field, y0 = Branching(), initial(2)
    solver = Solver("euler", step=0.1, backend="compiled")
    plain = odeint(field, y0, T, Solver("euler", step=0.1, backend="plain"))
    with pytest.warns(RuntimeWarning, match="torch cannot compile the steps of this Branching"):
        torch.testing.assert_close(odeint(field, y0, T, solver), plain)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(odeint(field, y0, T, solver), plain)


def test_methods_whose_steps_are_not_compiled():
    with pytest.raises(ArgumentError, match="`backend` must not be 'compiled' for 'dopri5'"):
        Solver("dopri5", backend="compiled")
    assert backend_of(Driven(), initial(2), Solver("rk4", step=0.1, backend="compiled")).startswith("compiled")
