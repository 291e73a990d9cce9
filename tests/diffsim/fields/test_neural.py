"""Perceptrons and neural fields: reproducible orthogonal weights, time as an input, bad input."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from diffsim.contracts import check_vector_field
from diffsim.errors import ArgumentError
from diffsim.fields.neural import NeuralField, mlp

Y0 = torch.tensor([[0.4, -0.3], [1.1, 0.2], [-0.8, 0.9]], dtype=torch.float64)


@given(
    widths=st.lists(st.integers(1, 12), min_size=2, max_size=5),
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_weights_are_orthogonal_seeded_and_draw_no_global_numbers(widths, seed, dtype):
    before = torch.get_rng_state()
    nets = [mlp(widths[0], widths[-1], widths[1:-1], seed=seed, dtype=dtype) for _ in range(2)]
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert a.dtype == dtype and a.requires_grad and torch.equal(a, b)
    layers = [layer for layer in nets[0] if isinstance(layer, nn.Linear)]
    assert [layers[0].in_features, *(layer.out_features for layer in layers)] == widths
    for layer in layers:
        weight = layer.weight.detach().double()
        gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
        assert torch.allclose(gram, torch.eye(len(gram), dtype=torch.float64), atol=1e-5)
    assert all(layer.bias is not None for layer in layers[:-1]) and layers[-1].bias is None


def test_other_seeds_give_other_networks():
    assert not torch.equal(mlp(2, 1, (4,), seed=0)[0].weight, mlp(2, 1, (4,), seed=1)[0].weight)


@pytest.mark.parametrize("widths", [(0, 1, (4,)), (2, 0, (4,)), (2, 1, (4, 0)), (2, 1, (-3,))])
def test_widths_must_be_positive(widths):
    with pytest.raises(ArgumentError, match="at least 1"):
        mlp(*widths)


def test_the_activation_is_an_argument():
    assert isinstance(mlp(2, 1, (4,), nn.Softplus)[1], nn.Softplus)


def test_time_is_the_first_input():
    net = nn.Linear(3, 2, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 2.0]]))
    slope = NeuralField(net, time=True)(torch.tensor(7.0, dtype=torch.float64), Y0)
    assert torch.allclose(slope, torch.stack([torch.full((3,), 7.0, dtype=torch.float64), 2 * Y0[:, 1]], dim=-1))


@pytest.mark.parametrize("time", [False, True])
def test_contract(time):
    check_vector_field(NeuralField(mlp(3 if time else 2, 2, (8, 8)), time=time), Y0, t=0.5)
