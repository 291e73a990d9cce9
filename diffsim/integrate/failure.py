"""The failure of a solve as the solvers report it: when, and which trajectories of the batch."""

from torch import Tensor

from diffsim.errors import IntegrationError

__all__ = ["DivergenceError"]


class DivergenceError(IntegrationError):
    """Trajectories that are not finite, underflow the step or do not converge.

    Args:
        reason: What happened, when, and the mend.
        time: Where the solve stopped.
        members: Which trajectories failed, shape [...].
    """

    def __init__(self, reason: str, time: float, members: Tensor) -> None:
        super().__init__(reason)
        self.time = time
        self.members = members
