import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp


def _solve(field, y0, t):
    """Runs from y0 [..., d] at the times t [T] by an accurate solver that shares nothing with ours, [T, ..., d]."""
    y0 = torch.as_tensor(y0, dtype=torch.float64)
    times = np.asarray(t, dtype=float)

    def derivative(time, state):
        with torch.no_grad():
            return field(torch.tensor(time), torch.from_numpy(state).view_as(y0)).flatten().numpy()

    solution = solve_ivp(
        derivative, (times[0], times[-1]), y0.flatten().numpy(), "DOP853", times, rtol=1e-11, atol=1e-12
    )
    assert solution.success
    return torch.from_numpy(solution.y.T.copy()).view(len(times), *y0.shape)


@pytest.fixture(scope="session")
def solve():
    return _solve
