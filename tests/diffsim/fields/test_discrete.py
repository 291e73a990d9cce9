"""Discrete gradients and variational integrators: exact energy, order, reversibility, gradients, errors, contract."""

import pytest
import torch

from diffsim.contracts import check_vector_field
from diffsim.errors import ArgumentError, ArgumentTypeError, IntegrationError
from diffsim.fields.discrete import DiscreteGradientField, VariationalField, discrete_gradient, roll_out
from diffsim.fields.hamiltonian import HamiltonianField
from diffsim.fields.matrices import AntisymmetricMatrix, PositiveMatrix, canonical_structure
from diffsim.fields.neural import mlp
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver
from diffsim.systems.oscillators import MassSpring, Pendulum
from diffsim.systems.waves import CahnHilliard, KortewegDeVries, sample_mixture, sample_solitons

ZERO = torch.tensor(0.0, dtype=torch.float64)
kinds = pytest.mark.parametrize("kind", ["mean", "midpoint"])


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def net_energy(d, seed=0):
    return HamiltonianField(mlp(d, 1, (16,), seed=seed, dtype=torch.float64))


def wave(system, **options):
    given = {} if system.structure is None else {"structure": system.structure.constant}
    if system.dissipation is not None:
        given["dissipation"] = system.dissipation.constant
    return DiscreteGradientField(system.function, **given, **options)


