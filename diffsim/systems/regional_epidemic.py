"""The SEIR epidemic in regions that infect each other, on a given graph of contacts."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.fields.base import VectorField
from diffsim.fields.inputs import column
from diffsim.systems.constants import Constant, check_size, match, register_constants, register_positive

__all__ = ["RegionalSEIR"]


class RegionalSEIR(VectorField):
    """SEIR in R regions: new infections in r are S_r / T_i sum_s contacts[r, s] R0_s I_s / N_s.

    The state is (S_1..S_R, E_1..E_R, I_1..I_R, R_1..R_R), persons or fractions of each region; the total of each
    stays constant. With the identity for contacts the regions are alone, each as in `SEIR`.

    Args:
        contacts: Shares of a region's infections that come from each other region, shape [R, R], not negative;
            each row adds up to one.
        reproduction_number: R0: a number, a tensor [R], or a function (a network) of time, [..., 1] -> [..., R] or
            [..., 1].
        latent_period: Mean time from infection to being infectious, days.
        infectious_period: Mean time T_i of being infectious, days.

    Raises:
        ArgumentError: A period is not positive, or the contacts are no shares.
        ArgumentTypeError: The function of time does not return a tensor.

    Source: Keeling and Rohani, Modeling Infectious Diseases, 2008, section 7.2 (coupled populations).

    Example:
        >>> field = RegionalSEIR(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), 2.0)
        >>> y = torch.tensor([0.9, 1.0, 0.0, 0.0, 0.1, 0.0, 0.0, 0.0])
        >>> field(torch.tensor(0.0), y)[3] > 0  # the second region is infected by the first
        tensor(True)
    """

    contacts: Tensor
    latent_period: Tensor
    infectious_period: Tensor
    reproduction_number: Tensor

    def __init__(
        self,
        contacts: Tensor,
        reproduction_number: Constant | Callable[[Tensor], Tensor] = 2.5,
        latent_period: Constant = 5.2,
        infectious_period: Constant = 18.0,
    ) -> None:
        super().__init__()
        shares = contacts.detach()
        if shares.ndim != 2 or shares.shape[0] != shares.shape[1]:
            raise ArgumentError(f"`contacts` must have shape [R, R], got {list(shares.shape)}.")
        if bool((shares < 0).any()) or not bool(((shares.sum(-1) - 1).abs() < 1e-4).all()):
            raise ArgumentError(
                "`contacts` must be shares: none negative, each row adds up to 1. Divide by the row sums."
            )
        register_constants(self, contacts=contacts)
        register_positive(self, latent_period=latent_period, infectious_period=infectious_period)
        self.function = reproduction_number if callable(reproduction_number) else None
        if not callable(reproduction_number):
            register_constants(self, reproduction_number=reproduction_number)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        regions = len(self.contacts)
        check_size(y, 4 * regions, f"state (S, E, I, R of {regions} regions)")
        susceptible, exposed, infectious, removed = y.chunk(4, dim=-1)
        number = self.function(column(t, y)) if self.function else self.reproduction_number
        if not isinstance(number, Tensor):
            raise ArgumentTypeError(f"`reproduction_number(t)` must return a tensor, got {type(number).__name__}.")
        latent_period, infectious_period = match(
            susceptible, latent_period=self.latent_period, infectious_period=self.infectious_period
        )
        total = susceptible + exposed + infectious + removed
        pressure = (number.to(y) * infectious / total) @ self.contacts.to(y).mT
        infection = susceptible * pressure / infectious_period
        onset, removal = exposed / latent_period, infectious / infectious_period
        return torch.cat([-infection, infection - onset, onset - removal, removal], dim=-1)
