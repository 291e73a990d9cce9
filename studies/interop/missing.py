"""What is said where a library of the extra `interop` is missing."""

from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["needs"]


@contextmanager
def needs(library: str) -> Generator[None]:
    """A block of imports; a library that is missing there is an ImportError that says how to install it."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"This needs {library}. Install it: pip install 'diffsim-studies[interop]'") from error
