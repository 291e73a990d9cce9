"""Whether data are canonical: Hamiltonians pass; velocities as momenta, friction and drives are told apart."""

import pytest
import torch

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError
from diffsim.fields.lagrangian import LagrangianField
from diffsim.fields.port_hamiltonian import PortHamiltonian
from diffsim.integrate.odeint import simulate
from diffsim.systems.double_pendulum import DoublePendulum
from diffsim.systems.henon_heiles import HenonHeiles
from diffsim.systems.oscillators import MassSpring, Pendulum
from diffsim.systems.relativistic import relativistic_lagrangian
from diffsim.training.canonical import canonical_fit, check_canonical

T = torch.linspace(0, 3, 31, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("field", "size"),
    [(Pendulum(), 2), (MassSpring(mass=3.0), 4), (HenonHeiles(), 4), (DoublePendulum(gravity=2.0), 4)],
)
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_hamiltonian_data_pass_with_and_without_noise(field, size, noise):
    runs = simulate(field, 0.4 * normal(12, size), T)
    check_canonical(runs.noise(noise, seed=1) if noise else runs)


def test_velocities_in_place_of_momenta_are_told():
    y = torch.stack([normal(2000), 0.99 * (2 * normal(2000, seed=1)).tanh()], dim=-1)
    field = LagrangianField(relativistic_lagrangian(1.0))
    dy = field(torch.zeros(()), y).detach()
    wrong = Trajectory(torch.zeros(1, dtype=torch.float64), y[None], dy[None])
    with pytest.raises(ArgumentError, match=r"not canonical.*`to_momenta`"):
        check_canonical(wrong)
    # the same samples by their momenta v / sqrt(1 - v^2), of rate 1
    v = y[:, 1:]
    p = v / (1 - v.square()).sqrt()
    right = Trajectory(wrong.t, torch.cat([y[:, :1], p], -1)[None], torch.cat([v, torch.ones_like(v)], -1)[None])
    assert check_canonical(right).ratio < 5


def test_velocities_of_a_double_pendulum_are_told():
    system = DoublePendulum(gravity=2.0)
    runs = simulate(system, 0.4 * normal(30, 4), T)
    wrong = Trajectory(T, torch.cat([runs.y[..., :2], system.angular_velocities(runs.y)], dim=-1))
    assert canonical_fit(wrong).hamiltonian > 2 * canonical_fit(runs).hamiltonian


def test_friction_is_told():
    runs = simulate(PortHamiltonian(Pendulum(), dissipation=0.5), normal(12, 2), T)
    with pytest.raises(ArgumentError, match="fit a PortHamiltonian"):
        check_canonical(runs)


def test_bad_data():
    with pytest.raises(ArgumentError, match="even dimension, got 3"):
        canonical_fit(Trajectory(T, normal(31, 2, 3)))
    with pytest.raises(ArgumentError, match="at least 20 samples"):
        canonical_fit(Trajectory(T[:5], normal(5, 2, 2)))
