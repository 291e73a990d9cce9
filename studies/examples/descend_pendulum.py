"""Descend an integration: a pendulum's length and first state from a noisy record of its angle, by exact gradients."""

import torch

from diffsim import Pendulum, Solver, odeint
from studies import Box, GradientDescent, Study, with_gradient

t = torch.linspace(0, 3, 61, dtype=torch.float64)  # s
truth = torch.tensor([0.8, 1.0, 0.0], dtype=torch.float64)  # m, rad, rad/s
solver = Solver("rk4", step=0.02, gradient="backprop")


def angle(theta):  # [n, 3] -> [61, n]
    q, rate, length = theta[:, 1], theta[:, 2], theta[:, 0]
    y0 = torch.stack([q, length**2 * rate], -1)  # the momentum of a unit mass
    return odeint(Pendulum(length=theta[:, :1], gravity=9.81), y0, t, solver)[..., 0]


record = angle(truth[None]) + 0.02 * torch.randn(61, 1, generator=torch.Generator().manual_seed(1), dtype=t.dtype)


def misfit(theta):  # [n, 3] -> [n]
    return (angle(theta) - record).square().mean(0)


space = Box({"length": (0.3, 2.0), "angle": (-2.0, 2.0), "rate": (-2.0, 2.0)}, {"length": "m", "angle": "rad"})
study = Study(space, GradientDescent(), seed=0)
history = study.run(with_gradient(misfit), trials=60)
print(f"true {truth.tolist()}, found {[round(x, 3) for x in study.recommend().tolist()]}")
print(f"misfit {float(history.outcome[:, 0].min()):.2e}, of noise {0.02**2:.1e}, in {len(history)} integrations")
