"""Pictures of a pendulum: a line drawn on a small grid, two frames to an observation, so that velocities show."""

import torch
from torch import Tensor

from diffsim.errors import ArgumentError

__all__ = ["pendulum_frames", "stack_frames"]


def pendulum_frames(angles: Tensor, size: int = 28, length: float = 0.8, width: float = 0.08) -> Tensor:
    """Pictures of a rod hung from the centre, smooth in the angle.

    Args:
        angles: From hanging, rad, shape [...].
        size: Pixels on each side.
        length: Of the rod, in half sides.
        width: Of the rod, in half sides.

    Returns:
        Brightness in [0, 1], shape [..., size * size].

    Raises:
        ArgumentError: A size is not positive.

    Example:
        >>> picture = pendulum_frames(torch.tensor(0.0), size=9).reshape(9, 9)
        >>> bool(picture[7, 4] > 0.9), bool(picture[1, 4] < 0.1)  # it hangs
        (True, True)
    """
    if size < 2 or not length > 0 or not width > 0:
        raise ArgumentError(f"`size` must be at least 2, `length` and `width` positive, got {size}, {length}, {width}.")
    axis = torch.linspace(-1, 1, size, dtype=angles.dtype, device=angles.device)
    down, right = torch.meshgrid(axis, axis, indexing="ij")
    pixels = torch.stack([right, down], dim=-1).reshape(-1, 2)
    along = torch.stack([angles.sin(), angles.cos()], dim=-1)[..., None, :]
    place = (pixels * along).sum(-1).clamp(0, length)
    distance = (pixels - place[..., None] * along).square().sum(-1)
    return torch.exp(-distance / (2 * width**2))


def stack_frames(frames: Tensor) -> Tensor:
    """Each frame beside the next, [T, n, m] -> [T - 1, n, 2 m]: observations that show velocities.

    Raises:
        ArgumentError: Fewer than two frames.
    """
    if frames.ndim != 3 or len(frames) < 2:
        raise ArgumentError(f"`frames` must have shape [T, n, m] with T >= 2, got {list(frames.shape)}.")
    return torch.cat([frames[:-1], frames[1:]], dim=-1)
