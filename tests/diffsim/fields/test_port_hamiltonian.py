"""Forced and damped Hamiltonians, decomposed flows: power balance, known solutions, structure, errors, contract."""

import pytest
import torch

from diffsim.contracts import check_vector_field
from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields.inputs import Input, PiecewiseConstant
from diffsim.fields.matrices import AntisymmetricMatrix, PositiveMatrix, canonical_structure
from diffsim.fields.mechanics import MechanicalHamiltonian
from diffsim.fields.neural import mlp
from diffsim.fields.port_hamiltonian import DissipativeHamiltonian, GradientHamiltonian, PortHamiltonian
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver
from diffsim.systems.oscillators import Duffing, ForcedDuffing, MassSpring

ZERO = torch.tensor(0.0, dtype=torch.float64)
TIGHT = Solver("dopri8", rtol=1e-9, atol=1e-11)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_forced_damped_duffing_oscillator_is_a_composition():
    drive = Input(lambda t: 0.39 * torch.cos(1.4 * t))
    field = PortHamiltonian(Duffing(-1.0, 1.0), dissipation=0.1, input=drive)
    known = ForcedDuffing(linear=-1.0, cubic=1.0, damping=0.1, amplitude=0.39, frequency=1.4)
    y = normal(4, 2)
    for t in (ZERO, torch.tensor(2.3, dtype=torch.float64)):
        torch.testing.assert_close(field(t, y), known(t, y))
    times = torch.linspace(0, 2, 4, dtype=torch.float64)[:, None]
    rows = torch.stack([known(t[0], row) for t, row in zip(times, y, strict=True)])
    torch.testing.assert_close(field(times, y), rows)  # one time a state
    torch.testing.assert_close(field(times, y.expand(3, 4, 2))[2], rows)
    with pytest.raises(ArgumentError, match=r"`t` must have shape \[\] or \[..., 1\]"):
        field(times[:, 0], y)


def test_energy_changes_by_the_power_of_the_forces():
    energy = MechanicalHamiltonian(PositiveMatrix(2, mlp(2, 3, (6,), seed=2), floor=0.1), mlp(2, 1, (6,)))
    damping, matrix = PositiveMatrix(2, mlp(2, 3, (6,), seed=5)), mlp(2, 2, (6,), seed=6)
    drive = Input(lambda t: t.sin(), lambda q: matrix(q)[..., None])
    field = PortHamiltonian(energy, dissipation=damping, input=drive)
    for net in (field, damping, matrix):
        net.double()
    y, t = normal(5, 4), torch.tensor(0.7, dtype=torch.float64)
    q = y[:, :2]
    v = energy.velocity(y)
    change = torch.func.jvp(field.energy, (y,), (field(t, y),))[1]
    power = (v * (drive(t, q, v) - (damping(q) @ v[..., None])[..., 0])).sum(-1)
    torch.testing.assert_close(change, power)
    undriven = PortHamiltonian(energy, dissipation=damping)
    change = torch.func.jvp(undriven.energy, (y,), (undriven(t, y),))[1]
    assert (change < 0).all()


def test_a_damped_spring_decays_as_known():
    field = PortHamiltonian(MassSpring(), dissipation=0.3)
    t = torch.linspace(0, 10, 6, dtype=torch.float64)
    run = odeint(field, torch.tensor([[1.0, -0.15]], dtype=torch.float64), t, TIGHT)
    exact = torch.exp(-0.15 * t) * torch.cos((1 - 0.15**2) ** 0.5 * t)
    torch.testing.assert_close(run[:, 0, 0], exact, rtol=1e-7, atol=1e-8)


def test_a_damping_that_can_be_learned_starts_and_stays_dissipative():
    damping = PositiveMatrix(1)
    field = PortHamiltonian(MassSpring(), dissipation=damping)
    assert [name for name, _ in field.named_parameters()] == ["forces.damping.function.entries"]
    with torch.no_grad():
        damping.entries.fill_(-3.0)
    assert float(damping(torch.zeros(1)).detach()) == 9.0


