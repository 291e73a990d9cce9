"""Reports, in a real browser: all that was recorded is shown as it was written, nothing runs, nothing is fetched."""

import sys
from dataclasses import replace

import pytest
import torch

from diffsim.errors import ArgumentError
from diffsim.integrate.odeint import simulate
from diffsim.systems.oscillators import Pendulum
from studies.errors import StorageError, StudyError
from studies.history import Proposal
from studies.report.write import report, write_report
from studies.spaces.box import Box
from studies.strategies.hypervolume import HypervolumeImprovement
from studies.strategies.sobol import Sobol
from studies.strategies.trust_region import Region
from studies.study import Study

HOSTILE = "<script>alert('name')</script> \"quoted\" & <b>bold</b>"
SPACE = Box(
    {HOSTILE: (0, 1), "<img src=x onerror=alert(1)>": (1, 10), "q\"'": (0, 2)},
    units={HOSTILE: "</script><script>alert('unit')</script>", "q\"'": '"><b>'},
)


class Walk:
    """A strategy that walks, and notes what the strategies with regions and acquisitions note."""

    def propose(self, history, n, generator):
        k = history.n_rounds
        decision = ("kept", "grown: nothing seen", "shrunk: <i>worse</i> than predicted", "rejected: worse")[k % 4]
        center = (0.2 + 0.08 * k, 0.8 - 0.06 * k)
        region = Region(
            center, 0.1 + 0.02 * (k % 3), n, 1, k, previous=center, gain=-0.2, error=0.1, decision=decision,
            rung="quadratic", scores={"linear": 0.4, "quadratic": 0.2},
        )  # fmt: skip
        low, high = history.space.bounds
        theta = low + (high - low) * region.points(0, n)
        return Proposal(theta, {"local": region.note, "acquisition": [1.0 / (k + 1)] * n, "estimate": [1.0, 0.1]})

    def recommend(self, history):
        return history.theta[-1]

    def estimate(self, history, theta) -> tuple[torch.Tensor, ...]:
        return torch.tensor([0.123]), torch.tensor([0.045])


def fails_at_the_edge(theta, generator):
    if theta[0, 0] > 0.8:
        raise ValueError(HOSTILE)
    if theta[0, 0] > 0.7:
        raise ValueError("</pre></script><script>document.title = 'broken in'</script>")
    return theta.sum(-1, keepdim=True)


@pytest.fixture(scope="module")
def hostile():
    study = Study(SPACE, Sobol(), name=HOSTILE)
    study.run(fails_at_the_edge, trials=24, max_failures=100)
    return study


def open_report(page, path):
    """Opens a report and waits until every figure is drawn."""
    page.goto(path.as_uri())
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    for plot in page.query_selector_all("div.plot"):
        plot.wait_for_selector(".main-svg")


def test_hostile_text_is_shown_as_it_was_written(hostile, watched_page, tmp_path):
    page, problems, requests = watched_page
    path = write_report(hostile.storage, HOSTILE, tmp_path / "report.html")
    open_report(page, path)
    page.screenshot(path=tmp_path / "hostile.png", full_page=True)
    assert problems == []
    assert requests == [path.as_uri()]
    assert page.title() == HOSTILE
    assert page.inner_text("h1") == HOSTILE
    assert page.evaluate("document.querySelectorAll('main img, main b, main a, svg a, svg image').length") == 0
    assert page.evaluate("document.querySelectorAll('script:not([type])').length") == 2
    assert page.inner_text("#parameters h3 >> nth=1") == f"{HOSTILE} [</script><script>alert('unit')</script>]"
    ticks = page.evaluate("[...document.querySelectorAll('#parameters .xtick')].map(text => text.textContent)")
    assert {"<script>alert('name')…", "<img src=x onerror=al…", 'q"\' ["><b>]'} < set(ticks)
    failures = page.inner_text("#failures")
    assert f"ValueError: {HOSTILE}" in failures
    page.click("#failures summary >> nth=0")
    assert "Traceback (most recent call last)" in page.inner_text("#failures details[open] pre")


def test_a_script_that_gets_in_does_not_run(hostile, watched_page, tmp_path):
    page, problems, _ = watched_page
    path = write_report(hostile.storage, HOSTILE, tmp_path / "report.html")
    path.write_text(path.read_text().replace("</main>", "<script>document.title = 'broken in'</script></main>"))
    open_report(page, path)
    assert page.title() == HOSTILE
    assert any("Content Security Policy" in problem for problem in problems)


