"""The contract suite for users' own vector fields: what every solver and every gradient relies on."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from diffsim.errors import ArgumentError, ArgumentTypeError, ContractError, IntegrationError
from diffsim.fields.base import VectorField
from diffsim.fields.hamiltonian import Hamiltonian
from diffsim.integrate.constants import hidden_leaves
from diffsim.integrate.odeint import odeint
from diffsim.integrate.solver import Gradient, Solver

__all__ = ["check_vector_field"]

_OUTPUTS = 6


def check_vector_field(
    field: VectorField,
    y0: Tensor,
    *,
    t: float = 0.0,
    duration: float = 1.0,
    batched_constants: bool = False,
    seed: int = 0,
) -> None:
    """Checks a vector field against the rules that the solvers and their gradients rely on.

    - constants: every tensor of the field is a parameter or a buffer.
    - call: `field(t, y)` takes a time of shape [] and gives y's shape and dtype, in float32 and in float64, finite.
    - pure: equal arguments give equal results, and the arguments stay as they are.
    - batch: trajectories are independent, and states may have shape [d], [n, d] and [a, n, d].
    - state gradient, constant gradient: derivatives agree with finite differences.
    - hamiltonian: the flow of a `Hamiltonian` preserves volume and the symplectic form, the field is
      (dH/dp, -dH/dq), and the energy stays constant along a solution.
    - solve: gradients through a solve, by the adjoint equation, by backpropagation and by finite differences, agree.

    The field itself is left as it is: the checks work on copies.

    Args:
        field: The field to check.
        y0: States at which to check, n >= 2, where the field is smooth, shape [n, d].
        t: Time at which to check.
        duration: Length of the solves, in t's unit; negative to go backward in time.
        batched_constants: Whether constants have one value per trajectory (shape [n, 1] or so), so that the field
            takes no other number of states than y0 has.
        seed: Of the random directions of the finite differences.

    Raises:
        ContractError: A rule is broken.
        ArgumentError: `y0` has the wrong shape or value.
        ArgumentTypeError: `field` is no VectorField, or `y0` no floating-point tensor.

    Example:
        >>> from diffsim.systems import Pendulum
        >>> check_vector_field(Pendulum(), torch.tensor([[0.1, 0.0], [2.0, 0.5]]))
    """
    if not isinstance(field, VectorField):
        raise ArgumentTypeError(f"`field` must be a VectorField, got {type(field).__name__}.")
    if not isinstance(y0, Tensor) or not y0.is_floating_point():
        raise ArgumentTypeError("`y0` must be a floating-point tensor.")
    if y0.ndim != 2 or len(y0) < 2 or y0.shape[1] == 0:
        raise ArgumentError(f"`y0` must have shape [n, d] with n >= 2, got {list(y0.shape)}.")
    if not torch.isfinite(y0).all():
        raise ArgumentError("`y0` must be finite.")
    generator = torch.Generator().manual_seed(seed)
    _check_constants(field)
    y = y0.detach().double()
    exact = _copy(field, torch.float64)
    for dtype in (torch.float32, torch.float64):
        time = torch.tensor(t, dtype=dtype, device=y0.device)
        _check_call(_copy(field, dtype), time, y.to(dtype, copy=True))
    time = torch.tensor(t, dtype=torch.float64, device=y0.device)
    _check_pure(exact, time, y)
    _check_hidden(exact, time, y)
    _check_batch(exact, time, y, batched_constants)
    _check_state_gradient(exact, time, y, generator)
    _check_constant_gradients(exact, time, y, generator)
    if isinstance(exact, Hamiltonian):
        _check_hamiltonian(exact, time, y, duration, generator)
    _check_solve(exact, time, y, duration, generator)


def _copy(field: VectorField, dtype: torch.dtype) -> VectorField:
    """A copy in another dtype, whose constants are leaves."""
    memo: dict[int, object] = {}
    for parameter in field.parameters():
        memo[id(parameter)] = nn.Parameter(_leaf(parameter, dtype), requires_grad=parameter.requires_grad)
    for buffer in field.buffers():
        memo[id(buffer)] = _leaf(buffer, dtype)
    return copy.deepcopy(field, memo)


def _leaf(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.detach().clone().to(dtype if x.is_floating_point() else x.dtype)


def _direction(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, dtype=x.dtype, generator=generator).to(x.device)


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _call(rule: str, field: VectorField, t: Tensor, y: Tensor, what: str) -> Tensor:
    try:
        return field(t, y)
    except Exception as error:
        raise ContractError(f"{rule}: the field raised {type(error).__name__} for {what}: {error}") from error


def _check_constants(field: VectorField) -> None:
    registered = ("_parameters", "_buffers", "_modules")
    for path, module in field.named_modules():
        for name, value in vars(module).items():
            if name not in registered and any(True for _ in _tensors(value)):
                place = f"{path}.{name}" if path else name
                raise ContractError(
                    f"constants: `{place}` holds a tensor as a plain attribute, so it gets no gradient and does not "
                    f"follow field.to(...). Use register_buffer('{name}', ...) or nn.Parameter."
                )


def _check_hidden(field: VectorField, t: Tensor, y: Tensor) -> None:
    y = y.clone().requires_grad_(True)
    slope = field(t, y)
    known = [c for c in (*field.parameters(), *field.buffers()) if c.requires_grad]
    if slope.requires_grad and hidden_leaves(slope, (y, *known)):
        raise ContractError(
            "constants: the field depends on a tensor requiring a gradient that is neither its parameter nor its "
            "buffer, so the adjoint would miss it. Register it."
        )


def _check_call(field: VectorField, t: Tensor, y: Tensor) -> None:
    slope = _call("call", field, t, y, f"t of shape [] and y of shape {list(y.shape)} in {y.dtype}")
    if not isinstance(slope, Tensor):
        raise ContractError(f"call: the field must return a tensor, got {type(slope).__name__}.")
    if slope.shape != y.shape:
        raise ContractError(f"call: the field must return y's shape {list(y.shape)}, got {list(slope.shape)}.")
    if slope.dtype != y.dtype:
        raise ContractError(f"call: the field must return y's dtype {y.dtype}, got {slope.dtype}.")
    if not torch.isfinite(slope).all():
        raise ContractError("call: the field is not finite at `y0`.")


def _check_pure(field: VectorField, t: Tensor, y: Tensor) -> None:
    t_given, y_given = t.clone(), y.clone()
    first, second = field(t_given, y_given).clone(), field(t, y.clone())
    if not (torch.equal(t, t_given) and torch.equal(y, y_given)):
        raise ContractError("pure: the field changes its arguments in place. Work on new tensors.")
    if not torch.equal(first, second):
        raise ContractError("pure: two calls with equal arguments differ. Take randomness and state out of the field.")
    with torch.no_grad():
        _close("pure", field(t, y), first, "the field gives other values under torch.no_grad().")


def _check_batch(field: VectorField, t: Tensor, y: Tensor, batched_constants: bool) -> None:
    slope = field(t, y)
    changed = y.clone()
    changed[-1] = y[0]
    _close(
        "batch", field(t, changed)[:-1], slope[:-1], "a state's derivative depends on the other states of the batch."
    )
    rows = y.expand(2, *y.shape)
    shapes = [rows] if batched_constants else [rows, y[0]]
    for states in shapes:
        what = f"y of shape {list(states.shape)}"
        got = _call("batch", field, t, states, what)
        expected = slope.expand(2, *y.shape) if states.ndim == 3 else slope[0]
        if got.shape != expected.shape:
            raise ContractError(f"batch: for {what} the field returned shape {list(got.shape)}.")
        _close("batch", got, expected, f"for {what} the field gives other values than for [n, d].")


def _check_state_gradient(field: VectorField, t: Tensor, y: Tensor, generator: torch.Generator) -> None:
    v, w = _direction(y, generator), _direction(y, generator)
    x = y.clone().requires_grad_(True)
    slope = field(t, x)
    got = torch.zeros_like(y)
    if slope.requires_grad:
        (got,) = torch.autograd.grad((slope * w).sum(), x, materialize_grads=True, allow_unused=True)
    h = 1e-6 * max(1.0, float(y.abs().amax()))
    difference = ((field(t, y + h * v) - field(t, y - h * v)).detach() * w).sum() / (2 * h)
    scale = slope.detach().abs().amax() + (got * v).abs().sum()
    _close_numbers("state gradient", (got * v).sum(), difference, scale, "the gradient in the state")


def _check_constant_gradients(field: VectorField, t: Tensor, y: Tensor, generator: torch.Generator) -> None:
    w = _direction(y, generator)
    for name, constant in (*field.named_parameters(), *field.named_buffers()):
        if not constant.is_floating_point() or constant.numel() == 0:
            continue
        required = constant.requires_grad
        constant.requires_grad_(True)
        v = _direction(constant, generator)
        loss = (field(t, y) * w).sum()
        got = torch.zeros_like(v)
        if loss.requires_grad:
            (got,) = torch.autograd.grad(loss, constant, materialize_grads=True, allow_unused=True)
        constant.requires_grad_(required)
        value = constant.detach().clone()
        h = 1e-6 * max(1e-3, float(value.abs().amax()))
        sides: list[Tensor] = []
        with torch.no_grad():
            for sign in (1, -1):
                constant.copy_(value + sign * h * v)
                sides.append((field(t, y) * w).sum().detach())
            constant.copy_(value)
        scale = loss.detach().abs() + (got * v).abs().sum() + (field(t, y).detach() * w).abs().sum()
        difference = (sides[0] - sides[1]) / (2 * h)
        _close_numbers("constant gradient", (got * v).sum(), difference, scale, f"the gradient in `{name}`")


def _check_hamiltonian(field: Hamiltonian, t: Tensor, y: Tensor, duration: float, generator: torch.Generator) -> None:
    energy = field.energy(y).detach()
    if energy.shape != y.shape[:-1]:
        raise ContractError(f"hamiltonian: energy must have shape {list(y.shape[:-1])}, got {list(energy.shape)}.")
    k = y.shape[-1] // 2
    jacobian = torch.stack([_row(field, t, y, i) for i in range(2 * k)], dim=-2)
    tolerance = 1e-8 * float(jacobian.abs().amax())
    divergence = float(jacobian.diagonal(dim1=-2, dim2=-1).sum(-1).abs().amax())
    if divergence > tolerance:
        raise ContractError(f"hamiltonian: the flow does not preserve volume, its divergence is {divergence:.3g}.")
    form = torch.cat([-jacobian[..., k:, :], jacobian[..., :k, :]], dim=-2)
    if ((form - form.mT).abs() > tolerance).any():
        raise ContractError("hamiltonian: the flow does not preserve the symplectic form: J df/dy is not symmetric.")
    slope, v = field(t, y).detach(), _direction(y, generator)
    gradient = torch.cat([-slope[..., k:], slope[..., :k]], dim=-1)
    h = 1e-6 * max(1.0, float(y.abs().amax()))
    difference = (field.energy(y + h * v) - field.energy(y - h * v)).detach().sum() / (2 * h)
    scale = (gradient * v).abs().sum() + energy.abs().sum()
    what = "the field is not (dH/dp, -dH/dq): the slope of H along a line, by the field,"
    _close_numbers("hamiltonian", (gradient * v).sum(), difference, scale, what)
    energies = field.energy(_solve(field, y, t, duration, "adjoint")).detach()
    drift = (energies - energies[0]).abs().amax(0)
    if (drift > 1e-4 * (energies.abs().amax(0) + energies.std() + 1e-6)).any():
        raise ContractError(f"hamiltonian: the energy drifts by {float(drift.amax()):.3g} along a solution.")


def _row(field: VectorField, t: Tensor, y: Tensor, i: int) -> Tensor:
    x = y.clone().requires_grad_(True)
    slope = field(t, x)
    if not slope.requires_grad:
        return torch.zeros_like(y)
    return torch.autograd.grad(slope[..., i].sum(), x, materialize_grads=True, allow_unused=True)[0]


def _solve(field: VectorField, y: Tensor, t: Tensor, duration: float, gradient: Gradient) -> Tensor:
    times = t + duration * torch.linspace(0, 1, _OUTPUTS, dtype=y.dtype, device=y.device)
    return odeint(field, y, times, Solver(rtol=1e-9, atol=1e-11, gradient=gradient))


def _check_solve(field: VectorField, t: Tensor, y: Tensor, duration: float, generator: torch.Generator) -> None:
    tensors = {"y0": y.clone(), **dict(field.named_parameters()), **dict(field.named_buffers())}
    inputs = {name: x for name, x in tensors.items() if x.is_floating_point() and x.numel()}
    for x in inputs.values():
        x.requires_grad_(True)
    w = torch.stack([_direction(y, generator) for _ in range(_OUTPUTS)])
    try:
        found = [
            torch.autograd.grad(
                (_solve(field, inputs["y0"], t, duration, gradient) * w).sum(),
                list(inputs.values()),
                allow_unused=True,
                materialize_grads=True,
            )
            for gradient in ("adjoint", "backprop")
        ]
    except IntegrationError as error:
        raise ContractError(f"solve: from `y0` over duration={duration}: {error}") from error
    for name, a, b in zip(inputs, *found, strict=True):
        if ((a - b).abs() > 1e-4 * b.abs().amax() + 1e-7).any():
            raise ContractError(
                f"solve: the gradients in `{name}` by the adjoint equation and by backpropagation differ by "
                f"{float((a - b).abs().amax()):.3g} of {float(b.abs().amax()):.3g}."
            )
    values = [x.detach().clone() for x in inputs.values()]
    steps = [1e-4 * max(1e-3, float(x.abs().amax())) * _direction(x, generator) for x in values]
    sides: list[Tensor] = []
    with torch.no_grad():
        for sign in (1, -1):
            for x, value, step in zip(inputs.values(), values, steps, strict=True):
                x.copy_(value + sign * step)
            sides.append((_solve(field, inputs["y0"], t, duration, "adjoint") * w).sum())
    parts = torch.stack([(g * step).sum() for g, step in zip(found[0], steps, strict=True)])
    got, difference = parts.sum(), (sides[0] - sides[1]) / 2
    scale = parts.abs().sum() + 1e-6 * sides[0].abs()
    if not bool((got - difference).abs() <= 1e-3 * scale):
        raise ContractError(
            f"solve: the gradient through a solve is {float(got):.6g} along a line, finite differences give "
            f"{float(difference):.6g}. Look for a detach or a kink on the way."
        )


def _close(rule: str, a: Tensor, b: Tensor, message: str) -> None:
    if not torch.allclose(a, b, rtol=1e-9, atol=1e-12 + 1e-9 * float(b.detach().abs().amax())):
        raise ContractError(f"{rule}: {message}")


def _close_numbers(rule: str, got: Tensor, expected: Tensor, scale: Tensor, what: str) -> None:
    if not bool((got - expected).abs() <= 1e-5 * scale + 1e-8):
        raise ContractError(
            f"{rule}: {what} is {float(got):.8g}, finite differences give {float(expected):.8g}. "
            "Look for a detach, a .item(), a NumPy call or a kink."
        )
