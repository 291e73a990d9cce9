"""Relativistic oscillators and masses on springs: gradients, energy, known limits, momentum, random draws, errors."""

import pytest
import torch

from diffsim.errors import ArgumentError
from diffsim.fields.inputs import Input
from diffsim.fields.port_hamiltonian import PortHamiltonian
from diffsim.systems.oscillators import Duffing
from diffsim.systems.relativistic import RelativisticOscillator
from diffsim.systems.springs import ParticleSprings, SpringChain, sample_particle_springs, sample_spring_chain

ZERO = torch.tensor(0.0, dtype=torch.float64)
SYSTEMS = [
    (RelativisticOscillator(mass=0.7, speed_of_light=1.3, linear=0.4, cubic=0.8, force=0.2), 2),
    (SpringChain([1.0, 0.5, 2.0], [1.0, 2.0, 0.3, 4.0]), 6),
    (ParticleSprings([1.0, 0.5, 2.0], [1.0, 2.0, 0.3]), 12),
]
every = pytest.mark.parametrize(("field", "size"), SYSTEMS)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@every
def test_the_field_is_the_symplectic_gradient_of_the_energy(field, size):
    y = normal(5, size).requires_grad_()
    (gradient,) = torch.autograd.grad(field.energy(y).sum(), y)
    torch.testing.assert_close(field.energy_gradient(y), gradient)
    torch.testing.assert_close(field(ZERO, y[0]), field(ZERO, y)[0])
    assert field(ZERO.float(), y.detach().float()).dtype == torch.float32
    with pytest.raises(ArgumentError, match="must have shape"):
        field(ZERO, normal(3, size + 2))


@every
def test_the_energy_is_conserved_by_an_accurate_solver(solve, field, size):
    energy = field.energy(solve(field, normal(3, size), torch.linspace(0, 5, 20)))
    torch.testing.assert_close(energy, energy[:1].expand_as(energy), rtol=1e-8, atol=1e-8)


def test_a_fast_light_makes_the_classical_oscillator():
    y = normal(5, 2)
    slow = RelativisticOscillator(speed_of_light=1e4, linear=1.0, cubic=1.0)
    torch.testing.assert_close(slow(ZERO, y), Duffing()(ZERO, y), rtol=1e-6, atol=1e-8)
    assert (RelativisticOscillator().velocity(100 * normal(9, 1)).abs() < 1).all()


def test_the_driven_relativistic_duffing_oscillator_is_a_composition():
    drive = Input(lambda t: 0.2 * torch.sin(1.2 * t))
    field = PortHamiltonian(RelativisticOscillator(linear=1.0, cubic=1.0), input=drive)
    y, t = normal(4, 2), torch.tensor(0.6, dtype=torch.float64)
    q, p = y.unbind(-1)
    expected = torch.stack([p / (p**2 + 1).sqrt(), -q - q**3 + 0.2 * torch.sin(1.2 * t)], dim=-1)
    torch.testing.assert_close(field(t, y), expected)


def test_the_frequencies_of_an_even_chain():
    n = 5
    chain = SpringChain(torch.ones(n), torch.ones(n + 1))
    modes = torch.linalg.eigvalsh(chain.energy_hessian(torch.zeros(2 * n, dtype=torch.float64))[:n, :n])
    exact = 4 * torch.sin(torch.arange(1, n + 1) * torch.pi / (2 * (n + 1))).double() ** 2
    torch.testing.assert_close(modes, exact, rtol=1e-6, atol=1e-9)


def test_particles_keep_their_total_momentum_and_count_ordered_pairs():
    field = ParticleSprings([1.0, 0.5], [2.0, 3.0])
    q = normal(4, 4)
    assert field.force(q).unflatten(-1, (2, 2)).sum(-2).abs().amax() < 1e-12
    torch.testing.assert_close(field.potential(q), 6 * (q[:, :2] - q[:, 2:]).square().sum(-1))


def test_random_systems_repeat_and_carry_one_row_of_constants_a_state():
    field, y = sample_particle_springs(7, 3, seed=2)
    assert field.masses.shape == (7, 3) and y.shape == (7, 12)
    assert field(ZERO, y).shape == y.shape and field.energy(y).shape == (7,)
    single = ParticleSprings(field.masses[2], field.stiffness[2])
    torch.testing.assert_close(single(ZERO, y[2]), field(ZERO, y)[2])
    assert torch.equal(sample_particle_springs(7, 3, seed=2)[1], y)
    chain, y0 = sample_spring_chain(4, 6, seed=1)
    assert y0.shape == (4, 12) and not y0[:, [0, 5, 6, 11]].any() and float(chain.stiffness.amin()) >= 1


def test_bad_constants():
    with pytest.raises(ArgumentError, match="one spring more"):
        SpringChain([1.0], [1.0])
    with pytest.raises(ArgumentError, match="`masses` must be positive"):
        SpringChain([0.0], [1.0, 1.0])
    with pytest.raises(ArgumentError, match="the same shape"):
        ParticleSprings([1.0, 1.0], [1.0])
    with pytest.raises(ArgumentError, match="`mass` must be positive"):
        RelativisticOscillator(mass=-1.0)
    with pytest.raises(ArgumentError, match="`masses` at least 3"):
        sample_spring_chain(1, 2)
    with pytest.raises(ArgumentError, match="`n` must be at least 1"):
        sample_particle_springs(0)
