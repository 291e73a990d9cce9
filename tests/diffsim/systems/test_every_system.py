"""What holds for every system: gradients, constants, dtypes, shapes and the errors for bad input."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields.hamiltonian import Hamiltonian, Separable
from diffsim.systems import (
    SEIR,
    DoublePendulum,
    DoubleWell,
    Duffing,
    ForcedDuffing,
    HenonHeiles,
    Lorenz63,
    LotkaVolterra,
    MassSpring,
    NBody,
    Pendulum,
    VanDerPol,
)

NOW = torch.tensor(0.4, dtype=torch.float64)


def bodies(**constants):
    return NBody([1.0, 2.0, 0.5], **constants)


# Class, size of the state, constants away from their defaults.
HAMILTONIAN = [
    (MassSpring, 2, {"mass": 0.7, "stiffness": 2.1}),
    (Pendulum, 2, {"mass": 0.7, "length": 1.3, "gravity": 3.7}),
    (DoubleWell, 2, {"mass": 0.7, "barrier": 0.9, "width": 1.4}),
    (Duffing, 2, {"linear": -0.8, "cubic": 1.3}),
    (HenonHeiles, 4, {"coupling": 0.6}),
    (DoublePendulum, 4, {"mass1": 0.7, "mass2": 1.2, "length1": 1.3, "length2": 0.6, "gravity": 3.7}),
    (bodies, 12, {"gravitation": 1.7, "softening": 0.3}),
]
OTHERS = [
    (
        ForcedDuffing,
        2,
        {"linear": -0.8, "cubic": 1.3, "damping": 0.2, "amplitude": 0.4, "frequency": 1.1, "phase": 0.3},
    ),
    (VanDerPol, 2, {"mu": 1.7}),
    (Lorenz63, 3, {"sigma": 9.0, "rho": 20.0, "beta": 2.0}),
    (LotkaVolterra, 2, {"growth": 0.7, "predation": 1.2, "death": 0.8, "reproduction": 1.1}),
    (SEIR, 4, {"reproduction_number": 2.2, "latent_period": 4.0, "infectious_period": 7.0}),
]
EVERY = HAMILTONIAN + OTHERS
POSITIVE = {
    MassSpring: ["mass", "stiffness"],
    Pendulum: ["mass", "length"],
    DoubleWell: ["mass", "barrier", "width"],
    DoublePendulum: ["mass1", "mass2", "length1", "length2"],
    NBody: ["masses", "gravitation"],
    Lorenz63: ["sigma", "rho", "beta"],
    LotkaVolterra: ["growth", "predation", "death", "reproduction"],
    SEIR: ["latent_period", "infectious_period"],
}
NON_NEGATIVE = {
    NBody: ["softening"],
    ForcedDuffing: ["damping"],
    VanDerPol: ["mu"],
    SEIR: ["reproduction_number"],
}

every = pytest.mark.parametrize(("system", "size", "constants"), EVERY)
hamiltonian = pytest.mark.parametrize(("system", "size", "constants"), HAMILTONIAN)


def states(n, size, seed=0):
    """Generic positive states, so that populations make sense too."""
    return torch.rand(n, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.1


@hamiltonian
@given(seed=st.integers(0, 1000), scale=st.floats(0.5, 2.0))
def test_the_field_is_the_symplectic_gradient_of_the_energy(system, size, constants, seed, scale):
    field = system(**{name: scale * value for name, value in constants.items()})
    y = (3 * states(5, size, seed) - 2).requires_grad_()
    (gradient,) = torch.autograd.grad(field.energy(y).sum(), y)
    assert field.energy(y).shape == (5,)
    torch.testing.assert_close(field.energy_gradient(y), gradient, rtol=1e-9, atol=1e-10)
    k = size // 2
    torch.testing.assert_close(field(NOW, y), torch.cat([gradient[:, k:], -gradient[:, :k]], dim=-1))
    # Central differences, which share no code with autograd.
    step = 1e-5 * torch.eye(size, dtype=torch.float64)
    with torch.no_grad():
        numeric = (field.energy(y[:, None] + step) - field.energy(y[:, None] - step)) / 2e-5
    torch.testing.assert_close(gradient, numeric, rtol=1e-5, atol=1e-6)


@hamiltonian
def test_the_energy_is_conserved_by_an_accurate_solver(solve, system, size, constants):
    field = system(**constants)
    y0 = states(3, size) / 4
    energy = field.energy(solve(field, y0, torch.linspace(0, 5, 20)))
    torch.testing.assert_close(energy, energy[:1].expand_as(energy), rtol=1e-8, atol=1e-8)


@hamiltonian
def test_a_separable_energy_is_the_sum_of_its_parts(system, size, constants):
    field = system(**constants)
    if not isinstance(field, Separable):
        assert isinstance(field, Hamiltonian)
        return
    q, p = states(4, size).chunk(2, dim=-1)
    torch.testing.assert_close(field.energy(torch.cat([q, p], dim=-1)), field.kinetic(p) + field.potential(q))
    torch.testing.assert_close(
        field(NOW, torch.cat([q, p], dim=-1)), torch.cat([field.velocity(p), field.force(q)], -1)
    )


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_derivative_has_the_dtype_of_the_state(system, size, constants, dtype):
    y = states(3, size).to(dtype)
    column = {name: torch.full((3, 1), value, dtype=torch.float64) for name, value in constants.items()}
    for field in (system(**constants), system(**column)):
        assert field(NOW, y).dtype == dtype
        torch.testing.assert_close(field(NOW, y), field(NOW, y.double()).to(dtype), rtol=1e-5, atol=1e-5)
        if isinstance(field, Hamiltonian):
            assert field.energy(y).dtype == dtype


@every
def test_the_derivative_is_on_the_device_of_the_state(system, size, constants):
    y = states(3, size).to("meta")
    assert system(**constants)(NOW.to("meta"), y).device.type == "meta"


@every
def test_any_batch_shape(system, size, constants):
    field = system(**constants)
    y = states(6, size)
    dy = field(NOW, y)
    torch.testing.assert_close(field(NOW, y.view(2, 3, size)), dy.view(2, 3, size))
    torch.testing.assert_close(field(NOW, y[0]), dy[0])
    if isinstance(field, Hamiltonian):
        assert field.energy(y.view(2, 3, size)).shape == (2, 3)
        assert field.energy(y[0]).shape == ()


@every
def test_constants_may_differ_between_the_states_of_a_batch(system, size, constants):
    n = 4
    y = states(n, size)
    factor = torch.linspace(0.8, 1.2, n, dtype=torch.float64)
    batch = system(**{name: (value * factor)[:, None] for name, value in constants.items()})
    single = [system(**{name: value * float(f) for name, value in constants.items()}) for f in factor]
    torch.testing.assert_close(batch(NOW, y), torch.stack([f(NOW, row) for f, row in zip(single, y, strict=True)]))
    # The same constants serve every time of a run [T, n, d].
    assert batch(NOW, y.expand(5, n, size)).shape == (5, n, size)
    if isinstance(batch, Hamiltonian):
        energies = torch.stack([f.energy(row) for f, row in zip(single, y, strict=True)])  # pyright: ignore
        torch.testing.assert_close(batch.energy(y), energies)


@every
@pytest.mark.parametrize("shape", [(), (2, 1)])
def test_constants_are_differentiable(system, size, constants, shape):
    y = states(2, size)
    values = [torch.full(shape, v, dtype=torch.float64, requires_grad=True) for v in constants.values()]

    def derivative(*values):
        return system(**dict(zip(constants, values, strict=True)))(NOW, y)

    def energy(*values):
        return system(**dict(zip(constants, values, strict=True))).energy(y)

    assert torch.autograd.gradcheck(derivative, values)
    if isinstance(system(**constants), Hamiltonian):
        assert torch.autograd.gradcheck(energy, values)


@every
def test_the_derivative_is_differentiable_twice_in_the_state(system, size, constants):
    y = states(2, size).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda y: system(**constants)(NOW, y), y)


@every
def test_constants_are_buffers_or_parameters(system, size, constants):
    field = system(**constants)
    names = {name.split(".")[-1] for name, _ in field.named_buffers()}
    assert set(constants) <= names
    assert not list(field.parameters())
    learnt = system(**{name: nn.Parameter(torch.tensor(value)) for name, value in constants.items()})
    assert {name.split(".")[-1] for name, _ in learnt.named_parameters()} == set(constants)
    torch.testing.assert_close(copy.deepcopy(field)(NOW, states(2, size)), field(NOW, states(2, size)))
    other = system()
    other.load_state_dict(field.state_dict())
    torch.testing.assert_close(other(NOW, states(2, size)), field(NOW, states(2, size)))


@every
def test_a_state_of_the_wrong_size_is_an_error(system, size, constants):
    if system is MassSpring:
        assert MassSpring()(NOW, states(3, 6)).shape == (3, 6)
        size = 2
        wrong = [3]
    else:
        wrong = [size + 1, size + 2]
    for n in wrong:
        with pytest.raises(ArgumentError, match="must have shape"):
            system(**constants)(NOW, states(3, n))
    with pytest.raises(ArgumentError, match="must have shape"):
        system(**constants)(NOW, torch.tensor(1.0))


@every
def test_a_constant_that_would_change_the_shape_of_the_state_is_an_error(system, size, constants):
    for name, value in constants.items():
        field = system(**{name: torch.full((5,), value)})  # [n], not [n, 1]
        with pytest.raises(ArgumentError, match=rf"`{name}` must have shape \[\] or \[n, 1\].*got \[5\]"):
            field(NOW, states(5, size))


@pytest.mark.parametrize(("system", "name"), [(s, name) for s, names in POSITIVE.items() for name in names])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_constants_that_must_be_positive(system, name, value):
    given = [1.0, value] if name == "masses" else value
    with pytest.raises(ArgumentError, match=f"`{name}` must be positive"):
        system(**{name: given})
    with pytest.raises(ArgumentError, match=f"`{name}` must be positive"):
        system(**{name: torch.tensor([[1.0], [value]])})


@pytest.mark.parametrize(("system", "name"), [(s, name) for s, names in NON_NEGATIVE.items() for name in names])
def test_constants_that_must_not_be_negative(system, name):
    system(**{name: 0.0})
    with pytest.raises(ArgumentError, match=f"`{name}` must not be negative"):
        system(**{name: -1.0})


@every
@pytest.mark.parametrize("value", [float("nan"), float("inf"), torch.tensor(float("nan"))])
def test_constants_must_be_finite(system, size, constants, value):
    for name in constants:
        with pytest.raises(ArgumentError, match=f"`{name}` must be finite"):
            system(**{name: value})


@every
@pytest.mark.parametrize("value", ["1", None, 1j, torch.tensor(1j), torch.tensor(True)])
def test_constants_must_be_real_numbers(system, size, constants, value):
    for name in constants:
        with pytest.raises(ArgumentTypeError, match=f"`{name}` must be a number"):
            system(**{name: value})


def test_whole_numbers_become_real():
    assert Pendulum(length=2).length.dtype == torch.float64
    assert Pendulum(length=torch.tensor(2)).length.dtype == torch.float64
