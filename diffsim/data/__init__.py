"""Data: sampled runs, derivative estimates, and the measured pendulum."""

from diffsim.data.derivatives import DerivativeMethod, estimate_derivatives
from diffsim.data.real_pendulum import load_schmidt_lipson, schmidt_lipson_stand_in
from diffsim.data.trajectory import Trajectory

__all__ = [
    "DerivativeMethod",
    "Trajectory",
    "estimate_derivatives",
    "load_schmidt_lipson",
    "schmidt_lipson_stand_in",
]
