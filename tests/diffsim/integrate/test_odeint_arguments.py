"""odeint and simulate: every bad argument is named before anything is solved."""

import math

import pytest
import torch

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields import FunctionField, GaussianProcessHamiltonian, HamiltonianField, NeuralField, mlp
from diffsim.integrate import Solver, odeint, simulate

DECAY = FunctionField(lambda t, y: -y)
Y0 = torch.ones(3, 2)
T = torch.tensor([0.0, 0.5, 1.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y0": torch.tensor(1.0)}, r"`y0` must have shape \[..., d\] and not be empty, got \[\]"),
        ({"y0": torch.empty(0, 2)}, r"not be empty, got \[0, 2\]"),
        ({"y0": torch.tensor([1.0, math.nan])}, "`y0` must be finite, got 1 values"),
        ({"y0": torch.tensor([1.0, math.inf])}, "`y0` must be finite, got 1 values"),
        ({"t": torch.tensor(1.0)}, r"`t` must have shape \[T\] with T >= 1, got \[\]"),
        ({"t": torch.empty(0)}, r"T >= 1, got \[0\]"),
        ({"t": torch.zeros(2, 2)}, r"T >= 1, got \[2, 2\]"),
        ({"t": torch.tensor([0.0, math.nan])}, "`t` must be finite"),
        ({"t": torch.tensor([0.0, 2.0, 1.0])}, "strictly increasing or strictly decreasing"),
        ({"t": torch.tensor([0.0, 1.0, 1.0])}, "unsorted or repeated times"),
        ({"t": torch.tensor([1.0, 1.0])}, "unsorted or repeated times"),
        ({"field": FunctionField(lambda t, y: y.sum(-1))}, r"`field` must return y's shape \[3, 2\], got \[3\]"),
        ({"field": FunctionField(lambda t, y: y[..., :1])}, r"must return y's shape \[3, 2\], got \[3, 1\]"),
        ({"field": FunctionField(lambda t, y: y.log() / 0)}, "`field` must be finite at `y0`"),
        ({"field": HamiltonianField(mlp(3, 1)), "y0": torch.ones(2, 3)}, "even state dimension"),
    ],
)
def test_refuses_wrong_values(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        odeint(**({"field": DECAY, "y0": Y0, "t": T} | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"field": lambda t, y: -y}, r"`field` must be a VectorField, got function. Wrap .* FunctionField\(f\)"),
        ({"field": torch.nn.Linear(2, 2)}, "`field` must be a VectorField, got Linear"),
        ({"y0": [1.0, 2.0]}, "`y0` must be a tensor, got list"),
        ({"t": 1.0}, "`t` must be a tensor, got float"),
        ({"y0": torch.ones(2, dtype=torch.int64)}, "`y0` must be float32 or float64, got torch.int64"),
        ({"y0": torch.ones(2, dtype=torch.complex64)}, "got torch.complex64"),
        ({"y0": torch.ones(2, dtype=torch.float16)}, "got torch.float16"),
        ({"t": torch.arange(3)}, r"`t` must be float32 or float64, got torch.int64. Pass t.double\(\)"),
        ({"solver": "rk4"}, "`solver` must be a Solver, got str"),
        ({"field": FunctionField(lambda t, y: y.numpy())}, "`field` must return a tensor, got ndarray"),
        ({"field": FunctionField(lambda t, y: y.double())}, "`field` must return y's dtype torch.float32, got"),
    ],
)
def test_refuses_wrong_types(arguments, message):
    with torch.no_grad(), pytest.raises(ArgumentTypeError, match=message):
        odeint(**({"field": DECAY, "y0": Y0, "t": T} | arguments))


def test_constants_of_another_dtype_are_named():
    wide = FunctionField(lambda t, y, k: k * y, k=torch.ones(2, dtype=torch.float64))
    with pytest.raises(ArgumentTypeError, match=r"got torch.float64. Convert one: field.to\(y0.dtype\)"):
        odeint(wide, Y0, T)


@pytest.mark.parametrize("field", [NeuralField(mlp(2, 2)), HamiltonianField(mlp(2, 1)), GaussianProcessHamiltonian(2)])
def test_weights_of_another_dtype_are_named(field):
    y0 = Y0 if isinstance(field, GaussianProcessHamiltonian) else Y0.double()
    with pytest.raises(ArgumentError, match=r"could not be evaluated at `y0` of shape \[3, 2\] .*field.to\(y0.dtype\)"):
        simulate(field, y0, T.to(y0))
    with pytest.raises(ArgumentError, match=r"could not be evaluated at `y0` of shape \[3, 5\]"):
        simulate(NeuralField(mlp(2, 2)), torch.ones(3, 5), T)


@pytest.mark.parametrize("transform", [torch.func.vmap, torch.func.jacrev, torch.func.jacfwd])
def test_transformations_of_torch_func_are_refused(transform):
    with pytest.raises(ArgumentTypeError, match=r"`y0` must be a plain tensor.*torch.autograd"):
        transform(lambda y0: odeint(DECAY, y0, T, Solver("rk4", step=0.1)))(Y0)


def test_simulate_returns_a_trajectory():
    runs = simulate(DECAY, Y0, T)
    assert isinstance(runs, Trajectory)
    assert runs.y.shape == (3, 3, 2) and torch.equal(runs.y0, Y0) and torch.equal(runs.t, T)
    assert not runs.y.requires_grad
    assert simulate(DECAY, Y0.clone().requires_grad_(), T).y.requires_grad
    back = simulate(DECAY, runs.y[-1], T.flip(0), Solver("rk4", step=0.05))
    assert torch.allclose(back.y[-1], Y0, atol=1e-5)


def test_simulate_refuses_other_shapes():
    with pytest.raises(
        ArgumentError, match=r"`y0` must have shape \[n, d\], got \[2\]. Pass y0\[None\] for one state."
    ):
        simulate(DECAY, torch.ones(2), T)
    with pytest.raises(ArgumentError, match=r"`y0` must have shape \[n, d\], got \[1, 2, 2\]"):
        simulate(DECAY, torch.ones(1, 2, 2), T)
