import pytest
import torch

from diffsim import FreeParticle, Pendulum, Trajectory, simulate
from diffsim.errors import ArgumentError
from studies import Box, Comparison, Random, Sobol, compare


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
