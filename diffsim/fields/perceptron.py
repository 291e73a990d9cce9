"""First and second derivatives of a perceptron's summed output, written out: no reverse passes over reverse passes."""

from typing import TypeGuard

import torch
from torch import Tensor, nn

__all__ = ["first_derivative", "is_perceptron", "second_derivatives"]

_ACTIVATIONS = (nn.Tanh, nn.Sigmoid, nn.Softplus, nn.SiLU)


def is_perceptron(function: object) -> TypeGuard[nn.Sequential]:
    """Whether a function is a plain `nn.Sequential` of linear layers with one kind of smooth activation between."""
    if type(function) is not nn.Sequential or len(function) < 3 or len(function) % 2 == 0:
        return False
    modules = list(function)
    kinds = {type(module) for module in modules[1::2]}
    return (
        all(type(module) is nn.Linear for module in modules[::2])
        and len(kinds) == 1
        and kinds <= set(_ACTIVATIONS)
        and not any(isinstance(m, nn.Softplus) and (m.beta != 1 or m.threshold < 20) for m in modules)
        and not any(m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m) for m in (function, *modules))  # pyright: ignore[reportPrivateUsage]
    )


def first_derivative(net: nn.Sequential, x: Tensor) -> Tensor:
    """The gradient of the summed output, [..., d] -> [..., d]; differentiable."""
    *hidden, last = (layer for layer in net if isinstance(layer, nn.Linear))
    value, slopes = x, []
    for layer in hidden:
        value, slope = _with_slope(net[1], layer(value))
        slopes.append(slope)
    gradient = last.weight.sum(0)
    for layer, slope in zip(reversed(hidden), reversed(slopes), strict=True):
        gradient = (gradient * slope) @ layer.weight
    return gradient


def second_derivatives(net: nn.Sequential, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The gradient of the summed output, [..., d], and the last k rows of its Hessian, [..., k, d].

    Tangents of the last k inputs go forward with the values and back with the gradient. Differentiable.
    """
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    activation = net[1]
    value, tangents = x, None
    slopes: list[Tensor] = []
    bends: list[Tensor] = []
    for layer in layers[:-1]:
        z = layer(value)
        # [k, ..., n]: those of the inputs themselves are columns of the first weight.
        along = _columns(layer.weight, k, x.ndim) if tangents is None else tangents @ layer.weight.mT
        value, slope, bend = _derivatives(activation, z)
        tangents = slope * along
        slopes.append(slope)
        bends.append(bend * along)
    gradient, turned = layers[-1].weight.sum(0), None
    for layer, slope, bend in zip(reversed(layers[:-1]), reversed(slopes), reversed(bends), strict=True):
        pull = gradient * bend if turned is None else torch.addcmul(gradient * bend, turned, slope)
        gradient, turned = (gradient * slope) @ layer.weight, pull @ layer.weight
    assert turned is not None
    return gradient, turned.movedim(0, -2)


def _columns(weight: Tensor, k: int, ndim: int) -> Tensor:
    """The last k columns, [k, 1, ..., n], to broadcast against [..., n]."""
    columns = weight.mT[-k:]
    return columns.reshape(k, *[1] * (ndim - 1), -1)


def _with_slope(activation: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
    """Values with first derivatives."""
    match activation:
        case nn.Tanh():
            value = torch.tanh(z)
            return value, 1 - value * value
        case nn.Softplus():
            return activation(z), torch.sigmoid(z)
        case nn.Sigmoid():
            value = torch.sigmoid(z)
            return value, value * (1 - value)
        case _:
            gate = torch.sigmoid(z)
            return z * gate, gate * (1 + z * (1 - gate))


def _derivatives(activation: nn.Module, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values with first and second derivatives."""
    value, slope = _with_slope(activation, z)
    match activation:
        case nn.Tanh():
            return value, slope, -2 * value * slope
        case nn.Softplus():
            return value, slope, slope * (1 - slope)
        case nn.Sigmoid():
            return value, slope, slope * (1 - 2 * value)
        case _:
            gate = torch.sigmoid(z)
            return value, slope, gate * (1 - gate) * (2 + z * (1 - 2 * gate))