@kinds
def test_a_discrete_gradient_gives_the_difference_of_energies(kind):
    energy, x, y = net_energy(4).energy, normal(6, 4), normal(6, 4, seed=1)
    y = x + 0.1 * (y - x)
    g = discrete_gradient(energy, x, y, kind)
    torch.testing.assert_close((g * (y - x)).sum(-1), energy(y) - energy(x), rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(discrete_gradient(energy, x, y, kind), discrete_gradient(energy, y, x, kind))
    torch.testing.assert_close(discrete_gradient(energy, x, x, kind), net_energy(4).energy_gradient(x))


@kinds
def test_conservative_steps_keep_any_energy_and_are_reversible(kind):
    field = DiscreteGradientField(net_energy(2), canonical_structure(1), kind=kind)
    t = torch.linspace(0, 4, 21, dtype=torch.float64)
    with torch.no_grad():
        run = roll_out(field, normal(5, 2), t)
        back = roll_out(field, run[-1], t.flip(0))
    energy = field.energy(run).detach()
    torch.testing.assert_close(energy, energy[:1].expand_as(energy), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(back[-1], run[0], rtol=1e-8, atol=1e-8)
    assert (run[-1] - run[0]).abs().amax() > 0.3


def test_steps_are_of_second_order():
    field = DiscreteGradientField(Pendulum(gravity=1.0), canonical_structure(1))
    t, y0 = torch.linspace(0, 2, 5, dtype=torch.float64), torch.tensor([[1.5, 0.3]], dtype=torch.float64)
    exact = odeint(field, y0, t, Solver("dopri8", rtol=1e-11, atol=1e-13))
    with torch.no_grad():
        errors = [float((roll_out(field, y0, t, n) - exact).abs().amax()) for n in (2, 4, 8)]
    assert 3.7 < errors[0] / errors[1] < 4.3 and 3.7 < errors[1] / errors[2] < 4.3


def test_dissipation_is_that_of_the_matrix():
    d = 3
    q = AntisymmetricMatrix(d, mlp(d, 3, (5,), seed=1, dtype=torch.float64))
    p = PositiveMatrix(d, mlp(d, 6, (5,), seed=2, dtype=torch.float64))
    field = DiscreteGradientField(net_energy(d), q, p)
    x, h = normal(4, d), torch.tensor(0.1, dtype=torch.float64)
    with torch.no_grad():
        y = field.step(ZERO, x, h)
        g = discrete_gradient(field.energy, x, y)
        lost = (g * (p((x + y) / 2) @ g[..., None])[..., 0]).sum(-1)
    torch.testing.assert_close(field.energy(y) - field.energy(x), -h * lost)


def test_waves_keep_or_lose_energy_to_the_tolerance():
    with torch.no_grad():
        kdv = KortewegDeVries()
        u = roll_out(wave(kdv), sample_solitons(2), torch.linspace(0, 0.05, 26, dtype=torch.float64))
        energy = kdv.total_energy(u)
        torch.testing.assert_close(energy, energy[:1].expand_as(energy), rtol=1e-11, atol=1e-10)
        torch.testing.assert_close(u.sum(-1), u[:1].sum(-1).expand(26, 2), rtol=1e-11, atol=1e-10)
        mixture = CahnHilliard()
        u = roll_out(wave(mixture), sample_mixture(2), torch.linspace(0, 5e-3, 26, dtype=torch.float64))
        assert (mixture.total_energy(u).diff(dim=0) <= 1e-13).all()
        torch.testing.assert_close(u.sum(-1), u[:1].sum(-1).expand(26, 2), rtol=0, atol=1e-11)
        assert u[-1].abs().amax() > 2 * u[0].abs().amax()  # it separates


@pytest.mark.parametrize(("level", "step"), [(50.0, 1e-4), (1e4, 1e-3), (50.0, 3e-3)])
def test_the_level_of_an_energy_hinders_no_stiff_step(level, step):
    system = CahnHilliard(n=30)
    t, start = step * torch.arange(60, dtype=torch.float64), sample_mixture(3, 30)
    runs = []
    with torch.no_grad():
        for shift in (0.0, level):
            energy = lambda u, c=shift: system.function(u) + c  # noqa: E731
            field = DiscreteGradientField(energy, dissipation=system.dissipation.constant, kind="midpoint")
            runs.append(roll_out(field, start, t))
    fall = -system.energy(runs[1]).diff(dim=0)
    assert float(fall.min()) > -1e-12 * level
    torch.testing.assert_close(runs[1].sum(-1), start.sum(-1).expand(60, 3), rtol=0, atol=1e-12)
    torch.testing.assert_close(runs[1], runs[0], rtol=0, atol=1e-3)


def test_single_precision_steps_converge():
    field = DiscreteGradientField(MassSpring(), canonical_structure(1))
    with torch.no_grad():
        run = roll_out(field, normal(3, 2).float(), torch.linspace(0, 5, 26))
    assert run.dtype == torch.float32
    torch.testing.assert_close(field.energy(run), field.energy(run[:1]).expand(26, 3), rtol=1e-5, atol=1e-5)


def test_implicit_steps_have_the_derivatives_of_the_implicit_function():
    field = DiscreteGradientField(net_energy(2), canonical_structure(1), PositiveMatrix(2)).double()
    h = torch.tensor(0.3, dtype=torch.float64)

    def step(y, weight):
        return torch.func.functional_call(_Step(field, h), {"field.function.net.0.weight": weight}, (y,), strict=False)

    weight = dict(field.named_parameters())["function.net.0.weight"].detach().clone().requires_grad_(True)
    assert torch.autograd.gradcheck(step, (normal(2, 2).requires_grad_(True), weight))


class _Step(torch.nn.Module):
    def __init__(self, field, h):
        super().__init__()
        self.field, self.h = field, h

    def forward(self, y):
        return self.field.step(ZERO, y, self.h)


@pytest.mark.parametrize("scheme", ["velocity", "stoermer", "rotation"])
def test_variational_steps_converge_to_the_flow_and_bound_the_energy(scheme):
    pendulum = Pendulum(gravity=1.0)
    field = VariationalField(pendulum.potential, scheme=scheme)
    y0 = torch.tensor([[1.5, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(field(ZERO, y0), pendulum(ZERO, y0))
    assert torch.equal(field.energy(y0), pendulum.energy(y0))
    t = torch.linspace(0, 1, 3, dtype=torch.float64)
    exact = odeint(pendulum, y0, t, Solver("dopri8", rtol=1e-11, atol=1e-13))
    with torch.no_grad():
        errors = [float((roll_out(field, y0, t, n) - exact)[..., 0].abs().amax()) for n in (8, 16)]
        long = roll_out(field, y0, torch.linspace(0, 200, 2001, dtype=torch.float64))
    order = 4 if scheme == "velocity" else 2  # the others start from a velocity half a step off
    assert 0.85 * order < errors[0] / errors[1] < 1.15 * order
    drift = (field.energy(long) - field.energy(y0)).abs()[:, 0]
    assert drift.amax() < 0.2 and drift[1000:].amax() < 1.05 * drift[:1000].amax()


def test_the_rotation_scheme_turns_with_its_angle():
    field = VariationalField(force=lambda q: -q.sin(), scheme="rotation")
    y, h = normal(4, 2), torch.tensor(0.1, dtype=torch.float64)
    turns = torch.tensor([2 * torch.pi, 0.0], dtype=torch.float64)
    torch.testing.assert_close(field.step(ZERO, y + turns, h), field.step(ZERO, y, h) + turns)


def test_bad_arguments():
    spring = DiscreteGradientField(MassSpring(), canonical_structure(1))
    t = torch.linspace(0, 1, 3)
    with pytest.raises(ArgumentTypeError, match="MassSpring has no steps of its own"):
        roll_out(MassSpring(), torch.zeros(1, 2), t)
    with pytest.raises(ArgumentError, match="`substeps` must be at least 1, got 0"):
        roll_out(VariationalField(force=lambda q: -q), torch.zeros(2), torch.linspace(0, 1, 3), substeps=0)
    with pytest.raises(ArgumentError, match="strictly monotone"):
        roll_out(spring, torch.zeros(1, 2), torch.tensor([0.0, 0.0]))
    with pytest.raises(ArgumentError, match="`kind` must be one of midpoint, mean, got 'itoh'"):
        DiscreteGradientField(MassSpring(), canonical_structure(1), kind="itoh")
    with pytest.raises(ArgumentError, match="`tolerance` must be positive"):
        DiscreteGradientField(MassSpring(), canonical_structure(1), tolerance=0.0)
    for given in ({}, {"potential": mlp(1, 1), "force": mlp(1, 1)}):
        with pytest.raises(ArgumentError, match="and not both"):
            VariationalField(**given)
    with pytest.raises(ArgumentError, match="`scheme` must be one of"):
        VariationalField(mlp(1, 1), scheme="verlet")
    with pytest.raises(ArgumentError, match="has no potential"):
        VariationalField(force=mlp(1, 1)).energy(torch.zeros(2))
    explosive = DiscreteGradientField(lambda y: y[..., 0] ** 4 * y[..., 1] ** 3, canonical_structure(1))
    with pytest.raises(IntegrationError, match="did not converge"), torch.no_grad():
        roll_out(explosive, torch.full((1, 2), 3.0, dtype=torch.float64), torch.tensor([0.0, 50.0]))


@pytest.mark.parametrize(
    "field",
    [
        DiscreteGradientField(mlp(2, 1, (6,)), AntisymmetricMatrix(2), PositiveMatrix(2)),
        VariationalField(mlp(1, 1, (6,)), scheme="rotation"),
    ],
    ids=lambda field: type(field).__name__,
)
def test_contract(field):
    check_vector_field(field, normal(2, 2), duration=0.3)
