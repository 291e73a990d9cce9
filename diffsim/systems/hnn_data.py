"""The training data of the Hamiltonian neural network paper, redrawn number by number from its seed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from diffsim.errors import ArgumentError, IntegrationError
from diffsim.fields.base import VectorField
from diffsim.fields.hamiltonian import Hamiltonian
from diffsim.systems.initial_states import (
    NumpyRandom,
    numpy_random,
    sample_pendulum,
    sample_spring,
    sample_three_body,
    sample_two_body,
)
from diffsim.systems.n_body import NBody
from diffsim.systems.oscillators import MassSpring, Pendulum

__all__ = ["HNNData", "hnn_pendulum_data", "hnn_spring_data", "hnn_three_body_data", "hnn_two_body_data"]


@dataclass(frozen=True, slots=True)
class HNNData:
    """Runs of one system and the derivatives that the paper trains on; float64.

    Attributes:
        field: The true system.
        t: Times, shape [T].
        y_clean: The runs, shape [T, n, d].
        y_noisy: The runs as observed, shape [T, n, d].
        dy: The derivatives at the *clean* states, shape [T, n, d].
        train: The runs of the training part.
        test: The runs of the test part.
    """

    field: Hamiltonian
    t: Tensor
    y_clean: Tensor
    y_noisy: Tensor
    dy: Tensor
    train: slice
    test: slice

    def rows(self, part: slice) -> tuple[Tensor, Tensor]:
        """Observed states and derivatives of a part, run after run, both of shape [runs * T, d].

        Example:
            >>> data = hnn_spring_data()
            >>> y, dy = data.rows(data.train)
            >>> y.shape
            torch.Size([750, 2])
        """
        y, dy = (x[:, part].transpose(0, 1).flatten(0, 1) for x in (self.y_noisy, self.dy))
        return y, dy


def _solve(field: VectorField, y0: Tensor, t: Tensor) -> Tensor:
    """The runs from y0 [n, d] to about eight digits, shape [T, n, d]; in chunks, as the worst run sets the step."""

    def run(chunk: Tensor) -> Tensor:
        def derivative(time: float, state: np.ndarray) -> np.ndarray:
            return field(torch.tensor(time), torch.from_numpy(state).view_as(chunk)).flatten().numpy()

        times = t.numpy()
        solution = solve_ivp(
            derivative, (times[0], times[-1]), chunk.flatten().numpy(), "DOP853", times, rtol=1e-10, atol=1e-12
        )
        if not solution.success:
            raise IntegrationError(f"The reference solution failed: {solution.message}")
        return torch.from_numpy(np.ascontiguousarray(solution.y.T)).view(len(times), *chunk.shape)

    with torch.no_grad():
        return torch.cat([run(chunk) for chunk in y0.split(250)], dim=1)


def _noisy_oscillator(
    field: Hamiltonian,
    sample: Callable[[int, NumpyRandom], Tensor],
    t: Tensor,
    n: int,
    noise: float,
    seed: NumpyRandom,
) -> HNNData:
    if n < 2:
        raise ArgumentError(f"`n` must be at least 2 (half of the runs are the test part), got {n}.")
    if not noise >= 0:
        raise ArgumentError(f"`noise` must not be negative, got {noise}.")
    rng = numpy_random(seed)
    states: list[Tensor] = []
    errors: list[Tensor] = []
    for _ in range(n):
        # One stream: the state of a run, then its noise in q, then in p.
        states.append(sample(1, rng))
        errors.append(torch.from_numpy(np.stack([rng.standard_normal(len(t)) for _ in range(2)], axis=-1)))
    clean = _solve(field, torch.cat(states), t)
    noisy = clean + noise * torch.stack(errors, dim=1)
    return HNNData(field, t, clean, noisy, field(t[0], clean), slice(0, n // 2), slice(n // 2, n))


def hnn_spring_data(n: int = 50, noise: float = 0.1, seed: NumpyRandom = 0) -> HNNData:
    """The paper's mass-spring data: n runs of 30 times in [0, 3], Gaussian noise; the first half trains.

    Args:
        n: Number of runs.
        noise: Standard deviation of the noise of both components.
        seed: The published data have 0.

    Raises:
        ArgumentError: Fewer than two runs, or negative noise.

    Source: Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563, section 3, task 1, and its code.
    """
    t = torch.linspace(0, 3, 30, dtype=torch.float64)
    return _noisy_oscillator(MassSpring(mass=0.5, stiffness=2.0), sample_spring, t, n, noise, seed)


def hnn_pendulum_data(n: int = 50, noise: float = 0.1, seed: NumpyRandom = 0) -> HNNData:
    """The paper's pendulum data: n runs of 45 times in [0, 3], Gaussian noise; the first half trains.

    Args:
        n: Number of runs.
        noise: Standard deviation of the noise of both components.
        seed: The published data have 0.

    Raises:
        ArgumentError: Fewer than two runs, or negative noise.

    Source: Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563, section 3, task 2, and its code.
    """
    t = torch.linspace(0, 3, 45, dtype=torch.float64)
    field = Pendulum(mass=0.5, length=1.0, gravity=6.0)
    return _noisy_oscillator(field, sample_pendulum, t, n, noise, seed)


def _orbits(n_bodies: int, y0: Tensor, t: Tensor) -> HNNData:
    n = len(y0)
    if n < 5:
        raise ArgumentError(f"`n` must be at least 5 (a fifth of the runs is the test part), got {n}.")
    field = NBody([1.0] * n_bodies)
    clean = _solve(field, y0, t)
    with torch.no_grad():
        return HNNData(field, t, clean, clean, field(t[0], clean), slice(n // 5, n), slice(0, n // 5))


def hnn_two_body_data(n: int = 1000, seed: NumpyRandom = 0) -> HNNData:
    """The paper's two-body data: n runs of 50 times in [0, 20], without noise; the first fifth tests.

    Args:
        n: Number of runs.
        seed: The published data have 0.

    Raises:
        ArgumentError: Fewer than five runs.

    Source: Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563, section 4, and its code.
    """
    return _orbits(2, sample_two_body(n, seed), torch.linspace(0, 20, 50, dtype=torch.float64))


def hnn_three_body_data(n: int = 5000, seed: NumpyRandom = 0) -> HNNData:
    """The paper's three-body data: n runs of 20 times in [0, 5], without noise; the first fifth tests.

    Args:
        n: Number of runs.
        seed: The published data have 0.

    Raises:
        ArgumentError: Fewer than five runs.

    Source: Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563, appendix B, and its code.
    """
    return _orbits(3, sample_three_body(n, seed), torch.linspace(0, 5, 20, dtype=torch.float64))
