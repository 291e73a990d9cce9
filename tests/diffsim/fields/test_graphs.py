"""Graph networks: symmetries, other numbers of particles, learning springs, steps of one length, errors, contract."""

import pytest
import torch
from torch import nn

from diffsim.contracts import check_vector_field
from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError
from diffsim.fields.discrete import roll_out
from diffsim.fields.graphs import Graph, GraphDelta, GraphEnergy, GraphField, GraphNetwork, RingLagrangian
from diffsim.fields.hamiltonian import HamiltonianField, SeparableHamiltonian
from diffsim.fields.lagrangian import LagrangianField
from diffsim.fields.neural import mlp
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver
from diffsim.systems.springs import ParticleSprings
from diffsim.training.fit import fit
from diffsim.training.losses import RolloutLoss
from diffsim.training.settings import Training

ZERO = torch.tensor(0.0, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(n_features, n_out, hidden=(16,)):
    return GraphNetwork(n_features, n_out, hidden=hidden, n_messages=8).double()


def halves(y, n):
    return [half.unflatten(-1, (n, 2)) for half in y.chunk(2, -1)]


def joined(q, p):
    return torch.cat([q.flatten(-2), p.flatten(-2)], dim=-1)


@pytest.mark.parametrize("kind", ["energy", "field"])
def test_particles_may_be_renumbered_and_moved_together(kind):
    attributes = torch.rand(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    order = torch.tensor([2, 0, 3, 1])
    graph, renumbered = Graph(4, attributes=attributes), Graph(4, attributes=attributes[order])
    q, p = halves(normal(3, 16), 4)
    if kind == "energy":
        energy = GraphEnergy(network(4, 1), graph)
        model, other = HamiltonianField(energy), HamiltonianField(energy.on(renumbered))
    else:
        model = GraphField(network(4, 4), graph)
        other = model.on(renumbered)
    rates = halves(model(ZERO, joined(q, p)), 4)
    again = other(ZERO, joined(q[:, order], p[:, order]))
    torch.testing.assert_close(again, joined(rates[0][:, order], rates[1][:, order]))
    torch.testing.assert_close(model(ZERO, joined(q + 7.0, p)), joined(*rates))


def test_a_pairwise_energy_pushes_both_ends_alike():
    model = HamiltonianField(GraphEnergy(network(2, 1), Graph(3)))
    forces = halves(model(ZERO, normal(4, 12)), 3)[1]
    assert forces.sum(-2).abs().amax() < 1e-12  # displacements only: total momentum stays


def test_one_round_of_messages_adds_up_over_more_particles():
    net = network(2, 4)
    last = nn.Linear(8 + 2, 4, bias=False, dtype=torch.float64)
    net.node = last  # a linear end: outputs are sums over the senders
    two, many = GraphField(net, Graph(2)), GraphField(net, Graph(4))
    q, p = halves(normal(1, 16), 4)
    rates = torch.cat(halves(many(ZERO, joined(q, p)), 4), -1)[0, 0]
    own = last(torch.cat([p[0, 0], torch.zeros(8, dtype=torch.float64)]))
    pairs = [torch.cat(halves(two(ZERO, joined(q[:, [0, j]], p[:, [0, j]])), 2), -1)[0, 0] - own for j in (1, 2, 3)]
    torch.testing.assert_close(rates, own + sum(pairs))


def test_a_potential_learned_on_three_springs_serves_five():
    torch_seed = 3
    y0 = 0.5 * normal(40, 12, seed=torch_seed)
    truth = ParticleSprings([1.0] * 3, [1.0] * 3)
    data = Trajectory(torch.zeros(1, dtype=torch.float64), y0[None], truth(ZERO, y0)[None])
    net = GraphNetwork(0, 1, hidden=(24,), n_messages=8).double()
    net.node = nn.Linear(8, 1, bias=False, dtype=torch.float64)
    field = SeparableHamiltonian(_Kinetic(), GraphEnergy(net, Graph(3), momenta=False))
    fit(field, data, training=Training("lbfgs", steps=400))
    five = SeparableHamiltonian(_Kinetic(), field.potential_net.on(Graph(5)))
    y, known = 0.3 * normal(20, 20), ParticleSprings([1.0] * 5, [1.0] * 5)
    error = (five(ZERO, y) - known(ZERO, y)).detach().square().mean().sqrt()
    assert error < 0.05 * known(ZERO, y).square().mean().sqrt()
    run = odeint(five, y, torch.linspace(0, 1, 11, dtype=torch.float64), Solver("yoshida4", step=0.05))
    torch.testing.assert_close(five.energy(run[-1]), five.energy(run[0]), rtol=1e-3, atol=1e-3)


class _Kinetic(nn.Module):
    def forward(self, p):
        return p.square().sum(-1, keepdim=True) / 2


def test_a_delta_network_learns_its_step_and_refuses_others():
    truth = ParticleSprings([1.0] * 2, [1.0] * 2)
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    runs = Trajectory(t, odeint(truth, 0.5 * normal(10, 8), t))
    field = GraphDelta(network(2, 4), Graph(2), h=0.1)
    report = fit(field, runs, RolloutLoss(window=2, discrete=True), Training("lbfgs", steps=150))
    assert report.best_loss < 1e-3 * report.losses[0]
    assert (roll_out(field, runs.y0, t) - runs.y).abs().amax() < 0.2
    with pytest.raises(ArgumentError, match=r"steps of 0.1 only, got 0.2"):
        field.step(ZERO, runs.y0, torch.tensor(0.2))


def test_the_lagrangian_of_a_ring_makes_waves():
    class Density(nn.Module):
        def forward(self, x):
            before, here, _, _, v, _ = x.unbind(-1)
            return ((v.square() - (here - before).square()) / 2)[..., None]

    field, y = LagrangianField(RingLagrangian(Density())), normal(3, 16)
    q = y[:, :8]
    torch.testing.assert_close(field(ZERO, y)[:, 8:], q.roll(1, -1) - 2 * q + q.roll(-1, -1))
    torch.testing.assert_close(
        field(ZERO, y.unflatten(-1, (2, 8)).roll(3, -1).flatten(-2))[:, 8:].roll(-3, -1), field(ZERO, y)[:, 8:]
    )


def test_bad_graphs():
    with pytest.raises(ArgumentError, match="numbers from 0 to 1"):
        Graph(2, [(0, 2)])
    with pytest.raises(ArgumentError, match=r"Pass masses\[..., None\]"):
        Graph(2, attributes=torch.ones(2))
    with pytest.raises(ArgumentError, match="coordinates of 3 particles"):
        GraphField(network(2, 4), Graph(3))(ZERO, normal(8))
    with pytest.raises(ArgumentError, match="must have 4 outputs a particle, got 3"):
        GraphField(network(2, 3), Graph(2))(ZERO, normal(8))
    with pytest.raises(ArgumentError, match="`h` must not be 0"):
        GraphDelta(network(2, 4), Graph(2), 0.0)


@pytest.mark.parametrize(
    "field",
    [
        HamiltonianField(GraphEnergy(network(3, 1, (6,)), Graph(2, attributes=torch.ones(2, 1)))),
        GraphField(network(2, 4, (6,)), Graph(2)),
        LagrangianField(RingLagrangian(mlp(6, 1, (8,), nn.Softplus)), regularisation=0.5),
    ],
    ids=["hogn", "ogn", "ring"],
)
def test_contract(field):
    check_vector_field(field, 0.5 * normal(2, 8), duration=0.2)
