"""Training: losses on runs, the fit, and its report."""

from diffsim.training.canonical import CanonicalFit, canonical_fit, check_canonical
from diffsim.training.experiments import Experiment, fit_experiments
from diffsim.training.fit import fit
from diffsim.training.fit_energy import fit_energy
from diffsim.training.fit_runs import RunFit, fit_runs
from diffsim.training.losses import (
    DerivativeLoss,
    DiscreteGradientLoss,
    Loss,
    LossFunction,
    OneStepLoss,
    RolloutLoss,
    free_particle,
    indefinite_mass,
)
from diffsim.training.optimise import optimise
from diffsim.training.report import FitReport
from diffsim.training.settings import Training
from diffsim.training.terms import LossTerms

__all__ = [
    "CanonicalFit",
    "DerivativeLoss",
    "DiscreteGradientLoss",
    "Experiment",
    "FitReport",
    "Loss",
    "LossFunction",
    "LossTerms",
    "OneStepLoss",
    "RolloutLoss",
    "RunFit",
    "Training",
    "canonical_fit",
    "check_canonical",
    "fit",
    "fit_energy",
    "fit_experiments",
    "fit_runs",
    "free_particle",
    "indefinite_mass",
    "optimise",
]
