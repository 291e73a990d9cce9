"""The contract suite for users' own surrogates: what strategies rely on."""

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from diffsim.errors import ContractError
from diffsim.training.settings import Training
from surrogates.surrogate import Surrogate

__all__ = ["check_surrogate"]

_NOISE = 0.5  # standard deviation of the truth's noise
_STEP = 1e-5  # of the finite differences


@dataclass(frozen=True, slots=True)
class _Truth:
    """Simulations of y = 1 + theta B + x C + noise, with theta in [-1, 1]^d and x normal."""

    theta: Tensor
    x: Tensor | None
    outcome: Tensor
    slope: Tensor
    input_slope: Tensor

    def mean(self, theta: Tensor, x: Tensor | None) -> Tensor:
        return 1 + theta @ self.slope + (0 if x is None else x @ self.input_slope)


def check_surrogate(
    make: Callable[[], Surrogate],
    *,
    n: int = 600,
    training: Training | None = None,
    tolerance: float = 0.25,
    seed: int = 0,
) -> None:
    """Checks a surrogate against the rules that strategies rely on.

    - call: theta [d], [n, d] and [a, n, d] (with x, which broadcasts) give a distribution of that batch shape and of
      event shape [m], in theta's dtype, finite.
    - refused: wrong widths, unequal numbers of rows, NaN, and x that is missing or not asked for are errors.
    - repeatable: equal constructions, data and generators give equal draws; global random numbers stay as they are.
    - gradient: derivatives of draws and of `expectation` in theta agree with finite differences.
    - density: `log_prob`, where there is one, is normalised, and is that of the draws.
    - saved: `state_dict` holds all that was learnt.
    - recovery: from simulations of a linear-Gaussian truth the surrogate learns mean, spread and slope.

    Args:
        make: Makes a fresh surrogate.
        n: Number of simulations of the linear-Gaussian truth.
        training: How it is fitted; the surrogate's own default if not given.
        tolerance: Largest error of the recovered mean (of the outcomes' spread), spread and slope (relative).
        seed: Of the simulations.

    Raises:
        ContractError: A rule is broken.

    Example:
        >>> from surrogates.generators.gaussian import GaussianNetwork
        >>> check_surrogate(lambda: GaussianNetwork(2, hidden=(8,)), n=200)
    """
    before = torch.get_rng_state()
    surrogate, twin = make(), make()
    if not isinstance(surrogate, Surrogate):
        raise ContractError(f"call: `make` must return a Surrogate, got {type(surrogate).__name__}.")
    truth = _simulate(surrogate, n, seed)
    for each in (surrogate, twin):
        arguments = () if training is None else (training,)
        each.fit(truth.theta.clone(), truth.outcome.clone(), truth.x, *arguments)
    theta = truth.theta[:4] * 0.7
    x = None if truth.x is None else truth.x[:4]
    _check_call(surrogate, theta, x)
    _check_refused(surrogate, truth)
    draws = _draw(surrogate, theta, x)
    _require(torch.equal(draws, _draw(surrogate, theta, x)), "repeatable", "equal generators give equal draws")
    # Linear algebra may round differently from call to call.
    again = (_draw(twin, theta, x) - draws).abs().amax() <= 1e-6 * draws.std()
    _require(bool(again), "repeatable", "equal fits give equal draws")
    _check_saved(surrogate, make(), draws, theta, x)
    exact = copy.deepcopy(surrogate).double()
    _check_gradient(exact, theta, x)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        _check_density(exact, theta[0], None if x is None else x[0])
    _check_recovery(surrogate, truth, tolerance)
    _require(torch.equal(before, torch.get_rng_state()), "repeatable", "global random numbers stay as they are")


def _simulate(surrogate: Surrogate, n: int, seed: int) -> _Truth:
    d, m, k = surrogate.dim, surrogate.n_outcomes, surrogate.n_inputs
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=random)

    theta = 2 * torch.rand(n, d, dtype=torch.float64, generator=random) - 1
    x = normal(n, k) if k else None
    truth = _Truth(theta, x, normal(n, m) * _NOISE, normal(d, m) / d**0.5, normal(k, m) / max(k, 1) ** 0.5)
    return _Truth(theta, x, truth.outcome + truth.mean(theta, x), truth.slope, truth.input_slope)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def _draw(surrogate: Surrogate, theta: Tensor, x: Tensor | None, n: int = 64) -> Tensor:
    with torch.no_grad():
        return surrogate.sample(theta, x, n, _generator())


def _require(holds: bool, rule: str, what: str) -> None:
    if not holds:
        raise ContractError(f"{rule}: it must hold that {what}.")


def _check_call(surrogate: Surrogate, theta: Tensor, x: Tensor | None) -> None:
    m = surrogate.n_outcomes
    cases = [(theta[0], None if x is None else x[0]), (theta, x), (theta.expand(3, *theta.shape), x)]
    if x is not None:
        cases.append((theta[:, None], x))
    for dtype in (torch.float32, torch.float64):
        for rows, inputs in cases:
            rows = rows.to(dtype)
            batch = rows.shape[:-1] if inputs is None else torch.broadcast_shapes(rows.shape[:-1], inputs.shape[:-1])
            distribution = surrogate(rows, inputs)
            _require(isinstance(distribution, Distribution), "call", "a call gives a torch Distribution")
            got = list(distribution.batch_shape), list(distribution.event_shape)
            _require(got == (list(batch), [m]), "call", f"batch and event shape are {list(batch)} and {[m]}, not {got}")
            _require(distribution.has_rsample, "call", "the distribution has rsample")
            draws = surrogate.sample(rows, inputs, 5, _generator())
            _require(draws.shape == (5, *batch, m), "call", f"draws have shape {[5, *batch, m]}, not {[*draws.shape]}")
            _require(draws.dtype == dtype, "call", f"draws have theta's dtype {dtype}, not {draws.dtype}")
            _require(bool(draws.isfinite().all()), "call", "draws are finite")


