"""Fields from functions and fields conditioned on parameters: values, constants, gradients and bad input."""

import pytest
import torch
from torch import nn

from diffsim.errors import ArgumentError
from diffsim.fields.base import ConditionedField, FunctionField, VectorField
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver

T = torch.linspace(0, 1, 5, dtype=torch.float64)
TIGHT = Solver("dopri5", rtol=1e-9, atol=1e-11)


def decay(t, y, rate):
    return -rate * y


class Oscillator(nn.Module):
    """Called as field(t, y, theta), with theta the squared frequency."""

    def forward(self, t, y, theta):
        q, p = y.chunk(2, dim=-1)
        return torch.cat([p, -theta * q], dim=-1)


def test_vector_field_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        VectorField()  # pyright: ignore[reportAbstractUsage]


def test_constants_are_buffers_or_parameters():
    field = FunctionField(decay, rate=nn.Parameter(torch.tensor(2.0)))
    assert [name for name, _ in field.named_parameters()] == ["rate"]
    field = FunctionField(decay, rate=torch.tensor(2.0))
    assert [name for name, _ in field.named_buffers()] == ["rate"] and not list(field.parameters())
    assert field.double().rate.dtype == torch.float64


@pytest.mark.parametrize("gradient", ["adjoint", "backprop"])
def test_a_constant_gets_the_gradient_of_the_exact_solution(gradient):
    rate = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    y0 = torch.tensor([1.5], dtype=torch.float64)
    end = odeint(FunctionField(decay, rate=rate), y0, T, Solver(rtol=1e-9, atol=1e-11, gradient=gradient))[-1]
    (got,) = torch.autograd.grad(end.sum(), rate)
    exact = -y0 * torch.exp(-rate.detach())  # d/dk of y0 exp(-k t) at t = 1
    assert torch.allclose(got, exact.squeeze(), rtol=1e-6)


def test_a_conditioned_field_solves_each_row_at_its_own_parameters():
    theta = torch.tensor([[0.5], [1.0], [4.0]], dtype=torch.float64, requires_grad=True)
    y0 = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(3, 2)
    runs = odeint(ConditionedField(Oscillator(), theta), y0, T, TIGHT)
    exact = torch.cos(theta[:, 0].sqrt() * T[:, None])
    assert torch.allclose(runs[..., 0], exact, atol=1e-7)
    (got,) = torch.autograd.grad(runs[-1, :, 0].sum(), theta)
    w = theta.detach().sqrt()
    assert torch.allclose(got, -torch.sin(w) / (2 * w), atol=1e-6)  # d cos(sqrt(theta)) / d theta


def test_theta_must_have_a_dimension():
    with pytest.raises(ArgumentError, match=r"theta\[None\]"):
        ConditionedField(Oscillator(), torch.tensor(1.0))
