"""Generative surrogates: what maps theta, and inputs x, to a distribution of the outcome."""

from surrogates.generators.continuous_flow import ContinuousFlow
from surrogates.generators.cramer_gan import CramerGAN
from surrogates.generators.flow import ConditionalFlow
from surrogates.generators.gaussian import Gaussian, GaussianNetwork
from surrogates.generators.gaussian_mixture import GaussianMixture
from surrogates.generators.mixture import MixtureDensityNetwork
from surrogates.generators.neural import NeuralSurrogate
from surrogates.generators.pushforward import Pushforward

__all__ = [
    "ConditionalFlow",
    "ContinuousFlow",
    "CramerGAN",
    "Gaussian",
    "GaussianMixture",
    "GaussianNetwork",
    "MixtureDensityNetwork",
    "NeuralSurrogate",
    "Pushforward",
]
