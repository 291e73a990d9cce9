"""Random initial states of the Hamiltonian neural network paper, drawn in the order of its published code."""

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError

__all__ = [
    "NumpyRandom",
    "numpy_random",
    "sample_pendulum",
    "sample_spring",
    "sample_square",
    "sample_three_body",
    "sample_two_body",
]

NumpyRandom: TypeAlias = int | np.random.RandomState | np.random.Generator
"""A seed (which gives the stream of `np.random.seed(seed)`), or a source of numbers that is drawn from in place."""


def numpy_random(seed: NumpyRandom) -> np.random.RandomState | np.random.Generator:
    """The source of random numbers that a seed stands for.

    Raises:
        ArgumentTypeError: The seed is of another type.
    """
    if isinstance(seed, int):
        return np.random.RandomState(seed)
    if isinstance(seed, np.random.RandomState | np.random.Generator):
        return seed
    raise ArgumentTypeError(f"`seed` must be an int, a numpy RandomState or a Generator, got {type(seed).__name__}.")


def _check_count(n: int) -> None:
    if n < 1:
        raise ArgumentError(f"`n` must be at least 1, got {n}.")


def _rotated(vector: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]]) @ vector


def _ring(n: int, inner: float, width: float, seed: NumpyRandom) -> Tensor:
    """States in the direction of a point of the square [-1, 1]^2, at a radius uniform in (inner, inner + width)."""
    _check_count(n)
    rng = numpy_random(seed)
    states = np.empty((n, 2))
    for state in states:
        direction = rng.uniform(-1.0, 1.0, 2)
        radius = rng.uniform(0.0, 1.0) * width + inner
        state[:] = direction / np.linalg.norm(direction) * radius
    return torch.from_numpy(states)


def sample_spring(n: int, seed: NumpyRandom = 0) -> Tensor:
    """Training states (q, p) of the mass-spring: radius uniform in (.1, 1). Shape [n, 2], float64.

    They belong to H = q^2 + p^2, `MassSpring(mass=0.5, stiffness=2.0)`.

    Source: Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563, section 3, task 1, and its code.

    Example:
        >>> bool((sample_spring(100, seed=0).norm(dim=-1) < 1).all())
        True
    """
    return _ring(n, 0.1, 0.9, seed)


def sample_pendulum(n: int, seed: NumpyRandom = 0) -> Tensor:
    """Training states (q, p) of the pendulum: radius uniform in (1.3, 2.3). Shape [n, 2], float64.

    They belong to H = 3 (1 - cos q) + p^2, `Pendulum(mass=0.5, length=1.0, gravity=6.0)`.

    Source: Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563, section 3, task 2, and its code.
    """
    return _ring(n, 1.3, 1.0, seed)


def sample_square(n: int = 15, seed: NumpyRandom = 0) -> Tensor:
    """Evaluation states of mass-spring and pendulum: each of q and p uniform in +-(.2, 1). Shape [n, 2], float64.

    About a third of them lie outside the radius of the spring's training states.

    Source: Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563, its code.
    """
    _check_count(n)
    rng = numpy_random(seed)
    states = np.stack([rng.uniform(-0.8, 0.8, 2) for _ in range(n)])
    return torch.from_numpy(states + 0.2 * np.sign(states))


def sample_two_body(n: int, seed: NumpyRandom = 0) -> Tensor:
    """States of two unit masses on nearly circular orbits about each other, for `NBody([1, 1])`.

    The first body lies in the square (.5, 1.5)^2 and the second opposite; the velocity is the circular orbit's times
    1 + .05 N(0, 1). The paper's evaluation takes one state of each of the seeds 0 to 14.

    Returns:
        Shape [n, 8], float64; the order of `NBody` (`coordinates_first` converts to the paper's).

    Source: Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563, section 4, and its code.
    """
    _check_count(n)
    rng = numpy_random(seed)
    states = np.empty((n, 8))
    for state in states:
        position = rng.uniform(0.5, 1.5, 2)
        velocity = np.array([-position[1], position[0]]) / (2 * np.linalg.norm(position) ** 1.5)
        velocity *= 1 + 0.05 * rng.standard_normal()
        state[:] = np.concatenate([position, -position, velocity, -velocity])
    return torch.from_numpy(states)


def sample_three_body(n: int, seed: NumpyRandom = 0) -> Tensor:
    """States of three unit masses in an equilateral triangle that nearly rotates, for `NBody([1, 1, 1])`.

    The radius is uniform in (.9, 1.2); each component of each velocity is that of the rigid rotation times
    1 + .2 U(-1, 1). The paper's evaluation takes one state of each of the seeds 0 to 14.

    Returns:
        Shape [n, 12], float64; the order of `NBody` (`coordinates_first` converts to the paper's).

    Source: Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563, appendix B, and its code.
    """
    _check_count(n)
    rng = numpy_random(seed)
    turns = [0.0, 2 * np.pi / 3, 4 * np.pi / 3]
    # The attraction of the two others at distance sqrt(3) r sums to 1 / (sqrt(3) r^2): the centripetal v^2 / r.
    circular = 3.0**-0.25
    states = np.empty((n, 12))
    for state in states:
        direction = rng.uniform(-1.0, 1.0, 2)
        radius = rng.uniform(0.9, 1.2)
        position = direction / np.linalg.norm(direction) * radius
        velocity = _rotated(position, np.pi / 2) / radius**1.5 * circular
        positions = [_rotated(position, turn) for turn in turns]
        velocities = [_rotated(velocity, turn) * (1 + 0.2 * rng.uniform(-1.0, 1.0, 2)) for turn in turns]
        state[:] = np.concatenate(positions + velocities)
    return torch.from_numpy(states)
