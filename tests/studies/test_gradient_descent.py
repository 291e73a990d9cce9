"""Descents of differentiable simulators: scipy's own path, resume, pieces, failures, parallel descents, odeint."""

import math

import pytest
import torch
from scipy.optimize import minimize

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Solver
from diffsim.systems.oscillators import Pendulum
from studies.contracts import check_strategy
from studies.gradients import to_unit_gradient, with_gradient
from studies.history import History
from studies.spaces.box import Box
from studies.spaces.parameters import Log
from studies.strategies.gradient_descent import GradientDescent
from studies.study import Study
from surrogates.simulator import check_simulator

PLANE = Box({"a": (-2.0, 2.0), "b": (-1.0, 3.0)})


def rosenbrock(theta):
    a, b = theta.unbind(-1)
    return (1 - a).square() + 100 * (b - a.square()).square()


def two_wells(theta):
    a, b = theta.unbind(-1)
    return (a.square() - 1).square() + 0.3 * a + (b - 1).square()


SIMULATOR = with_gradient(rosenbrock)


def history_with_gradient(space=PLANE, n=8, pending=None, failed=None):
    theta = space.sobol(n, seed=0)
    return History.from_tensors(space, theta, SIMULATOR(theta, torch.Generator()), pending, failed)


def test_a_simulator_with_gradient_keeps_the_contract_of_simulators():
    check_simulator(SIMULATOR, PLANE.sobol(3, seed=0))
    outcome = SIMULATOR(torch.tensor([[0.0, 1.0]]).double(), torch.Generator())
    assert outcome.tolist() == [[101.0, -2.0, 200.0]]


def test_a_function_that_is_not_differentiable_is_told():
    theta = torch.ones(2, 2, dtype=torch.float64)
    for function, error, message in (
        (lambda t: t.detach().sum(-1), ArgumentError, "differentiable"),
        (lambda t: t, ArgumentError, r"must return shape \[2\]"),
        (lambda t: 1.0, ArgumentTypeError, "must return a tensor"),
    ):
        with pytest.raises(error, match=message):
            with_gradient(function)(theta, torch.Generator())
    with pytest.raises(ArgumentTypeError, match="`function`"):
        with_gradient(3)


@pytest.mark.parametrize(("low", "high"), [(0.1, 3.0), (2e-5, 0.6), (1e-12, 1e12)])
def test_gradients_by_the_logarithm_hold_at_the_bounds(low, high):
    """exp(log(3)) lies above 3: a gradient through the clamped way back into the box is 0 there."""
    box = Box({"a": Log(low, high), "b": (-1.0, 3.0)})
    theta = torch.tensor([[low, 0.0], [high, 0.0]], dtype=torch.float64)
    slopes = to_unit_gradient(box, theta, torch.ones_like(theta))
    assert torch.allclose(slopes, torch.stack([theta[:, 0] * math.log(high / low), torch.full((2,), 4.0)], 1))


def test_contract():
    assert isinstance(SIMULATOR, type(with_gradient(rosenbrock)))
    theta = PLANE.sample(14, torch.Generator().manual_seed(0))
    known, pending, failed = theta[:8], theta[8:11], theta[11:]
    histories = [
        History(PLANE),
        history_with_gradient(),
        history_with_gradient(pending=pending, failed=failed),
        History.from_tensors(PLANE, known[:0], torch.empty(0, 3), failed=failed),
    ]
    check_strategy(GradientDescent(), PLANE, histories)


def test_it_takes_the_steps_of_scipy():
    study = Study(PLANE, GradientDescent(start=(-1.2, 1.0)), seed=0)
    history = study.run(SIMULATOR, trials=60, progress=False)
    low, width = PLANE.bounds[0], PLANE.bounds[1] - PLANE.bounds[0]
    visited = []
    scale = float((SIMULATOR(torch.tensor([[-1.2, 1.0]]).double(), None)[0, 1:] * width).abs().max())

    def told(unit):
        theta = low + width * torch.from_numpy(unit.copy())
        visited.append(theta)
        outcome = SIMULATOR(theta[None], torch.Generator())[0]
        return float(outcome[0]) / scale, (outcome[1:] * width / scale).numpy()

    begin = ((torch.tensor([-1.2, 1.0]).double() - low) / width).numpy()
    minimize(told, begin, jac=True, method="L-BFGS-B", bounds=[(0, 1)] * 2, options={"gtol": 1e-7, "ftol": 1e-15})
    lanes = [info["descent"]["lanes"][0] for info in history.info]
    n = lanes.count(0)
    assert 20 < n < 60 and abs(n - len(visited)) < 10  # rounding differs, and a line search amplifies it
    assert torch.allclose(history.theta[:12], torch.stack(visited[:12]), atol=1e-6)
    assert lanes == [0] * n + [1] * (60 - n)  # converged: the next descent has begun
    assert torch.allclose(study.recommend(), torch.ones(2).double(), atol=1e-5)