def test_a_decomposed_flow_loses_energy_by_its_symmetric_part_only():
    energy = mlp(3, 1, (8,), dtype=torch.float64)
    q = AntisymmetricMatrix(3, mlp(3, 3, (5,), seed=1, dtype=torch.float64))
    p = PositiveMatrix(3, mlp(3, 6, (5,), seed=2, dtype=torch.float64))
    y = normal(6, 3)
    torch.testing.assert_close(q(y), -q(y).mT)
    assert (torch.linalg.eigvalsh(p(y)) > -1e-12).all()
    for field, sign in (
        (GradientHamiltonian(energy, q), 0),
        (GradientHamiltonian(energy, q, p), -1),
        (GradientHamiltonian(energy, dissipation=p), -1),
    ):
        slope = field.energy_gradient(y)
        rate = (slope * field(ZERO, y)).sum(-1)
        lost = (slope * (p(y) @ slope[..., None])[..., 0]).sum(-1)
        torch.testing.assert_close(rate, sign * lost, rtol=1e-9, atol=1e-12)


def test_howse_form_of_the_damped_spring():
    p = torch.diag(torch.tensor([0.0, 0.3], dtype=torch.float64))
    flow, port = (
        GradientHamiltonian(MassSpring(), canonical_structure(1), p),
        PortHamiltonian(MassSpring(), dissipation=0.3),
    )
    y = normal(4, 2)
    torch.testing.assert_close(flow(ZERO, y), port(ZERO, y))
    torch.testing.assert_close(flow.energy(y), port.energy(y))


def test_the_helmholtz_parts_are_rotational_and_irrotational():
    field = DissipativeHamiltonian(mlp(2, 1, (8,), seed=1), mlp(2, 1, (8,), seed=2)).double()
    y = normal(3, 2)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda y: field(ZERO, y)))(y)
    of_energy = torch.func.vmap(torch.func.jacrev(lambda y: field.hamiltonian(ZERO, y)))(y)
    assert of_energy.diagonal(dim1=-2, dim2=-1).sum(-1).abs().amax() < 1e-12
    rest = jacobian - of_energy
    torch.testing.assert_close(rest, rest.mT)


def test_the_damped_spring_of_the_helmholtz_paper():
    # qdot = 2 p - 2 q, pdot = -2 q: the damping acts on dq/dt, which a port-Hamiltonian cannot say.
    field = DissipativeHamiltonian(MassSpring(0.5, 2.0), lambda y: -y[..., 0].square())
    y = normal(4, 2)
    torch.testing.assert_close(field(ZERO, y), torch.stack([2 * y[:, 1] - 2 * y[:, 0], -2 * y[:, 0]], dim=-1))


def test_piecewise_constant_inputs_hold_their_values():
    u = PiecewiseConstant(torch.tensor([0.0, 1.0, 3.0]), torch.tensor([[1.0], [-2.0], [0.0]]))
    field = PortHamiltonian(lambda y: y[..., 1].square() / 2, input=Input(u)).double()
    t = torch.tensor([0.0, 1.0, 3.0, 4.0], dtype=torch.float64)
    run = odeint(field, torch.zeros(2, 2, dtype=torch.float64), t, Solver("midpoint", step=0.25))
    torch.testing.assert_close(run[:, 0, 1], torch.tensor([0.0, 1.0, -3.0, -3.0], dtype=torch.float64))
    assert u(torch.tensor([[0.5], [9.0]])).tolist() == [[1.0], [0.0]]
    several = PiecewiseConstant(torch.tensor([0.0]), torch.tensor([[[1.0], [2.0]]]))  # one input a run
    field = PortHamiltonian(lambda y: y[..., 1].square() / 2, input=Input(several))
    assert field(torch.tensor(0.0), torch.zeros(2, 2))[:, 1].tolist() == [1.0, 2.0]
    with pytest.raises(ArgumentError, match=r"`input` must give forces of shape \[3, 1\], got \[2, 1\]"):
        field(torch.tensor(0.0), torch.zeros(3, 2))


