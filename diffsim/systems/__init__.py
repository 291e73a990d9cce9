"""Known systems of mechanics, celestial mechanics, ecology and epidemiology, and initial states for them."""

from diffsim.systems.constants import Constant
from diffsim.systems.double_pendulum import DoublePendulum
from diffsim.systems.epidemic import SEIR, SecondWave
from diffsim.systems.frames import pendulum_frames, stack_frames
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
from diffsim.systems.pendulum_chain import PendulumChain, random_pendulum_chain, sample_pendulum_chain
from diffsim.systems.regional_epidemic import RegionalSEIR
from diffsim.systems.relativistic import RelativisticOscillator, relativistic_lagrangian, toy_relativistic_lagrangian
from diffsim.systems.robots import Acrobot, CartPole
from diffsim.systems.springs import ParticleSprings, SpringChain, sample_particle_springs, sample_spring_chain
from diffsim.systems.waves import CahnHilliard, KortewegDeVries, sample_mixture, sample_solitons

__all__ = [
    "SEIR",
    "Acrobot",
    "CahnHilliard",
    "CartPole",
    "Constant",
    "DoublePendulum",
    "DoubleWell",
    "Duffing",
    "ForcedDuffing",
    "FreeParticle",
    "HNNData",
    "HenonHeiles",
    "KortewegDeVries",
    "Lorenz63",
    "LotkaVolterra",
    "MassSpring",
    "NBody",
    "NumpyRandom",
    "ParticleSprings",
    "Pendulum",
    "PendulumChain",
    "RegionalSEIR",
    "RelativisticOscillator",
    "SecondWave",
    "SpringChain",
    "VanDerPol",
    "bodies_first",
    "coordinates_first",
    "figure_eight",
    "hnn_pendulum_data",
    "hnn_spring_data",
    "hnn_three_body_data",
    "hnn_two_body_data",
    "pendulum_frames",
    "random_pendulum_chain",
    "relativistic_lagrangian",
    "sample_mixture",
    "sample_particle_springs",
    "sample_pendulum",
    "sample_pendulum_chain",
    "sample_solitons",
    "sample_spring",
    "sample_spring_chain",
    "sample_square",
    "sample_three_body",
    "sample_two_body",
    "stack_frames",
    "toy_relativistic_lagrangian",
]