def test_restarts_find_the_deeper_well():
    study = Study(PLANE, GradientDescent(start=(1.0, 0.0)), seed=0)
    study.run(with_gradient(two_wells), trials=8, progress=False)
    assert study.recommend()[0] > 0.9
    study.run(with_gradient(two_wells), trials=60, progress=False)
    assert abs(float(study.recommend()[0]) + 1.036) < 1e-3


def test_a_minimum_at_the_edge_is_found():
    study = Study(PLANE, GradientDescent(), seed=0)
    study.run(
        with_gradient(lambda theta: (theta - torch.tensor([0.5, 5.0])).square().sum(-1)), trials=9, progress=False
    )
    assert torch.allclose(study.recommend(), torch.tensor([0.5, 3.0]).double(), atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_resumed_study_equals_an_unbroken_one_bit_for_bit(batch, tmp_path):
    whole = Study(PLANE, GradientDescent(), seed=4).run(SIMULATOR, trials=45, batch=batch, progress=False)
    url = f"sqlite:///{tmp_path}/runs.db"
    Study(PLANE, GradientDescent(), url, seed=4).run(SIMULATOR, trials=24, batch=batch, progress=False)
    again = Study(PLANE, GradientDescent(), url, seed=4).run(SIMULATOR, trials=45, batch=batch, progress=False)
    assert torch.equal(again.theta, whole.theta) and again.info == whole.info


def test_workers_have_descents_of_their_own():
    study, waiting = Study(PLANE, GradientDescent(), seed=1), []
    for turn in range(90):
        waiting.append(study.ask(1))
        if len(waiting) == 3:
            done = waiting.pop(turn % 3)
            study.tell(done, SIMULATOR(done.theta, torch.Generator()))
    lanes = [info["descent"]["lanes"][0] for info in study.history.info]
    assert lanes[:3] == [0, 1, 2] and max(lanes) < 9  # three at a time, and new ones only for the converged
    assert torch.allclose(study.recommend(), torch.ones(2).double(), atol=1e-3)


def test_a_failed_step_is_shortened_and_a_failed_start_is_left():
    def fragile(theta, generator):
        if theta[0, 0] > 1.2 or theta[0, 1] < -0.5:
            raise RuntimeError("diverged")
        return SIMULATOR(theta, generator)

    study = Study(PLANE, GradientDescent(start=(-1.2, 1.0)), seed=0)
    history = study.run(fragile, trials=80, progress=False)
    assert 0 < len(history.failed) < 20
    assert torch.allclose(study.recommend(), torch.ones(2).double(), atol=1e-4)
    study = Study(PLANE, GradientDescent(start=(1.5, 1.0)), seed=0)
    history = study.run(fragile, trials=20, progress=False)
    assert history.info[1]["descent"]["lanes"] == [1]


def test_it_descends_an_integration():
    t = torch.linspace(0, 2, 9, dtype=torch.float64)
    measured = odeint(Pendulum(length=0.8, gravity=9.81), torch.tensor([1.0, 0.0]).double(), t)

    def misfit(theta):
        field = Pendulum(length=theta[:, :1], gravity=9.81)
        y0 = torch.tensor([1.0, 0.0]).double().expand(len(theta), 2)
        run = odeint(field, y0, t, Solver("rk4", step=0.02, gradient="backprop"))
        return (run - measured[:, None]).square().mean((0, 2))

    study = Study(Box({"length": (0.5, 1.2)}, units={"length": "m"}), GradientDescent(start=(1.0,)), seed=0)
    study.run(with_gradient(misfit), trials=15, progress=False)
    assert abs(float(study.recommend()) - 0.8) < 1e-4


def test_settings_and_outcomes_are_checked():
    with pytest.raises(ArgumentError, match="`memory`"):
        GradientDescent(memory=0)
    with pytest.raises(ArgumentError, match="`tolerance`"):
        GradientDescent(tolerance=0.0)
    with pytest.raises(ArgumentError, match=r"values and then gradients, got \[8, 1\]"):
        theta = PLANE.sobol(8, seed=0)
        GradientDescent().propose(History.from_tensors(PLANE, theta, theta[:, :1]), 1, torch.Generator())
