"""What stands in for a simulator: a distribution over its outcomes, or a model of its runs."""

from surrogates.contracts import check_surrogate
from surrogates.gaussian_process import gaussian_process
from surrogates.generators.continuous_flow import ContinuousFlow
from surrogates.generators.cramer_gan import CramerGAN
from surrogates.generators.flow import ConditionalFlow
from surrogates.generators.gaussian import GaussianNetwork
from surrogates.generators.mixture import MixtureDensityNetwork
from surrogates.generators.response import LinearResponse, ProcessResponse, QuadraticResponse
from surrogates.gradient_process import GradientProcess, gradient_process
from surrogates.rollout_ensemble import RolloutEnsemble
from surrogates.rollout_model import RolloutModel
from surrogates.rollout_posterior import RolloutPosterior
from surrogates.simulator import Cost, InputSimulator, Simulator, check_simulator
from surrogates.surrogate import Surrogate

__all__ = [
    "ConditionalFlow",
    "ContinuousFlow",
    "Cost",
    "CramerGAN",
    "GaussianNetwork",
    "GradientProcess",
    "InputSimulator",
    "LinearResponse",
    "MixtureDensityNetwork",
    "ProcessResponse",
    "QuadraticResponse",
    "RolloutEnsemble",
    "RolloutModel",
    "RolloutPosterior",
    "Simulator",
    "Surrogate",
    "check_simulator",
    "check_surrogate",
    "gaussian_process",
    "gradient_process",
]
