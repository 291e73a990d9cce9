"""What a fit makes small: errors of derivatives, of one step, or of solutions over windows."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from diffsim.data.derivatives import DerivativeMethod
from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields.base import VectorField
from diffsim.fields.discrete import DiscreteField, DiscreteGradientField
from diffsim.fields.lagrangian import LagrangianField
from diffsim.integrate.solver import Solver
from diffsim.training.terms import DerivativeTerms, LossTerms, PairTerms, WindowTerms

__all__ = [
    "DerivativeLoss",
    "DiscreteGradientLoss",
    "Loss",
    "LossFunction",
    "OneStepLoss",
    "RolloutLoss",
    "free_particle",
    "indefinite_mass",
]

LossFunction = Callable[[VectorField, Trajectory, Solver], Tensor]
"""A loss of the user's own: maps field, runs and solver to a scalar. Its mini-batches are runs."""


class Loss(ABC):
    """A loss that prepares its data once, and chooses what a mini-batch is made of."""

    @abstractmethod
    def terms(self, field: VectorField, data: Trajectory, solver: Solver, *, held_out: bool = False) -> LossTerms:
        """The loss on given data.

        Args:
            field: The field that will be fitted.
            data: Runs.
            solver: Solves for losses that need solutions.
            held_out: Whether the data only judge: nothing may be fitted to them.
        """

    def __call__(self, field: VectorField, data: Trajectory, solver: Solver) -> Tensor:
        """The loss of a field on runs, a scalar."""
        return self.terms(field, data, solver, held_out=True)(field)


@dataclass(frozen=True, slots=True)
class DerivativeLoss(Loss):
    """The mean squared error of dy/dt; a mini-batch is made of samples. No equation is solved.

    Attributes:
        method: How derivatives are estimated, see `estimate_derivatives`, where the data hold none.

    Source: Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563, equation 3.
    """

    method: DerivativeMethod = "central"

    def terms(self, field: VectorField, data: Trajectory, solver: Solver, *, held_out: bool = False) -> LossTerms:
        return DerivativeTerms(field, data if data.dy is not None else data.derivatives(self.method))


@dataclass(frozen=True, slots=True)
class RolloutLoss(Loss):
    """The mean squared error of solutions over windows of the runs: multiple shooting. Mini-batches are of windows.

    With ``fixed`` initial states each window starts at its first sample. With ``free`` ones the first states are
    fitted with the field, from the samples on, and discarded after. If the samples carry normal noise and `noise`
    is its standard deviation, the loss is then, per number and up to a constant, twice the negative log likelihood.
    Free initial states and weights pull at each other: L-BFGS finds their minimum in far fewer steps than Adam.

    Attributes:
        window: Samples in a window, at least 2; None is the whole run.
        initial: ``fixed`` or ``free``. A held-out part is always judged with fixed ones.
        stride: Samples from one window to the next; None covers each sample once: `window` with free initial
            states, `window - 1` with fixed ones.
        noise: Standard deviation of the samples in the units of the states, one or one for each component:
            errors are measured in units of it.
        learn_noise: Whether the noise is unknown: fitted too, one value for each component, from `noise` (or one)
            on. The loss is then, per number and up to a constant, twice the negative log likelihood.
        discrete: Whether runs are made by the steps of a `DiscreteField` from sample to sample, not by the solver.

    Source: Bock and Plitt, 1984, IFAC Proceedings 17(2), 1603 (multiple shooting).
    """

    window: int | None = 10
    initial: Literal["fixed", "free"] = "fixed"
    stride: int | None = None
    noise: float | Sequence[float] | None = None
    learn_noise: bool = False
    discrete: bool = False

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 2:
            raise ArgumentError(f"`window` must hold at least 2 samples, got {self.window}.")
        if self.initial not in ("fixed", "free"):
            raise ArgumentError(f"`initial` must be 'fixed' or 'free', got {self.initial!r}.")
        if self.stride is not None and self.stride < 1:
            raise ArgumentError(f"`stride` must be at least 1, got {self.stride}.")
        if self.noise is not None and not bool((torch.as_tensor(self.noise) > 0).all()):
            raise ArgumentError(f"`noise` must be above 0, got {self.noise}.")

    def terms(self, field: VectorField, data: Trajectory, solver: Solver, *, held_out: bool = False) -> LossTerms:
        window = len(data.t) if self.window is None else self.window
        if not 2 <= window <= len(data.t):
            raise ArgumentError(
                f"`window` of {window} samples does not fit runs of {len(data.t)}"
                f"{' in the held-out part' if held_out else ''}. Pass a shorter window, or longer runs."
            )
        noise = torch.ones(()) if self.noise is None else torch.as_tensor(self.noise, dtype=torch.float64)
        if noise.ndim > 1 or (noise.ndim == 1 and len(noise) != data.d):
            raise ArgumentError(
                f"`noise` must be one number, or one for each of {data.d} components, got {self.noise}."
            )
        if self.discrete and not isinstance(field, DiscreteField):
            raise ArgumentTypeError(
                f"`discrete` needs a field with steps of its own, such as VariationalField, got {type(field).__name__}."
            )
        free = self.initial == "free" and not held_out
        learn = self.learn_noise and not held_out
        noise = noise.expand(data.d) if learn else noise
        stride = self.stride or (window if free else window - 1)
        return WindowTerms(
            field, data, solver, window, stride, free=free, noise=noise, discrete=self.discrete, learn_noise=learn
        )


