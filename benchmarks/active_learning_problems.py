"""The six problems of the active-learning benchmark: a laboratory, a design box, a region of interest, a model."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffsim import (
    ConditionedField,
    DoubleWell,
    Duffing,
    FreeParticle,
    GaussianProcessHamiltonian,
    HenonHeiles,
    NBody,
    Pendulum,
    Solver,
    VectorField,
    odeint,
)
from studies import Box

__all__ = ["PROBLEMS", "Problem"]

_EXACT = Solver("dopri8", rtol=1e-9, atol=1e-9)


@dataclass(frozen=True)
class Problem:
    """One active-learning task.

    Attributes:
        box: Where the laboratory can start the system.
        region: Lower and upper bounds of the designs whose runs the model must predict.
        system: Maps system parameters [n, j] (or None) to the true field.
        model: Makes an unfitted model from a seed.
        t: Output times of a run.
        noise: Standard deviation of the measurement noise on every state but the first.
        state: Maps designs [..., k] to initial states.
        theta: Maps designs [..., k] to system parameters, if there are any.
    """

    box: Box
    region: tuple[tuple[float, ...], tuple[float, ...]]
    system: Callable[[Tensor | None], VectorField]
    model: Callable[[int], GaussianProcessHamiltonian]
    t: Tensor
    noise: float = 0.02
    state: Callable[[Tensor], Tensor] | None = None
    theta: Callable[[Tensor], Tensor] | None = None

    def launch(self, design: Tensor) -> tuple[Tensor, Tensor | None]:
        """Initial states and system parameters of designs."""
        return (
            design if self.state is None else self.state(design),
            None if self.theta is None else self.theta(design),
        )

    def truth(self, design: Tensor) -> Tensor:
        """Exact runs, [n, k] -> [n, T, d]."""
        y0, theta = self.launch(design)
        return odeint(self.system(theta), y0, self.t, _EXACT).transpose(0, 1)

    def measure(self, design: Tensor, generator: torch.Generator) -> Tensor:
        """The laboratory: runs with noise on all samples but the prescribed first one."""
        runs = self.truth(design)
        noise = self.noise * torch.randn(runs.shape, generator=generator, dtype=runs.dtype)
        noise[:, 0] = 0
        return runs + noise

    def predict(self, model: GaussianProcessHamiltonian, design: Tensor) -> Tensor:
        """The model's runs, [n, k] -> [n, T, d]; NaN from where one diverges."""
        y0, theta = self.launch(design)
        field = model if theta is None else ConditionedField(model, theta)
        solver = Solver("rk4", step=float(self.t[-1]) / 60, on_divergence="nan")
        return odeint(field, y0, self.t, solver).transpose(0, 1)

    def held_out(self, region: bool, n: int, seed: int) -> Tensor:
        """Designs to test on, uniform in the region (or in the whole box)."""
        low, high = torch.tensor(self.region, dtype=torch.float64) if region else self.box.bounds
        unit = torch.rand(n, self.box.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return low + (high - low) * unit


def _times(span: float, n: int) -> Tensor:
    return torch.linspace(0, span, n + 1, dtype=torch.float64)


def _two_bodies(design: Tensor) -> Tensor:
    """Positions +-(x, y) and the velocities of a circular orbit times a factor; unit masses, G = 1."""
    r, factor = design[..., :2], design[..., 2:]
    distance = r.norm(dim=-1, keepdim=True)
    v = factor * torch.stack([-r[..., 1], r[..., 0]], dim=-1) / (2 * distance**1.5)
    return torch.cat([r, -r, v, -v], dim=-1)


def _separation() -> Tensor:
    """The matrix from the state of two bodies in the plane to their separation."""
    matrix = torch.zeros(2, 8)
    matrix[0, 0] = matrix[1, 1] = 1
    matrix[0, 2] = matrix[1, 3] = -1
    return matrix


_TURN = 2 * math.pi

PROBLEMS = {
    # Units: mass 1, length 1 (but for the pendulum of variable length), gravity 1.
    "pendulum": Problem(
        Box({"q": (-math.pi, math.pi), "p": (-2.5, 2.5)}),
        ((math.pi - 0.6, -0.6), (math.pi, 0.6)),  # about to fall over: the neighbourhood of the unstable equilibrium
        lambda theta: Pendulum(gravity=1.0),
        lambda seed: GaussianProcessHamiltonian(
            2, n_features=160, periods=[_TURN, None], scale=[math.pi / 2, 2.5], seed=seed
        ),
        _times(3.0, 6),
    ),
    "double well": Problem(
        Box({"q": (-1.8, 1.8), "p": (-1.2, 1.2)}),
        ((-0.5, -0.4), (0.5, 0.4)),  # the barrier between the wells
        lambda theta: DoubleWell(),
        lambda seed: GaussianProcessHamiltonian(2, n_features=160, scale=[1.8, 1.2], seed=seed),
        _times(3.0, 6),
    ),
    "Henon-Heiles": Problem(
        Box({"x": (-0.5, 0.5), "y": (-0.5, 0.5), "px": (-0.4, 0.4), "py": (-0.4, 0.4)}),
        ((-0.1, 0.3, -0.1, 0.2), (0.1, 0.5, 0.1, 0.4)),  # on the way to the upper escape channel
        lambda theta: HenonHeiles(),
        lambda seed: GaussianProcessHamiltonian(4, n_features=256, scale=[0.5, 0.5, 0.4, 0.4], seed=seed),
        _times(3.0, 6),
    ),
    "Duffing": Problem(
        Box({"q": (-2.0, 2.0), "p": (-2.0, 2.0)}),
        ((1.0, -0.5), (2.0, 0.5)),  # released far out, almost at rest
        lambda theta: Duffing(),
        lambda seed: GaussianProcessHamiltonian(2, n_features=160, scale=[2.0, 2.0], seed=seed),
        _times(3.0, 6),
    ),
    "two bodies": Problem(
        Box({"x": (0.5, 1.5), "y": (0.5, 1.5), "speed": (0.8, 1.2)}),
        ((0.5, 0.5, 0.95), (0.7, 0.7, 1.05)),  # tight, nearly circular orbits
        lambda theta: NBody((1.0, 1.0)),
        lambda seed: GaussianProcessHamiltonian(
            8, n_features=160, coordinates=_separation(), known=FreeParticle(), scale=[1.0, 1.0], seed=seed
        ),
        _times(3.0, 6),
        state=_two_bodies,
    ),
    "pendulum, length": Problem(
        Box({"q": (-math.pi, math.pi), "p": (-2.5, 2.5), "length": (0.5, 1.5)}),
        ((-1.0, -1.0, 0.9), (1.0, 1.0, 1.1)),  # swings of the length that is to be built
        lambda theta: Pendulum(length=1.0 if theta is None else theta.exp(), gravity=1.0),
        lambda seed: GaussianProcessHamiltonian(
            2, n_theta=1, n_features=320, periods=[_TURN, None, None], scale=[math.pi / 2, 2.5, 0.5], seed=seed
        ),
        _times(3.0, 6),
        state=lambda design: design[..., :2],
        theta=lambda design: design[..., 2:].log(),  # lengths are positive: the model is told their logarithm
    ),
}
