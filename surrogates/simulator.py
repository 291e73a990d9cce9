"""What a simulator is: a black box of parameters, random numbers and perhaps observed inputs; cost and contract."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, ArgumentTypeError, ContractError

__all__ = ["Cost", "InputSimulator", "Simulator", "as_inputs", "as_outcome", "check_simulator"]

T = TypeVar("T")


@runtime_checkable
class Simulator(Protocol):
    """A black box; never differentiated."""

    def __call__(self, theta: Tensor, generator: torch.Generator, /) -> object:
        """Runs the simulator at parameters theta, float64, shape [n, d], with random numbers from a generator.

        Returns:
            One row a trial: a tensor, array or nested list of real numbers, shape [n, ...], or a `Trajectory`.
        """
        ...


@runtime_checkable
class InputSimulator(Protocol):
    """A black box whose random inputs x are observed, so that a surrogate may be conditioned on them."""

    def inputs(self, n: int, generator: torch.Generator) -> Tensor:
        """Random inputs, one row a trial, shape [n, k]."""
        ...

    def __call__(self, theta: Tensor, x: Tensor, generator: torch.Generator, /) -> object:
        """Runs the simulator at parameters theta, shape [n, d], with inputs x, shape [n, k]; see `Simulator`."""
        ...


@dataclass(frozen=True, slots=True)
class Cost:
    """What a simulator costs, in a unit of its own; one may declare it as its attribute `cost`.

    Args:
        setup: The cost of each distinct theta.
        simulation: The cost of each row.

    Example:
        >>> Cost(setup=100.0, simulation=1.0).total(n_theta=3, n_simulations=30)
        330.0
    """

    setup: float = 0.0
    simulation: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("setup", self.setup), ("simulation", self.simulation)):
            if not (math.isfinite(value) and value >= 0):
                raise ArgumentError(f"`{name}` must be a finite number that is not negative, got {value!r}.")

    def total(self, n_theta: int, n_simulations: int) -> float:
        """The cost of simulations at a number of distinct theta."""
        return self.setup * n_theta + self.simulation * n_simulations


def as_outcome(returned: object, n: int) -> NDArray[np.floating]:
    """What a simulator returned, as an array of shape [n, ...]; float32 and float64 are kept, other reals are float64.

    Raises:
        ArgumentError: The shape is wrong.
        ArgumentTypeError: It is no array of real numbers.
    """
    if isinstance(returned, Trajectory):
        returned = returned.y.transpose(0, 1)
    mend = f"Return a tensor of real numbers, shape [{n}, ...], or a Trajectory."
    outcome = _as_array(returned, "The outcome", mend)
    if outcome.ndim == 0 or len(outcome) != n or outcome.size == 0:
        raise ArgumentError(f"The outcome must have shape [{n}, ...], got {list(outcome.shape)}. {mend}")
    return outcome


def as_inputs(returned: object, n: int) -> NDArray[np.float64]:
    """The inputs x of a simulator as an array, shape [n, k].

    Raises:
        ArgumentError: The shape is wrong, or an input is not finite.
        ArgumentTypeError: It is no array of real numbers.
    """
    mend = f"`inputs(n, generator)` returns a tensor of real numbers, shape [n, k], here [{n}, k]."
    x = _as_array(returned, "`x`", mend).astype(np.float64)
    if x.ndim != 2 or len(x) != n or x.size == 0:
        raise ArgumentError(f"`x` must have shape [{n}, k], got {list(x.shape)}. {mend}")
    if bad := x.size - np.isfinite(x).sum():
        raise ArgumentError(f"`x` must be finite, got {bad} of {x.size} numbers that are NaN or infinite.")
    return x


def _as_array(returned: object, what: str, mend: str) -> NDArray[np.floating]:
    if isinstance(returned, np.ndarray):
        returned = returned.copy()  # torch warns of arrays that are read only
    try:
        # Lists of floats are double precision; torch would make them single.
        exact = None if isinstance(returned, Tensor | np.ndarray) else torch.float64
        array = torch.as_tensor(returned, dtype=exact).detach().cpu()
        if array.is_complex():
            raise TypeError(f"its dtype is {array.dtype}")
        return array.to(array.dtype if array.dtype == torch.float32 else torch.float64).numpy().copy()
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(returned).__name__
        raise ArgumentTypeError(f"{what} must be an array of real numbers, got {kind}: {error}. {mend}") from None


def check_simulator(simulator: Simulator | InputSimulator, theta: Tensor) -> None:
    """Checks a simulator against the rules that studies and surrogates rely on.

    - inputs: `inputs(n, generator)` gives finite real numbers, shape [n, k], that differ from generator to generator.
    - outcome: a call gives finite real numbers, shape [n, ...], of the same row shape for one row and for n.
    - repeatable: equal arguments and generators give equal inputs and outcomes.
    - generator: where outcomes are random, another generator gives others.
    - pure: theta, x and the global random numbers of torch, numpy and random stay as they are.
    - cost: the attribute `cost`, if there is one, is a `Cost`.

    Args:
        simulator: The simulator.
        theta: Where it is called, n >= 2, shape [n, d].

    Raises:
        ContractError: A rule is broken; the message names it.
        ArgumentError: `theta` has the wrong shape.

    Example:
        >>> check_simulator(lambda theta, generator: theta.square().sum(1, keepdim=True), torch.ones(2, 3))
    """
    if isinstance(simulator, type):
        raise ContractError(f"check_simulator takes a simulator, got the class {simulator.__name__}. Pass an instance.")
    if theta.ndim != 2 or len(theta) < 2:
        raise ArgumentError(f"`theta` must have shape [n, d] with n >= 2, got {list(theta.shape)}.")
    cost = getattr(simulator, "cost", None)
    _require(cost is None or isinstance(cost, Cost), f"`cost` is a Cost, got {cost!r}")
    theta = theta.detach().double().clone()
    whole, one = _run(simulator, theta, 0), _run(simulator, theta[:1], 0)
    _require(
        whole.shape[1:] == one.shape[1:],
        f"a row has one shape for any n, got {list(whole.shape[1:])} in {len(theta)} rows and {list(one.shape[1:])} "
        "in one",
    )
    again = _run(simulator, theta, 0)
    _require(np.array_equal(whole, again), "equal arguments and generators give equal outcomes")
    same, x = theta[:1].expand(8, -1).clone(), _inputs(simulator, 1, 0)
    x = None if x is None else x.expand(8, -1).clone()
    first, other = _run(simulator, same, 0, x), _run(simulator, same, 1, x)
    random_rows = not np.array_equal(first, np.broadcast_to(first[:1], first.shape))
    _require(
        not (random_rows and np.array_equal(first, other)), "random numbers come from the generator that is passed"
    )


def _inputs(simulator: Simulator | InputSimulator, n: int, seed: int) -> Tensor | None:
    if not isinstance(simulator, InputSimulator):
        return None

    def draw(rows: int, number: int) -> Tensor:
        x = _pure(lambda: simulator.inputs(rows, torch.Generator().manual_seed(number)))
        try:
            as_inputs(x, rows)
        except (ArgumentError, ArgumentTypeError) as error:
            raise ContractError(f"Rule broken: inputs are finite, with a row a trial. {error}") from error
        return x

    _require(torch.equal(draw(32, seed), draw(32, seed)), "equal generators give equal inputs")
    _require(not torch.equal(draw(32, seed), draw(32, seed + 1)), "another generator gives other inputs")
    return draw(n, seed)


def _run(
    simulator: Simulator | InputSimulator, theta: Tensor, seed: int, x: Tensor | None = None
) -> NDArray[np.floating]:
    generator = torch.Generator().manual_seed(seed)
    kept = theta.clone()
    if isinstance(simulator, InputSimulator):
        x = _inputs(simulator, len(theta), seed) if x is None else x
        assert x is not None
        given = x.clone()
        returned = _pure(lambda: simulator(theta, x, generator))
        _require(torch.equal(given, x), "a call leaves x as it is")
    else:
        returned = _pure(lambda: simulator(theta, generator))
    _require(torch.equal(kept, theta), "a call leaves theta as it is")
    try:
        outcome = as_outcome(returned, len(theta))
    except (ArgumentError, ArgumentTypeError) as error:
        raise ContractError(f"Rule broken: an outcome is an array with a row a trial. {error}") from error
    _require(bool(np.isfinite(outcome).all()), "outcomes are finite")
    return outcome


def _pure(call: Callable[[], T]) -> T:
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()
    before = _global_numbers()
    try:
        returned = call()
        _require(before == _global_numbers(), "random numbers come from the generator that is passed, not from globals")
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])
    return returned


def _global_numbers() -> tuple[object, ...]:
    _, keys, *rest = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), np.asarray(keys).tobytes(), rest, random.getstate()


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise ContractError(f"Rule broken: {rule}.")
