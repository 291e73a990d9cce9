import pytest
import torch

from diffsim import FreeParticle, Pendulum, Trajectory, simulate
from diffsim.errors import ArgumentError, ArgumentTypeError
from studies import CMAES, Box, Comparison, Random, RandomSearch, Sobol, Study, StudyError, compare, measured


def bowl(theta, generator):
    return theta.square().sum(-1, keepdim=True)


def test_scores_are_those_of_paired_studies_and_a_lucky_dip_does_not_count(tmp_path):
    box = Box({"a": (-1, 1), "b": (-1, 1)})
    result = compare(
        box, {"random": Random(), "sobol": Sobol()}, bowl, lambda h: h.outcome.min(), trials=(1, 4), progress=False
    )
    assert result.scores["random"].shape == (3, 2)
    assert bool((result.scores["sobol"].diff(dim=1) <= 0).all())  # the best of more trials is no worse
    assert result.figure(tmp_path / "new" / "curve.png").stat().st_size > 0
    dips = Comparison((1, 2, 3), {"a": torch.tensor([[0.1, 2.0, 0.1], [2.0, 0.1, 0.1], [2.0, 2.0, 2.0]])}, level=1.0)
    assert dips.trials_to_level("a").tolist() == [3, 2, float("inf")]


@pytest.mark.parametrize("change", [{"trials": ()}, {"trials": (3, 2)}, {"seeds": 0}, {"strategies": {}}])
def test_bad_comparisons_are_refused(change):
    arguments = {"strategies": {"random": Random()}, "trials": (1,), "seeds": 1} | change
    strategies = arguments.pop("strategies")
    with pytest.raises(ArgumentError):
        compare(Box({"a": (0, 1)}), strategies, bowl, lambda h: 0.0, **arguments)


def test_one_number_of_trials_is_no_list():
    with pytest.raises(ArgumentTypeError, match=r"`trials` must be a list of numbers, got 20"):
        compare(Box({"a": (0, 1)}), {"random": Random()}, bowl, lambda h: 0.0, trials=20)


def test_noise_can_spare_the_first_sample_and_a_free_particle_moves_straight():
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    y0 = torch.tensor([[0.5, 0.2]], dtype=torch.float64)
    run = simulate(Pendulum(), y0, t)
    noisy: Trajectory = run.noise(0.1, 0, first=False)
    assert torch.equal(noisy.y[0], run.y[0])
    assert bool((noisy.y[1:] != run.y[1:]).all())
    free = FreeParticle(mass=2.0)
    assert torch.allclose(simulate(free, y0, t).y[:, 0, 0], 0.5 + 0.1 * t)
    assert torch.equal(free.energy_hessian(y0)[0], torch.diag(torch.tensor([0.0, 0.5], dtype=torch.float64)))


# Recommendations


def noisy(theta, generator):
    return bowl(theta, generator) + 0.1 * torch.randn(len(theta), 1, generator=generator, dtype=theta.dtype)


class Tilted:
    """A simulator with an observed input, of mean 0, that tilts the bowl."""

    def inputs(self, n, generator):
        return torch.randn(n, 1, generator=generator, dtype=torch.float64)

    def __call__(self, theta, x, generator):
        return noisy(theta, generator) + x * theta.sum(1, keepdim=True)


SQUARE = Box({"a": (-1, 1), "b": (-1, 1)})
RIVALS = {"cma": CMAES(repeats=3), "random": RandomSearch(repeats=2)}


def test_recommendations_are_scored_exactly_and_what_they_cost_is_told():
    result = compare(
        SQUARE, RIVALS, noisy, exact=lambda best: best.square().sum(), trials=(36, 180), seeds=3, vectorized=True
    )
    assert result.points["cma"].tolist() == [[12, 60]] * 3 and result.points["random"].tolist() == [[18, 90]] * 3
    assert all(result.seconds[name].shape == (3,) and bool((result.seconds[name] > 0).all()) for name in RIVALS)
    assert result.quartiles("cma")[1, 1] < 0.1
    assert torch.equal(result.quartiles("cma")[1], result.scores["cma"].median(0).values)
    text = str(result)
    for words in ("Quartiles of the score after 180 trials", "distinct theta", "CPU seconds"):
        assert words in text


