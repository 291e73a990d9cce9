"""Fields that the native library knows, described for it: networks by weights, activation and place in the state."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from diffsim.fields.base import VectorField
from diffsim.fields.hamiltonian import Hamiltonian, HamiltonianField, SeparableHamiltonian
from diffsim.fields.neural import NeuralField
from diffsim.native.memory import Memory

__all__ = ["Network", "Program", "UnknownFieldError", "program"]

_ACTIVATIONS: dict[type[nn.Module], int] = {nn.Tanh: 0, nn.Sigmoid: 1, nn.Softplus: 2, nn.SiLU: 3, nn.ReLU: 4}
_WIDEST = 1024  # of a layer: wider ones are better left to a library for large products


class UnknownFieldError(Exception):
    """The native library cannot solve a field; the message tells why."""


@dataclass(frozen=True, slots=True)
class Network:
    """A multi-layer perceptron, and which part it has in a field.

    Attributes:
        weights: Of the linear layers, each of shape [n_out, n_in].
        biases: Of the same, each of shape [n_out] or None.
        activation: Number of the activation between them.
        energy: Whether the field holds the gradient of its summed output, not its values.
        time: Whether the time is its first input.
        first: Number of the first component of the state that it sees.
        to: For each result, the component of the derivative to which it adds.
        sign: With which sign.
    """

    weights: Sequence[Tensor]
    biases: Sequence[Tensor | None]
    activation: int
    energy: bool
    time: bool
    first: int
    to: tuple[int, ...]
    sign: tuple[float, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of inputs, and of each layer's outputs."""
        return (self.weights[0].shape[1], *(w.shape[0] for w in self.weights))


