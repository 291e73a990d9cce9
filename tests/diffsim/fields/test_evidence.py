"""Type-II maximum likelihood: the evidence of a dense Gaussian, its gradient, known hyper-parameters recovered."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffsim.fields.evidence import _log_evidence, maximise_evidence
from diffsim.fields.fourier_features import FourierFeatures


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dense_log_evidence(matrix, target, signal, noise):
    """log N(target; 0, signal^2 A A' + noise^2 I), from the covariance itself."""
    eye = torch.eye(len(target), dtype=torch.float64)
    gaussian = torch.distributions.MultivariateNormal(
        torch.zeros_like(target), signal.square() * matrix @ matrix.T + noise.square() * eye
    )
    return gaussian.log_prob(target)


@given(rows=st.integers(1, 30), features=st.integers(1, 30), log_ratio=st.floats(-4, 1), seed=st.integers(0, 1000))
def test_both_branches_are_the_dense_evidence_at_its_best_signal(rows, features, log_ratio, seed):
    matrix, target, log_ratio = normal(rows, features, seed=seed), normal(rows, seed=seed + 1), torch.tensor(log_ratio)
    log_ratio = log_ratio.double()
    got, signal = _log_evidence(matrix, target, log_ratio)
    constant = -rows / 2 * (1 + math.log(2 * math.pi))
    noise = signal * log_ratio.exp()
    assert torch.allclose(got + constant, dense_log_evidence(matrix, target, signal, noise), rtol=1e-8, atol=1e-8)
    for factor in (0.9, 1.1):  # the closed-form signal is the best one at this ratio
        assert dense_log_evidence(matrix, target, factor * signal, factor * noise) < got + constant


@given(rows=st.integers(1, 20), extra=st.integers(0, 20), log_ratio=st.floats(-3, 1), seed=st.integers(0, 1000))
def test_branches_agree(rows, extra, log_ratio, seed):
    """Columns of zeros change the branch, not the model."""
    matrix, target = normal(rows + extra, rows, seed=seed), normal(rows + extra, seed=seed + 1)
    padded = torch.cat([matrix, torch.zeros(rows + extra, extra + 1, dtype=torch.float64)], 1)
    ratio = torch.tensor(log_ratio, dtype=torch.float64)
    for a, b in zip(_log_evidence(matrix, target, ratio), _log_evidence(padded, target, ratio), strict=True):
        assert torch.allclose(a, b, rtol=1e-9)


@pytest.mark.parametrize(("rows", "n_features"), [(6, 10), (15, 10)])
def test_gradient_in_length_scales_and_ratio(rows, n_features):
    features, z, target = FourierFeatures(2, n_features, seed=1), normal(rows, 2), normal(rows, seed=2)

    def evidence(free):
        return _log_evidence(features.at(free[:2].exp())(z), target, free[2])[0]

    free = torch.tensor([0.2, -0.3, -1.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(evidence, free)


@pytest.mark.parametrize("rows", [120, 380])
def test_recovers_known_hyper_parameters(rows):
    """Medians over draws from the model itself: length scale, signal and noise within a fifth."""
    features, lengthscale, signal, noise = FourierFeatures(1, 200), 0.5, 2.0, 0.3
    found = []
    for seed in range(9):
        z = 6 * torch.rand(rows, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        weights = signal * normal(200, seed=100 + seed)
        target = features.at(torch.tensor([lengthscale]))(z) @ weights + noise * normal(rows, seed=200 + seed)
        result = maximise_evidence(lambda ell, z=z: features.at(ell)(z), target, torch.ones(1, dtype=torch.float64))
        found.append(torch.stack([result.lengthscale[0], result.signal, result.noise]))
    ratio = torch.stack(found).median(0).values / torch.tensor([lengthscale, signal, noise])
    assert ((ratio - 1).abs() < 0.2).all(), ratio


def test_the_maximum_is_one():
    """No nearby hyper-parameters have a larger penalised evidence, computed densely."""
    features, z, target = FourierFeatures(2, 60), normal(40, 2), normal(40, seed=1)
    scale = torch.tensor([1.0, 2.0], dtype=torch.float64)
    best = maximise_evidence(lambda ell: features.at(ell)(z), target, scale)

    def penalised(lengthscale, signal, noise):
        prior = -0.5 * ((lengthscale / scale).log() / 0.5).square().sum()
        return float(dense_log_evidence(features.at(lengthscale)(z), target, signal, noise) + prior)

    top = penalised(best.lengthscale, best.signal, best.noise)
    assert best.log_evidence == pytest.approx(top + 20 * (1 + math.log(2 * math.pi)), rel=1e-6)
    for seed in range(20):
        shift = (0.1 * normal(4, seed=seed)).exp()
        assert penalised(best.lengthscale * shift[:2], best.signal * shift[2], best.noise * shift[3]) < top + 1e-4


@pytest.mark.parametrize(("rows", "n_features"), [(60, 40), (20, 40)])
@pytest.mark.parametrize("copies", ["one row", "pairs", "zeros"])
def test_degenerate_data_give_finite_hyper_parameters(rows, n_features, copies):
    features = FourierFeatures(2, n_features)
    z, target = normal(rows, 2), normal(rows, seed=1)
    if copies == "one row":
        z, target = z[:1].expand(rows, 2), target[:1].expand(rows)
    elif copies == "pairs":
        z, target = z[: rows // 2].repeat(2, 1), target[: rows // 2].repeat(2)
    else:
        target = torch.zeros_like(target)
    result = maximise_evidence(lambda ell: features.at(ell)(z), target, torch.ones(2, dtype=torch.float64))
    for value in (result.lengthscale, result.signal, result.noise):
        assert torch.isfinite(value).all() and (value > 0).all()
    assert math.isfinite(result.log_evidence)


def test_the_prior_decides_without_data():
    """A target that says nothing about the second length scale leaves it at its prior median."""
    features, z = FourierFeatures(2, 80), normal(50, 2)
    scale = torch.tensor([1.0, 3.0], dtype=torch.float64)
    result = maximise_evidence(lambda ell: features.at(ell)(z * torch.tensor([1.0, 0.0])), z[:, 0].sin(), scale)
    assert torch.allclose(result.lengthscale[1], scale[1], rtol=1e-3)