def test_the_score_is_that_of_the_studies_own_recommendation():
    result = compare(SQUARE, RIVALS, noisy, exact=lambda best: best[0], trials=(20,), seeds=2, progress=False)
    study = Study(SQUARE, RIVALS["cma"], seed=1)
    study.run(noisy, trials=20, progress=False)
    assert result.scores["cma"][1, 0] == study.recommend()[0]


def test_observed_inputs_reach_the_objective():
    def straight(outcome, x):
        assert outcome.shape == x.shape == (len(x), 1)
        return outcome

    rivals = {"cma": CMAES(straight, repeats=5)}
    exact = measured(Tilted(), straight, n=2000, seed=1)
    result = compare(SQUARE, rivals, Tilted(), exact=exact, trials=(300,), seeds=2, vectorized=True, progress=False)
    assert bool((result.scores["cma"] < 0.5).all()) and bool((result.seconds["cma"] > 0).all())


def test_a_measured_score_has_common_random_numbers_and_leaves_failures_out():
    def fragile(theta, generator):
        outcome = noisy(theta, generator)
        return torch.where(torch.rand(len(theta), 1, generator=generator) < 0.5, torch.nan, outcome)

    best, other = torch.zeros(2), torch.full((2,), 0.1)
    for simulator in (noisy, fragile):
        mean = measured(simulator, n=4000)
        assert mean(best) == mean(best) and abs(float(mean(best))) < 0.01
        assert float(mean(other) - mean(best)) == pytest.approx(0.02, abs=1e-6)
    with pytest.raises(StudyError, match="which was recommended"):
        measured(lambda theta, generator: torch.full((len(theta), 1), torch.nan))(best)


def test_a_negative_score_is_drawn_too(tmp_path):
    scores = {"a": torch.tensor([[-0.5, -0.8], [-0.4, 0.0]])}
    assert Comparison((1, 2), scores).figure(tmp_path / "a.png").stat().st_size > 0


@pytest.mark.parametrize("change", [{}, {"score": lambda h: 0.0, "exact": lambda best: 0.0}])
def test_one_kind_of_score_is_needed(change):
    with pytest.raises(ArgumentError, match="one of them"):
        compare(SQUARE, RIVALS, noisy, trials=(1,), **change)
    with pytest.raises(ArgumentError, match=r"\['sobol'\] have no `recommend`"):
        compare(SQUARE, {**RIVALS, "sobol": Sobol()}, noisy, exact=lambda best: 0.0, trials=(1,))


def test_the_table_shows_the_median_of_an_even_number_of_seeds():
    scores = {"one": torch.tensor([[1.0], [3.0], [10.0], [4.0]]), "two": torch.tensor([[0.1], [0.1], [9.0], [9.0]])}
    first, *_ = (line.split() for line in str(Comparison((20,), scores)).splitlines()[1:])
    assert first == ["20", "3.5", "4.55"]
    aimed = str(Comparison((20,), scores, level=3.0)).splitlines()
    assert aimed[aimed.index("Median number of trials until the score stays at or below 3:") + 1].split() == ["inf"] * 2


def test_what_is_no_comparison_is_named():
    with pytest.raises(ArgumentTypeError, match="`strategies` must map names to strategies, got a list"):
        compare(SQUARE, [RandomSearch()], noisy, exact=lambda best: best[0], trials=(20,), progress=False)
    with pytest.raises(ArgumentError, match=r"`exact\(theta\)` must be one number, got shape \[2\]"):
        compare(SQUARE, RIVALS, noisy, exact=lambda best: best, trials=(20,), progress=False)
    with pytest.raises(ArgumentError, match=r"`theta` must have shape \[d\], got \[1, 2\]"):
        measured(noisy)(torch.zeros(1, 2))
