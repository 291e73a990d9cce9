"""A Hamiltonian behind an autoencoder: dynamics of observations, such as images, in learned coordinates (q, p)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError
from diffsim.fields.hamiltonian import Hamiltonian, HamiltonianField, split_state
from diffsim.fields.neural import mlp

__all__ = ["Autoencoder", "LatentHamiltonian"]


class Autoencoder(nn.Module):
    """An encoder and a decoder with residual hidden layers, as for the pixel pendulum of the HNN paper.

    Args:
        n_observed: Number m of observed values.
        n_latent: Number 2k of latent coordinates.
        width: Of the three hidden layers of each part.
        seed: Of the initial weights.

    Source: Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563, section 5, and its code.
    """

    def __init__(self, n_observed: int, n_latent: int = 2, width: int = 200, *, seed: int = 0) -> None:
        super().__init__()
        self.encoder = _Residual(n_observed, n_latent, width, seed)
        self.decoder = _Residual(n_latent, n_observed, width, seed + 10)

    def encode(self, x: Tensor) -> Tensor:
        """Latent coordinates, [..., m] -> [..., 2k]."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Observations, [..., 2k] -> [..., m]."""
        return self.decoder(z)


class _Residual(nn.Module):
    def __init__(self, n_in: int, n_out: int, width: int, seed: int) -> None:
        super().__init__()
        self.first = mlp(n_in, width, (), seed=seed)
        self.second = mlp(width, width, (), seed=seed + 1)
        self.third = mlp(width, width, (), seed=seed + 2)
        self.last = mlp(width, n_out, (), seed=seed + 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        h = h + self.second(h).relu()
        h = h + self.third(h).relu()
        return self.last(h)


class LatentHamiltonian(nn.Module):
    """An autoencoder whose latent state moves by a Hamiltonian; `loss` is what a fit makes small.

    One observation must tell positions *and* momenta: stack two frames, since one picture shows no velocity. Time is
    counted in samples: the latent `field` is that of one sampling interval, and the future of an observation x is
    `autoencoder.decode(odeint(field, autoencoder.encode(x), t))`.

    Args:
        autoencoder: With `encode`, [..., m] -> [..., 2k], and `decode`.
        energy: H of the latent state, a `Hamiltonian` or a network [..., 2k] -> [..., 1].

    Source: Greydanus, Dzamba and Yosinski, 2019, arXiv 1906.01563, section 5.
    """

    def __init__(self, autoencoder: Autoencoder, energy: Hamiltonian | Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.field = energy if isinstance(energy, Hamiltonian) else HamiltonianField(energy)

    def loss(self, before: Tensor, after: Tensor, *, canonical: float = 1.0, dynamics: float = 0.1) -> Tensor:
        """Reconstruction + canonical coordinates (p is the change of q) + dynamics (the change is the field).

        Args:
            before: Observations, shape [n, m].
            after: Those one sample later.
            canonical: Weight of the second part.
            dynamics: Weight of the third.

        Raises:
            ArgumentError: Different shapes.
        """
        if before.shape != after.shape or before.ndim != 2:
            raise ArgumentError(
                f"`before` and `after` must have the same shape [n, m], got {list(before.shape)} and "
                f"{list(after.shape)}."
            )
        start, end = self.autoencoder.encode(before), self.autoencoder.encode(after)
        rebuilt = (self.autoencoder.decode(start) - before).square().mean()
        (q, p), (q_after, _) = split_state(start), split_state(end)
        coordinates = (p - (q_after - q)).square().mean()
        moved = (end - start - self.field(torch.zeros_like(start[0, 0]), start)).square().mean()
        return rebuilt + canonical * coordinates + dynamics * moved
