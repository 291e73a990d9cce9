"""The contract suite passes for every generative surrogate of ours, and finds what breaks its rules."""

import functools

import pytest
import torch
from torch import nn
from torch.distributions import Distribution, Independent, Normal

from diffsim.errors import ContractError
from diffsim.training.report import FitReport
from diffsim.training.settings import Training
from surrogates.contracts import check_surrogate
from surrogates.generators.continuous_flow import ContinuousFlow
from surrogates.generators.cramer_gan import CramerGAN
from surrogates.generators.flow import ConditionalFlow
from surrogates.generators.gaussian import GaussianNetwork
from surrogates.generators.mixture import MixtureDensityNetwork
from surrogates.surrogate import Surrogate

QUICK = Training(steps=150, lr=1e-2, batch=128)
KINDS = {
    GaussianNetwork: (QUICK, 0.25, 600),
    MixtureDensityNetwork: (QUICK, 0.25, 600),
    ConditionalFlow: (QUICK, 0.25, 600),
    ContinuousFlow: (Training(steps=50, lr=2e-2, batch=64), 0.25, 600),
    CramerGAN: (Training(steps=220, lr=3e-3, batch=64), 0.5, 1000),
}


SLOW = {(ContinuousFlow, 2, 1), (CramerGAN, 1, 0)}
CASES = [
    pytest.param(kind, m, k, marks=[pytest.mark.slow] if (kind, m, k) in SLOW else [])
    for kind in KINDS
    for m, k in [(1, 0), (2, 1)]
]


@pytest.mark.parametrize(("kind", "n_outcomes", "n_inputs"), CASES)
def test_ours_pass(kind, n_outcomes, n_inputs):
    training, tolerance, n = KINDS[kind]
    make = functools.partial(kind, 2, n_outcomes, n_inputs)
    check_surrogate(make, n=n, training=training, tolerance=tolerance)


class Plain(Surrogate):
    """A linear normal surrogate, which the tests below break."""

    def __init__(self, dim=2, n_outcomes=1, n_inputs=0):
        super().__init__(dim, n_outcomes, n_inputs)
        self.weight = nn.Parameter(torch.zeros(dim + 1, n_outcomes, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(n_outcomes, dtype=torch.float64))

    def forward(self, theta, x=None) -> Distribution:
        theta, x, _ = self._check_call(theta, x)
        mean = (theta.double() @ self.weight[1:] + self.weight[0]).to(theta)
        return Independent(Normal(mean, self.scale.to(theta).expand_as(mean)), 1)

    def fit(self, theta, outcome, x=None, training=Training()):
        theta, outcome, x = self._check_data(theta, outcome, x)
        rows = torch.cat([torch.ones_like(theta[:, :1]), theta], dim=-1)
        with torch.no_grad():
            self.weight.copy_(torch.linalg.lstsq(rows, outcome).solution)
            self.scale.copy_((outcome - rows @ self.weight).std(0))
        return FitReport((0.0,), (), (), 0, 0.0, 0.0, "converged", self.weight.numel())


def test_a_plain_surrogate_passes():
    check_surrogate(Plain)


class NoGradient(Plain):
    def forward(self, theta, x=None):
        return super().forward(theta.detach(), x)


class HalfGradient(Plain):
    def forward(self, theta, x=None):
        return super().forward(0.5 * theta + 0.5 * theta.detach(), x)


class WrongDtype(Plain):
    def forward(self, theta, x=None):
        return super().forward(theta.double(), x)


class WrongEvent(Plain):
    def forward(self, theta, x=None):
        return super().forward(theta, x).base_dist


class WrongDensity(Plain):
    def forward(self, theta, x=None):
        distribution = super().forward(theta, x)
        log_prob = distribution.log_prob
        distribution.log_prob = lambda value: 2 * log_prob(value)
        return distribution


class Unsaved(Plain):
    def __init__(self):
        super().__init__()
        self.hidden = 0.0

    def forward(self, theta, x=None):
        return super().forward(theta + self.hidden, x)

    def fit(self, theta, outcome, x=None, training=Training()):
        report = super().fit(theta, outcome, x, training)
        self.hidden = 1e-3
        return report


class Forgiving(Plain):
    def fit(self, theta, outcome, x=None, training=Training()):
        return super().fit(theta, outcome.nan_to_num(0.0), x, training)


class Unrepeatable(Plain):
    made = 0

    def fit(self, theta, outcome, x=None, training=Training()):
        type(self).made += 1
        return super().fit(theta, outcome + 1e-3 * type(self).made, x, training)


class Global(Plain):
    def sample(self, theta, x, n, generator):
        torch.manual_seed(0)
        return super().sample(theta, x, n, generator)


class Biased(Plain):
    def forward(self, theta, x=None):
        return super().forward(0.5 * theta, x)


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (NoGradient, "gradient"),
        (HalfGradient, "gradient"),
        (WrongDtype, "call"),
        (WrongEvent, "call"),
        (WrongDensity, "density"),
        (Unsaved, "saved"),
        (Forgiving, "refused"),
        (Unrepeatable, "repeatable"),
        (Global, "repeatable"),
        (Biased, "recovery"),
        (lambda: nn.Linear(2, 2), "call"),
    ],
)
def test_broken_ones_are_found(broken, rule):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12)
        with pytest.raises(ContractError, match=f"^{rule}"):
            check_surrogate(broken)
