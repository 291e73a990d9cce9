"""Memory of the native library: kept for the next solve, and never shared by two."""

import torch

from diffsim import NeuralField, Solver, mlp, odeint
from diffsim.native.memory import room

N = 300_000


def test_room_is_aligned_for_vectors():
    assert [room(n, dtype).data_ptr() % 64 for n in (1, 7, N) for dtype in (torch.float32, torch.float64)] == [0] * 6


def test_room_is_used_again_only_when_it_is_free():
    first = room(N, torch.float32)
    address = first.data_ptr()
    second = room(N, torch.float32)
    assert second.data_ptr() != address
    part = first[10:]
    del first
    assert room(N, torch.float32).data_ptr() != address, "a view still holds it"
    del part, second
    held = [room(N, torch.float32) for _ in range(3)]
    assert address in {x.data_ptr() for x in held}
    assert len({x.data_ptr() for x in held}) == 3


def test_room_of_another_size_makes_way():
    small = room(1000, torch.float64)
    del small
    large = room(N, torch.float64)
    assert large.shape == (N,)
    large.fill_(1.0)
    assert large.sum() == N


def test_a_graph_keeps_its_record_while_other_solves_go_on():
    field = NeuralField(mlp(2, 2, (16, 16), seed=0))
    solver = Solver("rk4", step=0.1, gradient="backprop")
    t = torch.linspace(0, 2, 21)
    y0 = torch.tensor([[1.0, -0.5], [0.3, 0.2]], requires_grad=True)
    (right,) = torch.autograd.grad(odeint(field, y0, t, solver).square().sum(), y0)
    states = odeint(field, y0, t, solver)
    for shift in (0.5, 1.0):
        torch.autograd.grad(odeint(field, y0 + shift, t, solver).sum(), y0)
    (late,) = torch.autograd.grad(states.square().sum(), y0)
    assert torch.equal(late, right)
