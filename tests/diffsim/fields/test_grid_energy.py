"""Energies on a ring: the same everywhere, for any number of points, of the reach that was asked for."""

import pytest
import torch

from diffsim.contracts import check_vector_field
from diffsim.errors import ArgumentError
from diffsim.fields.discrete import DiscreteGradientField, roll_out
from diffsim.fields.grid_energy import GridEnergy
from diffsim.systems.waves import central_difference, second_difference


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_a_point_feels_its_neighbours_and_no_others(reach):
    energy = GridEnergy(8, reach).double()
    u = normal(11).requires_grad_()
    (slope,) = torch.autograd.grad(energy.density(u)[5], u)
    felt = slope.abs() > 1e-9
    assert felt.nonzero().flatten().tolist() == list(range(5 - reach, 6 + reach))
    torch.testing.assert_close(energy.density(u.roll(3)), energy.density(u).roll(3))
    assert energy(normal(4, 7)).shape == (4,)


def test_a_learned_wave_keeps_energy_and_mass_whatever_the_weights():
    n = 20
    energy = GridEnergy(8).double()
    t = torch.linspace(0, 0.05, 6, dtype=torch.float64)
    wave = DiscreteGradientField(energy, central_difference(n, 0.5))
    with torch.no_grad():
        u = roll_out(wave, normal(2, n), t)
        torch.testing.assert_close(energy(u), energy(u[:1]).expand(6, 2), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(u.sum(-1), u[:1].sum(-1).expand(6, 2), rtol=1e-10, atol=1e-10)
        mixture = DiscreteGradientField(energy, dissipation=-second_difference(n, 0.5))
        assert (energy(roll_out(mixture, normal(2, n), t)).diff(dim=0) < 0).all()


def test_bad_reach():
    with pytest.raises(ArgumentError, match="`reach` must be at least 0"):
        GridEnergy(8, -1)


def test_contract():
    check_vector_field(DiscreteGradientField(GridEnergy(6), central_difference(5, 0.5)), normal(2, 5), duration=0.2)
