"""The squared error of derivatives in native code against the field itself."""

import pytest
import torch
from torch import nn

from diffsim.errors import IntegrationError
from diffsim.fields.base import FunctionField
from diffsim.fields.hamiltonian import HamiltonianField, SeparableHamiltonian
from diffsim.fields.neural import NeuralField, mlp
from diffsim.native.derivative import squared_error


def fields(dtype):
    yield NeuralField(mlp(4, 4, (20, 30), dtype=dtype))
    yield NeuralField(mlp(5, 4, (20,), nn.SiLU, dtype=dtype), time=True)
    yield HamiltonianField(mlp(4, 1, (20, 30), nn.Softplus, dtype=dtype))
    yield SeparableHamiltonian(mlp(2, 1, (20,), dtype=dtype), mlp(2, 3, (10, 10), dtype=dtype, seed=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradient_are_those_of_the_field(dtype):
    y, dy = torch.randn(2, 7, 11, 4, dtype=dtype, generator=torch.Generator().manual_seed(0)).unbind()
    t = torch.tensor(0.3, dtype=dtype)
    for field in fields(dtype):
        results = []
        with torch.no_grad():
            without = squared_error(field, t, y, dy)
        torch.testing.assert_close(without, squared_error(field, t, y, dy).detach())
        for error in (squared_error(field, t, y, dy), (field(t, y) - dy).square().sum()):
            weights = [p for p in field.parameters() if p.requires_grad]
            gradients = torch.autograd.grad(3 * error, weights, allow_unused=True, materialize_grads=True)
            results.append((error.detach(), *gradients))
        for mine, exact in zip(*results, strict=True):
            size = 1 + float(exact.abs().max())
            torch.testing.assert_close(mine, exact, rtol=0, atol=size * (1e-5 if dtype == torch.float32 else 1e-13))


def test_frozen_weights_get_no_gradient():
    field = HamiltonianField(mlp(2, 1, (8,), dtype=torch.float64))
    field.net[0].weight.requires_grad_(False)
    y, dy = torch.randn(2, 5, 2, dtype=torch.float64).unbind()
    squared_error(field, torch.tensor(0.0), y, dy).backward()
    assert field.net[0].weight.grad is None
    expected = torch.autograd.grad((field(torch.tensor(0.0), y) - dy).square().sum(), field.net[2].weight)[0]
    torch.testing.assert_close(field.net[2].weight.grad, expected)


def test_other_fields_are_called():
    rate = nn.Parameter(torch.tensor(2.0))
    y, dy = torch.ones(3, 1), torch.zeros(3, 1)
    error = squared_error(FunctionField(lambda t, y, rate: rate * y, rate=rate), torch.tensor(0.0), y, dy)
    error.backward()
    assert error.item() == 12.0 and rate.grad.item() == 12.0


def test_second_derivatives_are_refused():
    field = NeuralField(mlp(2, 2, (8,)))
    y, dy = torch.randn(2, 5, 2).unbind()
    error = squared_error(field, torch.tensor(0.0), y, dy)
    with pytest.raises(IntegrationError, match="no derivatives of gradients"):
        torch.autograd.grad(error, list(field.parameters()), create_graph=True)
