"""Gradient-enhanced Bayesian optimisation: the contract, few calls to the minimum, noise, failures, resume, pieces."""

import math

import pytest
import torch

from diffsim.errors import ArgumentError, ArgumentTypeError
from studies.contracts import check_strategy
from studies.gradients import with_gradient
from studies.history import History
from studies.spaces.box import Box
from studies.spaces.pool import Pool
from studies.strategies.gradient_improvement import GradientImprovement, _log_improvement
from studies.study import Study

SQUARE = Box({"a": (-1.0, 2.0), "b": (0.0, 5.0)})


def wells(theta):
    """Two wells; the deeper one, at (1.52, 1), is not the one that the centre's slope leads to."""
    a, b = theta.unbind(-1)
    near = (-8 * (a - 0.2).square() - (b - 3).square() / 2).exp()
    deep = 1.5 * (-8 * (a - 1.52).square() - (b - 1).square() / 2).exp()
    return -near - deep


SIMULATOR = with_gradient(wells)


def history_of(theta, pending=None, failed=None):
    return History.from_tensors(SQUARE, theta, SIMULATOR(theta, torch.Generator()), pending, failed)


def test_contract():
    theta = SQUARE.sample(14, torch.Generator().manual_seed(0))
    empty = History.from_tensors(SQUARE, theta[:0], torch.empty(0, 3), failed=theta[11:])
    histories = [
        History(SQUARE),
        history_of(theta[:8]),
        history_of(theta[:8], theta[8:11], theta[11:]),
        empty,
    ]
    check_strategy(GradientImprovement(), SQUARE, histories)
    check_strategy(GradientImprovement(kernel="matern"), SQUARE, histories[2:3])


def test_the_deeper_well_is_found_in_few_calls():
    for seed in range(3):
        study = Study(SQUARE, GradientImprovement(), seed=seed)
        history = study.run(SIMULATOR, trials=20, progress=False)
        assert float(wells(study.recommend()[None])) < -1.4999
        assert {"descend", "improve"} <= {
            phase for info in history.info for phase in info.get("gradient", {}).get("phases", [])
        }
        mean, deviation = study.strategy.estimate(history, study.recommend()[None])
        assert abs(float(mean) + 1.5) < 0.01 and float(deviation) < 0.01


def test_scales_and_logarithms_of_parameters_do_not_matter():
    from studies.spaces.parameters import Log

    box = Box({"a": (-1e-3, 2e-3), "rate": Log(1e-4, 1.0)})

    def moved(theta):
        return 1e6 * wells(torch.stack([1e3 * theta[:, 0], 1.25 * theta[:, 1].log10() + 5], 1))

    study = Study(box, GradientImprovement(), seed=1)
    study.run(with_gradient(moved), trials=20, progress=False)
    assert float(moved(study.recommend()[None])) < -1.499e6


def test_noise_of_values_and_gradients_is_survived():
    def noisy(theta, generator):
        return SIMULATOR(theta, generator) + 0.1 * torch.randn(len(theta), 3, generator=generator, dtype=theta.dtype)

    values = []
    for seed in range(2):
        study = Study(SQUARE, GradientImprovement(), seed=seed)
        study.run(noisy, trials=40, batch=2, progress=False)
        values.append(float(wells(study.recommend()[None])))
    assert max(values) < -0.95 and min(values) < -1.45  # a well each, and the deeper one at least once


@pytest.mark.parametrize("wall", [1.5, 1.4])
def test_failed_trials_are_kept_away_from(wall):
    """The deeper well's bottom lies beyond the wall, its edge before it: lower than the other well, which is at -1."""

    def fragile(theta, generator):
        if theta[0, 0] > wall:
            raise RuntimeError("diverged")
        return SIMULATOR(theta, generator)

    study = Study(SQUARE, GradientImprovement(), seed=0)
    history = study.run(fragile, trials=25, progress=False)
    answer = study.recommend()
    assert len(history) > 10 and answer[0] <= wall and float(wells(answer[None])) < -1.05
    assert torch.pdist(history.failed / torch.tensor([3.0, 5.0])).min() > 1e-3  # no failure is repeated


