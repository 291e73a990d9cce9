"""Keyed randomness: every random number of a study belongs to a key, whoever draws it and in whatever order."""

import hashlib
import random
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["isolated", "key_generator", "key_seed", "seed_globally"]


def key_seed(seed: int, round: int, stream: str, chunk: int = 0) -> int:
    """The 63-bit seed that belongs to a key.

    Args:
        seed: The study's seed.
        round: The round's number.
        stream: What the numbers are for: "propose", "simulate", "recommend".
        chunk: The part of the stream, such as a trial's number.
    """
    # torch's CPU generator takes 32 bits of it: two of 10,000 trials share their numbers with a chance of 1 %.
    digest = hashlib.sha256(f"{seed}/{round}/{stream}/{chunk}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def key_generator(seed: int, round: int, stream: str, chunk: int = 0) -> torch.Generator:
    """A fresh generator on the CPU for a key; see `key_seed`."""
    return torch.Generator().manual_seed(key_seed(seed, round, stream, chunk))


def seed_globally(generator: torch.Generator) -> None:
    """Seeds the global random numbers as `isolated` does, and leaves them so: for a process that is all ours."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def isolated(generator: torch.Generator) -> Generator[None]:
    """A block whose global random numbers (torch, numpy, random) are seeded from a generator and restored after it.

    User code that draws globally is then repeatable, and the caller's global state is left as it was. The global
    state is one for all threads of a process: code that runs in threads must draw from its generator.

    Example:
        >>> with isolated(torch.Generator().manual_seed(0)):
        ...     first = torch.rand(1)
        >>> with isolated(torch.Generator().manual_seed(0)):
        ...     assert torch.equal(first, torch.rand(1))
    """
    cuda = torch.cuda.is_initialized()
    numpy_state, python_state = np.random.get_state(legacy=False), random.getstate()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if cuda else []):
        try:
            seed_globally(generator)
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
