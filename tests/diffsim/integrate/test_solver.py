"""Solver: every bad setting is refused when it is made."""

import pytest
import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from diffsim.integrate import Solver


def test_names_close_to_an_unknown_method():
    with pytest.raises(ArgumentError, match=r"`method` must be one of .* got 'dopri'. Did you mean 'dopri.'"):
        Solver("dopri")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="Did you mean 'leapfrog'"):
        Solver("leap_frog", step=0.1)  # pyright: ignore[reportArgumentType]


def test_leaves_out_the_method_that_drops_gradients():
    with pytest.raises(ArgumentError, match="scipy_solver"):
        Solver("scipy_solver")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient": "adjont"}, "Did you mean 'adjoint'"),
        ({"on_divergence": "ignore"}, "`on_divergence` must be one of 'raise', 'nan'"),
        ({"rtol": -1e-6}, "`rtol` must be at least 0"),
        ({"atol": -1.0}, "`atol` must be at least 0"),
        ({"rtol": float("nan")}, "`rtol` must be finite"),
        ({"rtol": 0.0, "atol": 0.0}, "must not both be 0"),
        ({"max_steps": 0}, "`max_steps` must be at least 1"),
        ({"step": 0.1}, "`step` must be left out for the adaptive method 'dopri5'"),
        ({"method": "rk4"}, "`step` must be given for the fixed-step method 'rk4'"),
        ({"method": "rk4", "step": 0.0}, "`step` must be above 0"),
        ({"method": "leapfrog", "step": -0.1}, "`step` must be above 0, got -0.1. To go backward"),
        ({"method": "rk4", "step": float("inf")}, "`step` must be finite"),
    ],
)
def test_refuses_settings_out_of_range(settings, message):
    with pytest.raises(ArgumentError, match=message):
        Solver(**settings)


@pytest.mark.parametrize(
    "settings",
    [{"rtol": "1e-6"}, {"method": "rk4", "step": torch.tensor(0.1)}, {"atol": True}, {"max_steps": 1e5}],
)
def test_refuses_settings_of_a_wrong_type(settings):
    with pytest.raises(ArgumentTypeError, match=r"must be an? (number|int)"):
        Solver(**settings)


def test_is_a_value():
    assert Solver("rk4", step=0.1) == Solver("rk4", step=0.1)
    assert "step=0.1" in repr(Solver("rk4", step=0.1))
    assert Solver().adaptive and not Solver("rk4", step=0.1).adaptive