def test_a_resumed_study_equals_an_unbroken_one_bit_for_bit(tmp_path):
    whole = Study(SQUARE, GradientImprovement(), seed=4).run(SIMULATOR, trials=14, batch=2, progress=False)
    url = f"sqlite:///{tmp_path}/runs.db"
    Study(SQUARE, GradientImprovement(), url, seed=4).run(SIMULATOR, trials=8, batch=2, progress=False)
    again = Study(SQUARE, GradientImprovement(), url, seed=4).run(SIMULATOR, trials=14, batch=2, progress=False)
    assert torch.equal(again.theta, whole.theta) and again.info == whole.info


def test_points_under_way_are_not_proposed_again():
    theta = SQUARE.sobol(8, seed=0)
    proposal = GradientImprovement().propose(history_of(theta), 4, torch.Generator().manual_seed(0))
    history = history_of(theta, pending=proposal.theta)
    more = GradientImprovement().propose(history, 1, torch.Generator().manual_seed(0)).theta
    assert torch.pdist(torch.cat([proposal.theta, more]) / torch.tensor([3.0, 5.0])).min() > 1e-3


def test_a_long_history_keeps_the_gradients_of_its_best_points():
    theta = SQUARE.sobol(300, seed=0)
    model = GradientImprovement()._model(history_of(theta))
    kept = model.observed[:, 1].isfinite()
    assert int(kept.sum()) == 250 and model.observed[kept, 0].max() <= model.observed[~kept, 0].min()


def test_it_begins_where_it_is_told():
    study = Study(SQUARE, GradientImprovement(start=(0.0, 1.0)), seed=0)
    assert study.ask(3).theta[0].tolist() == [0.0, 1.0]
    assert study.recommend().tolist() == [0.0, 1.0]


def test_log_improvement_against_a_quadrature_of_its_tail():
    z = torch.tensor([-1e6, -300.0, -30.0, -5.0, -1.0001, -0.9999, 0.0, 3.0, 40.0], dtype=torch.float64)
    got = _log_improvement(z)
    x = torch.linspace(0, 40, 400_001, dtype=torch.float64)  # h(z) = pdf(z) * integral of x exp(z x - x^2 / 2)
    for at, value in zip(z[1:8], got[1:8], strict=True):
        scale = 1 + at.abs() if at < 0 else 1.0
        u = x / scale
        integral = torch.trapezoid((u * (at * u - u.square() / 2).exp()) / scale, x)
        assert float(value) == pytest.approx(
            float(integral.log() - at.square() / 2) - math.log(2 * math.pi) / 2, abs=1e-5
        )
    assert got[8] == pytest.approx(math.log(40.0)) and got[0] == pytest.approx(-5e11, rel=1e-6)
    slope = torch.autograd.functional.jacobian(lambda at: _log_improvement(at).sum(), z)
    assert slope.isfinite().all() and (slope > 0).all()


def test_the_unit_of_the_value_changes_nothing():
    studies = [Study(SQUARE, GradientImprovement(), seed=0) for _ in range(2)]
    for study, unit in zip(studies, (1.0, 2.0**-40), strict=True):
        bowl = with_gradient(lambda theta, unit=unit: unit * (theta - 0.3).square().sum(1).sin())
        study.run(bowl, trials=9, executor="here", progress=False)
    first, second = (study.history.theta for study in studies)
    assert torch.allclose(first, second, atol=1e-4)


def test_settings_and_spaces_are_checked():
    with pytest.raises(ArgumentError, match="`initial`"):
        GradientImprovement(initial=0)
    with pytest.raises(ArgumentError, match="`kernel`"):
        GradientImprovement(kernel="cubic")
    with pytest.raises(ArgumentError, match="`history` must hold a complete trial"):
        GradientImprovement().estimate(History(SQUARE), torch.zeros(1, 2))
    pool = Pool(SQUARE.sobol(9, seed=0), ["a", "b"])
    with pytest.raises(ArgumentTypeError, match="needs a Box of real parameters"):
        GradientImprovement().propose(History(pool), 1, torch.Generator())
