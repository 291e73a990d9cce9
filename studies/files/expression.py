"""An objective written as a formula of named outputs: parsed and walked, never run as Python."""

import ast
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from diffsim.errors import ArgumentError

__all__ = ["Expression"]

_LONGEST = 2000  # characters
_LARGEST = 1e300
_DEEPEST = 200  # operations inside operations
_CONSTANTS = {"pi": math.pi, "inf": math.inf}
_OPERATORS: dict[type[ast.operator], Callable[[Tensor, Tensor], Tensor]] = {
    ast.Add: torch.add,
    ast.Sub: torch.sub,
    ast.Mult: torch.mul,
    ast.Div: torch.div,
    ast.Pow: torch.pow,
}
_SIGNS: dict[type[ast.unaryop], Callable[[Tensor], Tensor]] = {ast.UAdd: torch.positive, ast.USub: torch.neg}
_OF_ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "sqrt": torch.sqrt,
    "exp": torch.exp,
    "log": torch.log,
    "log10": torch.log10,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "tanh": torch.tanh,
}
_OF_MANY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"min": torch.minimum, "max": torch.maximum}
_REDUCE: dict[str, Callable[[Tensor], Tensor]] = {
    "min": lambda rows: rows.amin(-1),
    "max": lambda rows: rows.amax(-1),
    "sum": lambda rows: rows.sum(-1),
    "mean": lambda rows: rows.mean(-1),
    "first": lambda rows: rows[:, 0],
    "last": lambda rows: rows[:, -1],
}


@dataclass(frozen=True, slots=True)
class Expression:
    """An objective: a formula of outputs, called with the outcomes as any objective is.

    It knows numbers, pi, `+ - * / **`, abs, sqrt, exp, log, log10, sin, cos, tan, tanh, min and max of several values;
    and of an output that is an array: its min, max, sum, mean, first and last number.

    Args:
        text: The formula; smaller values are better.
        names: The outputs in the order of the outcome's columns; with one name, the whole outcome.

    Raises:
        ArgumentError: It is no formula of these names.

    Example:
        >>> cost = Expression("mass + 10 * max(0, bend - 1)", ("mass", "bend"))
        >>> cost(torch.tensor([[2.0, 0.5], [1.0, 3.0]]))
        tensor([ 2., 21.], dtype=torch.float64)
    """

    text: str
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        _check(_parsed(self.text), self.text, self.names, 0)

    def __call__(self, outcome: Tensor, x: Tensor | None = None) -> Tensor:
        """The objective of outcomes, shape [n, ...] -> [n]; inputs x, where observed, are not looked at."""
        rows = outcome.double().reshape(len(outcome), -1)
        if len(self.names) > 1 and rows.shape[1] != len(self.names):
            raise ArgumentError(
                f"The outcome has {rows.shape[1]} numbers a trial, and the objective {self.text!r} names "
                f"{len(self.names)} outputs, {list(self.names)}. Name as many `outputs` as the simulator returns."
            )
        columns = list(rows.unbind(1)) if len(self.names) > 1 else [rows.squeeze(1) if rows.shape[1] == 1 else rows]
        value = _value(_parsed(self.text), dict(zip(self.names, columns, strict=True)))
        if value.ndim > 1:
            raise ArgumentError(
                f"{self.text!r} gives {value.shape[1]} numbers a trial. Reduce it: mean(...), last(...)."
            )
        return value.expand(len(outcome)).clone()


@lru_cache(maxsize=64)
def _parsed(text: str) -> ast.expr:
    if len(text) > _LONGEST:
        raise ArgumentError(f"A formula may have {_LONGEST} characters, got {len(text)}. Name a function instead.")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ArgumentError(f"{text!r} is no formula ({error}). Write one of the outputs: 'mass + 2 * bend'.") from None


def _check(node: ast.expr, text: str, names: tuple[str, ...], depth: int) -> None:
    """Refuses all that is no formula of these names."""
    if depth > _DEEPEST:
        raise ArgumentError(f"{text[:40]!r}... is no formula (it is nested too deep). Name a function instead.")
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool) and abs(number) < _LARGEST:
            return
        case ast.Name(id=name):
            if name not in names and name not in _CONSTANTS:
                raise ArgumentError(f"{text!r} names {name!r}; the outputs are {list(names)}.")
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            _check(left, text, names, depth + 1)
            _check(right, text, names, depth + 1)
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _SIGNS:
            _check(operand, text, names, depth + 1)
        case ast.Call(func=ast.Name(id=name), args=[_, *rest] as given, keywords=[]):
            known = _OF_MANY if rest else {**_OF_ONE, **_REDUCE}
            if name not in known:
                raise ArgumentError(f"{text!r} calls {name!r} of {len(given)}; there are {sorted(known)}.")
            for argument in given:
                _check(argument, text, names, depth + 1)
        case _:
            part = ast.get_source_segment(text.strip(), node) or text
            raise ArgumentError(
                f"{part!r} in {text!r} is no part of a formula: it knows numbers, outputs and + - * / **."
            )


def _value(node: ast.expr, columns: dict[str, Tensor]) -> Tensor:
    match node:
        case ast.Constant(value=int() | float() as number):
            return torch.tensor(float(number), dtype=torch.float64)
        case ast.Name(id=name):
            return columns[name] if name in columns else torch.tensor(_CONSTANTS[name], dtype=torch.float64)
        case ast.BinOp(left=left, op=operator, right=right):
            return _OPERATORS[type(operator)](_value(left, columns), _value(right, columns))
        case ast.UnaryOp(op=sign, operand=operand):
            return _SIGNS[type(sign)](_value(operand, columns))
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            value = _value(argument, columns)
            if name in _OF_ONE:
                return _OF_ONE[name](value)
            return _REDUCE[name](value) if value.ndim > 1 else value
        case ast.Call(func=ast.Name(id=name), args=[first, *rest]):
            value = _value(first, columns)
            for argument in rest:
                value = _OF_MANY[name](value, _value(argument, columns))
            return value
        case _:
            raise AssertionError(ast.dump(node))  # `_check` lets no other through
