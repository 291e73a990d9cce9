"""The Gaussian-process Hamiltonian: a prior on the energy under which derivative data have an exact posterior."""

from collections.abc import Sequence

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, TrainingError
from diffsim.fields.evidence import Evidence, maximise_evidence
from diffsim.fields.fourier_features import FourierFeatures, Waves
from diffsim.fields.hamiltonian import Hamiltonian, split_state

__all__ = ["FourierHamiltonian", "GaussianProcessHamiltonian"]


class FourierHamiltonian(Hamiltonian):
    """An energy that is linear in its weights: H(y, theta) = known(y) + weights . phi(coordinates y, theta).

    Args:
        waves: The features phi of m + k inputs.
        weights: Shape [F].
        coordinates: The matrix [m, d] that maps the state to the features' coordinates; the identity by default.
        known: The known part of the energy, if any.
    """

    weights: Tensor
    coordinates: Tensor | None

    def __init__(
        self,
        waves: Waves,
        weights: Tensor,
        coordinates: Tensor | None = None,
        known: Hamiltonian | None = None,
    ) -> None:
        super().__init__()
        self.waves = waves
        self.known = known
        self.register_buffer("weights", weights)
        self.register_buffer("coordinates", coordinates)

    @property
    def lengthscale(self) -> Tensor:
        """The length scale of each of the features' inputs, shape [m + k]."""
        return self.waves.lengthscale

    def inputs(self, y: Tensor, theta: Tensor | None = None) -> Tensor:
        """The features' inputs, [..., d], [..., k] -> [..., m + k].

        Raises:
            ArgumentError: The state or the parameters have the wrong size.
        """
        z = y if self.coordinates is None else y @ self.coordinates.T
        if theta is not None:
            z = torch.cat([z, theta.to(z).expand(*z.shape[:-1], theta.shape[-1])], dim=-1)
        if z.shape[-1] != self.waves.n_inputs:
            raise ArgumentError(
                f"`y` and `theta` must give the energy's {self.waves.n_inputs} inputs, got {z.shape[-1]} from `y` "
                f"{list(y.shape)} and `theta` {None if theta is None else list(theta.shape)}."
            )
        return z

    def energy(self, y: Tensor, theta: Tensor | None = None) -> Tensor:
        """The energy up to a constant, [..., d], [..., k] -> [...]."""
        energy = self.waves(self.inputs(y, theta)) @ self.weights
        return energy if self.known is None else energy + self.known.energy(y)

    def energy_gradient(self, y: Tensor, theta: Tensor | None = None) -> Tensor:
        """The gradient of the energy in the state, in closed form, [..., d], [..., k] -> [..., d]."""
        gradient = self._to_state(self.waves.weighted_gradient(self.inputs(y, theta), self.weights), y, -1)
        return gradient if self.known is None else gradient + self.known.energy_gradient(y)

    def forward(self, t: Tensor, y: Tensor, theta: Tensor | None = None) -> Tensor:
        split_state(y)
        return _symplectic(self.energy_gradient(y, theta), -1)

    def design(self, y: Tensor, theta: Tensor | None = None) -> Tensor:
        """The matrix that maps weights to dy/dt, less the known part, [..., d], [..., k] -> [..., d, F]."""
        gradient = self.waves.gradient(self.inputs(y, theta))
        return _symplectic(self._to_state(gradient, y, -2), -2)

    def linearise(self, y: Tensor, theta: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The field [..., d], its Jacobian in the state [..., d, d] and its `design` [..., d, F], in one pass."""
        features, hessian = self.waves.derivatives(self.inputs(y, theta), self.weights)
        design = self._to_state(features, y, -2)
        gradient = design @ self.weights
        hessian = self._to_state(self._to_state(hessian, y, -1), y, -2)
        if self.known is not None:
            gradient = gradient + self.known.energy_gradient(y)
            hessian = hessian + self.known.energy_hessian(y)
        return _symplectic(gradient, -1), _symplectic(hessian, -2), _symplectic(design, -2)

    def _to_state(self, gradient: Tensor, y: Tensor, dim: int) -> Tensor:
        """From derivatives in the features' inputs to derivatives in the state, along a dimension."""
        if self.coordinates is None:
            return gradient.narrow(dim, 0, y.shape[-1])
        gradient = gradient.narrow(dim, 0, self.coordinates.shape[0])
        return gradient @ self.coordinates if dim == -1 else self.coordinates.T @ gradient


def _symplectic(gradient: Tensor, dim: int) -> Tensor:
    dq, dp = gradient.chunk(2, dim=dim)
    return torch.cat([dp, -dq], dim=dim)


class GaussianProcessHamiltonian(FourierHamiltonian):
    """A Gaussian process over energies, as random features: the posterior given derivative data is exact.

    The prior is a squared-exponential kernel with a length scale for each input, periodic where a period is given.
    As a field it is its posterior mean; `sample` draws fields from the posterior. All in float64.

    Args:
        dim: Dimension d = 2k of the state.
        n_theta: Number of system parameters that the energy depends on.
        n_features: Number F of random features (even).
        periods: For each input (state or coordinates, then theta) its period, or None.
        scale: Typical size of each input: the prior median of its length scale. One by default.
        coordinates: Matrix [m, d], if the energy depends on m linear combinations of the state only, as a
            potential on positions or on separations does.
        known: The known part of the energy, for example the kinetic energy.
        seed: Of the random features.

    Example:
        >>> field = GaussianProcessHamiltonian(2)
        >>> q = torch.linspace(-1, 1, 9, dtype=torch.float64)
        >>> y = torch.cartesian_prod(q, q)
        >>> _ = field.fit(y, torch.stack([y[:, 1], -y[:, 0]], dim=-1))  # a spring
        >>> bool((field(torch.tensor(0.0), y[0]) - torch.tensor([-1.0, 1.0])).abs().max() < 1e-3)
        True

    Source: Rahimi and Recht, 2007; Rath, Albert, Bischl and von Toussaint, 2021, arXiv 2009.05569.
    """

    factor: Tensor
    scale: Tensor
    signal: Tensor
    noise: Tensor

    def __init__(
        self,
        dim: int,
        *,
        n_theta: int = 0,
        n_features: int = 256,
        periods: Sequence[float | None] | None = None,
        scale: Sequence[float] | Tensor | None = None,
        coordinates: Tensor | None = None,
        known: Hamiltonian | None = None,
        seed: int = 0,
    ) -> None:
        if dim < 2 or dim % 2:
            raise ArgumentError(f"`dim` must be even and at least 2 (positions, then momenta), got {dim}.")
        if coordinates is not None:
            coordinates = torch.as_tensor(coordinates, dtype=torch.float64)
            if coordinates.ndim != 2 or coordinates.shape[1] != dim:
                raise ArgumentError(f"`coordinates` must have shape [m, {dim}], got {list(coordinates.shape)}.")
        n_inputs = n_theta + (dim if coordinates is None else coordinates.shape[0])
        scale = torch.as_tensor([1.0] * n_inputs if scale is None else scale, dtype=torch.float64)
        if scale.shape != (n_inputs,) or not bool((scale > 0).all()):
            raise ArgumentError(f"`scale` must hold {n_inputs} positive numbers, got {scale.tolist()}.")
        features = FourierFeatures(n_inputs, n_features, periods=periods, seed=seed)
        super().__init__(features.at(scale.clone()), torch.zeros(n_features, dtype=torch.float64), coordinates, known)
        self.features = features
        self.dim = dim
        self.n_theta = n_theta
        self.register_buffer("scale", scale)
        self.register_buffer("signal", torch.ones((), dtype=torch.float64))
        self.register_buffer("noise", torch.full((), 1e-2, dtype=torch.float64))
        self.register_buffer("factor", torch.eye(n_features, dtype=torch.float64))

    def fit(self, y: Tensor, dy: Tensor, theta: Tensor | None = None) -> Evidence:
        """Condition on derivative data, with the hyper-parameters of the largest evidence.

        Args:
            y: States, shape [..., d].
            dy: Their time derivatives, shape [..., d].
            theta: System parameters, shape [..., k].

        Returns:
            The evidence that was reached and the hyper-parameters.

        Raises:
            ArgumentError: Shapes do not agree.
            TrainingError: Data are empty or not finite.
        """
        y, dy, theta = self._check(y, dy, theta)
        if self.known is not None:
            with torch.no_grad():
                dy = dy - self.known(torch.zeros((), dtype=dy.dtype, device=dy.device), y)

        def design(lengthscale: Tensor) -> Tensor:
            return self.at(lengthscale).design(y, theta).flatten(0, 1)

        evidence = maximise_evidence(design, dy.flatten(), self.scale)
        self.adopt(evidence)
        self.condition(design(self.lengthscale), dy.flatten(), self.noise)
        return evidence

    def at(self, lengthscale: Tensor) -> FourierHamiltonian:
        """The same energy with other length scales, without the known part."""
        return FourierHamiltonian(self.features.at(lengthscale), self.weights, self.coordinates)

    def adopt(self, evidence: Evidence) -> None:
        """Take over hyper-parameters."""
        self.waves = self.features.at(evidence.lengthscale)
        self.signal, self.noise = evidence.signal, evidence.noise

    @torch.no_grad()
    def condition(self, design: Tensor, target: Tensor, noise: Tensor | float) -> None:
        """Set the posterior of the weights, given target = design . weights + noise, from the prior.

        Args:
            design: Shape [r, F].
            target: Shape [r].
            noise: Standard deviation of the targets' noise, shape [].
        """
        scaled = design * (self.signal / noise)
        precision, basis = torch.linalg.eigh(scaled.T @ scaled)
        precision = precision.clamp_min(0) + 1
        projection = basis.T @ (scaled.T @ (target / noise))
        self.weights = self.signal * (basis @ (projection / precision))
        self.factor = self.signal * basis / precision.sqrt()

    def sample(self, n: int, generator: torch.Generator) -> list[FourierHamiltonian]:
        """Draw n fields from the posterior, or from the prior before `fit`."""
        draws = torch.randn(n, self.factor.shape[-1], generator=generator, dtype=torch.float64).to(self.factor)
        weights = self.weights + draws @ self.factor.T
        return [FourierHamiltonian(self.waves, w, self.coordinates, self.known) for w in weights]

    def _check(self, y: Tensor, dy: Tensor, theta: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        if y.shape != dy.shape or y.ndim == 0 or y.shape[-1] != self.dim:
            raise ArgumentError(
                f"`y` and `dy` must have the same shape [..., {self.dim}], got {list(y.shape)} and {list(dy.shape)}."
            )
        if (0 if theta is None else theta.shape[-1]) != self.n_theta:
            given = None if theta is None else list(theta.shape)
            raise ArgumentError(f"`theta` must have shape [..., {self.n_theta}], got {given}.")
        if theta is not None:
            theta = theta.to(self.weights).expand(*y.shape[:-1], self.n_theta).reshape(-1, self.n_theta)
        y, dy = y.to(self.weights).reshape(-1, self.dim), dy.to(self.weights).reshape(-1, self.dim)
        if y.shape[0] == 0:
            raise TrainingError("`y` is empty: a Gaussian-process Hamiltonian needs at least one state.")
        if not all(bool(torch.isfinite(x).all()) for x in (y, dy, theta) if x is not None):
            raise TrainingError("`y`, `dy` and `theta` must be finite. Leave the failed runs out.")
        return y, dy, theta