class _Part(ctypes.Structure):
    _fields_ = (
        ("energy", ctypes.c_int32),
        ("time", ctypes.c_int32),
        ("activation", ctypes.c_int32),
        ("n_layers", ctypes.c_int32),
        ("widths", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("biases", ctypes.c_void_p),
        ("weight_gradients", ctypes.c_void_p),
        ("bias_gradients", ctypes.c_void_p),
        ("first", ctypes.c_int32),
        ("to", ctypes.c_void_p),
        ("sign", ctypes.c_void_p),
    )


class _Field(ctypes.Structure):
    _fields_ = (("dimension", ctypes.c_int32), ("n_parts", ctypes.c_int32), ("parts", ctypes.c_void_p))


@dataclass(frozen=True, slots=True)
class Program:
    """A field for the native library.

    Attributes:
        dimension: Of the state.
        networks: What the field is made of.
    """

    dimension: int
    networks: Sequence[Network]

    def constants(self) -> list[Tensor]:
        """All weights and biases."""
        return [x for network in self.networks for x in (*network.weights, *network.biases) if x is not None]

    def describe(self, gradients: dict[int, Tensor], memory: Memory) -> ctypes.Structure:
        """The description, whose addresses hold as long as the memory.

        Args:
            gradients: Where the gradient of a weight is added, by the weight's id.
            memory: Keeps what the description points to.
        """
        parts = (_Part * len(self.networks))()
        for part, network in zip(parts, self.networks, strict=True):
            weights, biases = network.weights, network.biases
            part.energy, part.time, part.activation = network.energy, network.time, network.activation
            part.n_layers, part.first = len(weights), network.first
            part.widths = memory.integers(network.widths)
            part.weights = memory.tensors([_contiguous(w) for w in weights])
            part.biases = memory.tensors([b if b is None else _contiguous(b) for b in biases])
            if gradients:
                part.weight_gradients = memory.tensors([gradients.get(id(w)) for w in weights])
                part.bias_gradients = memory.tensors([gradients.get(id(b)) for b in biases])
            part.to = memory.integers(network.to)
            part.sign = memory.doubles(network.sign)
        return _Field(self.dimension, len(parts), memory.structures(parts))


def _contiguous(x: Tensor) -> Tensor:
    return x if x.is_contiguous() else x.detach().contiguous()


def program(field: VectorField, y: Tensor) -> Program:
    """The description of a field for states like `y`, shape [..., d].

    Raises:
        UnknownFieldError: The native library cannot solve it.
    """
    if torch.compiler.is_compiling():
        raise UnknownFieldError("the solve is being compiled")
    _check_plain("states", y)
    _check_untouched(field)
    d = y.shape[-1]
    networks = _networks(field, d)
    described = Program(d, networks)
    dtype = y.dtype
    for constant in described.constants():
        _check_plain("weights", constant)
        if constant.dtype != dtype:
            raise UnknownFieldError("weights and states differ in dtype")
    return described


def _check_plain(name: str, x: Tensor) -> None:
    if not x.is_cpu or type(x) not in (Tensor, nn.Parameter):
        raise UnknownFieldError(f"the {name} are no plain tensors on a CPU")
    try:
        x.data_ptr()
    except RuntimeError as error:
        raise UnknownFieldError(
            f"the {name} have no numbers of their own, as in a torch.func transformation"
        ) from error


def _networks(field: VectorField, d: int) -> list[Network]:
    kind = type(field)
    if isinstance(field, NeuralField) and kind.forward is NeuralField.forward:
        return [_network(field.net, False, field.time, 0, range(d), [1.0] * d)]
    canonical = isinstance(field, Hamiltonian) and kind.forward is Hamiltonian.forward and d % 2 == 0
    k = d // 2
    if canonical and isinstance(field, HamiltonianField) and _same(kind, HamiltonianField, "energy", "energy_gradient"):
        to = [*range(k, d), *range(k)]
        return [_network(field.net, True, False, 0, to, [-1.0] * k + [1.0] * k)]
    whole = ("energy", "energy_gradient", "kinetic", "potential", "velocity", "force")
    if canonical and isinstance(field, SeparableHamiltonian) and _same(kind, SeparableHamiltonian, *whole):
        return [
            _network(field.kinetic_net, True, False, k, range(k), [1.0] * k),
            _network(field.potential_net, True, False, 0, range(k, d), [-1.0] * k),
        ]
    raise UnknownFieldError(f"{kind.__name__} is no field of networks that it knows")


def _same(kind: type, base: type, *names: str) -> bool:
    return all(getattr(kind, name) is getattr(base, name) for name in names)


def _network(net: object, energy: bool, time: bool, first: int, to: Sequence[int], sign: Sequence[float]) -> Network:
    if not isinstance(net, nn.Sequential) or type(net) is not nn.Sequential or len(net) % 2 == 0:
        raise UnknownFieldError("its network is no nn.Sequential of linear layers with activations between them")
    _check_untouched(net)
    modules = list(net)
    weights: list[Tensor] = []
    biases: list[Tensor | None] = []
    for layer in modules[::2]:
        if type(layer) is not nn.Linear:
            raise UnknownFieldError(f"its network has a {type(layer).__name__} where it knows nn.Linear alone")
        _check_untouched(layer)
        weights.append(layer.weight)
        biases.append(cast("Tensor | None", layer.bias))
    network = Network(weights, biases, _activation(modules[1::2]), energy, time, first, tuple(to), tuple(sign))
    widths = network.widths
    if widths[0] != len(to) + time:
        raise UnknownFieldError("its network does not take the state")
    if not energy and widths[-1] != len(to):
        raise UnknownFieldError("its network does not give a derivative of the state")
    if max(widths) > _WIDEST:
        raise UnknownFieldError(f"its network has a layer of more than {_WIDEST} neurons")
    return network


def _activation(modules: Sequence[nn.Module]) -> int:
    kinds = {type(module) for module in modules} or {nn.Tanh}
    if len(kinds) > 1 or not kinds <= _ACTIVATIONS.keys():
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise UnknownFieldError(f"its network's activations are {names}; it knows one of Tanh, Sigmoid, Softplus, ...")
    for module in modules:
        _check_untouched(module)
        if isinstance(module, nn.Softplus) and (module.beta != 1 or module.threshold < 20):
            raise UnknownFieldError("its Softplus has a beta or a threshold of its own")
    return _ACTIVATIONS[kinds.pop()]


def _check_untouched(module: nn.Module) -> None:
    """Refuses a module whose call is more than its class's `forward`."""
    own = module.__dict__
    if "forward" in own:
        raise UnknownFieldError("a `forward` was replaced on an instance")
    if own["_forward_hooks"] or own["_forward_pre_hooks"] or own["_backward_hooks"] or own["_backward_pre_hooks"]:
        raise UnknownFieldError("its network has hooks")
