"""Whether runs are those of a Hamiltonian: canonical coordinates, and no friction, told before a network is trained."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError
from diffsim.fields.fourier_features import FourierFeatures

__all__ = ["CanonicalFit", "canonical_fit", "check_canonical"]

_SCALES = (0.7, 1.5, 3.0, 6.0)  # length scales in standard deviations of the states
_RIDGES = (1e-10, 1e-8, 1e-6, 1e-4, 1e-2)
_ROWS = 4000


@dataclass(frozen=True, slots=True)
class CanonicalFit:
    """Errors of the derivatives at samples kept back, relative to their size.

    Attributes:
        hamiltonian: Of the best canonical field (dH/dp, -dH/dq) of a flexible energy.
        free: Of the best field without any structure, of the same features.
    """

    hamiltonian: float
    free: float

    @property
    def ratio(self) -> float:
        """How many times worse the canonical field is; about one, or less, for canonical data."""
        return self.hamiltonian / max(self.free, 1e-6)


@torch.no_grad()
def canonical_fit(data: Trajectory, *, n_features: int = 200, seed: int = 0) -> CanonicalFit:
    """Fits a Hamiltonian and an unstructured field of the same random features, both in closed form, and compares.

    Args:
        data: Runs of (q, p); `dy` is used where it is known, else estimated from the samples.
        n_features: Of the energy.
        seed: Of the features and of the samples kept back.

    Raises:
        ArgumentError: An odd state dimension, or fewer than 20 samples.

    Source: Rahimi and Recht, 2007, "Random features for large-scale kernel machines" (the features).
    """
    if data.d % 2:
        raise ArgumentError(f"`data` must have states (q, p) of even dimension, got {data.d}.")
    known = data if data.dy is not None else data.derivatives()
    assert known.dy is not None
    y, dy = (x.detach().double().flatten(0, 1) for x in (known.y, known.dy))
    if len(y) < 20:
        raise ArgumentError(f"`data` must hold at least 20 samples, got {len(y)}.")
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))[:_ROWS]
    y, dy = y[order], dy[order]
    spread = y.std(0).clamp(min=1e-12)
    rates = dy.std(0).clamp(min=1e-12)
    cut = int(0.7 * len(y))
    features = FourierFeatures(data.d, n_features, seed=seed)
    k = data.d // 2
    structured: list[float] = []
    free: list[float] = []
    for scale in _SCALES:
        waves = features.at(scale * spread)
        slopes = waves.gradient(y)  # [n, d, F]
        linear = torch.eye(data.d, dtype=y.dtype).expand(len(y), -1, -1)
        square = torch.diag_embed(y)
        slopes = torch.cat([slopes, linear, square], dim=-1)
        design = torch.cat([slopes[:, k:], -slopes[:, :k]], dim=1) / rates[:, None]
        one = torch.cat([waves(y), torch.ones_like(y[:, :1]), y], dim=-1)
        target = dy / rates
        for ridge in _RIDGES:
            w = _ridge(design[:cut].flatten(0, 1), target[:cut].flatten()[:, None], ridge)
            structured.append(_error((design[cut:] @ w)[..., 0], target[cut:]))
            free.append(_error(one[cut:] @ _ridge(one[:cut], target[:cut], ridge), target[cut:]))
    return CanonicalFit(min(structured), min(free))


def check_canonical(data: Trajectory, *, factor: float = 5.0, least: float = 0.02, seed: int = 0) -> CanonicalFit:
    """Refuses runs that no Hamiltonian explains: velocities in place of momenta, friction, or a drive.

    Args:
        data: Runs of (q, p), meant for a `HamiltonianField`.
        factor: How many times worse than a free field the best Hamiltonian may be.
        least: Relative error below which a Hamiltonian is good enough, whatever a free field can do.
        seed: Of the features and of the samples kept back.

    Returns:
        Both errors.

    Raises:
        ArgumentError: The data are not canonical.

    Example:
        >>> from diffsim.integrate.odeint import simulate
        >>> from diffsim.systems import ForcedDuffing, Pendulum
        >>> t, y0 = torch.linspace(0, 5, 51), torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
        >>> bool(check_canonical(simulate(Pendulum(), y0, t)).ratio < 5)
        True
    """
    found = canonical_fit(data, seed=seed)
    if found.hamiltonian > least and found.ratio > factor:
        raise ArgumentError(
            f"`data` are not canonical: the best Hamiltonian leaves {found.hamiltonian:.3g} of the derivatives, a free "
            f"field {found.free:.3g}. If the second half holds velocities, pass momenta (`to_momenta`) or fit a "
            "LagrangianField; with friction or a drive fit a PortHamiltonian."
        )
    return found


def _ridge(design: Tensor, target: Tensor, ridge: float) -> Tensor:
    gram = design.T @ design
    size = ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve(gram + size, design.T @ target)


def _error(predicted: Tensor, target: Tensor) -> float:
    return float((predicted - target).square().mean().sqrt())
