"""The contenders of the speed benchmark that run on JAX: diffrax in its fastest settings, and a plain jitted fit."""

# pyright: reportMissingImports=false, reportMissingModuleSource=false

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

from benchmarks.speed_tasks import END, LEARNING_RATE, TOLERANCE, Contender, Task
from benchmarks.speed_torch import FIT_STEPS

__all__ = ["rivals"]

# Well above the number of steps. The default adjoint of the leapfrog still gave gradients some per cent wrong: such a
# result does not count.
_MAX_STEPS = {"dopri5": 512, "rk4": 256, "leapfrog": 256}
Solve = Callable[[Any, Any], Any]  # weights, initial states -> states at the outputs


def rivals(task: Task) -> Iterator[Contender]:
    """diffrax; for the fit, jitted JAX."""
    case = task.case
    if case.system == "derivative":
        for name, slope in _HAMILTONIAN.items():
            yield _fit(task, f"jit, {name}", slope)
        return
    weights = [_weights(field) for field in task.fields]
    params = weights[0] if case.system != "ensemble" else jax.tree.map(lambda *w: jnp.stack(w), *weights)
    for name, solve in _solves(task):
        yield _rollout(task, name, params, solve)


def _solves(task: Task) -> Iterator[tuple[str, Solve]]:
    case = task.case
    adjoints: dict[str, Any] = {"": diffrax.RecursiveCheckpointAdjoint()}
    if case.mode == "training":
        adjoints = {
            ", default adjoint": diffrax.RecursiveCheckpointAdjoint(),
            ", all checkpoints": diffrax.RecursiveCheckpointAdjoint(checkpoints=_MAX_STEPS[case.method]),
        }
    for suffix, adjoint in adjoints.items():
        if case.system == "separable":
            for name, gradient in _GRADIENTS.items():
                terms = (diffrax.ODETerm(gradient), diffrax.ODETerm(_negative(gradient)))
                yield f"leapfrog, {name}{suffix}", _split(_diffrax(task, terms, _Leapfrog(), adjoint))
        elif case.system == "hamiltonian":
            for name, slope in _HAMILTONIAN.items():
                yield f"3/8 rule, {name}{suffix}", _diffrax(task, diffrax.ODETerm(slope), _ThreeEighths(), adjoint)
        elif case.system == "ensemble":
            solve = _diffrax(task, diffrax.ODETerm(_mlp), _ThreeEighths(), adjoint)
            yield f"3/8 rule, vmap over members{suffix}", jax.vmap(solve, in_axes=(0, None))
        elif case.method == "rk4":
            yield f"3/8 rule{suffix}", _diffrax(task, diffrax.ODETerm(_mlp), _ThreeEighths(), adjoint)
        else:
            solve = _diffrax(task, diffrax.ODETerm(_mlp), diffrax.Dopri5(), adjoint)
            yield f"one step for all{suffix}", solve
            if case.batch > 1:
                yield f"vmap{suffix}", jax.vmap(solve, in_axes=(None, 0), out_axes=1)


def _diffrax(task: Task, terms: Any, solver: Any, adjoint: Any) -> Solve:
    outputs = jnp.asarray(task.t[1:].numpy())
    adaptive = task.case.method == "dopri5"
    controller = diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE) if adaptive else diffrax.ConstantStepSize()

    def solve(weights: Any, y0: Any) -> Any:
        return diffrax.diffeqsolve(
            terms,
            solver,
            0.0,
            END,
            None if adaptive else task.step,
            y0,
            weights,
            saveat=diffrax.SaveAt(ts=outputs),
            stepsize_controller=controller,
            max_steps=_MAX_STEPS[task.case.method],
            adjoint=adjoint,
        ).ys

    return solve


def _split(solve: Solve) -> Solve:
    """A solve of (q, p) as one of states."""
    return lambda weights, y0: jnp.concatenate(solve(weights, tuple(jnp.split(y0, 2, -1))), -1)


def _rollout(task: Task, setting: str, weights: Any, solve: Solve) -> Contender:
    target, y0 = jnp.asarray(task.target.numpy()), jnp.asarray(task.y0.numpy())

    def loss(*given: Any) -> tuple[Any, Any]:
        states = solve(*given)
        return jnp.square(states - target).mean(), states

    which = 1 if task.case.system == "ensemble" else 0
    forward, both = jax.jit(solve), jax.jit(jax.value_and_grad(loss, argnums=which, has_aux=True))

    def run() -> Any:
        if task.case.mode == "forward":
            return jax.block_until_ready(forward(weights, y0)), None
        (_, states), gradient = jax.block_until_ready(both(weights, y0))
        return states, gradient

    def read(result: tuple[Any, Any]) -> tuple[np.ndarray, np.ndarray | None]:
        states, gradient = result
        flat = (
            None if gradient is None else np.concatenate([np.ravel(np.asarray(g).T) for g in jax.tree.leaves(gradient)])
        )
        if which and gradient is not None:
            flat = np.ravel(np.asarray(gradient))
        return np.asarray(states, np.float64), flat

    return Contender("diffrax", setting, run, read)


