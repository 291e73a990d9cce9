"""Linear algebra on one thread: faster for small matrices, a hundred times so where cores are busy."""

import functools
from collections.abc import Generator
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController

__all__ = ["one_thread"]


@contextmanager
def one_thread() -> Generator[None]:
    """A block in which NumPy's and SciPy's linear algebra uses one thread."""
    with _pools().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()
