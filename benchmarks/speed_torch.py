"""The contenders of the speed benchmark that run on torch: diffsim itself, torchdiffeq, torchode, torchdyn."""

# pyright: reportMissingImports=false, reportMissingModuleSource=false

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torchdiffeq
import torchode
from torch import Tensor, nn
from torchdyn.numerics import odeint as torchdyn_odeint

from benchmarks.speed_tasks import END, LEARNING_RATE, N_STEPS, TOLERANCE, Contender, Task
from diffsim import (
    DerivativeLoss,
    Hamiltonian,
    SeparableHamiltonian,
    Solver,
    Training,
    Trajectory,
    VectorField,
    fit,
    odeint,
)
from surrogates import RolloutEnsemble

__all__ = ["FIT_STEPS", "ours", "reference", "rivals"]

FIT_STEPS = 50
Solve = Callable[[Tensor], Tensor]  # initial states -> states at the outputs


def ours(task: Task) -> Iterator[Contender]:
    """This project, through what its users call."""
    case = task.case
    if case.system == "derivative":
        yield _fit(task)
        return
    if case.system == "ensemble":
        yield _ensemble(task)
        return
    (field,) = task.fields
    gradients = ("adjoint", "backprop") if case.mode == "training" else ("adjoint",)
    for gradient in gradients:
        if case.method == "dopri5":
            solver = Solver("dopri5", rtol=TOLERANCE, atol=TOLERANCE, gradient=gradient)
        else:
            solver = Solver(case.method, step=task.step, gradient=gradient)  # pyright: ignore[reportArgumentType]
        name = f"gradient={gradient}" if case.mode == "training" else "default"
        yield _rollout(task, "diffsim", name, field, lambda y, s=solver: odeint(field, y, task.t, s)[1:])


def rivals(task: Task) -> Iterator[Contender]:
    """The other libraries on torch."""
    case = task.case
    if case.system == "derivative":
        yield _eager_fit(task)
        return
    if case.system == "ensemble":
        yield _rollout(task, "torchdiffeq", "loop over members", None, lambda y: _torchdiffeq_loop(task, y))
        stacked = _Stacked(task.fields)
        yield _rollout(
            task,
            "torchdiffeq",
            "batched products",
            None,
            lambda y: _torchdiffeq(task, stacked, y.expand(len(task.fields), -1, -1)).movedim(1, 0),
        )
        return
    (field,) = task.fields
    if case.method == "leapfrog":
        assert isinstance(field, SeparableHamiltonian)
        yield _rollout(task, "torch", "plain loop", field, lambda y: _leapfrog(task, field, y))
        return
    training = case.mode == "training"
    yield _rollout(
        task, "torchdiffeq", "backprop" if training else "plain", field, lambda y: _torchdiffeq(task, field, y)
    )
    if training:
        yield _rollout(task, "torchdiffeq", "adjoint", field, lambda y: _torchdiffeq(task, field, y, adjoint=True))
    yield _rollout(task, "torchdyn", "backprop" if training else "plain", field, lambda y: _torchdyn(task, field, y))
    if case.method == "dopri5":
        yield _rollout(
            task, "torchode", "backprop" if training else "plain", field, lambda y: _torchode(task, field, y)
        )


def reference(task: Task) -> tuple[np.ndarray, np.ndarray | None]:
    """States and gradient in float64: torchdiffeq with the same steps, or with a tolerance of 1e-9."""
    twin = copy.deepcopy(task)
    twin.fields = [field.double() for field in twin.fields]
    twin.y0, twin.t = twin.y0.double(), torch.linspace(0, END, len(task.t), dtype=torch.float64)
    case = task.case
    if case.system == "derivative":
        contender = _eager_fit(twin)
    elif case.system == "ensemble":
        contender = _rollout(twin, "", "", None, lambda y: _torchdiffeq_loop(twin, y))
    elif case.method == "leapfrog":
        (field,) = twin.fields
        assert isinstance(field, SeparableHamiltonian)
        contender = _rollout(twin, "", "", field, lambda y: _leapfrog(twin, field, y))
    else:
        contender = _rollout(
            twin, "", "", twin.fields[0], lambda y: _torchdiffeq(twin, twin.fields[0], y, tolerance=1e-9)
        )
    return contender.read(contender.run())


def _rollout(task: Task, library: str, setting: str, field: VectorField | None, solve: Solve) -> Contender:
    """A contender that differentiates in the field's weights, or without a field in the initial states."""

    def run() -> tuple[Tensor, tuple[Tensor, ...]]:
        if task.case.mode == "forward":
            with torch.no_grad():
                return solve(task.y0), ()
        y0 = task.y0 if field is not None else task.y0.detach().requires_grad_()
        states = solve(y0)
        return states, task.gradient_of(states, (y0,) if field is None else tuple(field.parameters()))

    return Contender(library, setting, run, _read)


def _read(result: tuple[Tensor, tuple[Tensor, ...]]) -> tuple[np.ndarray, np.ndarray | None]:
    states, gradient = result
    flat = torch.cat([g.flatten() for g in gradient]).double().numpy() if gradient else None
    return states.detach().double().numpy(), flat


