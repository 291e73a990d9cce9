"""Epidemics whose reproduction number is learned: constants of a second wave, a network of time, coupled regions."""

import pytest
import torch
from torch import nn

from diffsim.contracts import check_vector_field
from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError
from diffsim.fields.neural import mlp
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver
from diffsim.systems.epidemic import SEIR, SecondWave
from diffsim.systems.regional_epidemic import RegionalSEIR
from diffsim.training.fit import fit
from diffsim.training.losses import DerivativeLoss, RolloutLoss
from diffsim.training.settings import Training

T = torch.linspace(0, 60, 31, dtype=torch.float64)  # days
Y0 = torch.tensor([[0.99, 0.01, 0.0, 0.0], [0.9, 0.05, 0.05, 0.0]], dtype=torch.float64)
RK4 = Solver("rk4", step=2.0, gradient="backprop")
CONTACTS = torch.tensor([[0.8, 0.2, 0.0], [0.1, 0.7, 0.2], [0.3, 0.0, 0.7]], dtype=torch.float64)


def parameter(value):
    return nn.Parameter(torch.tensor(value, dtype=torch.float64))


def wave(base, amplitude, frequency, learn=False):
    value = parameter if learn else torch.tensor
    return SecondWave(value(base), value(amplitude), start=30.0, frequency=value(frequency), decay_time=20.0)


def test_a_second_wave_is_found_from_noisy_counts():
    truth = SEIR(wave(1.4, 3.0, 0.15), 5.2, 6.0)
    with torch.no_grad():
        runs = Trajectory(T, odeint(truth, Y0, T, RK4)).noise(1e-3, seed=0)
    field = SEIR(wave(1.2, 2.0, 0.12, learn=True), 5.2, 6.0)
    fit(field, runs, RolloutLoss(None), Training("lbfgs", steps=30), RK4)
    found = dict(field.named_parameters())
    for name, value in (("base", 1.4), ("amplitude", 3.0), ("frequency", 0.15)):
        assert abs(float(found[f"reproduction_number.{name}"].detach()) / value - 1) < 0.1, name


class Smooth(nn.Module):
    """A positive network of time in months."""

    def __init__(self):
        super().__init__()
        self.net = mlp(1, 1, (16,), dtype=torch.float64)

    def forward(self, t):
        return 4 * torch.sigmoid(self.net(t.reshape(1) / 30 - 1))


def test_a_network_learns_a_number_that_falls_and_rises():
    number = lambda t: 1.5 + torch.cos(t / 12)  # noqa: E731
    truth = SEIR(number, 5.2, 6.0)
    with torch.no_grad():
        runs = Trajectory(T, odeint(truth, Y0, T, RK4))
    field = SEIR(Smooth(), 5.2, 6.0)
    fit(field, runs, DerivativeLoss(), Training("lbfgs", steps=150))
    learned = torch.cat([field.reproduction_number(t) for t in T]).detach()
    assert (learned - number(T))[2:22].abs().amax() < 0.15


def test_regions_alone_are_epidemics_of_their_own():
    alone = RegionalSEIR(torch.eye(3, dtype=torch.float64), torch.tensor([1.5, 2.5, 3.0], dtype=torch.float64))
    y = torch.rand(4, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rates = alone(T[0], y.flatten(1)).unflatten(-1, (4, 3))
    for i, number in enumerate((1.5, 2.5, 3.0)):
        torch.testing.assert_close(rates[..., i], SEIR(number)(T[0], y[..., i]))


def test_coupled_regions_keep_their_populations_and_infect_along_contacts():
    field = RegionalSEIR(CONTACTS, 3.0)
    y0 = torch.zeros(4, 3, dtype=torch.float64)
    y0[0], y0[2, 2], y0[0, 2] = 1.0, 0.1, 0.9  # the third region is ill
    run = odeint(field, y0.flatten()[None], torch.linspace(0, 1, 11, dtype=torch.float64)).unflatten(-1, (4, 3))
    torch.testing.assert_close(run.sum(-2), run[:1].sum(-2).expand(11, 1, 3))
    exposed = run[1, 0, 1]
    assert exposed[1] > 10 * exposed[0] > 0  # the second by direct contact, the first only through it


def test_the_numbers_of_coupled_regions_are_found():
    number = torch.tensor([1.5, 2.5, 3.5], dtype=torch.float64)
    y0 = torch.rand(4, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).flatten(1)
    t = torch.linspace(0, 10, 11, dtype=torch.float64)
    with torch.no_grad():
        runs = Trajectory(t, odeint(RegionalSEIR(CONTACTS, number), y0, t, RK4))
    field = RegionalSEIR(CONTACTS, parameter([2.0, 2.0, 2.0]))
    fit(field, runs, RolloutLoss(None), Training("lbfgs", steps=60), RK4)
    torch.testing.assert_close(next(field.parameters()).detach(), number, rtol=1e-3, atol=1e-3)


def test_bad_contacts():
    with pytest.raises(ArgumentError, match=r"must have shape \[R, R\]"):
        RegionalSEIR(torch.ones(2))
    with pytest.raises(ArgumentError, match="must be shares"):
        RegionalSEIR(torch.ones(2, 2))
    with pytest.raises(ArgumentError, match="must have shape"):
        RegionalSEIR(CONTACTS)(T[0], torch.ones(4))


def test_contract():
    y = torch.rand(2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    check_vector_field(RegionalSEIR(CONTACTS, lambda t: 2 + torch.cos(t)), y)
