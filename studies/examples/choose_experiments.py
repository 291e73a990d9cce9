"""Choose experiments: learn how a pendulum falls from the top (`wanted`) from few runs of a wider `laboratory`."""

import torch

from diffsim import GaussianProcessHamiltonian, Pendulum, coordinate_error, fit_runs, simulate
from studies import Box, ErrorReduction, ModelBased, Random, compare
from surrogates import RolloutPosterior

t = torch.linspace(0, 3, 7, dtype=torch.float64)  # in units of sqrt(length / gravity)
laboratory, wanted = Box({"q": (-3.14, 3.14), "p": (-2.5, 2.5)}), Box({"q": (2.54, 3.14), "p": (-0.6, 0.6)})
truth = simulate(Pendulum(gravity=1.0), wanted.sobol(100, seed=1), t)


def experiment(y0, generator):  # the laboratory: initial states -> measured runs
    return simulate(Pendulum(gravity=1.0), y0, t).noise(0.02, generator, first=False)


def learn(history):  # history -> what is known about runs
    field = GaussianProcessHamiltonian(2, n_features=160, periods=[2 * torch.pi, None], scale=[1.6, 2.5])
    fit_runs(field, history.runs(t))
    return RolloutPosterior(field, t)


def error(history):  # on runs that were not measured
    return coordinate_error(simulate(learn(history).field, truth.y0, t), truth).sqrt().median()


strategies = {"random": Random(), "error reduction": ModelBased(learn, ErrorReduction(wanted.sobol(64, seed=2)))}
result = compare(laboratory, strategies, experiment, error, trials=range(2, 13), level=0.01)
print(result, result.figure("runs/choose_experiments.png", "median roll-out error [rad]"), sep="\n")
