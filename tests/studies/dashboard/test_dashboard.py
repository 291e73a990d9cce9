"""The dashboard, served by a real server to a real browser: live, read-only, and safe with whatever users write."""

import http.client
import json
import threading
import time
from contextlib import contextmanager
from urllib.parse import quote

import pytest
import torch
import uvicorn

from diffsim.errors import ArgumentError
from studies.dashboard.serve import serve
from studies.dashboard.web import app
from studies.errors import StorageError
from studies.spaces.box import Box
from studies.storage.base import Result
from studies.storage.memory import MemoryStorage
from studies.strategies.sobol import Sobol
from studies.study import Study

HOSTILE = "<script>alert('name')</script> \"quoted\" & <b>bold</b> /?#%"
SPACE = Box(
    {"<img src=x onerror=alert(1)>": (0, 1), "q\"'": (1, 10)},
    units={"q\"'": "</script><script>alert('unit')</script>"},
)
TOKEN = "a-secret-token"


@contextmanager
def served(storage, **settings):
    """The address of a running dashboard: (host, port)."""
    config = uvicorn.Config(app(storage, **settings), port=0, log_level="error", ws="none", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield "127.0.0.1", server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def ask(address, path, method="GET", body=None, **headers):
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.getheaders()), text


def told(address, path, **query):
    status, _, text = ask(address, f"{path}?" + "&".join(f"{key}={quote(str(value))}" for key, value in query.items()))
    return status, json.loads(text)


def simulator(theta, generator):
    if theta[0, 0] > 0.75:
        raise ValueError(HOSTILE)
    return theta.sum(-1, keepdim=True)


def hostile_study(storage="memory", trials=16):
    study = Study(SPACE, Sobol(), storage, name=HOSTILE)
    study.run(simulator, trials=trials, max_failures=100)
    return study


@pytest.fixture(scope="module")
def finished():
    """A dashboard of two studies."""
    study = hostile_study()
    Study(Box({"a": (0, 1)}), Sobol(), study.storage, name="other").ask(2)
    with served(study.storage) as address:
        yield address, study


