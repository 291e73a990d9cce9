"""What stands in for a simulator: a distribution over its outcomes, or a model of its runs."""

from surrogates.gaussian_process import gaussian_process
from surrogates.rollout_ensemble import RolloutEnsemble
from surrogates.rollout_model import RolloutModel
from surrogates.rollout_posterior import RolloutPosterior
from surrogates.simulator import Cost, InputSimulator, Simulator, check_simulator

__all__ = [
    "Cost",
    "InputSimulator",
    "RolloutEnsemble",
    "RolloutModel",
    "RolloutPosterior",
    "Simulator",
    "check_simulator",
    "gaussian_process",
]
