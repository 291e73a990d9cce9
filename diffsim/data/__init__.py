"""Data: sampled runs, derivative estimates, and the measured pendulum."""

from diffsim.data.derivatives import DerivativeMethod, estimate_derivatives
from diffsim.data.trajectory import Trajectory

__all__ = ["DerivativeMethod", "Trajectory", "estimate_derivatives"]
