"""Lotka-Volterra, Lorenz and the SEIR epidemic: fixed points, invariants, symmetries and the final size."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.systems import SEIR, HenonHeiles, Lorenz63, LotkaVolterra, SecondWave

ZERO = torch.tensor(0.0)


def test_lotka_volterra_cycles_on_its_invariant(solve):
    field = LotkaVolterra(growth=0.7, predation=1.2, death=0.8, reproduction=1.1)
    run = solve(field, [[2.0, 1.0], [0.3, 0.2]], torch.linspace(0, 40, 50))
    value = field.invariant(run)
    torch.testing.assert_close(value, value[:1].expand_as(value), rtol=1e-8, atol=1e-8)
    assert (run > 0).all()


@given(y=st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)))
def test_the_invariant_does_not_change_along_the_flow(y):
    field = LotkaVolterra(growth=0.7, predation=1.2, death=0.8, reproduction=1.1)
    state = torch.tensor(y, dtype=torch.float64)
    slope = torch.func.jvp(field.invariant, (state,), (field(ZERO, state),))[1]
    assert abs(slope.item()) < 1e-12


def test_lotka_volterra_near_its_fixed_point(solve):
    growth, death = 0.7, 0.8
    field = LotkaVolterra(growth=growth, predation=1.2, death=death, reproduction=1.1)
    fixed = torch.tensor([death / 1.1, growth / 1.2], dtype=torch.float64)
    assert field(ZERO, fixed).abs().max() < 1e-15
    y0 = fixed + torch.tensor([1e-4, 0.0], dtype=torch.float64)
    run = solve(field, y0, [0.0, 2 * math.pi / math.sqrt(growth * death)])
    torch.testing.assert_close(run[1], y0, rtol=0, atol=1e-7)


def test_the_fixed_points_of_lorenz():
    sigma, rho, beta = 9.0, 20.0, 2.0
    c = math.sqrt(beta * (rho - 1))
    fixed = torch.tensor([[0.0, 0.0, 0.0], [c, c, rho - 1], [-c, -c, rho - 1]], dtype=torch.float64)
    assert Lorenz63(sigma, rho, beta)(ZERO, fixed).abs().max() < 1e-13


@given(y=st.tuples(*[st.floats(-30, 30)] * 3))
def test_lorenz_contracts_volumes_and_has_its_symmetry(y):
    field = Lorenz63()
    state = torch.tensor(y, dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda y: field(ZERO, y))(state)
    assert jacobian.trace().item() == pytest.approx(-(10 + 1 + 8 / 3))
    turned = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(field(ZERO, turned * state), turned * field(ZERO, state))


def test_lorenz_below_and_above_the_onset_of_convection(solve):
    still = solve(Lorenz63(rho=0.5), [1.0, 2.0, 3.0], [0.0, 40.0])[1]
    assert still.abs().max() < 1e-6
    rolls = solve(Lorenz63(rho=10.0), [1.0, 2.0, 3.0], [0.0, 60.0])[1]
    assert rolls[2].item() == pytest.approx(9.0, abs=1e-6)
    chaos = solve(Lorenz63(), [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0 + 1e-8]], torch.linspace(0, 25, 200))
    assert (chaos[-1, 0] - chaos[-1, 1]).norm() > 1
    assert chaos[..., 2].min() > 0
    assert chaos[..., 2].max() < 50


def test_henon_heiles_has_three_saddles_at_the_energy_of_escape():
    coupling = 0.7
    angles = math.pi / 2 + torch.arange(3, dtype=torch.float64) * 2 * math.pi / 3
    saddles = torch.stack([angles.cos(), angles.sin(), 0 * angles, 0 * angles], dim=-1) / coupling
    field = HenonHeiles(coupling)
    assert field(ZERO, saddles).abs().max() < 1e-14
    torch.testing.assert_close(field.energy(saddles), torch.full((3,), 1 / (6 * coupling**2), dtype=torch.float64))


@given(seed=st.integers(0, 1000))
def test_henon_heiles_has_the_symmetry_of_a_triangle(seed):
    y = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    c, s = math.cos(2 * math.pi / 3), math.sin(2 * math.pi / 3)
    turn = torch.block_diag(*[torch.tensor([[c, -s], [s, c]], dtype=torch.float64)] * 2)
    torch.testing.assert_close(HenonHeiles().energy(y @ turn.T), HenonHeiles().energy(y))


@given(y=st.tuples(*[st.floats(0.01, 1e6)] * 4), number=st.floats(0, 20))
def test_an_epidemic_keeps_its_population(y, number):
    state = torch.tensor(y, dtype=torch.float64)
    assert abs(SEIR(number)(ZERO, state).sum().item()) < 1e-12 * state.sum().item()


@pytest.mark.parametrize("number", [1.5, 2.5, 4.0])
def test_the_final_size_of_an_epidemic(solve, number):
    exposed = 1e-3
    y0 = [1 - exposed, exposed, 0.0, 0.0]
    final = solve(SEIR(number, latent_period=3.0, infectious_period=5.0), y0, [0.0, 800.0])[1]
    # log(S_end / S_start) = -R0 (removed in all), whatever the periods.
    expected = 0.1
    for _ in range(200):
        expected = (1 - exposed) * math.exp(-number * (1 - expected))
    assert final[0].item() == pytest.approx(expected, rel=1e-6)
    assert final[3].item() == pytest.approx(1 - expected, rel=1e-6)


def test_an_epidemic_below_threshold_dies_out(solve):
    run = solve(SEIR(0.8), [999.0, 0.0, 1.0, 0.0], torch.linspace(0, 400, 40))
    assert (run[1:, 2] < 1).all()
    assert run[-1, 0] > 990


def test_persons_or_fractions():
    fractions = torch.tensor([0.9, 0.05, 0.04, 0.01], dtype=torch.float64)
    torch.testing.assert_close(SEIR()(ZERO, 1e6 * fractions), 1e6 * SEIR()(ZERO, fractions))


def test_a_reproduction_number_given_as_a_function():
    y = torch.tensor([[0.9, 0.05, 0.04, 0.01], [0.5, 0.2, 0.2, 0.1]])
    t = torch.tensor(3.0)
    field = SEIR(lambda t: 2 + torch.sin(t))
    torch.testing.assert_close(field(t, y), SEIR(2 + math.sin(3.0))(t, y))
    assert field(t, y).dtype == torch.float32
    each = SEIR(lambda t: torch.stack([2 + torch.sin(t), t])[:, None])
    torch.testing.assert_close(each(t, y)[1], SEIR(3.0)(t, y)[1])
    with pytest.raises(ArgumentTypeError, match="must return a tensor, got float"):
        SEIR(lambda t: 2.0)(t, y)  # pyright: ignore
    with pytest.raises(ArgumentError, match="`reproduction_number` must have shape"):
        SEIR(lambda t: torch.ones(7))(t, y)


def test_a_learnt_reproduction_number_is_part_of_the_field():
    field = SEIR(SecondWave(1.2, nn.Parameter(torch.tensor(2.0)), start=30.0, frequency=0.1))
    assert [name for name, _ in field.named_parameters()] == ["reproduction_number.amplitude"]
    field(torch.tensor(35.0), torch.tensor([0.9, 0.05, 0.04, 0.01]))[0].backward()
    (amplitude,) = field.parameters()
    assert amplitude.grad is not None
    assert amplitude.grad < 0


def test_the_form_of_the_second_wave():
    base, amplitude, start, frequency, decay = 0.9, 3.0, 20.0, 0.4, 10.0
    number = SecondWave(base, amplitude, start, frequency, decay)
    t = torch.linspace(0, 60, 61, dtype=torch.float64)
    since = (t - start).clamp(min=0)
    torch.testing.assert_close(number(t), base + amplitude * (-since / decay).exp() * (frequency * since).sin().abs())
    assert (number(t[t <= start]) == base).all()
    node = torch.tensor(start + math.pi / frequency, dtype=torch.float64)
    assert number(node).item() == pytest.approx(base)
    # Far before the start nothing overflows, and the gradient is finite.
    far = torch.tensor(-1e4, requires_grad=True)
    number(far).backward()
    assert far.grad == 0


def test_the_second_wave_is_differentiable_in_its_constants():
    values = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.9, 3.0, 20.0, 0.4, 10.0)]
    t = torch.tensor(24.0, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *v: SecondWave(*v)(t), values)


def test_a_second_wave_infects_again(solve):
    y0 = [0.98, 0.01, 0.01, 0.0]
    t = torch.linspace(0, 200, 201)
    wave = SecondWave(base=0.7, amplitude=5.0, start=100.0, frequency=0.05, decay_time=30.0)
    infectious = solve(SEIR(wave, infectious_period=8.0), y0, t)[:, 2]
    assert infectious[90] < infectious[:50].max() / 3
    assert infectious[100:].max() > 3 * infectious[100]


def test_bad_constants_of_the_second_wave():
    with pytest.raises(ArgumentError, match="`decay_time` must be positive"):
        SecondWave(1.0, 1.0, 0.0, 1.0, decay_time=0.0)
    with pytest.raises(ArgumentError, match="`amplitude` must not be negative"):
        SecondWave(1.0, -1.0, 0.0, 1.0)
