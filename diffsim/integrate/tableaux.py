"""Coefficients of explicit Runge-Kutta methods."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ADAPTIVE_TABLEAUX", "FIXED_TABLEAUX", "AdaptiveTableau", "Tableau"]

_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Tableau:
    """An explicit method of s stages: k_i = f(t + c_i h, y + h sum_j a_ij k_j), and y + h sum_i b_i k_i is the step.

    Attributes:
        a: Zero on and above the diagonal, shape [s, s].
        b: Shape [s].

    Source: Hairer, Norsett and Wanner, 1993, Solving Ordinary Differential Equations I, section II.1.
    """

    a: _Array
    b: _Array

    @property
    def c(self) -> _Array:
        """The stages' times in steps, the sums of a's rows, shape [s]."""
        return self.a.sum(1)


@dataclass(frozen=True, slots=True, eq=False)
class AdaptiveTableau(Tableau):
    """A method whose last stage is the first one of the next step, with an error estimate and a dense output.

    Attributes:
        order: Of the step.
        error: The step minus the step of the embedded method is h sum_i error_i k_i, shape [s].
        dense: At a share x of the step the state is y + h sum_i (sum_j dense_ij x^(j + 1)) k_i, shape [s, 4].
    """

    order: int
    error: _Array
    dense: _Array


def _lower(*rows: list[float]) -> _Array:
    a = np.zeros((len(rows) + 1, len(rows) + 1))
    for i, row in enumerate(rows):
        a[i + 1, : len(row)] = row
    return a


def _first_same_as_last(order: int, a: _Array, error: list[float], dense: _Array) -> AdaptiveTableau:
    return AdaptiveTableau(a, np.append(a[-1, :-1], 0.0), order, np.array(error), dense)


def _dormand_prince() -> AdaptiveTableau:
    a = _lower(
        [1 / 5],
        [3 / 40, 9 / 40],
        [44 / 45, -56 / 15, 32 / 9],
        [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
        [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
        [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
    )
    b = a[-1]
    embedded = np.array([1951 / 21600, 0, 22642 / 50085, 451 / 720, -12231 / 42400, 649 / 6300, 1 / 60])
    half = np.array(
        [
            6025192743 / 30085553152,
            0,
            51252292925 / 65400821598,
            -2691868925 / 45128329728,
            187940372067 / 1594534317056,
            -1776094331 / 19743644256,
            11237099 / 235043384,
        ]
    )
    # The quartic through both ends with their slopes, and through Shampine's state in the middle, y + h/2 sum half k.
    first, last = np.eye(7)[0], np.eye(7)[6]
    dense = np.stack(
        [
            first,
            last - 4 * first - 5 * b + 8 * half,
            5 * first - 3 * last + 14 * b - 16 * half,
            2 * (last - first) - 8 * b + 8 * half,
        ],
        axis=1,
    )
    return _first_same_as_last(5, a, list(b - embedded), dense)


def _bogacki_shampine() -> AdaptiveTableau:
    a = _lower([1 / 2], [0.0, 3 / 4], [2 / 9, 1 / 3, 4 / 9])
    b = a[-1]
    first, last = np.eye(4)[0], np.eye(4)[3]
    # The cubic through both ends with their slopes.
    dense = np.stack([first, 3 * b - 2 * first - last, first + last - 2 * b, np.zeros(4)], axis=1)
    return _first_same_as_last(3, a, list(b - np.array([7 / 24, 1 / 4, 1 / 3, 1 / 8])), dense)


def _tsitouras() -> AdaptiveTableau:
    a = _lower(
        [0.161],
        [-0.008480655492356989, 0.335480655492357],
        [2.8971530571054935, -6.359448489975075, 4.3622954328695815],
        [5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525],
        [5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383],
        [0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774],
    )
    error = [
        -0.00178001105222577714,
        -0.0008164344596567469,
        0.007880878010261995,
        -0.1447110071732629,
        0.5823571654525552,
        -0.45808210592918697,
        1 / 66,
    ]
    # Each polynomial is factor * x^2 (x^2 - sum x + product), the first one factor * x (x - root) (x^2 - ...).
    factors = [
        (0.1017, 2.1966568338249754, 1.2949852507374631),
        (2.490627285651252793, 2.38535645472061657, 1.57803468208092486),
        (-16.54810288924490272, 1.8333333333333335, 0.75),
        (47.37952196281928122, 1.86111850102591, 0.791677751538865),
        (-34.87065786149660974, 1.2 + 2 / 3, 1.2 * 2 / 3),
        (2.5, 1.6, 0.6),
    ]
    first, root, total, product = -1.0530884977290216, 1.3299890189751412, 1.4364028541716351, 0.7139816917074209
    rows = [[-root * product * first, (product + root * total) * first, -(root + total) * first, first]]
    rows += [[0.0, factor * product, -factor * total, factor] for factor, total, product in factors]
    return _first_same_as_last(5, a, error, np.array(rows))


FIXED_TABLEAUX: dict[str, Tableau] = {
    "euler": Tableau(np.zeros((1, 1)), np.ones(1)),
    "midpoint": Tableau(_lower([1 / 2]), np.array([0.0, 1.0])),
    "heun2": Tableau(_lower([1.0]), np.array([1 / 2, 1 / 2])),
    "heun3": Tableau(_lower([1 / 3], [0.0, 2 / 3]), np.array([1 / 4, 0.0, 3 / 4])),
    # Kutta's 3/8 rule, as torchdiffeq has it.
    "rk4": Tableau(_lower([1 / 3], [-1 / 3, 1.0], [1.0, -1.0, 1.0]), np.array([1 / 8, 3 / 8, 3 / 8, 1 / 8])),
}
"""Fixed-step methods by their names; source: Hairer, Norsett and Wanner, 1993, sections II.1 and II.2."""

ADAPTIVE_TABLEAUX: dict[str, AdaptiveTableau] = {
    "dopri5": _dormand_prince(),
    "tsit5": _tsitouras(),
    "bosh3": _bogacki_shampine(),
}
"""Adaptive methods; source: Dormand and Prince, 1980, with Shampine's dense output of 1986; Tsitouras, 2011; Bogacki
and Shampine, 1989."""
