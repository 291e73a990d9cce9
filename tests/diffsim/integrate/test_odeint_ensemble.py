"""Ensembles solved together against their members solved one by one."""

import pytest
import torch

from diffsim.errors import ArgumentError, IntegrationError
from diffsim.fields.hamiltonian import HamiltonianField, SeparableHamiltonian
from diffsim.fields.neural import NeuralField, mlp
from diffsim.integrate.ensemble import odeint_ensemble
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver
from diffsim.systems import Pendulum

SOLVERS = {
    "rk4": Solver("rk4", step=0.05, gradient="backprop"),
    "rk4 between nodes": Solver("rk4", step=0.043),
    "leapfrog": Solver("leapfrog", step=0.05),
    "dopri5": Solver("dopri5", rtol=1e-8, atol=1e-8),
    "plain": Solver("rk4", step=0.05, gradient="backprop", backend="plain"),
}


def members(kind, n=3):
    dtype = torch.float64
    make = {
        "neural": lambda seed: NeuralField(mlp(2, 2, (20,), seed=seed, dtype=dtype)),
        "hamiltonian": lambda seed: HamiltonianField(mlp(2, 1, (20,), seed=seed, dtype=dtype)),
        "separable": lambda seed: SeparableHamiltonian(
            mlp(1, 1, (8,), seed=seed, dtype=dtype), mlp(1, 1, (9,), seed=seed + 50, dtype=dtype)
        ),
        "systems": lambda seed: Pendulum(length=1.0 + 0.1 * seed).double(),
    }[kind]
    return [make(seed).requires_grad_(False) for seed in range(n)]


def initial(*shape):
    return torch.randn(*shape, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind in ("neural", "hamiltonian", "separable", "systems")
        for name in SOLVERS
        if name != "leapfrog" or kind in ("separable", "systems")
    ],
)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_members_run_as_if_alone(kind, name, shape):
    fields, solver, t = members(kind), SOLVERS[name], torch.linspace(0, 1, 5, dtype=torch.float64)
    y0 = initial(*shape).requires_grad_(True)
    together = odeint_ensemble(fields, y0, t, solver)
    alone = torch.stack([odeint(field, y0, t, solver) for field in fields])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    weight = torch.randn(together.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mine, theirs = (torch.autograd.grad((weight * x).sum(), y0)[0] for x in (together, alone))
    torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)


def test_second_derivatives():
    fields, t = members("hamiltonian"), torch.tensor([0.0, 0.5], dtype=torch.float64)
    y0 = initial(2).requires_grad_(True)

    def curvature(solve):
        (slope,) = torch.autograd.grad(solve(SOLVERS["rk4"])[..., 0].square().sum(), y0, create_graph=True)
        return torch.autograd.grad(slope.sum(), y0)[0]

    together = curvature(lambda solver: odeint_ensemble(fields, y0, t, solver))
    alone = curvature(lambda solver: torch.stack([odeint(field, y0, t, solver) for field in fields]))
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)
    (slope,) = torch.autograd.grad(odeint_ensemble(fields, y0, t, Solver("rk4", step=0.1)).sum(), y0, retain_graph=True)
    assert slope.isfinite().all()
    with pytest.raises(IntegrationError, match="gradient='backprop'"):
        torch.autograd.grad(
            odeint_ensemble(fields, y0, t, Solver("rk4", step=0.1)).square().sum(), y0, create_graph=True
        )


def test_members_that_are_trained_keep_their_gradients():
    fields, t = members("neural"), torch.tensor([0.0, 0.5], dtype=torch.float64)
    for field in fields:
        field.requires_grad_(True)
    odeint_ensemble(fields, initial(4), t, SOLVERS["rk4"]).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for f in fields for p in f.parameters())


def test_a_member_that_diverges():
    """The others go on; its own rows are NaN or an error, as the solver asks."""
    fields = members("neural", 2)
    wild = mlp(2, 2, (), dtype=torch.float64)
    wild[0].weight.data = 2000 * torch.eye(2, dtype=torch.float64)
    fields.append(NeuralField(wild).requires_grad_(False))
    t, y0 = torch.linspace(0, 10, 6, dtype=torch.float64), initial(4)
    run = odeint_ensemble(fields, y0, t, Solver("rk4", step=0.1, on_divergence="nan"))
    assert run[:2].isfinite().all()
    assert run[2, -1].isnan().all()
    with pytest.raises(IntegrationError, match="stopped at or before"):
        odeint_ensemble(fields, y0, t, Solver("rk4", step=0.1))


def test_no_member_is_an_error():
    with pytest.raises(ArgumentError, match="`fields` must hold at least one member"):
        odeint_ensemble([], initial(1), torch.tensor([0.0, 1.0]))
