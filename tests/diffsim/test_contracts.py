"""check_vector_field: passes good fields, and names the rule that a broken one breaks."""

import pytest
import torch
from torch import nn

from diffsim.contracts import check_vector_field
from diffsim.errors import ArgumentError, ArgumentTypeError, ContractError
from diffsim.fields import (
    ConditionedField,
    FunctionField,
    Hamiltonian,
    HamiltonianField,
    NeuralField,
    Separable,
    SeparableHamiltonian,
    VectorField,
    mlp,
)

Y0 = torch.tensor([[0.4, -0.3], [1.1, 0.2], [-0.8, 0.9]], dtype=torch.float64)


class Good(VectorField):
    """A damped, driven oscillator with a parameter and a buffer."""

    def __init__(self):
        super().__init__()
        self.damping = nn.Parameter(torch.tensor(0.3))
        self.register_buffer("stiffness", torch.tensor(2.0))

    def forward(self, t, y):
        q, p = y.chunk(2, dim=-1)
        return torch.cat([p, -self.stiffness * q.sin() - self.damping * p + torch.cos(t)], dim=-1)


class Spring(Separable):
    def __init__(self, stiffness):
        super().__init__()
        self.register_buffer("stiffness", stiffness)

    def kinetic(self, p):
        return p.square().sum(-1) / 2

    def potential(self, q):
        return (self.stiffness * q.square()).sum(-1) / 2


@pytest.mark.parametrize(
    "field",
    [
        Good(),
        Spring(torch.tensor(2.0)),
        NeuralField(mlp(2, 2, (8,))),
        NeuralField(mlp(3, 2, (8,)), time=True),
        HamiltonianField(mlp(2, 1, (8,))),
        SeparableHamiltonian(mlp(1, 1, (8,)), mlp(1, 1, (8,))),
        FunctionField(lambda t, y, k: -k * y, k=torch.tensor(0.5)),
        FunctionField(lambda t, y: torch.zeros_like(y)),
        FunctionField(lambda t, y: torch.cos(t) * torch.ones_like(y)),
    ],
    ids=lambda field: type(field).__name__,
)
def test_good_fields_pass(field):
    before = {name: value.clone() for name, value in field.state_dict().items()}
    needs = [p.requires_grad for p in field.parameters()]
    check_vector_field(field, Y0)
    check_vector_field(field, Y0.float(), t=1.5, duration=-0.5)
    assert all(torch.equal(value, before[name]) for name, value in field.state_dict().items())
    assert [p.requires_grad for p in field.parameters()] == needs


def test_constants_that_are_not_leaves_and_differ_between_trajectories():
    theta = torch.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    check_vector_field(Spring(theta * 2), Y0, batched_constants=True)

    class Decay(nn.Module):
        def forward(self, t, y, theta):
            return -theta * y

    check_vector_field(ConditionedField(Decay(), theta * 2), Y0, batched_constants=True)
    with pytest.raises(ContractError, match=r"batch: for y of shape \[2\]"):
        check_vector_field(Spring(theta * 2), Y0)


def test_the_check_is_reproducible_and_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    check_vector_field(Good(), Y0, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


class PlainTensor(VectorField):
    def __init__(self):
        super().__init__()
        self.k = torch.tensor(2.0)

    def forward(self, t, y):
        return -self.k * y


class ListOfTensors(VectorField):
    def __init__(self):
        super().__init__()
        self.k = {"a": [torch.tensor(2.0)]}

    def forward(self, t, y):
        return -y


HIDDEN = torch.tensor(2.0, requires_grad=True)


class NeedsTimeVector(VectorField):
    def forward(self, t, y):
        return -y * t[0]


class Float64Only(VectorField):
    def __init__(self):
        super().__init__()
        self.register_buffer("k", torch.ones(2, dtype=torch.float64))

    def forward(self, t, y):
        return -self.k.double() * y


class InPlace(VectorField):
    def forward(self, t, y):
        return y.mul_(2.0)


class Random(VectorField):
    def forward(self, t, y):
        return y + torch.rand_like(y)


class Counting(VectorField):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, t, y):
        self.calls += 1
        return y * self.calls


class Detached(VectorField):
    def forward(self, t, y):
        return -y * y.detach()


class DetachedConstant(VectorField):
    def __init__(self):
        super().__init__()
        self.k = nn.Parameter(torch.tensor(2.0))

    def forward(self, t, y):
        return -self.k.detach() * y


class ItemConstant(VectorField):
    def __init__(self):
        super().__init__()
        self.register_buffer("k", torch.tensor(2.0))

    def forward(self, t, y):
        return -self.k.item() * y


class GradMode(VectorField):
    def forward(self, t, y):
        return -y * (1.1 if torch.is_grad_enabled() else 1.0)


class Doubled(torch.autograd.Function):
    """Multiplies by 2; its backward is wrong later on."""

    @staticmethod
    def forward(ctx, y, t):
        ctx.wrong = float(t) > 0.4
        return 2 * y

    @staticmethod
    def backward(ctx, *gradients):
        return (gradients[0] * (3 if ctx.wrong else 2), None)


