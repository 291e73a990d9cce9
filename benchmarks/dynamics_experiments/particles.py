"""Graph networks on springs between all particles, and their transfer to other numbers of particles."""

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.dynamics_experiments.common import Row, Setting, clock
from diffsim import (
    Graph,
    GraphEnergy,
    GraphField,
    GraphNetwork,
    HamiltonianField,
    NeuralField,
    SeparableHamiltonian,
    Solver,
    Training,
    VectorField,
    mlp,
    odeint,
)
from diffsim.systems import sample_particle_springs
from diffsim.training import optimise

__all__ = ["PairPotential", "springs"]

_SHORT, _LONG = (torch.arange(5, dtype=torch.float64) * h for h in (0.01, 0.05))


class _Kinetic(nn.Module):
    """The known kinetic energy of particles in the plane."""

    def __init__(self, masses: Tensor) -> None:
        super().__init__()
        self.register_buffer("masses", masses)

    def forward(self, p: Tensor) -> Tensor:
        masses = self.get_buffer("masses").to(p)
        return (p.square().unflatten(-1, (-1, 2)).sum(-1) / (2 * masses)).sum(-1, keepdim=True)


class PairPotential(nn.Module):
    """One unknown potential of the distance and of both particles' stiffnesses, summed over all ordered pairs."""

    def __init__(self, net: nn.Module, stiffness: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("stiffness", stiffness)

    def forward(self, q: Tensor) -> Tensor:
        k, place = self.get_buffer("stiffness"), q.unflatten(-1, (-1, 2))
        n = place.shape[-2]
        first, second = (~torch.eye(n, dtype=torch.bool)).nonzero().unbind(-1)
        distance = (place[..., first, :] - place[..., second, :]).norm(dim=-1)
        ends = (k[..., first].expand(distance.shape), k[..., second].expand(distance.shape))
        return self.net(torch.stack([*ends, distance], dim=-1)).sum(-2)


def _data(n: int, particles: int, seed: int, t: Tensor = _SHORT) -> tuple[Tensor, Tensor]:
    """Constants [n, N, 2] (mass, stiffness) and chunks of five states from random times in (0, 5), [5, n, 4 N]."""
    system, y0 = sample_particle_springs(n, particles, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    solver = Solver("yoshida4", step=0.01)
    with torch.no_grad():
        run = odeint(system, y0, torch.arange(0, 5.0, 0.05, dtype=torch.float64), solver)
        start = run[torch.randint(0, len(run), (n,), generator=generator), torch.arange(n)]
        return torch.stack([system.masses, system.stiffness], -1), odeint(system, start, t, solver)


def springs(setting: Setting, count: int | None = None) -> list[Row]:
    """Six particles, own masses and stiffnesses in each system; mean squared error of chunks, and of n = 4 and 8."""
    train = _data(count or setting.choose(300, 3000), 6, setting.seed)
    test = _data(count or setting.choose(300, 2000), 6, 99)
    width = setting.choose(48, 256)
    hidden, seed = (width, width), setting.seed
    hogn, ogn, potential = (
        GraphNetwork(f, out, hidden=hidden, n_messages=width // 2, seed=seed).double()
        for f, out in ((4, 1), (4, 4), (2, 1))
    )
    flat = mlp(6 * 6, 1, hidden, nn.SiLU, seed=seed, dtype=torch.float64)
    pairs = mlp(3, 1, (setting.choose(24, 64),), nn.Softplus, seed=seed, dtype=torch.float64)
    plain = mlp(6 * 6, 24, hidden, nn.SiLU, seed=seed, dtype=torch.float64)

    def wide(net: nn.Module, constants: Tensor) -> nn.Module:
        return _WithConstants(net, constants.flatten(-2))

    models = {
        "HOGN": (hogn, lambda c: HamiltonianField(GraphEnergy(hogn, Graph(c.shape[-2], attributes=c)))),
        "VIGN (separable, leapfrog)": (
            potential,
            lambda c: SeparableHamiltonian(
                _Kinetic(c[..., 0]), GraphEnergy(potential, Graph(c.shape[-2], attributes=c), momenta=False)
            ),
        ),
        "pair potential (separable, leapfrog)": (
            pairs,
            lambda c: SeparableHamiltonian(_Kinetic(c[..., 0]), PairPotential(pairs, c[..., 1])),
        ),
        "OGN": (ogn, lambda c: GraphField(ogn, Graph(c.shape[-2], attributes=c))),
        "FlatHGN": (flat, lambda c: HamiltonianField(wide(flat, c))),
        "baseline": (plain, lambda c: NeuralField(wide(plain, c))),
    }
    rows: list[Row] = []
    errors: dict[str, Tensor] = {}
    for name, (net, field) in models.items():
        separable = name.endswith("leapfrog)")
        solver = Solver("leapfrog" if separable else "rk4", step=0.01, gradient="backprop")

        def error(
            index: Tensor | None, data: tuple[Tensor, Tensor], t: Tensor = _SHORT, solver=solver, field=field
        ) -> Tensor:
            constants, runs = data if index is None else (data[0][index], data[1][:, index])
            made: VectorField = field(constants)
            return (odeint(made, runs[0], t, solver) - runs)[1:].square().mean((0, 2))

        training = Training(steps=setting.choose(200, 1500), batch=setting.choose(50, 200), lr=1e-2)
        if name.startswith("pair"):
            training = Training("lbfgs", steps=setting.choose(300, 1500))
        with clock() as watch:
            optimise(lambda i, e=error: e(i, train).mean(), list(net.parameters()), training, n_terms=len(train[0]))
        note = f"{len(train[0])} systems, width {width}, {watch.seconds:.0f} s"
        with torch.no_grad():
            errors[name] = error(None, test)
            rows.append(Row(name, "chunks of 6, mean squared error", float(errors[name].mean()), None, note))
            if name not in ("FlatHGN", "baseline"):
                for n in (4, 8):
                    value = float(error(None, _data(200, n, 7)).mean())
                    rows.append(Row(name, f"zero-shot chunks of {n}", value, None, note))
            other = Solver("yoshida4" if separable else "dopri5", step=0.025 if separable else None)
            value = float(error(None, _data(200, 6, 8, _LONG), _LONG, other).mean())
            metric = "zero-shot chunks of samples .05 apart, other integrator"
            rows.append(Row(name, metric, value, None, f"{other.method}"))
    setting.save("graph_springs", _picture(errors))
    return rows


def _picture(errors: dict[str, Tensor]) -> Figure:
    """The errors of all test systems, from the least to the largest, of each model."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axis = figure.subplots()
    for name, error in errors.items():
        axis.semilogy(torch.linspace(0, 1, len(error)).numpy(), error.sort().values.numpy(), lw=1, label=name)
    axis.set(xlabel="share of test systems", ylabel="mean squared error of a chunk")
    axis.legend(fontsize=7)
    return figure


class _WithConstants(nn.Module):
    """A network of the state and of each system's constants, without any graph."""

    def __init__(self, net: nn.Module, constants: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("constants", constants)

    def forward(self, y: Tensor) -> Tensor:
        return self.net(torch.cat([y, self.get_buffer("constants").to(y).expand(*y.shape[:-1], -1)], dim=-1))
