"""The main job in small: a study chooses the runs of a pendulum, and needs no more of them than random choice."""

import pytest
import torch

from diffsim.fields.gaussian_process import GaussianProcessHamiltonian
from diffsim.integrate.odeint import odeint, simulate
from diffsim.integrate.solver import Solver
from diffsim.systems import Pendulum
from diffsim.training.fit_runs import fit_runs
from studies.acquisitions.model_error import ErrorReduction
from studies.spaces.box import Box
from studies.strategies.model_based import ModelBased
from studies.strategies.random import Random
from studies.study import Study
from surrogates.rollout_posterior import RolloutPosterior

T = torch.linspace(0, 3, 7, dtype=torch.float64)
TRUTH = Pendulum(gravity=1.0).double()
BOX = Box({"q": (-3, 3), "p": (-2, 2)})  # across the separatrix
SOLVER = Solver("rk4", step=0.1)
NOISE = 0.01
LEVEL = 0.006  # rad
MOST = 14  # runs


def experiment(y0, generator):
    runs = simulate(TRUTH, y0, T, SOLVER).y.transpose(0, 1)
    noise = NOISE * torch.randn(runs.shape, dtype=torch.float64, generator=generator)
    return runs + noise * (T > 0)[:, None]


def learn(history):
    field = GaussianProcessHamiltonian(2, n_features=80, periods=[2 * torch.pi, None])
    fit_runs(field, history.runs(T), noise=NOISE, step=0.25)
    return field


def model(history):
    return RolloutPosterior(learn(history), T, step=0.25)


def error(history):
    """Median over new initial states of the root mean square error of a run."""
    y0 = BOX.sobol(64, seed=123)
    with torch.no_grad():
        difference = odeint(learn(history), y0, T, SOLVER) - odeint(TRUTH, y0, T, SOLVER)
    return float(difference.square().sum(-1).mean(0).sqrt().median())


def runs_needed(strategy, seed):
    study = Study(BOX, strategy, seed=seed)
    for trials in range(3, MOST + 1):
        if error(study.run(experiment, trials=trials)) < LEVEL:
            return trials
    return MOST + 1


@pytest.mark.timeout(120)
def test_error_reduction_needs_no_more_runs_than_random_choice():
    chosen = ModelBased(model, ErrorReduction(BOX.sobol(32, seed=7)), start=3, initial=Random(), candidates=48, climb=4)
    needed = {
        name: [runs_needed(s, seed) for seed in range(3)] for name, s in (("chosen", chosen), ("random", Random()))
    }
    assert sum(needed["chosen"]) <= sum(needed["random"]), needed
    assert max(needed["chosen"]) <= MOST, needed
