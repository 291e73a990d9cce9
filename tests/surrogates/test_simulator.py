"""The contract of simulators: sound ones pass, broken ones fail with the rule's name."""

import random

import numpy as np
import pytest
import torch

from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, ContractError
from surrogates.simulator import Cost, InputSimulator, Simulator, check_simulator

THETA = torch.rand(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def noisy(theta, generator):
    return theta + torch.randn(theta.shape, generator=generator, dtype=theta.dtype)


class Tilted:
    """A sound simulator with inputs, or one that breaks a rule of its inputs."""

    def __init__(self, rule=""):
        self.rule = rule
        self.own = torch.Generator().manual_seed(0)

    def inputs(self, n, generator):
        match self.rule:
            case "global":
                return torch.rand(n, 1)
            case "own":
                return torch.rand(n, 1, generator=self.own)
            case "constant":
                return torch.ones(n, 1)
            case "shape":
                return torch.rand(n, generator=generator)
            case "rows":
                return torch.rand(2, 1, generator=generator)
            case "nan":
                return torch.rand(n, 1, generator=generator) / 0
            case "text":
                return "x"
        return torch.rand(n, 1, generator=generator, dtype=torch.float64)

    def __call__(self, theta, x, generator):
        outcome = noisy(theta, generator) * x
        if self.rule == "mutates":
            x.zero_()
        return outcome


def test_the_two_kinds_are_told_apart():
    assert isinstance(noisy, Simulator) and not isinstance(noisy, InputSimulator)
    assert isinstance(Tilted(), InputSimulator)


@pytest.mark.parametrize(
    "simulator",
    [
        noisy,
        Tilted(),
        lambda theta, generator: theta.square().sum(1),
        lambda theta, generator: theta.square().tolist(),
        lambda theta, generator: theta.numpy() ** 2,
        lambda theta, generator: Trajectory(torch.arange(3.0), torch.ones(3, len(theta), 2)),
    ],
)
def test_sound_simulators_pass_and_leave_everything(simulator):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    theta = THETA.clone()
    check_simulator(simulator, theta)
    assert torch.equal(theta, THETA)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
    assert np.array_equal(before[2], np.random.get_state()[1])


def ignores_the_generator(theta, generator):
    return noisy(theta, torch.Generator().manual_seed(0))


def scales_in_place(theta, generator):
    return theta.mul_(2)


class Costly:
    cost = 3.0

    def __call__(self, theta, generator):
        return theta


@pytest.mark.parametrize(
    ("simulator", "message"),
    [
        (lambda theta, generator: theta + torch.rand(1), "not from globals"),
        (lambda theta, generator: theta + np.random.rand(), "not from globals"),
        (lambda theta, generator: theta + random.random(), "not from globals"),
        (lambda theta, generator: theta + random.SystemRandom().random(), "generators give equal outcomes"),
        (ignores_the_generator, "come from the generator that is passed"),
        (scales_in_place, "leaves theta as it is"),
        (lambda theta, generator: theta / 0, "outcomes are finite"),
        (lambda theta, generator: theta[:1], r"must have shape \[3, ...\], got \[1, 2\]"),
        (lambda theta, generator: None, "array of real numbers, got NoneType"),
        (lambda theta, generator: theta @ theta.T, r"one shape for any n, got \[3\] in 3 rows and \[1\] in one"),
        (Costly(), "`cost` is a Cost, got 3.0"),
        (Tilted("global"), "not from globals"),
        (Tilted("own"), "equal generators give equal inputs"),
        (Tilted("constant"), "another generator gives other inputs"),
        (Tilted("shape"), r"`x` must have shape \[32, k\], got \[32\]"),
        (Tilted("rows"), r"`x` must have shape \[32, k\], got \[2, 1\]"),
        (Tilted("nan"), "`x` must be finite"),
        (Tilted("text"), "`x` must be an array of real numbers, got str"),
        (Tilted("mutates"), "leaves x as it is"),
        (Tilted, "Pass an instance"),
    ],
)
def test_a_broken_simulator_is_told_which_rule(simulator, message):
    with pytest.raises(ContractError, match=message):
        check_simulator(simulator, THETA.clone())


def test_one_row_is_not_enough():
    with pytest.raises(ArgumentError, match=r"`theta` must have shape \[n, d\] with n >= 2, got \[1, 2\]"):
        check_simulator(noisy, THETA[:1])


def test_costs_add_up():
    assert Cost().total(7, 30) == 30 and Cost(2.0, 0.5).total(3, 10) == 11
    with pytest.raises(ArgumentError, match="`setup` must be a finite number that is not negative, got -1"):
        Cost(-1.0)
    with pytest.raises(ArgumentError, match="`simulation`"):
        Cost(simulation=float("nan"))
