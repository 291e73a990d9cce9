"""Runs of a simulator for a diagnosis: points, inputs and outcomes as float64 tensors."""

import torch
from torch import Tensor

from diffsim.errors import ArgumentError, ArgumentTypeError
from surrogates.simulator import InputSimulator, Simulator, as_inputs, as_outcome

__all__ = ["as_points", "check_count", "draw_inputs", "draw_seed", "simulate"]


def simulate(simulator: Simulator | InputSimulator, theta: Tensor, x: Tensor | None, seed: int) -> Tensor:
    """Outcomes at theta [n, d], shape [n, m]."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        if isinstance(simulator, InputSimulator):
            assert x is not None
            returned = simulator(theta.clone(), x.clone(), generator)
        else:
            returned = simulator(theta.clone(), generator)
    return torch.from_numpy(as_outcome(returned, len(theta))).double().reshape(len(theta), -1)


def draw_inputs(simulator: Simulator | InputSimulator, n: int, generator: torch.Generator) -> Tensor | None:
    """Inputs, shape [n, k]; None where the simulator shows none."""
    if not isinstance(simulator, InputSimulator):
        return None
    return torch.from_numpy(as_inputs(simulator.inputs(n, generator), n))


def as_points(name: str, value: Tensor, ndim: int) -> Tensor:
    """One point [d], or several [p, d].

    Raises:
        ArgumentError: The number of dimensions is wrong.
        ArgumentTypeError: It is no tensor.
    """
    if not isinstance(value, Tensor):
        kind = type(value).__name__
        raise ArgumentTypeError(f"`{name}` must be a tensor, got {kind}. Pass torch.as_tensor({name}).")
    if value.ndim != ndim or value.numel() == 0:
        shape, mend = ("[d]", f"{name}[0]") if ndim == 1 else ("[p, d]", f"{name}[None]")
        raise ArgumentError(f"`{name}` must have shape {shape}, got {list(value.shape)}. Pass {mend} for one point.")
    return value.detach().double().cpu()


def check_count(n: int, least: int) -> None:
    """Raises ArgumentError unless a count is an integer and large enough."""
    if isinstance(n, bool) or not isinstance(n, int) or n < least:
        raise ArgumentError(f"`n` must be an integer of at least {least}, got {n!r}.")


def draw_seed(generator: torch.Generator) -> int:
    """A seed from a generator."""
    return int(torch.randint(2**31, (), generator=generator))