def wait_until(page, expression, seconds=120):
    """Waits for an expression of the page; the page's own policy forbids Playwright's way, which evaluates text."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"{expression} is still false"
        page.wait_for_timeout(100)


def open_page(page, address, name=""):
    page.goto(f"http://{address[0]}:{address[1]}/#{quote(name)}")
    page.wait_for_selector("#studies a[aria-current]")


def wait_for_figures(page):
    page.wait_for_selector("#groups .plot .main-svg")


def test_hostile_text_is_shown_as_it_was_written(finished, watched_page, tmp_path):
    address, _ = finished
    page, problems, requests = watched_page
    open_page(page, address, HOSTILE)
    wait_for_figures(page)
    page.wait_for_selector("#causes details")
    page.screenshot(path=tmp_path / "dashboard.png", full_page=True)
    assert page.inner_text("#name") == HOSTILE
    assert page.title() == f"{HOSTILE} · studies"
    assert f"ValueError: {HOSTILE}" in page.inner_text("#causes")
    assert "<img src=x onerror=alert(1)>" in page.inner_text("#head")
    page.click("#tabs >> text=failed")
    page.click("#rows tr >> nth=0")
    page.wait_for_selector("dialog[open]")
    page.screenshot(path=tmp_path / "trial.png")
    assert f"ValueError: {HOSTILE}" in page.inner_text("#trial-text")
    assert not page.is_visible("#fail")
    assert "q\"' [</script><script>alert('unit')</script>]" in page.inner_text("#trial-facts")
    page.click("dialog .close")
    page.wait_for_selector("dialog", state="hidden")
    assert page.evaluate("document.querySelectorAll('img, main b, main a, svg a, svg image').length") == 0
    assert problems == []
    assert {request.split("/")[2] for request in requests if not request.startswith("data:")} == {
        f"127.0.0.1:{address[1]}"
    }


def test_every_figure_is_drawn_when_it_comes_into_view(finished, watched_page):
    address, _ = finished
    page, problems, _ = watched_page
    open_page(page, address, HOSTILE)
    wait_for_figures(page)
    plots = page.query_selector_all("#groups .plot")
    assert len(plots) >= 5
    for plot in plots:
        plot.scroll_into_view_if_needed()
        plot.wait_for_selector(".main-svg")
    assert problems == []


@pytest.mark.parametrize("on_disk", [False, True])
def test_new_trials_show_while_the_study_runs(on_disk, watched_page, tmp_path):
    page, problems, _ = watched_page
    storage = f"sqlite:///{tmp_path}/runs.db" if on_disk else MemoryStorage()
    study = Study(Box({"a": (0, 1), "b": (0, 1)}), Sobol(), storage, name="live")
    more, go_on = threading.Semaphore(4), threading.Event()

    def slow(theta, generator):
        if not go_on.is_set():
            more.acquire()
        return theta.square().sum(-1, keepdim=True)

    running = threading.Thread(target=study.run, args=(slow,), kwargs={"trials": 12, "executor": "here"})
    with served(storage) as address:
        running.start()
        try:
            open_page(page, address)
            wait_until(page, "document.querySelector('.card .number')?.textContent === '4'")
            wait_until(page, "document.querySelector('#live').textContent === 'running'")
            wait_until(page, "document.querySelectorAll('#rows tr').length === 5")
            wait_for_figures(page)
            page.evaluate("window.stays = true")
            points = "document.querySelectorAll('#panel-convergence .points path.point').length"
            before = page.evaluate(points)
            page.screenshot(path=tmp_path / "running.png", full_page=True)
            for _ in range(3):
                more.release()
            wait_until(page, "document.querySelector('.card .number').textContent === '7'")
            wait_until(page, f"{points} > {before}")
        finally:
            go_on.set()
            more.release()
            running.join()
        wait_until(page, "document.querySelector('.card .number').textContent === '12'")
        wait_until(page, "document.querySelector('#live').textContent === 'up to date'")
        assert page.evaluate("window.stays")  # it was not loaded anew
    assert not [problem for problem in problems if "ERR_CONNECTION" not in problem]


def test_a_new_study_shows_without_a_reload_and_a_lost_server_is_told(watched_page):
    page, _, _ = watched_page
    storage = MemoryStorage()
    with served(storage) as address:
        page.goto(f"http://{address[0]}:{address[1]}/")
        wait_until(page, "document.querySelector('#live').textContent === 'waiting for a study'")
        Study(Box({"a": (0, 1)}), Sobol(), storage, name="first").ask(1)
        wait_until(page, "document.querySelector('#name').textContent === 'first'")
    page.wait_for_selector("#live.lost")


def test_the_page_fits_a_phone(finished, watched_page, tmp_path):
    address, _ = finished
    page, problems, _ = watched_page
    page.set_viewport_size({"width": 390, "height": 800})
    open_page(page, address, HOSTILE)
    wait_for_figures(page)
    page.screenshot(path=tmp_path / "phone.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert problems == []


def test_only_get_is_answered_without_a_token(finished):
    address, study = finished
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"):
        for path in ("/", "/api/study?name=other", "/api/fail"):
            status, headers, _ = ask(address, path, method, b"{}" if method == "POST" else None)
            assert status == 405
            assert headers["allow"] == "GET"
    assert len(study.storage.read("other")[1]) == 0


def test_every_answer_keeps_the_browser_safe(finished):
    address, _ = finished
    for path in ("/", "/plotly.js", "/dashboard.js", "/style.css", "/api/studies", "/api/study", "/nothing"):
        _, headers, _ = ask(address, path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
    _, headers, text = ask(address, "/api/studies")
    assert headers["content-type"] == "application/json"
    assert "<" not in text
    assert ask(address, "/", Host="evil.example")[0] == 400  # a name that an attacker points here
    assert ask(address, "/../board.py")[0] == 404


def test_reading_goes_on_where_it_stopped(finished):
    address, study = finished
    status, first = told(address, "/api/study", name=HOSTILE)
    assert status == 200
    assert [row["number"] for row in first["rows"]] == list(range(16))
    assert first["complete"] + first["failed"] == 16
    cursor = {"rounds": first["rounds"], "results": first["results"]}
    assert told(address, "/api/study", name=HOSTILE, **cursor)[1]["rows"] == []
    other = told(address, "/api/study", name="other")[1]
    assert [row["state"] for row in other["rows"]] == ["pending", "pending"]
    study.storage.add_results("other", [Result(1, torch.tensor([0.5]).numpy())])
    cursor = {"rounds": other["rounds"], "results": other["results"]}
    (row,) = told(address, "/api/study", name="other", **cursor)[1]["rows"]
    assert (row["number"], row["state"], row["value"]) == (1, "complete", 0.5)


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/api/study", {"name": "none"}, 404),
        ("/api/study", {}, 400),
        ("/api/study", {"name": "other", "rounds": "-1"}, 400),
        ("/api/details", {"name": "other", "column": "x"}, 400),
        ("/api/trial", {"name": "other", "number": 99}, 404),
        ("/api/trial", {"name": "other", "number": "9" * 40}, 400),
    ],
)
def test_wrong_questions_are_told(finished, path, query, status):
    found, answer = told(finished[0], path, **query)
    assert found == status
    assert answer["error"]


def test_a_token_lets_a_pending_trial_be_failed_once(watched_page):
    page, problems, _ = watched_page
    study = Study(Box({"a": (0, 1)}), Sobol(), name="stuck")
    study.ask(3)
    wish = json.dumps({"name": "stuck", "number": 0, "error": "it hangs"})
    with served(study.storage, token=TOKEN) as address:
        assert ask(address, "/api/fail", "POST", wish)[0] == 401
        assert ask(address, "/api/fail", "POST", wish, Authorization="Bearer wrong-token")[0] == 401
        assert len(study.history.pending) == 3
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert ask(address, "/api/fail", "POST", "[]", **right)[0] == 400
        assert ask(address, "/api/fail", "POST", "x" * 20_000, **right)[0] == 413
        assert ask(address, "/api/fail", "POST", wish.replace("stuck", "none"), **right)[0] == 404
        assert ask(address, "/api/fail", "POST", wish, **right)[0] == 200
        assert ask(address, "/api/fail", "POST", wish, **right)[0] == 409
        assert ask(address, "/", "POST", "")[0] == 405
        assert ask(address, "/", "DELETE")[0] == 405
        open_page(page, address)
        page.click("#tabs >> text=pending")
        page.click("#rows tr >> nth=0")
        page.fill("#token", TOKEN)
        page.click("#fail")
        wait_until(page, "document.querySelector('.card.bad .number')?.textContent === '2'")
    assert [trial.state for trial in study.history.trials] == ["failed", "failed", "pending"]
    assert study.history.trials[0].error == "it hangs"
    assert not [problem for problem in problems if "ERR_CONNECTION" not in problem]


def test_bad_settings_are_told(tmp_path):
    with pytest.raises(ArgumentError, match="at least 8 characters"):
        app(MemoryStorage(), token="short")
    with pytest.raises(StorageError):
        serve(f"sqlite:///{tmp_path}/missing.db")
    assert list(tmp_path.iterdir()) == []