def test_a_report_of_a_study_shows_its_strategy_its_recommendation_and_how_to_make_it_again(watched_page, tmp_path):
    page, problems, _ = watched_page
    space = Box({"length": (0.5, 2.0), "mass": (0.1, 1.0)}, units={"length": "m"})
    study = Study(space, Walk(), name="walk", seed=7)

    def noisy(theta, generator):
        return theta.square().sum(-1, keepdim=True) + 0.1 * torch.randn(1, 1, generator=generator)

    study.run(noisy, rounds=8, batch=4)
    open_report(page, report(study, tmp_path / "walk.html", command="python walk.py --seed 7"))
    page.screenshot(path=tmp_path / "walk.png", full_page=True)
    assert problems == []
    titles = page.evaluate("[...document.querySelectorAll('h2, h3')].map(title => title.textContent)")
    assert {"Convergence", "Parameters together", "length [m]", "Way of the trust region", "Acquisition"} < set(titles)
    assert {"Predicted and observed", "Coverage of its intervals", "Duration of trials"} < set(titles)
    cards = page.inner_text(".cards")
    assert "0.123" in cards
    assert "± 0.045" in cards
    assert "shrunk: <i>worse</i> than predicted" in page.inner_text("#strategy")
    again = page.inner_text("#reproduce")
    assert "python walk.py --seed 7" in again
    assert "seed=7" in again
    assert f"torch=={torch.__version__.partition('+')[0]}" in again
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_learned_field_is_shown_beside_true_runs(watched_page, tmp_path):
    page, problems, _ = watched_page
    t = torch.linspace(0, 3, 16).double()
    space = Box({"q": (-2, 2), "p": (-1, 1)}, units={"q": "rad"})
    study = Study(space, Sobol(), name="pendulum")
    study.run(lambda y0, generator: simulate(Pendulum(gravity=1.0), y0, t), trials=4)
    truth = replace(
        simulate(Pendulum(gravity=1.0), space.sobol(5, seed=1), t), names=("<b>q</b>", "p"), units=("rad", "rad/s"),
        time_unit="s",
    )  # fmt: skip
    path = report(study, tmp_path / "field.html", field=Pendulum(gravity=1.1), test=truth)
    open_report(page, path)
    page.screenshot(path=tmp_path / "field.png", full_page=True)
    assert problems == []
    shown = page.inner_text("#field")
    assert "Phase portrait" in shown
    assert "valid prediction time" in shown
    assert "Roll-outs: <b>q</b>" in shown
    assert page.evaluate("document.querySelector('#field .xtitle').textContent") == "<b>q</b> [rad]"
    assert "Recorded runs" in page.inner_text("#runs")


def test_a_strategy_of_several_objectives_shows_its_front(tmp_path):
    study = Study(Box({"a": (0, 1)}), HypervolumeImprovement([first, second], initial=20), seed=0)
    study.run(lambda theta, generator: torch.cat([theta, 1 - theta], 1), trials=6, executor="here")
    page = report(study, tmp_path / "front.html").read_text()
    assert "Pareto front" in page and "Objectives 0 and 1" in page


def first(outcome):
    return outcome[:, 0]


def second(outcome):
    return outcome[:, 1]


def test_a_constrained_answer_and_one_that_is_not_possible_are_shown(tmp_path):
    class Constrained(Walk):
        def estimate(self, history, theta):  # with the probability of being feasible
            return torch.tensor([0.123]), torch.tensor([0.045]), torch.tensor([0.9])

    class Clueless(Walk):
        def recommend(self, history):
            raise ArgumentError("`history` must hold <b>more</b> trials.")

    space = Box({"a": (0, 1), "b": (0, 1)})
    texts = []
    for strategy in (Constrained(), Clueless()):
        study = Study(space, strategy)
        study.run(lambda theta, generator: theta.sum(-1, keepdim=True), rounds=2, batch=2)
        texts.append(report(study, tmp_path / "report.html").read_text())
    assert ">0.123<" in texts[0]
    assert "no recommendation: `history` must hold &lt;b&gt;more&lt;/b&gt; trials." in texts[1]


def test_bad_arguments_are_told_before_anything_is_written(hostile, tmp_path):
    with pytest.raises(ArgumentError, match="`field` and `test` both"):
        report(hostile, tmp_path / "report.html", field=Pendulum())
    with pytest.raises(ArgumentError, match=r"Make .*missing first"):
        report(hostile, tmp_path / "missing" / "report.html")
    with pytest.raises(StorageError, match="There is no study 'other'"):
        write_report(hostile.storage, "other", tmp_path / "report.html")
    with pytest.raises(StorageError):
        write_report(f"sqlite:///{tmp_path}/missing.db", "study", tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_told_and_leaves_the_old_report(hostile, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("the old one")
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(StudyError, match=r"pip install 'diffsim-studies\[web\]'"):
        write_report(hostile.storage, HOSTILE, path)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_a_study_without_trials_has_a_report(tmp_path):
    study = Study(Box({"a": (0, 1)}), Sobol(), name="empty")
    text = report(study, tmp_path / "report.html").read_text()
    assert "How to reproduce" in text
    assert 'id="convergence"' not in text
