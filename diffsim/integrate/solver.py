"""How to solve a differential equation and how to differentiate the solution: one frozen value."""

import difflib
import math
from dataclasses import dataclass
from typing import Literal, get_args

from diffsim.errors import ArgumentError, ArgumentTypeError

__all__ = [
    "ADAPTIVE_METHODS",
    "DENSE_METHODS",
    "REFERENCE_METHODS",
    "SEPARABLE_METHODS",
    "Backend",
    "Gradient",
    "Method",
    "OnDivergence",
    "Solver",
]

_Reference = Literal["dopri8", "dopri5", "bosh3", "fehlberg2", "adaptive_heun"]
_Fixed = Literal["euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams"]
_Separable = Literal["leapfrog", "yoshida4"]

Method = Literal[_Reference, "tsit5", _Fixed, _Separable, "implicit_midpoint"]
Gradient = Literal["adjoint", "backprop", "checkpoint", "reversible", "interpolated"]
OnDivergence = Literal["raise", "nan"]
Backend = Literal["auto", "native", "compiled", "plain"]

ADAPTIVE_METHODS: tuple[str, ...] = (*get_args(_Reference), "tsit5")
REFERENCE_METHODS: tuple[str, ...] = get_args(_Reference) + get_args(_Fixed)
SEPARABLE_METHODS: tuple[str, ...] = get_args(_Separable)

DENSE_METHODS = ("dopri5", "tsit5", "bosh3")

_ADAMS = ("explicit_adams", "implicit_adams")
_EXPLICIT = tuple(name for name in get_args(_Fixed) if name not in _ADAMS)


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
            `implicit_adams`); the adaptive `tsit5`; and the symplectic, time-reversible fixed-step methods `leapfrog`
            and `yoshida4` (separable Hamiltonians) and `implicit_midpoint` (any field). torchdiffeq's `scipy_solver`
            is left out: it drops gradients without a word.
        rtol: Relative tolerance of the adaptive methods and of `implicit_adams`.
        atol: Absolute tolerance of the same, in the state's units.
        step: The largest time step of a fixed-step method, which has no default. Adaptive methods take none.
        gradient: "backprop" stores the graph of all steps: gradients are those of the computed solution. So they are
            with "checkpoint", which takes the steps again backward: from about sqrt(n) stored states with a fixed
            step, from the states at the steps with an adaptive method (not for the Adams methods, `dopri8`,
            `fehlberg2` and `adaptive_heun`); and with "reversible", which finds the states again by going back and
            stores none (`leapfrog`, `yoshida4`). "interpolated" solves the adjoint equation along the solution's
            dense output (`dopri5`, `tsit5`, `bosh3`): gradients carry the error of the tolerances. "adjoint" is the
            adjoint equation beside the solution solved backward for torchdiffeq's methods, whose gradients carry the
            error of tolerances or step, and "checkpoint" for all others. Derivatives of gradients need "backprop".
        max_steps: Number of steps, failed ones included, after which a solve (where trajectories have steps of their
            own: a trajectory) is given up.
        on_divergence: What becomes of a trajectory that is no longer finite, whose adaptive step underflows or whose
            implicit midpoint does not converge: "raise" an `IntegrationError`, or "nan": that trajectory alone is
            NaN from there on and carries no gradient, the rest of the batch goes on.
        backend: "auto" solves networks and energies of networks on a CPU by the native library (see `backend_of`),
            whose gradients are those of the computed solution at the cost of the solve, and everything else by the
            plain path; "native" refuses what the library does not know; "plain" does without it. The native
            adaptive methods choose the steps of every trajectory for itself. "compiled" has torch compile the
            plain steps of explicit fixed-step methods (not the Adams ones) for any field and device, which takes
            from seconds to a minute the first time: it pays for long fits of fields in plain torch. Its gradients
            are those of the computed solution, with "backprop" from a graph, else by repeating steps.
        independent: Whether every trajectory of a batch has adaptive steps of its own on the plain path too, with
            `dopri5`, `tsit5` or `bosh3`: one that is stiff does not slow the others down. The field then gets times of
            shape [..., 1], which broadcast against the states, and is refused where it does not take them.

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
    independent: bool = False

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
        self._check_gradient()
        if self.backend == "compiled" and self.method not in (*_EXPLICIT, *SEPARABLE_METHODS):
            raise ArgumentError(
                f"`backend` must not be 'compiled' for {self.method!r}: its steps are not torch's to compile. Use "
                f"{', '.join(map(repr, (*_EXPLICIT, *SEPARABLE_METHODS)))}, or compile the field: field.compile()."
            )
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

    def _check_gradient(self) -> None:
        if self.independent and self.method not in DENSE_METHODS:
            raise ArgumentError(
                f"`independent` must be False for {self.method!r}. Use {', '.join(map(repr, DENSE_METHODS))}."
            )
        wrong = {
            "checkpoint": (*_ADAMS, *(m for m in ADAPTIVE_METHODS if m not in DENSE_METHODS)),
            "reversible": tuple(m for m in _names(Method) if m not in SEPARABLE_METHODS),
            "interpolated": tuple(m for m in _names(Method) if m not in DENSE_METHODS),
        }
        if self.method in wrong.get(self.gradient, ()):
            reason = {
                "checkpoint": "the method remembers earlier steps, or torchdiffeq keeps its steps to itself",
                "reversible": "only 'leapfrog' and 'yoshida4' go back the way they came",
                "interpolated": "only 'dopri5', 'tsit5' and 'bosh3' have a dense output",
            }[self.gradient]
            raise ArgumentError(
                f"`gradient` must not be {self.gradient!r} for {self.method!r}: {reason}. Pass gradient='adjoint'."
            )

    @property
    def adaptive(self) -> bool:
        """Whether the method chooses its own steps."""
        return self.method in ADAPTIVE_METHODS

    @property
    def records_steps(self) -> bool:
        """Whether the plain path takes our own adaptive steps, which are kept, and not torchdiffeq's."""
        own = self.independent or self.method == "tsit5" or self.gradient in ("checkpoint", "interpolated")
        return self.adaptive and own


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
