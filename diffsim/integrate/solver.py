"""How to solve a differential equation and how to differentiate the solution: one frozen value."""

import difflib
import math
from dataclasses import dataclass
from typing import Literal, get_args

from diffsim.errors import ArgumentError, ArgumentTypeError

__all__ = [
    "ADAPTIVE_METHODS",
    "REFERENCE_METHODS",
    "SEPARABLE_METHODS",
    "Backend",
    "Gradient",
    "Method",
    "OnDivergence",
    "Solver",
]

_Adaptive = Literal["dopri8", "dopri5", "bosh3", "fehlberg2", "adaptive_heun"]
_Fixed = Literal["euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams"]
_Separable = Literal["leapfrog", "yoshida4"]

Method = Literal[_Adaptive, _Fixed, _Separable, "implicit_midpoint"]
Gradient = Literal["adjoint", "backprop"]
OnDivergence = Literal["raise", "nan"]
Backend = Literal["auto", "native", "plain"]

ADAPTIVE_METHODS: tuple[str, ...] = get_args(_Adaptive)
REFERENCE_METHODS: tuple[str, ...] = get_args(_Adaptive) + get_args(_Fixed)
SEPARABLE_METHODS: tuple[str, ...] = get_args(_Separable)


@dataclass(frozen=True, slots=True)
class Solver:
    """How to solve a differential equation, and how to differentiate the solution.

    Adaptive methods choose their steps so that the error of *each* trajectory of a batch stays within
    `atol + rtol * |y|` a step. Fixed-step methods take n = ceil(duration / step) equal steps over the whole span
    of times; a state asked for between two steps comes from the cubic through both and their derivatives, whose
    error is of fourth order in the step.

    Attributes:
        method: torchdiffeq's methods under their own names, adaptive (`dopri8`, `dopri5`, `bosh3`, `fehlberg2`,
            `adaptive_heun`) and fixed-step (`euler`, `midpoint`, `heun2`, `heun3`, `rk4`, `explicit_adams`,
            `implicit_adams`); and the symplectic, time-reversible fixed-step methods `leapfrog` and `yoshida4`
            (separable Hamiltonians) and `implicit_midpoint` (any field). torchdiffeq's `scipy_solver` is left out:
            it drops gradients without a word.
        rtol: Relative tolerance of the adaptive methods and of `implicit_adams`.
        atol: Absolute tolerance of the same, in the state's units.
        step: The largest time step of a fixed-step method, which has no default. Adaptive methods take none.
        gradient: "adjoint" stores no graph of the solve. For torchdiffeq's methods it solves the adjoint equation
            backwards, so gradients carry the error of the tolerances or the step; for ours it repeats the steps
            piece by piece, so gradients are those of the computed solution, as with "backprop", which stores the
            graph of all steps. Derivatives of gradients need "backprop".
        max_steps: Number of steps, failed ones included, after which a solve is given up.
        on_divergence: What becomes of a trajectory that is no longer finite, whose adaptive step underflows or whose
            implicit midpoint does not converge: "raise" an `IntegrationError`, or "nan": that trajectory alone is
            NaN from there on and carries no gradient, the rest of the batch goes on.
        backend: "auto" solves networks and energies of networks on a CPU by the native library (see `backend_of`),
            whose gradients are those of the computed solution at the cost of the solve, and everything else by the
            plain path; "native" refuses what the library does not know; "plain" does without it. The native
            adaptive methods choose the steps of every trajectory for itself.

    Raises:
        ArgumentError: An unknown name, or a number out of its range.

    Example:
        >>> Solver("rk4", step=0.01).adaptive
        False

    Source: Hairer, Norsett and Wanner, 1993, Solving Ordinary Differential Equations I (adaptive and Adams
        methods); Hairer, Lubich and Wanner, 2006, Geometric Numerical Integration (symplectic methods); Chen,
        Rubanova, Bettencourt and Duvenaud, 2018, arXiv 1806.07366, algorithm 1 (adjoint).
    """

    method: Method = "dopri5"
    rtol: float = 1e-6
    atol: float = 1e-8
    step: float | None = None
    gradient: Gradient = "adjoint"
    max_steps: int = 100_000
    on_divergence: OnDivergence = "raise"
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        _check_choice("method", self.method, _names(Method))
        _check_choice("gradient", self.gradient, _names(Gradient))
        _check_choice("on_divergence", self.on_divergence, _names(OnDivergence))
        _check_choice("backend", self.backend, _names(Backend))
        for name, value in (("rtol", self.rtol), ("atol", self.atol)):
            if not _number(name, value) >= 0:
                raise ArgumentError(f"`{name}` must be at least 0, got {value}.")
        if self.rtol == 0 and self.atol == 0:
            raise ArgumentError("`rtol` and `atol` must not both be 0: no step can meet that. Give one of them.")
        if not isinstance(self.max_steps, int):
            raise ArgumentTypeError(f"`max_steps` must be an int, got {type(self.max_steps).__name__}. Pass int(...).")
        if self.max_steps < 1:
            raise ArgumentError(f"`max_steps` must be at least 1, got {self.max_steps}.")
        if self.adaptive:
            if self.step is not None:
                raise ArgumentError(
                    f"`step` must be left out for the adaptive method {self.method!r}, got {self.step}. "
                    "Give `rtol` and `atol`, or a fixed-step method such as 'rk4'."
                )
        elif self.step is None:
            raise ArgumentError(
                f"`step` must be given for the fixed-step method {self.method!r}: the output times never set it. "
                f"Pass Solver({self.method!r}, step=...), in the unit of t."
            )
        elif not _number("step", self.step) > 0:
            raise ArgumentError(
                f"`step` must be above 0, got {self.step}. To go backward in time pass decreasing times."
            )

    @property
    def adaptive(self) -> bool:
        """Whether the method chooses its own steps."""
        return self.method in ADAPTIVE_METHODS


def _names(literal: object) -> tuple[str, ...]:
    return get_args(literal)


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value in choices:
        return
    close = difflib.get_close_matches(str(value), choices, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ArgumentError(f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r}.{hint}")


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentTypeError(f"`{name}` must be a number, got {type(value).__name__}. Pass float(...).")
    if not math.isfinite(value):
        raise ArgumentError(f"`{name}` must be finite, got {value}.")
    return value