BROKEN = [
    (PlainTensor(), r"constants: `k` holds a tensor as a plain attribute.*register_buffer\('k'"),
    (ListOfTensors(), "constants: `k` holds a tensor"),
    (NeuralField(nn.Sequential(nn.Linear(2, 2), PlainTensor())), r"constants: `net.1.k` holds a tensor"),
    (FunctionField(lambda t, y: -HIDDEN.to(y) * y), "constants: the field depends on a tensor requiring a gradient"),
    (NeedsTimeVector(), r"call: the field raised IndexError for t of shape \[\]"),
    (Float64Only(), "call: the field must return y's dtype torch.float32, got torch.float64"),
    (FunctionField(lambda t, y: y[..., :1]), r"call: the field must return y's shape \[3, 2\], got \[3, 1\]"),
    (FunctionField(lambda t, y: y.sqrt()), "call: the field is not finite"),
    (FunctionField(lambda t, y: y.tolist()), "call: the field must return a tensor, got list"),
    (InPlace(), "pure: the field changes its arguments in place"),
    (Random(), "pure: two calls with equal arguments differ"),
    (GradMode(), r"pure: the field gives other values under torch.no_grad\(\)"),
    (Counting(), "pure: two calls with equal arguments differ"),
    (FunctionField(lambda t, y: y - y.mean(0)), "batch: a state's derivative depends on the other states"),
    (FunctionField(lambda t, y: torch.stack([y[:, 1], -y[:, 0]], dim=1)), "batch: "),
    (FunctionField(lambda t, y: y @ y.new_ones(2, 2) if y.ndim > 1 else -y), r"batch: for y of shape \[2\] the field"),
    (FunctionField(lambda t, y: y[None] if y.ndim == 1 else y), r"batch: for y of shape \[2\] .* shape \[1, 2\]"),
    (Detached(), "state gradient: the gradient in the state is .* finite differences give"),
    (FunctionField(lambda t, y: torch.as_tensor(y.detach().numpy() * 2)), "state gradient: "),
    (DetachedConstant(), "constant gradient: the gradient in `k` is"),
    (ItemConstant(), "constant gradient: the gradient in `k` is"),
]


@pytest.mark.parametrize(("field", "message"), BROKEN)
def test_broken_fields_are_named(field, message):
    with pytest.raises(ContractError, match=message):
        check_vector_field(field, Y0)


def test_gradients_that_go_wrong_only_on_the_way_are_found_by_a_solve():
    with pytest.raises(ContractError, match="solve: the gradients in `y0` by the adjoint equation and by backprop"):
        check_vector_field(FunctionField(lambda t, y: -Doubled.apply(y, t)), Y0)
    # Both ways agree here, on a wrong gradient.
    with pytest.raises(ContractError, match=r"solve: the gradient through a solve is .* finite differences give"):
        check_vector_field(FunctionField(lambda t, y: -y - t * y.detach()), Y0)


def test_a_field_too_stiff_for_the_adjoint():
    with pytest.raises(ContractError, match=r"solve: from `y0` over duration=4.0: .* does not retrace"):
        check_vector_field(FunctionField(lambda t, y: -40 * (y - torch.cos(t))), Y0, duration=4.0)


class Circle(Hamiltonian):
    def energy(self, y):
        return y.square().sum(-1) / 2


class Damped(Circle):
    def forward(self, t, y):
        return super().forward(t, y) - 0.1 * y


class Sheared(Circle):
    """Divergence-free, but not symplectic: dq1 = p1 + q2."""

    def forward(self, t, y):
        return super().forward(t, y) + torch.cat([y[..., 1:2], torch.zeros_like(y[..., 1:])], dim=-1)


class WrongSign(Circle):
    def energy_gradient(self, y):
        return -y


class OtherEnergy(Circle):
    def forward(self, t, y):
        q, p = y.chunk(2, dim=-1)
        return torch.cat([p, -3 * q], dim=-1)


class Pushed(Circle):
    """Canonical at t = 0 only."""

    def forward(self, t, y):
        return super().forward(t, y) + t * torch.ones_like(y)


class EnergyOfWrongShape(Circle):
    def energy(self, y):
        return y.square().sum(-1, keepdim=True) / 2


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (Damped(), r"does not preserve volume, its divergence is 0\.2"),
        (Sheared(), "does not preserve the symplectic form"),
        (WrongSign(), r"the field is not \(dH/dp, -dH/dq\)"),
        (OtherEnergy(), r"the field is not \(dH/dp, -dH/dq\)"),
        (Pushed(), "the energy drifts by"),
        (EnergyOfWrongShape(), r"energy must have shape \[3\], got \[3, 1\]"),
    ],
    ids=lambda x: type(x).__name__,
)
def test_a_hamiltonian_that_breaks_a_rule(field, message):
    y0 = torch.cat([Y0, Y0.flip(0)], dim=-1) if isinstance(field, Sheared) else Y0
    with pytest.raises(ContractError, match=f"hamiltonian: .*{message}"):
        check_vector_field(field, y0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((lambda t, y: y, Y0), ArgumentTypeError, "`field` must be a VectorField"),
        ((Good(), [1.0]), ArgumentTypeError, "`y0` must be a floating-point tensor"),
        ((Good(), Y0[0]), ArgumentError, r"`y0` must have shape \[n, d\] with n >= 2, got \[2\]"),
        ((Good(), Y0[:1]), ArgumentError, r"n >= 2, got \[1, 2\]"),
        ((Good(), Y0 / 0), ArgumentError, "`y0` must be finite"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        check_vector_field(*arguments)
