"""Graph networks of interacting particles: energies, fields and steps that serve any number of particles."""

from collections.abc import Callable, Sequence
from itertools import permutations

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError
from diffsim.fields.base import VectorField
from diffsim.fields.discrete import DiscreteField
from diffsim.fields.hamiltonian import split_state
from diffsim.fields.neural import mlp

__all__ = ["Graph", "GraphDelta", "GraphEnergy", "GraphField", "GraphNetwork", "RingLagrangian"]


class Graph(nn.Module):
    """Particles, who feels whom, and what is known of each particle, such as its mass.

    Args:
        n: Number N of particles.
        edges: Pairs (sender, receiver); None for all ordered pairs.
        attributes: Known constants of the particles, shape [N, a], or [n, N, a] for one row a state; None for none.

    Raises:
        ArgumentError: An edge names a particle that does not exist, or attributes have another shape.
    """

    senders: Tensor
    receivers: Tensor
    attributes: Tensor | None

    def __init__(
        self, n: int, edges: Sequence[tuple[int, int]] | None = None, attributes: Tensor | None = None
    ) -> None:
        super().__init__()
        pairs = list(permutations(range(n), 2)) if edges is None else list(edges)
        if n < 1 or any(not (0 <= a < n and 0 <= b < n) for a, b in pairs):
            raise ArgumentError(f"`edges` must be pairs of numbers from 0 to {n - 1}, got {pairs[:8]}.")
        if attributes is not None and (attributes.ndim < 2 or attributes.shape[-2] != n):
            raise ArgumentError(
                f"`attributes` must have shape [{n}, a] or [n, {n}, a], got {list(attributes.shape)}. "
                "Pass masses[..., None] for one a particle."
            )
        ends = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
        self.n = n
        self.register_buffer("senders", ends[:, 0])
        self.register_buffer("receivers", ends[:, 1])
        self.register_buffer("attributes", attributes)

    def particles(self, x: Tensor) -> Tensor:
        """Half a state, particle after particle, as [..., N dim] -> [..., N, dim].

        Raises:
            ArgumentError: It is no multiple of N.
        """
        if x.shape[-1] % self.n or x.shape[-1] == 0:
            raise ArgumentError(f"`y` must hold the coordinates of {self.n} particles, got {x.shape[-1]} a half.")
        return x.unflatten(-1, (self.n, -1))

    def constants(self, like: Tensor) -> Tensor:
        """The attributes beside features [..., N, f], shape [..., N, a]."""
        if self.attributes is None:
            return like[..., :0]
        return self.attributes.to(like).expand(*like.shape[:-1], -1)


