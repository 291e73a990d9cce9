"""Hamiltonian fields: canonical equations, separable parts, gradients of gradients, odd dimensions."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffsim.contracts import check_vector_field
from diffsim.errors import ArgumentError
from diffsim.fields.hamiltonian import Hamiltonian, HamiltonianField, Separable, SeparableHamiltonian, split_state
from diffsim.fields.neural import mlp
from diffsim.systems import FreeParticle, HenonHeiles, NBody

ZERO = torch.tensor(0.0, dtype=torch.float64)


class Quadratic(Hamiltonian):
    """H = y . A y / 2 with A symmetric: the field is J A y."""

    def __init__(self, matrix):
        super().__init__()
        self.register_buffer("matrix", matrix)

    def energy(self, y):
        return (y @ self.matrix * y).sum(-1) / 2


def symmetric(d, seed):
    a = torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return a + a.T


@given(k=st.integers(1, 4), batch=st.lists(st.integers(1, 3), max_size=2), seed=st.integers(0, 1000))
def test_canonical_equations_of_a_quadratic_energy(k, batch, seed):
    matrix = symmetric(2 * k, seed)
    y = torch.randn(*batch, 2 * k, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))
    eye, null = torch.eye(k, dtype=torch.float64), torch.zeros(k, k, dtype=torch.float64)
    symplectic = torch.cat([torch.cat([null, eye], 1), torch.cat([-eye, null], 1)])
    field = Quadratic(matrix)
    assert torch.allclose(field(ZERO, y), y @ (symplectic @ matrix).T)
    with torch.no_grad():
        assert torch.allclose(field(ZERO, y), y @ (symplectic @ matrix).T)
    assert torch.allclose((field(ZERO, y) * field.energy_gradient(y)).sum(-1), ZERO.expand(batch), atol=1e-12)


@given(k=st.integers(1, 3), seed=st.integers(0, 1000))
def test_a_separable_energy_is_the_sum_of_its_parts(k, seed):
    field = SeparableHamiltonian(mlp(k, 1, (6,), seed=seed), mlp(k, 1, (6,), seed=seed + 1)).double()
    y = torch.randn(5, 2 * k, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    q, p = split_state(y)
    assert torch.allclose(field.energy(y), field.kinetic(p) + field.potential(q))
    assert torch.allclose(torch.cat([field.velocity(p), field.force(q)], -1), Hamiltonian.forward(field, ZERO, y))
    assert torch.allclose(field.energy_gradient(y), Hamiltonian.energy_gradient(field, y))
    mixed = torch.func.vmap(torch.func.hessian(field.energy))(y)[:, :k, k:]
    assert torch.equal(mixed, torch.zeros_like(mixed))


def test_an_energy_of_several_outputs_is_their_sum():
    net = mlp(2, 3, (6,)).double()
    y = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(HamiltonianField(net).energy(y), net(y) @ torch.ones(3, dtype=torch.float64))


def test_the_field_is_differentiable_in_the_state_and_the_weights():
    field = HamiltonianField(mlp(2, 1, (5,), seed=3, dtype=torch.float64))
    y = torch.tensor([[0.3, -0.2], [1.0, 0.4]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: field(ZERO, y), y)
    assert torch.autograd.gradgradcheck(lambda y: field(ZERO, y), y)

    def of_weight(weight):
        return torch.func.functional_call(field, {"net.0.weight": weight}, (ZERO, y.detach()))

    assert torch.autograd.gradcheck(of_weight, field.net[0].weight.detach().clone().requires_grad_(True))


@pytest.mark.parametrize(
    "field",
    [
        HamiltonianField(mlp(4, 1, (6,), dtype=torch.float64)),
        SeparableHamiltonian(mlp(2, 1, (6,)), mlp(2, 1, (6,))).double(),
        HenonHeiles().double(),
        FreeParticle(mass=2.0).double(),
        NBody(torch.ones(2)).double(),
        Quadratic(symmetric(4, 0)),
    ],
    ids=lambda field: type(field).__name__,
)
def test_the_hessian_of_the_energy(field):
    d = 8 if isinstance(field, NBody) else 4
    y = torch.randn(2, 3, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = torch.stack([torch.func.hessian(field.energy)(row) for row in y.reshape(-1, d)]).reshape(2, 3, d, d)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            hessian = field.energy_hessian(y)
        assert torch.allclose(hessian, exact, atol=1e-10)
        assert grad or not hessian.requires_grad
    assert torch.autograd.gradcheck(field.energy_hessian, y[0, :1].clone().requires_grad_(True))


def test_no_graph_is_built_without_gradients():
    field = HamiltonianField(mlp(2, 1, (5,)))
    with torch.no_grad():
        assert not field(torch.tensor(0.0), torch.ones(3, 2)).requires_grad
    assert field(torch.tensor(0.0), torch.ones(3, 2)).requires_grad  # the weights do


@pytest.mark.parametrize("shape", [(), (0,), (3,), (4, 5)])
def test_odd_states_are_refused(shape):
    with pytest.raises(ArgumentError, match="even state dimension"):
        split_state(torch.zeros(shape))
    with pytest.raises(ArgumentError, match="even state dimension"):
        Quadratic(torch.eye(3))(torch.tensor(0.0), torch.zeros(shape))


def test_abstract_methods_are_required():
    for kind in (Hamiltonian, Separable):
        with pytest.raises(TypeError, match="abstract"):
            kind()  # pyright: ignore[reportAbstractUsage]


@pytest.mark.parametrize(
    "field", [HamiltonianField(mlp(4, 1, (8,))), SeparableHamiltonian(mlp(2, 1, (8,)), mlp(2, 1, (8,)))]
)
def test_contract(field):
    y0 = torch.tensor([[0.4, -0.3, 0.1, 0.9], [1.1, 0.2, -0.5, 0.3]], dtype=torch.float64)
    check_vector_field(field, y0)