@dataclass(frozen=True, slots=True)
class OneStepLoss(Loss):
    """The mean squared error of each next sample, predicted from the one before; a mini-batch is made of such pairs."""

    def terms(self, field: VectorField, data: Trajectory, solver: Solver, *, held_out: bool = False) -> LossTerms:
        return RolloutLoss(window=2).terms(field, data, solver, held_out=held_out)


@dataclass(frozen=True, slots=True)
class DiscreteGradientLoss(Loss):
    """The mean squared error of (y[k+1] - y[k]) / h for a `DiscreteGradientField`; nothing implicit is solved.

    Mini-batches are of pairs of samples, whose spacing may vary.

    Source: Matsubara, Ishikawa and Yaguchi, 2020, arXiv 1905.08604, section 3.3.
    """

    def terms(self, field: VectorField, data: Trajectory, solver: Solver, *, held_out: bool = False) -> LossTerms:
        if not isinstance(field, DiscreteGradientField):
            raise ArgumentTypeError(f"`field` must be a DiscreteGradientField, got {type(field).__name__}.")
        if len(data.t) < 2:
            raise ArgumentError("`data` must hold at least 2 samples a run, got 1.")
        return PairTerms(field, data)


def free_particle(field: VectorField, data: Trajectory, solver: Solver) -> Tensor:
    """A loss of Lagrangian fields: the mean squared distance of the mass matrix from the identity at the samples.

    Where a network's mass matrix starts with negative eigenvalues, the fit of accelerations must pass a singular one.
    Fit with this loss first, some hundred steps, and it starts from a free particle.

    Raises:
        ArgumentTypeError: The field is no `LagrangianField`.
    """
    if not isinstance(field, LagrangianField):
        raise ArgumentTypeError(f"`field` must be a LagrangianField, got {type(field).__name__}.")
    mass = field.mass(data.y)
    return (mass - torch.eye(mass.shape[-1], dtype=mass.dtype, device=mass.device)).square().sum((-2, -1)).mean()


def indefinite_mass(mass: Tensor, floor: float) -> Tensor:
    """What a user adds to a loss to keep mass matrices positive: the mean of max(0, 1 - s / floor)^2.

    s are the eigenvalues; it is zero where all are above `floor`. A network whose mass changes sign has singular
    accelerations between, where its fit stops.

    Args:
        mass: Symmetric matrices, [..., k, k], such as `field.mass(data.y)`.
        floor: Below the eigenvalues of the start, say a third of them: the scale of a Lagrangian is free.

    Raises:
        ArgumentError: The floor is not positive.

    Source: Hamzaogullari and Ozakin, 2026, arXiv 2601.12519.

    Example:
        >>> indefinite_mass(torch.diag(torch.tensor([2.0, -1.0])), 1.0)
        tensor(2.)
    """
    if not floor > 0:
        raise ArgumentError(f"`floor` must be above 0, got {floor}.")
    return (1 - torch.linalg.eigvalsh(mass) / floor).relu().square().mean()
