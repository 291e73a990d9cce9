"""A block in which torch's global random numbers start from a seed, and after which they are as before."""

from collections.abc import Generator
from contextlib import contextmanager

import torch

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """A block whose global torch random numbers come from a seed; the state before is restored after it.

    For code of libraries that takes no generator, such as the initial weights of networks and `rsample`.

    Example:
        >>> with seeded(0):
        ...     first = torch.rand(1)
        >>> with seeded(0):
        ...     assert torch.equal(first, torch.rand(1))
    """
    cuda = torch.cuda.is_initialized()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if cuda else []):
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed_all(seed)
        yield