def test_bad_inputs_are_errors_of_ours():
    t, u = torch.tensor([0.0, 1.0]), torch.zeros(2, 1)
    with pytest.raises(ArgumentError, match=r"Pass u\[:, None\]"):
        PiecewiseConstant(t, u[:, 0])
    with pytest.raises(ArgumentError, match="one value from each time on"):
        PiecewiseConstant(t, torch.zeros(3, 1))
    with pytest.raises(ArgumentError, match="missing times"):
        PiecewiseConstant(torch.tensor([0.0, float("nan")]), u)
    with pytest.raises(ArgumentError, match="strictly increasing"):
        PiecewiseConstant(t.flip(0), u)
    with pytest.raises(ArgumentError, match=r"-0.5 lies before the first time 0"):
        PiecewiseConstant(t, u)(torch.tensor([-0.5]))
    with pytest.raises(ArgumentTypeError, match="`u` must be a tensor or a function"):
        Input(3.0)
    with pytest.raises(ArgumentError, match=r"Pass u\[None\]"):
        Input(torch.tensor(1.0))(ZERO, u, u)
    with pytest.raises(ArgumentError, match=r"`u` has 2 components for 1 positions"):
        PortHamiltonian(MassSpring(), input=Input(torch.ones(2)))(ZERO, normal(3, 2))
    with pytest.raises(ArgumentError, match=r"`matrix` must have shape \[..., 1, 2\] for 1 positions and 2 inputs"):
        PortHamiltonian(MassSpring(), input=Input(torch.ones(2), torch.ones(1, 1)))(ZERO, normal(3, 2))
    with pytest.raises(ArgumentTypeError, match=r"Pass Input\(u\)"):
        PortHamiltonian(MassSpring(), input=torch.ones(1))


def test_bad_dissipations_and_structures_are_errors():
    for wrong in (-0.1, torch.tensor(-0.1), torch.diag(torch.tensor([1.0, -1.0]))):
        with pytest.raises(ArgumentError, match="add energy"):
            PortHamiltonian(MassSpring(), dissipation=wrong)
    with pytest.raises(ArgumentError, match="must be symmetric"):
        PortHamiltonian(MassSpring(), dissipation=canonical_structure(1))
    with pytest.raises(ArgumentTypeError, match="a number, a matrix or a function"):
        PortHamiltonian(MassSpring(), dissipation="much")
    with pytest.raises(ArgumentError, match=r"`dissipation` must have shape \[..., 1, 1\], got \[2, 2\]"):
        PortHamiltonian(MassSpring(), dissipation=torch.eye(2))(ZERO, normal(3, 2))
    with pytest.raises(ArgumentError, match="`structure` must be antisymmetric"):
        GradientHamiltonian(MassSpring(), torch.eye(2))
    with pytest.raises(ArgumentError, match="without both nothing moves"):
        GradientHamiltonian(MassSpring())
    with pytest.raises(ArgumentError, match="`net` must have 3 outputs for a matrix of size 2, got 2"):
        PositiveMatrix(2, mlp(2, 2))(torch.zeros(2))
    with pytest.raises(ArgumentError, match="`floor` must not be negative"):
        PositiveMatrix(2, floor=-1.0)


@pytest.mark.parametrize(
    "field",
    [
        PortHamiltonian(
            MechanicalHamiltonian(PositiveMatrix(1, mlp(1, 1, (6,)), floor=0.1), mlp(1, 1, (6,))),
            dissipation=PositiveMatrix(1),
            input=Input(lambda t: t.cos(), PositiveMatrix(1, mlp(1, 1, (6,)))),
        ),
        DissipativeHamiltonian(mlp(2, 1, (6,)), mlp(2, 1, (6,), seed=2)),
        GradientHamiltonian(mlp(2, 1, (6,)), AntisymmetricMatrix(2), PositiveMatrix(2, mlp(2, 3, (5,)))),
    ],
    ids=lambda field: type(field).__name__,
)
def test_contract(field):
    check_vector_field(field, normal(2, 2), duration=0.3)
