"""The SEIR epidemic with a reproduction number that may change in time, and the form of a second wave."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentTypeError
from diffsim.fields.base import VectorField
from diffsim.systems.constants import (
    Constant,
    components,
    match,
    register_constants,
    register_nonnegative,
    register_positive,
)

__all__ = ["SEIR", "SecondWave"]


class SEIR(VectorField):
    """An epidemic in a closed population; the state is (susceptible, exposed, infectious, removed).

    S' = -R0(t) I S / (N T_i), E' = R0(t) I S / (N T_i) - E / T_e, I' = E / T_e - I / T_i, R' = I / T_i, with
    N = S + E + I + R constant. Persons or fractions of the population; time in the unit of the two periods.

    Args:
        reproduction_number: R0, a constant, or a function of time, [] -> [] or [n, 1]. Give an `nn.Module`
            (such as `SecondWave` or a network) where its constants are to be learnt.
        latent_period: Mean time T_e from infection to being infectious, days.
        infectious_period: Mean time T_i of being infectious, days.

    Raises:
        ArgumentError: A period is not positive, or the reproduction number is a negative constant.
        ArgumentTypeError: The function of time does not return a tensor.

    Source: Keeling and Rohani, Modeling Infectious Diseases, 2008, section 2.5, without births and deaths;
        R0(t) and the default periods as in Atkeson, 2020, NBER working paper 26867.

    Example:
        >>> SEIR(2.0, latent_period=4.0, infectious_period=8.0)(torch.tensor(0.0), torch.tensor([0.5, 0.1, 0.4, 0.0]))
        tensor([-0.0500,  0.0250, -0.0250,  0.0500])
    """

    latent_period: Tensor
    infectious_period: Tensor

    def __init__(
        self,
        reproduction_number: Constant | Callable[[Tensor], Tensor] = 2.5,
        latent_period: Constant = 5.2,
        infectious_period: Constant = 18.0,
    ) -> None:
        super().__init__()
        register_positive(self, latent_period=latent_period, infectious_period=infectious_period)
        if callable(reproduction_number):
            self.reproduction_number = reproduction_number
        else:
            register_nonnegative(self, reproduction_number=reproduction_number)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        susceptible, exposed, infectious, _ = components(y, 4, "state (S, E, I, R)")
        given = self.reproduction_number
        number = given if isinstance(given, Tensor) else given(t)
        if not isinstance(number, Tensor):
            raise ArgumentTypeError(f"`reproduction_number(t)` must return a tensor, got {type(number).__name__}.")
        number, latent_period, infectious_period = match(
            susceptible,
            reproduction_number=number,
            latent_period=self.latent_period,
            infectious_period=self.infectious_period,
        )
        removal = infectious / infectious_period
        infection = number * removal * susceptible / y.sum(-1, keepdim=True)
        onset = exposed / latent_period
        return torch.cat([-infection, infection - onset, onset - removal, removal], dim=-1)


class SecondWave(nn.Module):
    """A reproduction number with a second wave that sets in at `start` and decays.

    R0(t) = base + amplitude exp(-(t - start) / decay_time) |sin(frequency (t - start))| for t > start, else base.
    All constants can be differentiated, and learnt if given as `nn.Parameter`.

    Args:
        base: The reproduction number before the wave.
        amplitude: Of the wave.
        start: Time at which the wave sets in.
        frequency: Angular frequency of the wave, rad per unit of time.
        decay_time: Time in which the wave decays by a factor e.

    Raises:
        ArgumentError: The base or the amplitude is negative, or the decay time not positive.

    Example:
        >>> number = SecondWave(base=1.0, amplitude=2.0, start=10.0, frequency=torch.pi / 2)
        >>> number(torch.tensor(5.0)), number(torch.tensor(11.0))
        (tensor(1., dtype=torch.float64), tensor(1.7358, dtype=torch.float64))
    """

    base: Tensor
    amplitude: Tensor
    start: Tensor
    frequency: Tensor
    decay_time: Tensor

    def __init__(
        self,
        base: Constant,
        amplitude: Constant,
        start: Constant,
        frequency: Constant,
        decay_time: Constant = 1.0,
    ) -> None:
        super().__init__()
        register_nonnegative(self, base=base, amplitude=amplitude)
        register_constants(self, start=start, frequency=frequency)
        register_positive(self, decay_time=decay_time)

    def forward(self, t: Tensor) -> Tensor:
        """The reproduction number at a time: [] -> [] (or [n, 1] with constants of that shape)."""
        # Zero before the start, so that the exponential cannot overflow there.
        since = (t - self.start).clamp(min=0)
        wave = torch.exp(-since / self.decay_time) * torch.sin(self.frequency * since).abs()
        return self.base + self.amplitude * wave
