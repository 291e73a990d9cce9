"""The native library against the plain path: states, gradients and second derivatives, for what users give it."""

import copy
import math
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from diffsim.errors import ArgumentError, IntegrationError
from diffsim.fields.hamiltonian import HamiltonianField, SeparableHamiltonian
from diffsim.fields.neural import NeuralField, mlp
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver
from diffsim.native.choose import backend_of

ACTIVATIONS = [nn.Tanh, nn.Sigmoid, nn.Softplus, nn.SiLU, nn.ReLU]
FIXED = ["euler", "midpoint", "heun2", "heun3", "rk4"]
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-4}


def make(kind, d, hidden, activation, dtype, seed=0):
    if kind == "neural":
        return NeuralField(mlp(d, d, hidden, activation, dtype=dtype, seed=seed))
    if kind == "time":
        return NeuralField(mlp(d + 1, d, hidden, activation, dtype=dtype, seed=seed), time=True)
    if kind == "hamiltonian":
        return HamiltonianField(mlp(d, 1, hidden, activation, dtype=dtype, seed=seed))
    k = d // 2
    kinetic, potential = (mlp(k, 1, hidden, activation, dtype=dtype, seed=seed + i) for i in (1, 2))
    return SeparableHamiltonian(kinetic, potential)


def results(field, y0, t, solver, seed=0):
    """States, and gradients of a random projection in the initial state and in every parameter."""
    start = y0.detach().clone().requires_grad_(True)
    states = odeint(field, start, t, solver)
    weight = torch.randn(states.shape, dtype=states.dtype, generator=torch.Generator().manual_seed(seed))
    inputs = [start, *field.parameters()]
    gradients = torch.autograd.grad((weight * states).sum(), inputs, allow_unused=True, materialize_grads=True)
    return states.detach(), gradients


def assert_equal(field, y0, t, native, plain, tolerance):
    assert backend_of(field, y0, native) == "native"
    (states, gradients), (expected, exact) = results(field, y0, t, native), results(field, y0, t, plain)
    assert states.dtype == expected.dtype
    torch.testing.assert_close(states, expected, rtol=tolerance, atol=tolerance)
    for mine, theirs in zip(gradients, exact, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance * (1 + float(theirs.abs().max())))
    with torch.no_grad():
        torch.testing.assert_close(odeint(field, y0, t, native), states, rtol=tolerance, atol=tolerance)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_fixed_steps_equal_the_plain_path(data):
    kind = data.draw(st.sampled_from(["neural", "time", "hamiltonian", "separable"]))
    methods = FIXED + ["implicit_midpoint"] + (["leapfrog", "yoshida4"] if kind == "separable" else [])
    d = data.draw(st.sampled_from([2, 4, 18]))
    hidden = data.draw(st.lists(st.integers(1, 70), min_size=0, max_size=3))
    shape = data.draw(st.sampled_from([(), (1,), (5,), (2, 3), (31,), (49,)]))
    dtype = data.draw(st.sampled_from([torch.float64, torch.float32]))
    seed = data.draw(st.integers(0, 1000))
    field = make(kind, d, hidden, data.draw(st.sampled_from(ACTIVATIONS)), dtype, seed)
    y0 = torch.randn(*shape, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)
    t = torch.tensor([0.0, 0.1, 0.23, 0.5], dtype=dtype) * data.draw(st.sampled_from([1.0, -1.0])) + 0.7
    method = data.draw(st.sampled_from(methods))
    kept = data.draw(st.sampled_from(["adjoint", "backprop", "checkpoint"]))  # evaluations, or states at the steps
    native = Solver(method, step=0.1, gradient=kept, backend="native")
    plain = Solver(method, step=0.1, gradient="backprop", backend="plain")
    assert_equal(field, y0, t, native, plain, TOLERANCE[dtype])


def test_an_implicit_midpoint_that_iteration_does_not_find():
    """A stiff linear field: the plain path's Newton iteration finds it, and so the solve succeeds."""
    net = nn.Sequential(nn.Linear(2, 2, bias=False)).double()
    net[0].weight.data = torch.tensor([[-400.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    field, y0 = NeuralField(net), torch.tensor([[1.0, 1.0]], dtype=torch.float64)
    t = torch.tensor([0.0, 0.5], dtype=torch.float64)
    native, plain = (Solver("implicit_midpoint", step=0.05, backend=backend) for backend in ("native", "plain"))
    assert_equal(field, y0, t, native, plain, 1e-10)


def test_what_is_kept_for_the_gradient_has_a_limit():
    """Evaluations of many steps are computed again, and so are those of a solve that asks for it."""
    field = make("neural", 2, [128, 128], nn.Tanh, torch.float32)
    y0, t = torch.randn(64, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0.0, 1.0])

    def kept(n_steps, gradient):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.nbytes) or x, lambda x: x):
            odeint(field, y0, t, Solver("rk4", step=1 / n_steps, gradient=gradient, backend="native"))
        return max(sizes)

    states, evaluations = 501 * 64 * 2 * 4, 500 * 4 * 64 * 256 * 4
    assert kept(500, "checkpoint") == kept(500, "adjoint") == states
    assert evaluations <= kept(500, "backprop") <= 1.1 * evaluations
    assert kept(400, "adjoint") > 100 * states


