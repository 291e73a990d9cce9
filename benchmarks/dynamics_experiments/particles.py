"""Graph networks on springs between all particles, and their transfer to other numbers of particles."""

import torch
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

__all__ = ["springs"]

_T = torch.arange(5, dtype=torch.float64) * 0.01


class _Kinetic(nn.Module):
    """The known kinetic energy of particles in the plane."""

    def __init__(self, masses: Tensor) -> None:
        super().__init__()
        self.register_buffer("masses", masses)

    def forward(self, p: Tensor) -> Tensor:
        masses = self.get_buffer("masses").to(p)
        return (p.square().unflatten(-1, (-1, 2)).sum(-1) / (2 * masses)).sum(-1, keepdim=True)


def _data(n: int, particles: int, seed: int) -> tuple[Tensor, Tensor]:
    """Constants [n, N, 2] (mass, stiffness) and chunks of five states from random times in (0, 5), [5, n, 4 N]."""
    system, y0 = sample_particle_springs(n, particles, seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    solver = Solver("yoshida4", step=0.01)
    with torch.no_grad():
        run = odeint(system, y0, torch.arange(0, 5.0, 0.05, dtype=torch.float64), solver)
        start = run[torch.randint(0, len(run), (n,), generator=generator), torch.arange(n)]
        return torch.stack([system.masses, system.stiffness], -1), odeint(system, start, _T, solver)


def springs(setting: Setting) -> list[Row]:
    """Six particles, own masses and stiffnesses in each system; mean squared error of chunks, and of n = 4 and 8."""
    train, test = _data(setting.choose(300, 3000), 6, setting.seed), _data(setting.choose(300, 2000), 6, 99)
    width = setting.choose(48, 256)
    hidden, seed = (width, width), setting.seed
    hogn, ogn, potential = (
        GraphNetwork(f, out, hidden=hidden, n_messages=width // 2, seed=seed).double()
        for f, out in ((4, 1), (4, 4), (2, 1))
    )
    flat = mlp(6 * 6, 1, hidden, nn.SiLU, seed=seed, dtype=torch.float64)
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
        "OGN": (ogn, lambda c: GraphField(ogn, Graph(c.shape[-2], attributes=c))),
        "FlatHGN": (flat, lambda c: HamiltonianField(wide(flat, c))),
        "baseline": (plain, lambda c: NeuralField(wide(plain, c))),
    }
    rows: list[Row] = []
    for name, (net, field) in models.items():
        separable = name.startswith("VIGN")
        solver = Solver("leapfrog" if separable else "rk4", step=0.01, gradient="backprop")

        def error(index: Tensor | None, data: tuple[Tensor, Tensor], field=field, solver=solver) -> Tensor:
            constants, runs = data if index is None else (data[0][index], data[1][:, index])
            made: VectorField = field(constants)
            return (odeint(made, runs[0], _T, solver) - runs)[1:].square().mean()

        training = Training(steps=setting.choose(150, 1500), batch=setting.choose(50, 200), lr=1e-2)
        with clock() as watch:
            optimise(lambda i, e=error: e(i, train), list(net.parameters()), training, n_terms=len(train[0]))
        note = f"{len(train[0])} systems, width {width}, {watch.seconds:.0f} s"
        with torch.no_grad():
            rows.append(Row(name, "chunks of 6, mean squared error", float(error(None, test)), None, note))
            if name in ("HOGN", "OGN") or separable:
                for n in (4, 8):
                    value = float(error(None, _data(200, n, 7)))
                    rows.append(Row(name, f"zero-shot chunks of {n}", value, None, note))
    return rows


class _WithConstants(nn.Module):
    """A network of the state and of each system's constants, without any graph."""

    def __init__(self, net: nn.Module, constants: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("constants", constants)

    def forward(self, y: Tensor) -> Tensor:
        return self.net(torch.cat([y, self.get_buffer("constants").to(y).expand(*y.shape[:-1], -1)], dim=-1))
