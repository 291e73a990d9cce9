"""Charts: periods of networks on angles, fields in (cos, sin), the way back, whole turns, errors, contract."""

import pytest
import torch
from torch import nn

from diffsim.contracts import check_vector_field
from diffsim.errors import ArgumentError
from diffsim.fields.charts import AngleFeatures, EmbeddedField
from diffsim.fields.inputs import Input
from diffsim.fields.lagrangian import LagrangianField
from diffsim.fields.matrices import PositiveMatrix
from diffsim.fields.mechanics import MechanicalLagrangian
from diffsim.fields.neural import NeuralField, mlp
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver
from diffsim.systems.robots import CartPole

ZERO = torch.tensor(0.0, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_networks_behind_the_chart_have_the_period_of_an_angle():
    net = nn.Sequential(AngleFeatures(2, [1]), mlp(3, 1, (8,), dtype=torch.float64))
    q = normal(5, 2)
    turns = torch.tensor([0.0, 2 * torch.pi], dtype=torch.float64)
    torch.testing.assert_close(net(q + turns), net(q))
    assert ((net(q + turns.flip(0)) - net(q)).abs() > 1e-3).any()


def test_the_chart_has_an_inverse_up_to_whole_turns():
    chart, q = AngleFeatures(3, [2, 0]), normal(4, 3)
    torch.testing.assert_close(chart.inverse(chart(q)), q)
    far = q + 2 * torch.pi * torch.tensor([3.0, 0.0, -2.0], dtype=torch.float64)
    torch.testing.assert_close(chart.inverse(chart(far)), q)


def test_a_field_in_the_chart_is_the_field_in_angles():
    field = CartPole(u=torch.tensor([0.7], dtype=torch.float64))
    embedded = EmbeddedField(field, AngleFeatures(2, [1]))
    y = torch.cat([normal(4, 2), normal(4, 2, seed=1)], dim=-1)
    x = embedded.embed(y)
    assert x.shape == (4, 5)
    change = torch.func.jvp(embedded.embed, (y,), (field(ZERO, y),))[1]
    torch.testing.assert_close(embedded(ZERO, x), change)
    torch.testing.assert_close(embedded.energy(x), field.energy(y))
    t = torch.linspace(0, 2, 5, dtype=torch.float64)
    run, angles = (odeint(f, s, t, Solver("dopri8", rtol=1e-9, atol=1e-11)) for f, s in ((embedded, x), (field, y)))
    torch.testing.assert_close(run, embedded.embed(angles), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(run[..., 1:3].square().sum(-1), torch.ones(5, 4, dtype=torch.float64), rtol=1e-5, atol=0)


def test_bad_charts_are_errors():
    for wrong in ([2], [0, 0], [-1]):
        with pytest.raises(ArgumentError, match="`angles` must be different numbers from 0 to 1"):
            AngleFeatures(2, wrong)
    with pytest.raises(ArgumentError, match=r"`q` must have shape \[..., 2\], got \[3\]"):
        AngleFeatures(2)(torch.zeros(3))
    with pytest.raises(ArgumentError, match=r"`x` must have shape \[..., 4\], got \[3\]"):
        AngleFeatures(2).inverse(torch.zeros(3))
    embedded = EmbeddedField(NeuralField(mlp(2, 2)), AngleFeatures(1))
    with pytest.raises(ArgumentError, match=r"`y` must have shape \[..., 3\], got \[2\]"):
        embedded(ZERO, torch.zeros(2))
    with pytest.raises(ArgumentError, match="NeuralField has no energy"):
        embedded.energy(torch.zeros(3))


def test_contract():
    chart = AngleFeatures(1)
    mass = PositiveMatrix(1, nn.Sequential(chart, mlp(2, 1, (6,))), floor=0.1)
    lagrangian = MechanicalLagrangian(mass, nn.Sequential(chart, mlp(2, 1, (6,))))
    field = EmbeddedField(LagrangianField(lagrangian, input=Input(torch.tensor([0.3]))), chart)
    check_vector_field(field, field.embed(normal(2, 2)), duration=0.3)