class GraphNetwork(nn.Module):
    """Messages along edges, summed at their receivers, and a network on each particle; any graph, one set of weights.

    A message sees both ends' features and the displacement between them, so that places count only relatively.

    Args:
        n_features: Features of a particle (attributes, and momenta or velocities where they count).
        n_out: Outputs of a particle.
        dimension: Of the space.
        hidden: Widths of both networks.
        n_messages: Components of a message.
        activation: Makes the non-linearity.
        seed: Of the initial weights.

    Source: Battaglia, Pascanu, Lai, Rezende and Kavukcuoglu, 2016, arXiv 1612.00222, equation 2.
    """

    def __init__(
        self,
        n_features: int,
        n_out: int,
        dimension: int = 2,
        hidden: Sequence[int] = (64, 64),
        n_messages: int = 32,
        activation: Callable[[], nn.Module] = nn.SiLU,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.edge = mlp(2 * n_features + dimension, n_messages, hidden, activation, seed=seed)
        self.node = mlp(n_features + n_messages, n_out, hidden, activation, seed=seed + 1)

    def forward(self, graph: Graph, places: Tensor, features: Tensor) -> Tensor:
        """The outputs of the particles, [..., N, dimension], [..., N, n_features] -> [..., N, n_out]."""
        first, second = graph.senders, graph.receivers
        ends = [features.index_select(-2, i) for i in (first, second)]
        apart = places.index_select(-2, first) - places.index_select(-2, second)
        messages = self.edge(torch.cat([*ends, apart], dim=-1))
        summed = messages.new_zeros(*features.shape[:-1], messages.shape[-1]).index_add(-2, second, messages)
        return self.node(torch.cat([features, summed], dim=-1))


class GraphEnergy(nn.Module):
    """An energy that is a sum over particles, for `HamiltonianField`, `SeparableHamiltonian` or `PortHamiltonian`.

    On states (q, p) it is a Hamiltonian graph network (HOGN). On positions alone it is a potential: with a kinetic
    energy in a `SeparableHamiltonian` and a symplectic solver that is the variational-integrator network (VIGN).

    Args:
        network: With one output a particle; features are the attributes, then the momenta of states.
        graph: The particles. Another graph, of any size, may be given later: see `on`.
        momenta: Whether the energy is of states (q, p), or of positions alone.

    Source: Sanchez-Gonzalez, Bapst, Cranmer and Battaglia, 2019, arXiv 1909.12790, section 3; Desai and Roberts,
        2020, arXiv 2004.13688 (VIGN).
    """

    def __init__(self, network: GraphNetwork, graph: Graph, *, momenta: bool = True) -> None:
        super().__init__()
        self.network = network
        self.graph = graph
        self.momenta = momenta

    def on(self, graph: Graph) -> "GraphEnergy":
        """The same energy for other particles; the weights are shared."""
        return GraphEnergy(self.network, graph, momenta=self.momenta)

    def forward(self, y: Tensor) -> Tensor:
        """The energy, [..., 2 N dim] (positions alone: [..., N dim]) -> [...]."""
        if not self.momenta:
            places = self.graph.particles(y)
            return self.network(self.graph, places, self.graph.constants(places)).flatten(-2).sum(-1)
        places, moving = (self.graph.particles(x) for x in split_state(y))
        features = torch.cat([self.graph.constants(places), moving], dim=-1)
        return self.network(self.graph, places, features).flatten(-2).sum(-1)


def _rates(network: GraphNetwork, graph: Graph, y: Tensor) -> Tensor:
    places, moving = (graph.particles(x) for x in split_state(y))
    out = network(graph, places, torch.cat([graph.constants(places), moving], dim=-1))
    if out.shape[-1] != 2 * places.shape[-1]:
        raise ArgumentError(f"`network` must have {2 * places.shape[-1]} outputs a particle, got {out.shape[-1]}.")
    return torch.cat([half.flatten(-2) for half in out.chunk(2, dim=-1)], dim=-1)


class GraphField(VectorField):
    """An ODE graph network (OGN): dq/dt and dp/dt (or dv/dt) of each particle are the network's outputs.

    Args:
        network: With 2 dim outputs a particle; features are the attributes, then momenta.
        graph: The particles.

    Source: Sanchez-Gonzalez, Bapst, Cranmer and Battaglia, 2019, arXiv 1909.12790, section 3.
    """

    def __init__(self, network: GraphNetwork, graph: Graph) -> None:
        super().__init__()
        self.network = network
        self.graph = graph

    def on(self, graph: Graph) -> "GraphField":
        """The same field for other particles; the weights are shared."""
        return GraphField(self.network, graph)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return _rates(self.network, self.graph, y)


class GraphDelta(DiscreteField):
    """A graph network of the change over one step of fixed length: y' = y + network(y); the plainest model.

    Args:
        network: With 2 dim outputs a particle; features are the attributes, then momenta.
        graph: The particles.
        h: The step that it is trained for; its `step` takes no other.

    Source: Sanchez-Gonzalez, Bapst, Cranmer and Battaglia, 2019, arXiv 1909.12790, section 3 (delta graph network).
    """

    def __init__(self, network: GraphNetwork, graph: Graph, h: float) -> None:
        super().__init__()
        if h == 0:
            raise ArgumentError("`h` must not be 0.")
        self.network = network
        self.graph = graph
        self.h = h

    def on(self, graph: Graph) -> "GraphDelta":
        """The same steps for other particles; the weights are shared."""
        return GraphDelta(self.network, graph, self.h)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return _rates(self.network, self.graph, y) / self.h

    def step(self, t: Tensor, y: Tensor, h: Tensor) -> Tensor:
        if abs(float(h) - self.h) > 1e-3 * abs(self.h):
            raise ArgumentError(
                f"This network knows steps of {self.h:g} only, got {float(h):g}. Sample evenly, or take a GraphField."
            )
        return y + _rates(self.network, self.graph, y)


class RingLagrangian(nn.Module):
    """A Lagrangian that is a sum over the points of a ring, L = sum_i net(q[i-1], q[i], q[i+1], v likewise).

    It goes into a `LagrangianField`: waves and chains of any length, with one small network.

    Args:
        net: Maps [..., 6] to [..., 1].

    Source: Cranmer, Greydanus, Hoyer, Battaglia, Spergel and Ho, 2020, arXiv 2003.04630, section 4.3.
    """

    def __init__(self, net: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net = net

    def forward(self, y: Tensor) -> Tensor:
        """L(q, v), shape [..., 2n] -> [...]."""
        around = [x.roll(shift, -1) for x in split_state(y) for shift in (1, 0, -1)]
        return self.net(torch.stack(around, dim=-1)).flatten(-2).sum(-1)
