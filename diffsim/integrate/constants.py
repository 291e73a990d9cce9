"""What a gradient through a solve rests on: the field's constants, unchanged since, and first derivatives only."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffsim.errors import IntegrationError

__all__ = ["check_first_derivative", "check_unchanged", "constants", "hidden_leaves"]


def constants(field: nn.Module) -> tuple[Tensor, ...]:
    """Every parameter and buffer of a field that requires a gradient."""
    # As `parameters()` and `buffers()` find them, in a third of the time: this is asked twice in every solve.
    found: dict[int, Tensor] = {}
    seen: set[int] = set()
    stack = [field]
    while stack:
        module = stack.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        for c in (*module._parameters.values(), *module._buffers.values()):  # pyright: ignore[reportPrivateUsage]
            if c is not None and c.requires_grad:
                found[id(c)] = c
        stack.extend(child for child in module._modules.values() if child is not None)  # pyright: ignore[reportPrivateUsage]
    return tuple(found.values())


def check_unchanged(field: nn.Module, before: Sequence[Tensor]) -> None:
    """Refuses to replay a field whose constants were replaced after the solve.

    Raises:
        IntegrationError: A parameter or buffer is no longer the tensor that it was.
    """
    now = constants(field)
    if len(now) != len(before) or any(a is not b for a, b in zip(now, before, strict=True)):
        raise IntegrationError(
            "A parameter or buffer of the field was replaced between the solve and its gradient. "
            "Take the gradient first, or solve again after the change."
        )


def check_first_derivative(mend: str) -> None:
    """Refuses, inside a backward pass, to take part in a second derivative.

    Raises:
        IntegrationError: The backward pass makes a graph of its own.
    """
    if torch.is_grad_enabled():
        raise IntegrationError(f"This solve has no derivatives of gradients (create_graph=True). {mend}")


def hidden_leaves(output: Tensor, known: Sequence[Tensor]) -> list[Tensor]:
    """Tensors requiring a gradient on which `output` depends other than through the known ones."""
    edges = {(c.grad_fn, c.output_nr) for c in known if c.grad_fn is not None}
    leaves = {id(c) for c in known}
    hidden: list[Tensor] = []
    stack: list[tuple[Any, int]] = [(output.grad_fn, output.output_nr)]
    seen: set[Any] = set()
    while stack:
        node, number = stack.pop()
        if node is None or (node, number) in edges or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in leaves:
            hidden.append(leaf)
        stack.extend(node.next_functions)
    return hidden