def _weights(field: nn.Module) -> Any:
    """The weights as JAX takes them, in torch's order: for each net of the field [(matrix [in, out], bias), ...]."""

    def array(x: torch.Tensor) -> Any:
        return jnp.asarray(np.ascontiguousarray(x.detach().numpy()))

    nets = [net for net in field.children() if isinstance(net, nn.Sequential)]
    layers = []
    for net in nets:
        linear = [layer for layer in net if isinstance(layer, nn.Linear)]
        # The last layer has no bias.
        layers.append([(array(x.weight.T), array(x.bias)) for x in linear[:-1]] + [(array(linear[-1].weight.T),)])
    return layers[0] if len(layers) == 1 else layers


def _mlp(t: Any, y: Any, net: Sequence[Any]) -> Any:
    for weight, bias in net[:-1]:
        y = jnp.tanh(y @ weight + bias)
    return y @ net[-1][0]


def _by_autodiff(t: Any, y: Any, net: Any) -> Any:
    return jax.grad(lambda y: _mlp(t, y, net).sum())(y)


def _written_out(t: Any, y: Any, net: Any) -> Any:
    """The gradient of an MLP with one output, layer by layer."""
    units = []
    for weight, bias in net[:-1]:
        y = jnp.tanh(y @ weight + bias)
        units.append(y)
    slope = net[-1][0][:, 0]
    for (weight, _), unit in zip(reversed(net[:-1]), reversed(units), strict=True):
        slope = (slope * (1 - unit * unit)) @ weight.T
    return slope


def _canonical(gradient: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    def slope(t: Any, y: Any, net: Any) -> Any:
        dq, dp = jnp.split(gradient(t, y, net), 2, -1)
        return jnp.concatenate([dp, -dq], -1)

    return slope


_SLOPES = {"jax.grad": _by_autodiff, "gradient written out": _written_out}
_HAMILTONIAN = {name: _canonical(gradient) for name, gradient in _SLOPES.items()}
_GRADIENTS = {
    name: (lambda t, p, nets, gradient=gradient: gradient(t, p, nets[0])) for name, gradient in _SLOPES.items()
}


def _negative(gradient: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    # The same function of the other net, with the other sign: the force.
    return lambda t, q, nets: -gradient(t, q, nets[::-1])


class _ThreeEighths(diffrax.AbstractSolver):
    """torchdiffeq's `rk4`: the 3/8 rule."""

    term_structure = diffrax.AbstractTerm
    interpolation_cls = diffrax.LocalLinearInterpolation

    def order(self, terms: Any) -> int:
        return 4

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> None:
        return None

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        return terms.vf(t0, y0, args)

    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any) -> Any:
        h = t1 - t0
        k1 = terms.vf(t0, y0, args)
        k2 = terms.vf(t0 + h / 3, y0 + h / 3 * k1, args)
        k3 = terms.vf(t0 + 2 * h / 3, y0 + h * (k2 - k1 / 3), args)
        k4 = terms.vf(t1, y0 + h * (k1 - k2 + k3), args)
        y1 = y0 + h / 8 * (k1 + 3 * (k2 + k3) + k4)
        return y1, None, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful


class _Leapfrog(diffrax.AbstractSolver):
    """Kick, drift, kick, with the last force kept for the next step; diffrax has no Verlet of its own."""

    term_structure = (diffrax.AbstractTerm, diffrax.AbstractTerm)
    interpolation_cls = diffrax.LocalLinearInterpolation

    def order(self, terms: Any) -> int:
        return 2

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> Any:
        return terms[1].vf(t0, y0[0], args)

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Any:
        return terms[0].vf(t0, y0[1], args), terms[1].vf(t0, y0[0], args)

    def step(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any) -> Any:
        h, (q, p) = t1 - t0, y0
        p = p + h / 2 * solver_state
        q = q + h * terms[0].vf(t0, p, args)
        force = terms[1].vf(t1, q, args)
        y1 = (q, p + h / 2 * force)
        return y1, None, {"y0": y0, "y1": y1}, force, diffrax.RESULTS.successful


def _fit(task: Task, setting: str, slope: Callable[[Any, Any, Any], Any]) -> Contender:
    y, target = jnp.asarray(task.y0.numpy()), jnp.asarray(task.slopes.numpy())
    start = _weights(task.fields[0])

    def loss(weights: Any) -> Any:
        return jnp.square(slope(0.0, y, weights) - target).mean()

    @jax.jit
    def step(weights: Any, mean: Any, square: Any, count: Any) -> Any:
        value, gradient = jax.value_and_grad(loss)(weights)
        count = count + 1
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
        square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, square, gradient)

        def move(w: Any, m: Any, v: Any) -> Any:
            return w - LEARNING_RATE * (m / (1 - 0.9**count)) / (jnp.sqrt(v / (1 - 0.999**count)) + 1e-8)

        return value, jax.tree.map(move, weights, mean, square), mean, square, count

    def run() -> list[Any]:
        zero = jax.tree.map(jnp.zeros_like, start)
        state, losses = (start, zero, zero, jnp.zeros(())), []
        for _ in range(FIT_STEPS):
            value, *state = step(*state)
            losses.append(value)
        return jax.block_until_ready(losses)

    return Contender("jax", setting, run, lambda losses: (np.array(losses, np.float64), None), FIT_STEPS)
