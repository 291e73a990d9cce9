"""Acquisitions: what to simulate next, given a model."""

from studies.acquisitions.gaussian_process import IntegratedVariance, PosteriorInformation
from studies.acquisitions.linear_gaussian import ExpectedErrorReduction, ResponseInformation
from studies.acquisitions.model_error import ErrorReduction, disagreement

__all__ = [
    "ErrorReduction",
    "ExpectedErrorReduction",
    "IntegratedVariance",
    "PosteriorInformation",
    "ResponseInformation",
    "disagreement",
]
