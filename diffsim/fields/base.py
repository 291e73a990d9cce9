"""Vector fields: what the solvers integrate. A field maps a time and a state to the state's time derivative."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError

__all__ = ["ConditionedField", "FunctionField", "VectorField"]


class VectorField(nn.Module, ABC):
    """A differential equation dy/dt = f(t, y).

    Parameters and buffers are the constants of the field: every one that requires a gradient gets it from
    `odeint`, whichever way the solver differentiates. Subclasses implement `forward` and hold their constants
    as parameters or buffers (`register_buffer`), never as plain attributes.
    """

    @abstractmethod
    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        """The time derivative of the state.

        Args:
            t: Time, shape [].
            y: State, shape [..., d].

        Returns:
            dy/dt, shape [..., d].
        """

    def check_state(self, y: Tensor) -> None:
        """Refuses states from which no run can start, such as positions off a constraint; shape [..., d].

        Raises:
            ArgumentError: A state is no state of the system.
        """

    __call__: Callable[..., Tensor]


class FunctionField(VectorField):
    """A vector field from a plain function `f(t, y)`; tensors given by keyword become its constants.

    Args:
        function: `f(t, y, **constants) -> dy/dt`, shapes [] and [..., d] -> [..., d].
        constants: Tensors, registered as buffers, or `nn.Parameter`s.

    Example:
        >>> decay = FunctionField(lambda t, y, rate: -rate * y, rate=torch.tensor(0.5))
        >>> decay(torch.tensor(0.0), torch.ones(1))
        tensor([-0.5000])
    """

    def __init__(self, function: Callable[..., Tensor], **constants: Tensor) -> None:
        super().__init__()
        self._function = function
        self._names = tuple(constants)
        for name, value in constants.items():
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            else:
                self.register_buffer(name, torch.as_tensor(value))

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        constants: dict[str, Any] = {name: getattr(self, name) for name in self._names}
        return self._function(t, y, **constants)


class ConditionedField(VectorField):
    """A field that depends on system parameters theta, at given values of them.

    Args:
        field: A module called as `field(t, y, theta)`.
        theta: System parameters, shape [..., k], which broadcast with the states' batch dimensions.
    """

    theta: Tensor

    def __init__(self, field: nn.Module, theta: Tensor) -> None:
        super().__init__()
        if theta.ndim == 0:
            raise ArgumentError("`theta` must have shape [..., k], got []. Pass theta[None] for one parameter.")
        self.field = field
        self.register_buffer("theta", theta)

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        return self.field(t, y, self.theta)
