"""Second derivatives of perceptrons against automatic differentiation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from diffsim.fields.hamiltonian import HamiltonianField, SeparableHamiltonian
from diffsim.fields.lagrangian import LagrangianField
from diffsim.fields.neural import mlp
from diffsim.fields.perceptron import is_perceptron, second_derivatives

ACTIVATIONS = [nn.Tanh, nn.Sigmoid, nn.Softplus, nn.SiLU]


class Hidden(nn.Module):
    """The same function, of which nothing is known."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, y):
        return self.net(y)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_equal_to_reverse_passes(data):
    """Values, and their gradients in states and weights."""
    k = data.draw(st.integers(1, 3))
    hidden = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    shape = data.draw(st.sampled_from([(), (4,), (2, 3)]))
    seed, outputs = data.draw(st.integers(0, 99)), data.draw(st.integers(1, 2))
    net = mlp(2 * k, outputs, hidden, data.draw(st.sampled_from(ACTIVATIONS)), dtype=torch.float64, seed=seed)
    y = torch.randn(*shape, 2 * k, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    y.requires_grad_(True)
    fast, slow = LagrangianField(net, regularisation=0.5), LagrangianField(Hidden(net), regularisation=0.5)
    assert is_perceptron(fast.function) and not is_perceptron(slow.function)
    accelerations = [field(torch.tensor(0.0), y) for field in (fast, slow)]
    torch.testing.assert_close(*accelerations, rtol=1e-10, atol=1e-10)
    mine, theirs = (
        torch.autograd.grad(x.square().sum(), [y, *net.parameters()], allow_unused=True, materialize_grads=True)
        for x in accelerations
    )
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8 * (1 + float(b.abs().max())))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_gradients_of_energies(activation, shape):
    nets = [mlp(d, 1, (6, 5), activation, dtype=torch.float64, seed=d) for d in (4, 2, 2)]
    hidden = [Hidden(net) for net in nets]
    y = torch.randn(*shape, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_(True)
    for fast, slow in (
        (HamiltonianField(nets[0]), HamiltonianField(hidden[0])),
        (SeparableHamiltonian(*nets[1:]), SeparableHamiltonian(*hidden[1:])),
    ):
        slopes = [field(torch.tensor(0.0), y) for field in (fast, slow)]
        torch.testing.assert_close(*slopes)
        mine, theirs = (torch.autograd.grad(x.square().sum(), y)[0] for x in slopes)
        torch.testing.assert_close(mine, theirs)
        torch.testing.assert_close(fast.energy_hessian(y), slow.energy_hessian(y))


def test_an_energy_of_ones_own_is_differentiated_itself():
    class Doubled(HamiltonianField):
        def energy(self, y):
            return 2 * super().energy(y)

    net, y = mlp(2, 1, (4,)), torch.ones(3, 2)
    torch.testing.assert_close(Doubled(net).energy_gradient(y), 2 * HamiltonianField(net).energy_gradient(y))


def test_rows_of_the_hessian():
    net = mlp(4, 1, (7, 5), dtype=torch.float64, seed=1)
    y = torch.tensor([0.3, -0.2, 0.5, 1.0], dtype=torch.float64)
    gradient, rows = second_derivatives(net, y, 2)
    exact = torch.autograd.functional.hessian(lambda x: net(x).sum(), y)
    torch.testing.assert_close(rows, exact[2:])
    torch.testing.assert_close(gradient, torch.autograd.functional.jacobian(lambda x: net(x).sum(), y))


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)),
        nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3), nn.Softplus(), nn.Linear(3, 1)),
        nn.Sequential(nn.Linear(2, 3), nn.Softplus(beta=2.0), nn.Linear(3, 1)),
        nn.Sequential(nn.Linear(2, 1)),
        torch.tanh,
    ],
)
def test_what_is_no_plain_perceptron(net):
    assert not is_perceptron(net)


def test_a_hook_is_not_passed_over():
    net = mlp(2, 1, (4,))
    net[0].register_forward_hook(lambda module, arguments, output: 2 * output)
    assert not is_perceptron(net)
