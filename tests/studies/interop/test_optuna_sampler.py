"""Strategies as Optuna samplers: Optuna's published sampler suites, and what the suites do not look at."""

import pytest
from optuna.testing import pytest_samplers

from studies.interop.optuna_sampler import OptunaSampler
from studies.strategies.noisy_improvement import NoisyExpectedImprovement
from studies.strategies.random import Random


class TestRandom(
    pytest_samplers.BasicSamplerTestCase,
    pytest_samplers.RelativeSamplerTestCase,
    pytest_samplers.MultiObjectiveSamplerTestCase,
    pytest_samplers.SingleOnlySamplerTestCase,
):
    @pytest.fixture
    def sampler(self):
        return lambda: OptunaSampler(Random())


class TestModel(
    pytest_samplers.BasicSamplerTestCase,
    pytest_samplers.RelativeSamplerTestCase,
    pytest_samplers.MultiObjectiveSamplerTestCase,
    pytest_samplers.SingleOnlySamplerTestCase,
):
    @pytest.fixture
    def sampler(self):
        return lambda: OptunaSampler(NoisyExpectedImprovement(initial=2))