def _check_refused(surrogate: Surrogate, truth: _Truth) -> None:
    theta, outcome, x = truth.theta, truth.outcome, truth.x
    other = None if x is not None else theta
    spoilt = outcome.clone()
    spoilt[0] = torch.nan
    for what, call in (
        ("theta of a wrong width", lambda: surrogate(torch.cat([theta, theta], -1), x)),
        ("x that is missing or not asked for", lambda: surrogate(theta, other)),
        ("outcomes of another number of rows", lambda: surrogate.fit(theta, outcome[1:], x)),
        ("outcomes of a wrong width", lambda: surrogate.fit(theta, torch.cat([outcome, outcome], -1), x)),
        ("outcomes that are NaN", lambda: surrogate.fit(theta, spoilt, x)),
        ("data with x missing or not asked for", lambda: surrogate.fit(theta, outcome, other)),
        ("no rows", lambda: surrogate.fit(theta[:0], outcome[:0], None if x is None else x[:0])),
    ):
        try:
            call()
        except (ValueError, TypeError):
            continue
        raise ContractError(f"refused: the surrogate must raise ValueError for {what}.")


def _check_saved(surrogate: Surrogate, fresh: Surrogate, draws: Tensor, theta: Tensor, x: Tensor | None) -> None:
    file = io.BytesIO()
    torch.save(surrogate.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    _require(torch.equal(draws, _draw(fresh, theta, x)), "saved", "a loaded state_dict gives equal draws")


def _check_gradient(surrogate: Surrogate, theta: Tensor, x: Tensor | None) -> None:
    spread = _draw(surrogate, theta, x, 256).std()

    def objective(outcome: Tensor, inputs: Tensor | None = None) -> Tensor:
        return torch.sin(outcome / spread).sum(-1) + (0 if inputs is None else 0.1 * inputs.sum(-1))

    def mean_of_draws(at: Tensor) -> Tensor:
        return objective(surrogate.sample(at, x, 256, _generator())).mean(0)

    def expectation(at: Tensor) -> Tensor:
        return surrogate.expectation(objective, at, x, 256, _generator())

    direction = torch.randn(theta.shape, dtype=theta.dtype, generator=_generator())
    for name, function in (("draws", mean_of_draws), ("`expectation`", expectation)):
        at = theta.clone().requires_grad_(True)
        values = function(at)
        _require(values.shape == theta.shape[:-1], "gradient", f"{name} have one value a row of theta")
        _require(values.requires_grad, "gradient", f"{name} are differentiable in theta")
        (slope,) = torch.autograd.grad(values.sum(), at, allow_unused=True, materialize_grads=True)
        got = (slope * direction).sum(-1)
        with torch.no_grad():
            ahead, behind = function(theta + _STEP * direction), function(theta - _STEP * direction)
        difference = (ahead - behind) / (2 * _STEP)
        error = float((got - difference).abs().amax())
        _require(
            error <= 1e-3 * float(difference.abs().amax()) + 1e-5,
            "gradient",
            f"derivatives of {name} agree with finite differences; they are off by {error:.3g} of "
            f"{float(difference.abs().amax()):.3g}",
        )


@torch.no_grad()
def _check_density(surrogate: Surrogate, theta: Tensor, x: Tensor | None) -> None:
    distribution = surrogate(theta, x)
    draws = distribution.sample((4000,))
    try:
        density = distribution.log_prob(draws)
    except NotImplementedError:
        return
    _require(density.shape == (4000,), "density", f"log_prob has shape [4000], not {list(density.shape)}")
    centre, spread = draws.mean(0), draws.std(0)
    if surrogate.n_outcomes == 1:
        points = centre + spread * torch.linspace(-15, 15, 6001, dtype=draws.dtype)[:, None]
        mass = float(torch.trapezoid(distribution.log_prob(points).exp(), points[:, 0]))
        _require(abs(mass - 1) < 0.01, "density", f"log_prob integrates to 1; it is {mass:.4g}")
    # The mean of q / p over draws from p is the mass of q, for a normal q inside of p.
    inner = MultivariateNormal(centre, 0.5 * draws.T.cov().reshape(len(centre), len(centre)))
    ratio = float((inner.log_prob(draws) - density).exp().mean())
    _require(abs(ratio - 1) < 0.15, "density", f"log_prob is that of the draws; a mass of 1 comes out as {ratio:.3g}")


def _check_recovery(surrogate: Surrogate, truth: _Truth, tolerance: float) -> None:
    theta = 0.7 * truth.theta[:32]
    x = None if truth.x is None else truth.x[:32]
    theta.requires_grad_(True)
    draws = surrogate.sample(theta, x, 1000, _generator())
    spread = truth.outcome.std(0)
    errors = {
        "mean": ((draws.mean(0) - truth.mean(theta, x)) / spread).square().mean().sqrt(),
        "spread": (draws.std(0) / _NOISE - 1).abs().mean(),
    }
    slopes = [
        torch.autograd.grad(draws[..., j].mean(0).sum(), theta, retain_graph=True)[0].mean(0)
        for j in range(surrogate.n_outcomes)
    ]
    errors["slope"] = (torch.stack(slopes, -1) - truth.slope).norm() / truth.slope.norm()
    for name, error in ((name, float(error.detach())) for name, error in errors.items()):
        _require(
            error <= tolerance,
            "recovery",
            f"the {name} of a linear-Gaussian truth is learnt to {tolerance:.3g}; the error is {error:.3g}",
        )
