"""Steps compiled by torch, for fields that the native library does not know."""

import functools
import logging
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

from diffsim.fields.base import VectorField

__all__ = ["compiled"]

_LOG = logging.getLogger("diffsim")
_FORMS = 64  # that one step may be compiled to, for different fields, shapes and dtypes
_FAILED: set[tuple[object, type]] = set()
_T = TypeVar("_T")


@functools.cache
def compiled(step: Callable[..., _T]) -> Callable[..., _T]:
    """A step as torch compiles it: the first call with a field takes from seconds to a minute.

    A kind of field that cannot be compiled takes the step as it is, after one warning that says why.

    Args:
        step: A function whose first argument is the field.
    """
    fast = torch.compile(step, fullgraph=True)

    def call(field: VectorField, *arguments: object) -> _T:
        kind = step, type(field)
        if kind in _FAILED:
            return step(field, *arguments)
        try:
            # Energies are differentiated within a step, and many fields may have a form of it.
            with torch._dynamo.config.patch(trace_autograd_ops=True, recompile_limit=_FORMS):  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
                return fast(field, *arguments)
        except torch._dynamo.exc.TorchDynamoException as error:  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
            # A fault of the field itself comes again, and is told as it is.
            result = step(field, *arguments)
            _FAILED.add(kind)
            _LOG.info("torch cannot compile %s: %s", type(field).__name__, error)
            warnings.warn(
                f"torch cannot compile the steps of this {type(field).__name__}, which are taken as they are: "
                f"{str(error).splitlines()[0]}. Solver(..., backend='plain') does not try.",
                RuntimeWarning,
                stacklevel=2,
            )
            return result

    return call
