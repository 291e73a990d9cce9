"""How good predicted runs are: errors of states and energies, drift, and the time for which a prediction holds.

Metrics judge; they are cut from the graph and have no gradient.
"""

from typing import Protocol

import torch
from torch import Tensor

from diffsim.data.times import same_times
from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, ArgumentTypeError

__all__ = ["HasEnergy", "coordinate_error", "energy_drift", "energy_error", "rmse", "valid_prediction_time"]


class HasEnergy(Protocol):
    """A system with an energy, such as every `Hamiltonian`."""

    def energy(self, y: Tensor) -> Tensor:
        """The energy, shape [..., d] -> [...]."""
        ...


def rmse(run: Trajectory | Tensor, truth: Trajectory | Tensor) -> Tensor:
    """The root of the mean squared error over all times, runs and components; a scalar in the units of the state.

    Args:
        run: Predicted runs, or their states, shape [T, n, d].
        truth: True runs at the same times, or their states.

    Raises:
        ArgumentError: Different times or shapes.

    Example:
        >>> t = torch.linspace(0, 1, 3)
        >>> rmse(Trajectory(t, torch.zeros(3, 4, 2)), Trajectory(t, torch.ones(3, 4, 2)))
        tensor(1.)
    """
    return _difference(run, truth).square().mean().sqrt()


def coordinate_error(run: Trajectory | Tensor, truth: Trajectory | Tensor) -> Tensor:
    """The mean squared error of each run over times and components, shape [n].

    Args:
        run: Predicted runs, or their states, shape [T, n, d].
        truth: True runs at the same times, or their states.

    Raises:
        ArgumentError: Different times or shapes.
    """
    return _difference(run, truth).square().mean(dim=(0, 2))


def energy_drift(system: HasEnergy, run: Trajectory | Tensor, *, relative: bool = False) -> Tensor:
    """The largest change of the true energy along each run, max |H(t) - H(0)|, shape [n].

    Args:
        system: The true system.
        run: Predicted runs, or their states, shape [T, n, d].
        relative: Whether to divide by |H(0)|; without it the drift is in units of energy, and the zero of the energy
            does not matter.

    Raises:
        ArgumentTypeError: The system has no energy.
        ArgumentError: An initial energy is zero and the drift shall be relative.
    """
    energy = _energy(system, run)
    drift = (energy - energy[0]).abs().amax(dim=0)
    if not relative:
        return drift
    if bool((energy[0] == 0).any()):
        raise ArgumentError("`relative` needs initial energies other than 0. Use the absolute drift.")
    return drift / energy[0].abs()


def energy_error(system: HasEnergy, run: Trajectory | Tensor, truth: Trajectory | Tensor) -> Tensor:
    """The mean squared error of the true energy of each run, shape [n], in squared units of energy.

    Args:
        system: The true system.
        run: Predicted runs, or their states, shape [T, n, d].
        truth: True runs at the same times, or their states.

    Raises:
        ArgumentTypeError: The system has no energy.
        ArgumentError: Different times or shapes.
    """
    _difference(run, truth)
    return (_energy(system, run) - _energy(system, truth)).square().mean(dim=0)


def valid_prediction_time(run: Trajectory | Tensor, truth: Trajectory, tolerance: float = 0.4) -> Tensor:
    """How long each prediction holds: the time from the start to the last sample before its error is too large, [n].

    The error at a time is the root mean square over components, each in units of its standard deviation over all
    times and runs of the truth; a component that never changes is taken as it is. A run whose error stays small
    gets the whole duration; a state that is not finite is an error.

    Args:
        run: Predicted runs, or their states, shape [T, n, d].
        truth: True runs at the same times.
        tolerance: The largest error, in standard deviations.

    Raises:
        ArgumentError: Different times or shapes, or a tolerance that is not above 0.
        ArgumentTypeError: The truth has no times.

    Source: Vlachas et al., 2020, arXiv 1910.05266 (valid prediction time).
    """
    if not tolerance > 0:
        raise ArgumentError(f"`tolerance` must be above 0, got {tolerance}.")
    if not isinstance(truth, Trajectory):
        raise ArgumentTypeError(f"`truth` must be a Trajectory, got {type(truth).__name__}. Pass Trajectory(t, y).")
    difference = _difference(run, truth)
    spread = truth.y.std(dim=(0, 1), unbiased=False)
    # A constant's standard deviation is its rounding error, not zero.
    changes = truth.y.detach().amax((0, 1)) > truth.y.detach().amin((0, 1))
    spread = torch.where(changes, spread, torch.ones_like(spread))
    error = (difference / spread).square().mean(-1).sqrt()  # [T, n]
    valid = (error <= tolerance).cumprod(dim=0).sum(dim=0)  # NaN is not <=
    return (truth.t - truth.t[0]).abs()[(valid - 1).clamp(min=0)]


def _states(run: Trajectory | Tensor) -> Tensor:
    y = run.y if isinstance(run, Trajectory) else run
    if not isinstance(y, Tensor):
        raise ArgumentTypeError(f"`run` must be a Trajectory or a tensor, got {type(run).__name__}.")
    if y.ndim != 3:
        raise ArgumentError(f"`run` must have shape [T, n, d], got {list(y.shape)}.")
    return y.detach()


def _difference(run: Trajectory | Tensor, truth: Trajectory | Tensor) -> Tensor:
    y, y_true = _states(run), _states(truth)
    if y.shape != y_true.shape:
        raise ArgumentError(
            f"`run` and `truth` must have the same shape [T, n, d], got {list(y.shape)} and {list(y_true.shape)}."
        )
    if isinstance(run, Trajectory) and isinstance(truth, Trajectory):
        if not same_times(run.t, truth.t):
            raise ArgumentError("`run` and `truth` must have the same times `t`. Simulate the run at `truth.t`.")
    return y - y_true


def _energy(system: HasEnergy, run: Trajectory | Tensor) -> Tensor:
    if not callable(getattr(system, "energy", None)):
        raise ArgumentTypeError(f"`system` {type(system).__name__} has no method `energy`. Pass a Hamiltonian.")
    with torch.no_grad():
        return system.energy(_states(run))
