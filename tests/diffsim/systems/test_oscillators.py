"""Known solutions of the oscillators."""

import math

import pytest
import torch
from scipy.special import ellipk

from diffsim.systems import DoubleWell, Duffing, ForcedDuffing, MassSpring, Pendulum, VanDerPol

ZERO = torch.tensor(0.0)


def returns(solve, field, y0, period):
    """Whether the orbit is back after one period, and not after half of it."""
    start = torch.tensor(y0, dtype=torch.float64)
    run = solve(field, start, [0.0, period / 2, period])
    torch.testing.assert_close(run[2], start, rtol=1e-7, atol=1e-7)
    assert (run[1] - start).abs().max() > 1e-3


def test_the_spring_rotates_phase_space(solve):
    mass, stiffness = 0.7, 2.1
    t = torch.linspace(0, 10, 30, dtype=torch.float64)
    run = solve(MassSpring(mass, stiffness), [0.3, -0.5], t)
    omega = math.sqrt(stiffness / mass)
    q = 0.3 * torch.cos(omega * t) - 0.5 / (mass * omega) * torch.sin(omega * t)
    p = -0.3 * mass * omega * torch.sin(omega * t) - 0.5 * torch.cos(omega * t)
    torch.testing.assert_close(run, torch.stack([q, p], dim=-1), rtol=1e-8, atol=1e-9)


def test_the_constants_of_the_hnn_paper():
    y = torch.rand(10, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4 - 2
    q, p = y.unbind(-1)
    torch.testing.assert_close(MassSpring(mass=0.5, stiffness=2.0).energy(y), q**2 + p**2)
    pendulum = Pendulum(mass=0.5, length=1.0, gravity=6.0)
    torch.testing.assert_close(pendulum.energy(y), 3 * (1 - q.cos()) + p**2)
    torch.testing.assert_close(pendulum(ZERO, y), torch.stack([2 * p, -3 * q.sin()], dim=-1))


@pytest.mark.parametrize("angle", [0.1, 1.0, 3.0])
def test_the_period_of_the_pendulum(solve, angle):
    mass, length, gravity = 0.4, 1.7, 9.81
    period = 4 * math.sqrt(length / gravity) * float(ellipk(math.sin(angle / 2) ** 2))
    returns(solve, Pendulum(mass, length, gravity), [angle, 0.0], period)


def test_small_swings_of_the_pendulum_are_harmonic(solve):
    mass, length, gravity, angle = 0.4, 1.7, 9.81, 1e-3
    period = 2 * math.pi * math.sqrt(length / gravity)
    q, _ = solve(Pendulum(mass, length, gravity), [angle, 0.0], [0.0, period / 4])[1]
    assert abs(q.item()) < 1e-5 * angle


def test_the_separatrix_of_the_pendulum():
    field = Pendulum(mass=0.4, length=1.7, gravity=9.81)
    upright = torch.tensor([math.pi, 0.0], dtype=torch.float64)
    assert field.energy(upright).item() == pytest.approx(2 * 0.4 * 9.81 * 1.7)
    assert field(ZERO, upright).abs().max() < 1e-12


def test_small_energies_of_the_pendulum_do_not_cancel():
    energy = Pendulum(gravity=1.0).energy(torch.tensor([1e-5, 0.0]))
    assert energy.item() == pytest.approx(5e-11, rel=1e-5)


def test_the_double_well_has_its_barrier_and_its_frequency(solve):
    mass, barrier, width = 0.7, 0.9, 1.4
    field = DoubleWell(mass, barrier, width)
    special = torch.tensor([[0.0, 0.0], [width, 0.0], [-width, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(field.energy(special), torch.tensor([barrier, 0.0, 0.0], dtype=torch.float64))
    assert field(ZERO, special).abs().max() < 1e-12
    period = 2 * math.pi / (math.sqrt(8 * barrier / mass) / width)
    shift = 1e-4
    quarter = solve(field, [width + shift, 0.0], [0.0, period / 4])[1]
    assert abs(quarter[0].item() - width) < 1e-3 * shift
    # An orbit below the barrier stays in its well; one above crosses.
    t = torch.linspace(0, 30, 200)
    below, above = (solve(field, [width, math.sqrt(2 * mass * e)], t) for e in (0.95 * barrier, 1.05 * barrier))
    assert below[:, 0].min() > 0
    assert above[:, 0].min() < -width


def test_the_period_of_the_duffing_oscillator(solve):
    linear, cubic, amplitude = 1.3, 0.8, 1.5
    # q = A cn(w t, m) with w^2 = linear + cubic A^2, m = cubic A^2 / (2 w^2).
    frequency = math.sqrt(linear + cubic * amplitude**2)
    period = 4 * float(ellipk(cubic * amplitude**2 / (2 * frequency**2))) / frequency
    returns(solve, Duffing(linear, cubic), [amplitude, 0.0], period)


def test_the_undriven_undamped_duffing_is_the_hamiltonian_one():
    y = torch.rand(10, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 4 - 2
    plain = ForcedDuffing(linear=-1.2, cubic=0.7, damping=0.0, amplitude=0.0)
    torch.testing.assert_close(plain(torch.tensor(3.0), y), Duffing(-1.2, 0.7)(ZERO, y))


def test_the_driven_linear_oscillator_reaches_its_resonance_curve(solve):
    linear, damping, drive, frequency = 1.5, 0.4, 0.7, 1.1
    field = ForcedDuffing(linear, 0.0, damping, drive, frequency, phase=-math.pi / 2)
    run = solve(field, [0.0, 0.0], torch.linspace(0, 100, 4001))[-600:]
    amplitude = drive / math.hypot(linear - frequency**2, damping * frequency)
    assert run[:, 0].max().item() == pytest.approx(amplitude, rel=1e-3)


def test_damping_and_drive_change_the_energy_at_their_power():
    damping, drive, frequency, phase = 0.3, 0.5, 1.2, 0.4
    field = ForcedDuffing(-1.0, 1.0, damping, drive, frequency, phase)
    t = torch.tensor(2.7, dtype=torch.float64)
    y = torch.rand(10, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 4 - 2
    power = (Duffing(-1.0, 1.0).energy_gradient(y) * field(t, y)).sum(-1)
    v = y[:, 1]
    torch.testing.assert_close(power, -damping * v**2 + drive * math.cos(frequency * 2.7 + phase) * v)


@pytest.mark.parametrize(("mu", "amplitude"), [(0.1, 2.0001), (1.0, 2.0086), (5.0, 2.0215)])
def test_the_limit_cycle_of_van_der_pol(solve, mu, amplitude):
    # Amplitudes: 2 + mu^2 / 96 + ... for small mu; Andersen and Geer, 1982, for larger ones.
    t = torch.linspace(0, 120, 6001)
    inside, outside = solve(VanDerPol(mu), [[0.5, 0.0], [3.0, 0.0]], t)[-2000:, :, 0].T
    assert inside.max().item() == pytest.approx(amplitude, abs=2e-3)
    assert outside.max().item() == pytest.approx(amplitude, abs=2e-3)


def test_van_der_pol_without_damping_is_a_spring():
    y = torch.tensor([[1.0, 2.0], [-0.3, 0.4]])
    torch.testing.assert_close(VanDerPol(0.0)(ZERO, y), MassSpring()(ZERO, y))
