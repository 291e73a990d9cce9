"""Known systems of mechanics, celestial mechanics, ecology and epidemiology, and initial states for them."""

from diffsim.systems.constants import Constant
from diffsim.systems.double_pendulum import DoublePendulum
from diffsim.systems.epidemic import SEIR, SecondWave
from diffsim.systems.free_particle import FreeParticle
from diffsim.systems.henon_heiles import HenonHeiles
from diffsim.systems.hnn_data import (
    HNNData,
    hnn_pendulum_data,
    hnn_spring_data,
    hnn_three_body_data,
    hnn_two_body_data,
)
from diffsim.systems.initial_states import (
    NumpyRandom,
    sample_pendulum,
    sample_spring,
    sample_square,
    sample_three_body,
    sample_two_body,
)
from diffsim.systems.lorenz import Lorenz63
from diffsim.systems.lotka_volterra import LotkaVolterra
from diffsim.systems.n_body import NBody, bodies_first, coordinates_first, figure_eight
from diffsim.systems.oscillators import DoubleWell, Duffing, ForcedDuffing, MassSpring, Pendulum, VanDerPol

__all__ = [
    "SEIR",
    "Constant",
    "DoublePendulum",
    "DoubleWell",
    "Duffing",
    "ForcedDuffing",
    "FreeParticle",
    "HNNData",
    "HenonHeiles",
    "Lorenz63",
    "LotkaVolterra",
    "MassSpring",
    "NBody",
    "NumpyRandom",
    "Pendulum",
    "SecondWave",
    "VanDerPol",
    "bodies_first",
    "coordinates_first",
    "figure_eight",
    "hnn_pendulum_data",
    "hnn_spring_data",
    "hnn_three_body_data",
    "hnn_two_body_data",
    "sample_pendulum",
    "sample_spring",
    "sample_square",
    "sample_three_body",
    "sample_two_body",
]