@pytest.mark.parametrize("kind", ["neural", "time", "hamiltonian", "separable"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize(("method", "n"), [("dopri5", 1), ("dopri5", 60), ("tsit5", 60), ("bosh3", 5)])
def test_adaptive_steps_keep_the_tolerance(kind, sign, method, n):
    field = make(kind, 4, [30, 20], nn.Tanh, torch.float64)
    y0 = torch.randn(n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    t = sign * torch.tensor([0.0, 0.3, 0.31, 2.0, 5.0], dtype=torch.float64)
    native = Solver(method, rtol=1e-10, atol=1e-10, backend="native")
    plain = Solver("dopri8", rtol=1e-12, atol=1e-12, gradient="backprop", backend="plain")
    assert_equal(field, y0, t, native, plain, 1e-7)


def test_the_adaptive_gradient_is_that_of_the_computed_solution():
    """Against finite differences."""
    field = make("neural", 2, [20], nn.Tanh, torch.float64)
    y0 = torch.tensor([[1.0, -0.5], [0.2, 2.0]], dtype=torch.float64)
    t = torch.linspace(0, 4, 9, dtype=torch.float64)
    solver = Solver("dopri5", rtol=1e-9, atol=1e-9, backend="native")
    _, (gradient, *_) = results(field, y0, t, solver)
    weight = torch.randn(9, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    step = 1e-5 * torch.tensor([[1.0, 0.3], [-0.4, 0.8]], dtype=torch.float64)
    with torch.no_grad():
        ahead, behind = ((weight * odeint(field, y0 + s, t, solver)).sum() for s in (step, -step))
    assert float((gradient * step).sum()) == pytest.approx(float(ahead - behind) / 2, rel=1e-5)


def test_a_trajectory_does_not_depend_on_its_batch():
    """A stiff companion costs no steps: every trajectory has steps of its own."""
    net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2)).double()
    field = NeuralField(net)
    y0 = torch.randn(40, 2, dtype=torch.float64) * torch.logspace(-2, 2, 40, dtype=torch.float64)[:, None]
    t = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)
    solver = Solver("dopri5", rtol=1e-5, atol=1e-7, backend="native")
    with torch.no_grad():
        together, alone = odeint(field, y0, t, solver), [odeint(field, y, t, solver) for y in y0]
    torch.testing.assert_close(together, torch.stack(alone, 1), rtol=1e-12, atol=1e-12)


def test_the_order_of_convergence():
    """Of a linear field with a known solution."""
    rotation = nn.Sequential(nn.Linear(2, 2, bias=False)).double()
    rotation[0].weight.data = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    field, y0 = NeuralField(rotation), torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    t = torch.tensor([0.0, 2.0], dtype=torch.float64)
    exact = torch.tensor([math.cos(2.0), -math.sin(2.0)], dtype=torch.float64)
    for method, order in (("euler", 1), ("midpoint", 2), ("heun2", 2), ("heun3", 3), ("rk4", 4)):
        errors = [
            float((odeint(field, y0, t, Solver(method, step=h, backend="native"))[-1] - exact).detach().norm())
            for h in (0.02, 0.01)
        ]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


def test_second_derivatives_come_from_the_plain_path():
    field = make("hamiltonian", 2, [12], nn.Tanh, torch.float64)
    y0, t = torch.tensor([[0.3, -0.4]], dtype=torch.float64), torch.linspace(0, 1, 3, dtype=torch.float64)

    def curvature(backend, gradient):
        start = y0.clone().requires_grad_(True)
        solver = Solver("rk4", step=0.1, gradient=gradient, backend=backend)
        end = odeint(field, start, t, solver).square().sum()
        (slope,) = torch.autograd.grad(end, start, create_graph=True)
        return torch.autograd.grad(slope.sum(), [start, *field.parameters()], allow_unused=True)

    for mine, theirs in zip(curvature("native", "backprop"), curvature("plain", "backprop"), strict=True):
        torch.testing.assert_close(mine, theirs)
    with pytest.raises(IntegrationError, match="backprop"):
        curvature("native", "adjoint")


def test_gradients_in_the_times():
    field = make("neural", 2, [12], nn.Tanh, torch.float64)
    y0 = torch.randn(3, 2, dtype=torch.float64)

    def end(times):
        return odeint(field, y0, times, Solver("rk4", step=0.01, backend="native"))

    times = torch.tensor([0.0, 0.4, 1.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(end, times, eps=1e-5, atol=1e-6)


def test_changed_weights_are_seen_at_once():
    field = make("neural", 2, [12], nn.Tanh, torch.float64)
    y0, t = torch.ones(1, 2, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    solver = Solver("rk4", step=0.1, backend="native")
    before = odeint(field, y0, t, solver)
    with torch.no_grad():
        for p in field.parameters():
            p.mul_(1.5)
    after = odeint(field, y0, t, solver)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, odeint(field, y0, t, Solver("rk4", step=0.1, backend="plain")))
    loss = odeint(field, y0, t, solver).sum()
    with torch.no_grad():
        next(field.parameters()).add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_strided_states_frozen_weights_and_tied_layers():
    field = make("neural", 3, [8, 8], nn.Tanh, torch.float64)
    field.net[2].weight = field.net[2].weight.requires_grad_(False)
    tied = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    tied[2] = tied[0]
    t = torch.tensor([0.0, 0.5], dtype=torch.float64)
    y0 = torch.randn(3, 5, dtype=torch.float64).T
    plain = Solver("rk4", step=0.1, gradient="backprop", backend="plain")
    for subject in (field, NeuralField(tied)):
        wanted = [p for p in subject.parameters() if p.requires_grad]
        both = [
            torch.autograd.grad(odeint(subject, y0, t, solver).square().sum(), wanted)
            for solver in (Solver("rk4", step=0.1, backend="native"), plain)
        ]
        for mine, theirs in zip(*both, strict=True):
            torch.testing.assert_close(mine, theirs)


def test_diverged_trajectories_are_nan_and_carry_no_gradient():
    net = nn.Sequential(nn.Linear(1, 1, bias=False)).double()
    net[0].weight.data.fill_(1.0)
    field = NeuralField(net)
    y0 = torch.tensor([[1.0], [1e300], [2.0]], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([0.0, 10.0, 40.0], dtype=torch.float64)
    with pytest.raises(IntegrationError, match="not finite"):
        odeint(field, y0, t, Solver("rk4", step=0.5, backend="native"))
    states = odeint(field, y0, t, Solver("rk4", step=0.5, on_divergence="nan", backend="native"))
    assert torch.isnan(states[2, 1]).all() and torch.isfinite(states[1:, [0, 2]]).all()
    (gradient,) = torch.autograd.grad(states[2, [0, 2]].sum(), y0)
    assert gradient[1] == 0 and (gradient[[0, 2]] > 0).all()


def test_too_many_steps_are_told():
    field = make("neural", 2, [8], nn.Tanh, torch.float64)
    y0, t = torch.ones(4, 2, dtype=torch.float64), torch.tensor([0.0, 1000.0], dtype=torch.float64)
    with pytest.raises(IntegrationError, match="max_steps=5"):
        odeint(field, y0, t, Solver("dopri5", max_steps=5, backend="native"))
    states = odeint(field, y0, t, Solver("dopri5", max_steps=5, on_divergence="nan", backend="native"))
    assert torch.isnan(states[1]).all() and torch.equal(states[0], y0)


def test_what_it_does_not_know_is_left_to_the_plain_path():
    y0, t = torch.ones(2, 2), torch.tensor([0.0, 1.0])
    odd = NeuralField(nn.Sequential(nn.Linear(2, 4), nn.GELU(), nn.Linear(4, 2)))
    assert "GELU" in backend_of(odd, y0, Solver("rk4", step=0.1))
    assert odeint(odd, y0, t, Solver("rk4", step=0.1)).shape == (2, 2, 2)
    with pytest.raises(ArgumentError, match="backend"):
        odeint(odd, y0, t, Solver("rk4", step=0.1, backend="native"))
    known = make("neural", 2, [4], nn.Tanh, torch.float32)
    assert "dtype" in backend_of(known, y0.double())
    assert "dopri8" in backend_of(known, y0, Solver("dopri8"))
    hooked = copy.deepcopy(known)
    hooked.net[0].register_forward_hook(lambda *_: None)
    assert "hooks" in backend_of(hooked, y0)

    class Doubled(NeuralField):
        def forward(self, t, y):
            return 2 * super().forward(t, y)

    assert "Doubled" in backend_of(Doubled(known.net), y0)
    assert backend_of(known, y0, Solver(backend="plain")).startswith("plain")


def test_many_threads_at_once():
    field = make("hamiltonian", 2, [32], nn.Tanh, torch.float64)
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    solver = Solver("rk4", step=0.01, backend="native")
    starts = [torch.randn(20, 2, dtype=torch.float64) for _ in range(8)]
    expected = [results(field, y0, t, solver) for y0 in starts]
    found = {}

    def solve(i):
        found[i] = results(field, starts[i], t, solver)

    threads = [threading.Thread(target=solve, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (states, gradients), (same, exact) in zip([found[i] for i in range(8)], expected, strict=True):
        torch.testing.assert_close(states, same, rtol=0, atol=0)
        for mine, theirs in zip(gradients, exact, strict=True):
            torch.testing.assert_close(mine, theirs)
