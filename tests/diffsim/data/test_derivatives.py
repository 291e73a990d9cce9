"""Derivative estimates: order, exactness on polynomials, uneven and reversed times, noise."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffsim.data.derivatives import estimate_derivatives
from diffsim.data.trajectory import Trajectory
from diffsim.errors import ArgumentError, ArgumentTypeError


def error(method, n_times, uneven):
    s = torch.linspace(0, 1, n_times, dtype=torch.float64)
    t = 2 * s + (0.3 * torch.sin(2 * math.pi * s) if uneven else 0)
    y = torch.stack([torch.sin(3 * t), torch.exp(t)], dim=-1)[:, None]
    dy = torch.stack([3 * torch.cos(3 * t), torch.exp(t)], dim=-1)[:, None]
    estimate = estimate_derivatives(t, y, method)
    return (estimate - dy[: len(estimate)]).abs().max().item()


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize(("method", "order"), [("forward", 1), ("central", 4), ("spline", 5)])
def test_order_of_convergence_holds_up_to_the_ends(method, order, uneven):
    errors = [error(method, n, uneven) for n in (41, 81, 161)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(order - 0.5 < found < order + 0.9 for found in orders), orders


@given(coefficients=st.lists(st.floats(-3, 3), min_size=1, max_size=5), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_central_is_exact_on_quartics_at_any_times(coefficients, seed):
    generator = torch.Generator().manual_seed(seed)
    t = (torch.rand(9, generator=generator, dtype=torch.float64) * 0.2 + 0.1).cumsum(0) - 1
    y = sum(c * t**k for k, c in enumerate(coefficients)) + 0 * t
    dy = sum(k * c * t ** (k - 1) for k, c in enumerate(coefficients) if k) + 0 * t
    assert torch.allclose(estimate_derivatives(t, y[:, None, None])[:, 0, 0], dy, atol=1e-9)


@pytest.mark.parametrize("method", ["central", "spline", "smoothing", "forward"])
def test_backward_times_and_dtype(method):
    t = torch.linspace(0, 2, 41)
    y = torch.sin(t)[:, None, None]
    ahead = estimate_derivatives(t, y, method)
    back = estimate_derivatives(t.flip(0), y.flip(0), method).flip(0)
    assert ahead.dtype == torch.float32
    assert torch.allclose(ahead, back, atol=1e-4)


def test_few_samples():
    t = torch.tensor([0.0, 1.0, 2.0])
    assert torch.allclose(estimate_derivatives(t, (t**2)[:, None, None])[:, 0, 0], 2 * t, atol=1e-6)
    assert torch.allclose(estimate_derivatives(t, (3 * t)[:, None, None], "spline")[:, 0, 0], 3 + 0 * t)
    with pytest.raises(ArgumentError, match="at least 2 times, got 1"):
        estimate_derivatives(t[:1], t[:1, None, None])
    with pytest.raises(ArgumentError, match="at least 5 times, got 3"):
        estimate_derivatives(t, t[:, None, None], "smoothing")
    with pytest.raises(ArgumentError, match="must be one of central"):
        estimate_derivatives(t, t[:, None, None], "backward")  # pyright: ignore[reportArgumentType]


def test_smoothing_is_the_one_for_noise():
    t = torch.linspace(0, 6, 121, dtype=torch.float64)
    clean = Trajectory(t, torch.stack([t.sin(), t.cos()], dim=-1)[:, None])
    noisy, truth = clean.noise(0.05, 0), torch.stack([t.cos(), -t.sin()], dim=-1)[:, None]

    def rms(method):
        return (noisy.derivatives(method).dy - truth).square().mean().sqrt()

    assert rms("smoothing") < 0.3 * rms("central") < rms("spline")


@pytest.mark.parametrize("unit", [1e-9, 1e-3, 60.0, 1e4])
def test_smoothing_does_not_depend_on_the_unit_of_time(unit):
    t = torch.linspace(0, 6, 121, dtype=torch.float64)
    y = t.sin() + 0.05 * torch.randn(121, dtype=t.dtype, generator=torch.Generator().manual_seed(0))
    error = estimate_derivatives(unit * t, y, "smoothing") * unit - t.cos()
    assert error.square().mean().sqrt() < 0.1


@pytest.mark.parametrize("method", ["central", "spline", "smoothing", "forward"])
def test_what_no_derivative_can_be_estimated_from_is_refused(method):
    t, y = torch.linspace(0, 1, 9), torch.linspace(0, 1, 9).square()
    assert estimate_derivatives(t, y, method).ndim == 1
    for times, samples, message in (
        (t, y[:8], r"`t` must have shape \[T\]"),
        (t[:8], y, r"`t` must have shape \[T\]"),
        (t * 0, y, "increasing"),
        (t, y / 0, "`y` must be finite"),
    ):
        with pytest.raises(ArgumentError, match=message):
            estimate_derivatives(times, samples, method)
    with pytest.raises(ArgumentTypeError, match="`y` must be a floating-point tensor"):
        estimate_derivatives(t, torch.arange(9), method)


def test_forward_leaves_the_last_sample_out():
    data = Trajectory(torch.tensor([0.0, 1.0, 3.0]), torch.tensor([0.0, 2.0, 3.0])[:, None, None]).derivatives(
        "forward"
    )
    assert data.t.tolist() == [0, 1] and data.dy.flatten().tolist() == [2, 0.5]


def test_central_is_differentiable():
    t = torch.linspace(0, 1, 7, dtype=torch.float64)
    y = torch.randn(7, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: estimate_derivatives(t, y), y)