def _torchdiffeq(
    task: Task, field: nn.Module, y: Tensor, *, adjoint: bool = False, tolerance: float = TOLERANCE
) -> Tensor:
    solve: Any = torchdiffeq.odeint_adjoint if adjoint else torchdiffeq.odeint
    if task.case.method == "dopri5":
        return solve(field, y, task.t, method="dopri5", rtol=tolerance, atol=tolerance)[1:]
    return solve(field, y, task.t, method="rk4", options={"step_size": task.step})[1:]


def _torchdiffeq_loop(task: Task, y: Tensor) -> Tensor:
    return torch.stack([_torchdiffeq(task, field, y) for field in task.fields])


def _torchdyn(task: Task, field: nn.Module, y: Tensor) -> Tensor:
    if task.case.method == "dopri5":
        # Without a copy it keeps views of the caller's times.
        return torchdyn_odeint(field, y, task.t.clone(), "dopri5", atol=TOLERANCE, rtol=TOLERANCE)[1][1:]
    every = N_STEPS // (len(task.t) - 1)
    return torchdyn_odeint(field, y, torch.linspace(0, END, N_STEPS + 1), "rk4")[1][every::every]


def _torchode(task: Task, field: nn.Module, y: Tensor) -> Tensor:
    term: Any = torchode.ODETerm(field)
    controller: Any = torchode.IntegralController(atol=TOLERANCE, rtol=TOLERANCE, term=term)
    method: Any = torchode.Dopri5(term=term)
    start: Any = y
    times: Any = task.t.expand(len(y), -1)
    solver: Any = torchode.AutoDiffAdjoint(method, controller)
    problem: Any = torchode.InitialValueProblem(y0=start, t_eval=times)
    return solver.solve(problem).ys[:, 1:].transpose(0, 1)


def _leapfrog(task: Task, field: SeparableHamiltonian, y: Tensor) -> Tensor:
    """Kick, drift, kick, with the last force kept for the next step."""
    h, (q, p) = task.step, y.chunk(2, -1)
    force, states = field.force(q), []
    for _ in range(N_STEPS):
        p = p + h / 2 * force
        q = q + h * field.velocity(p)
        force = field.force(q)
        p = p + h / 2 * force
        states.append(torch.cat([q, p], -1))
    every = N_STEPS // (len(task.t) - 1)
    return torch.stack(states[every - 1 :: every])


class _Stacked(nn.Module):
    """The members of an ensemble as one field on states [members, batch, d]."""

    def __init__(self, fields: list[VectorField]) -> None:
        super().__init__()
        nets: list[Any] = [field.net for field in fields]
        self.layers = [
            (
                torch.stack([net[i].weight.detach().T for net in nets]),
                None if nets[0][i].bias is None else torch.stack([net[i].bias.detach() for net in nets])[:, None],
            )
            for i in range(0, len(nets[0]), 2)
        ]

    def forward(self, t: Tensor, y: Tensor) -> Tensor:
        for weight, bias in self.layers:
            y = torch.bmm(y, weight) if bias is None else torch.baddbmm(bias, y, weight).tanh()
        return y


def _ensemble(task: Task) -> Contender:
    solver = Solver("rk4", step=task.step, gradient="backprop", on_divergence="nan")
    model = RolloutEnsemble(copy.deepcopy(task.fields), task.t, solver=solver)
    members, outputs = len(task.fields), len(task.t) - 1

    def solve(y: Tensor) -> Tensor:
        return model(y).unflatten(-1, (outputs, y.shape[-1])).reshape(members, len(y), outputs, -1).transpose(1, 2)

    return _rollout(task, "diffsim", "RolloutEnsemble", None, solve)


def _fit(task: Task) -> Contender:
    data = Trajectory(torch.zeros(1), task.y0[None], dy=task.slopes[None])
    training = Training(steps=FIT_STEPS, lr=LEARNING_RATE, batch="all", schedule="constant")

    def run() -> list[float]:
        report = fit(copy.deepcopy(task.fields[0]), data, DerivativeLoss(), training)
        return list(report.losses)

    return Contender("diffsim", "fit", run, lambda losses: (np.array(losses), None), FIT_STEPS)


def _eager_fit(task: Task) -> Contender:
    def run() -> list[float]:
        field = copy.deepcopy(task.fields[0])
        assert isinstance(field, Hamiltonian)
        optimiser = torch.optim.Adam(field.parameters(), LEARNING_RATE)
        time, losses = torch.zeros(()), []
        y = task.y0.detach().requires_grad_()
        for _ in range(FIT_STEPS):
            optimiser.zero_grad()
            loss = (field(time, y) - task.slopes.to(y)).square().mean()
            loss.backward(inputs=list(field.parameters()))
            optimiser.step()
            losses.append(loss.detach())
        return torch.stack(losses).tolist()

    return Contender("torch", "autograd, eager", run, lambda losses: (np.array(losses), None), FIT_STEPS)
