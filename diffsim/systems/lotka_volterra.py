"""The Lotka-Volterra system of predators and prey, with its constant of the motion."""

import torch
from torch import Tensor

from diffsim.fields.base import VectorField
from diffsim.systems.constants import Constant, components, match, register_positive

__all__ = ["LotkaVolterra"]


class LotkaVolterra(VectorField):
    """Prey u and predators v: u' = growth u - predation u v, v' = reproduction u v - death v; the state is (u, v).

    Numbers of animals (or densities), both positive; rates per unit of time (predation and reproduction: per animal
    too). The fixed point is (death / reproduction, growth / predation); small cycles around it have the period
    2 pi / sqrt(growth death).

    Args:
        growth: Rate at which prey multiply.
        predation: Rate at which one predator eats one prey.
        death: Rate at which predators die.
        reproduction: Rate at which one prey turns into predators.

    Raises:
        ArgumentError: A rate is not positive.

    Source: Murray, Mathematical Biology I, 3rd edition, 2002, equations 3.1 and 3.7.

    Example:
        >>> LotkaVolterra()(torch.tensor(0.0), torch.tensor([2.0, 1.0]))
        tensor([0., 1.])
    """

    growth: Tensor
    predation: Tensor
    death: Tensor
    reproduction: Tensor

    def __init__(
        self,
        growth: Constant = 1.0,
        predation: Constant = 1.0,
        death: Constant = 1.0,
        reproduction: Constant = 1.0,
    ) -> None:
        super().__init__()
        register_positive(self, growth=growth, predation=predation, death=death, reproduction=reproduction)

    def _rates(self, like: Tensor) -> list[Tensor]:
        return match(
            like, growth=self.growth, predation=self.predation, death=self.death, reproduction=self.reproduction
        )

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        u, v = components(y, 2, "state (prey, predators)")
        growth, predation, death, reproduction = self._rates(u)
        return torch.cat([u * (growth - predation * v), v * (reproduction * u - death)], dim=-1)

    def invariant(self, y: Tensor) -> Tensor:
        """The constant of the motion, reproduction u - death log u + predation v - growth log v: [..., 2] -> [...]."""
        u, v = components(y, 2, "state (prey, predators)")
        growth, predation, death, reproduction = self._rates(u)
        return (reproduction * u - death * u.log() + predation * v - growth * v.log()).sum(-1)
