"""Known systems of mechanics, celestial mechanics, ecology and epidemiology, and initial states for them."""

from diffsim.systems.henon_heiles import HenonHeiles
from diffsim.systems.n_body import NBody, bodies_first, coordinates_first, figure_eight
from diffsim.systems.oscillators import DoubleWell, Duffing, ForcedDuffing, MassSpring, Pendulum, VanDerPol

__all__ = [
    "DoubleWell",
    "Duffing",
    "ForcedDuffing",
    "HenonHeiles",
    "MassSpring",
    "NBody",
    "Pendulum",
    "VanDerPol",
    "bodies_first",
    "coordinates_first",
    "figure_eight",
]
