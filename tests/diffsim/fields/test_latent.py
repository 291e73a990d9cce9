"""Hamiltonians behind an autoencoder: exact losses, what each part trains, pictures of a pendulum, errors."""

import pytest
import torch

from diffsim.errors import ArgumentError
from diffsim.fields.latent import Autoencoder, LatentHamiltonian
from diffsim.fields.neural import mlp
from diffsim.integrate.odeint import odeint
from diffsim.systems.frames import pendulum_frames, stack_frames
from diffsim.systems.oscillators import MassSpring, Pendulum
from diffsim.training.optimise import optimise
from diffsim.training.settings import Training


class Identity(Autoencoder):
    def __init__(self):
        super().__init__(2)

    def encode(self, x):
        return x

    def decode(self, z):
        return z


def test_the_loss_of_a_known_latent_motion():
    before = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    after = before + torch.tensor([[0.5, -2.0]], dtype=torch.float64)
    model = LatentHamiltonian(Identity(), MassSpring(stiffness=2.0))
    assert float(model.loss(before, after)) == 0.0  # dq = p, and the field (p, -2 q)
    assert float(model.loss(before, after + torch.tensor([0.1, 0.0]), dynamics=0.0)) == pytest.approx(0.01)
    assert float(model.loss(before, after + torch.tensor([0.0, 0.1]))) == pytest.approx(0.1 * 0.01 / 2)


def test_pictures_show_the_angle_smoothly_and_two_of_them_the_velocity():
    angle = torch.tensor([0.3, -1.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: pendulum_frames(a, size=7), angle)
    mirrored = pendulum_frames(-angle, 9).reshape(2, 9, 9).flip(-1)
    torch.testing.assert_close(pendulum_frames(angle, 9).reshape(2, 9, 9), mirrored)
    frames = pendulum_frames(torch.tensor([[0.0], [0.1], [0.3]]), 5)
    stacked = stack_frames(frames)
    assert stacked.shape == (2, 1, 50)
    assert torch.equal(stacked[1, 0, :25], frames[1, 0])


def test_a_latent_hamiltonian_learns_to_continue_pictures():
    t = torch.arange(21, dtype=torch.float64) * 0.25
    y0 = 0.5 * torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    runs = odeint(Pendulum(gravity=4.0), y0, t)
    pictures = stack_frames(pendulum_frames(runs[..., 0], size=8, width=0.2)).float()
    before, after = pictures[:-1].flatten(0, 1), pictures[1:].flatten(0, 1)
    model = LatentHamiltonian(Autoencoder(128, width=32), mlp(2, 1, (32,)))

    def loss(i):
        y, z = (before, after) if i is None else (before[i], after[i])
        return model.loss(y, z, canonical=10.0, dynamics=10.0)

    report = optimise(
        loss,
        list(model.parameters()),
        Training(steps=700, lr=5e-3, batch=64),
        n_terms=len(before),
    )
    assert report.losses[-1] < 0.2 * report.losses[0]
    steps = torch.arange(10, dtype=torch.float32)
    latent = odeint(model.field, model.autoencoder.encode(pictures[0]), steps).detach()
    predicted = model.autoencoder.decode(latent).detach()
    assert predicted.shape == (10, 16, 128)
    still = (pictures[:10] - pictures[:1]).square().mean()
    assert (predicted - pictures[:10]).square().mean() < 0.7 * still
    energy = model.field.energy(latent).detach()
    torch.testing.assert_close(energy, energy[:1].expand_as(energy), rtol=1e-3, atol=1e-4)


def test_bad_arguments():
    model = LatentHamiltonian(Autoencoder(4, width=4), mlp(2, 1, (4,)))
    with pytest.raises(ArgumentError, match=r"the same shape \[n, m\]"):
        model.loss(torch.zeros(3, 4), torch.zeros(2, 4))
    with pytest.raises(ArgumentError, match="`size` must be at least 2"):
        pendulum_frames(torch.zeros(1), size=1)
    with pytest.raises(ArgumentError, match="T >= 2"):
        stack_frames(torch.zeros(1, 2, 3))
