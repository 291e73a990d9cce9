"""Fixtures of the tests of studies: forks, a throw-away PostgreSQL server, databases in it, and a hidden browser."""

import getpass
import importlib.util
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

_NUMBERS = itertools.count()


@pytest.fixture
def fork():
    """A function that runs a task in a fork of this process and returns its number; far cheaper than a new interpreter.

    Its status is 0 if the task returns, and another if it raises.
    """

    def start(task):
        child = os.fork()
        if child == 0:
            try:
                task()
                os._exit(0)
            except BaseException:
                os._exit(1)
        return child

    return start


@pytest.fixture(scope="session")
def postgres_server():
    """The URL of a database on a server that lives as long as the tests."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed: pip install 'diffsim-studies[postgres]'")
    user = _user()
    if user is None:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=_in_memory()))
    as_user = {"user": user, "cwd": folder} if os.getuid() == 0 else {"cwd": folder}
    if os.getuid() == 0:
        shutil.chown(folder, user)
    data, log, port = folder / "data", folder / "log", _free_port()
    initdb = [binaries / "initdb", "-D", data, "-U", "studies", "-A", "trust", "-E", "UTF8", "--no-sync"]
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=60"
    control = [binaries / "pg_ctl", "-D", data, "-l", log, "-w", "-t", "60"]
    try:
        subprocess.run(initdb, check=True, capture_output=True, **as_user)
        subprocess.run([*control, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL, **as_user)
        try:
            yield f"postgresql://studies@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, **as_user)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def make_postgres(postgres_server):
    """A function that returns the URL of an empty database: a schema, which is made faster than a database."""
    import psycopg

    def make():
        name = f"test_{next(_NUMBERS)}"
        with psycopg.connect(postgres_server) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"{postgres_server}?options=-csearch_path%3D{name}"

    return make


@pytest.fixture
def postgres(make_postgres):
    """The URL of an empty database."""
    return make_postgres()


@pytest.fixture(scope="module")  # while it lives, its event loop is the thread's
def browser():
    """Chromium, driven by Playwright."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("Playwright is not installed: pip install 'diffsim-studies[test]'")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def watched_page(browser):
    """A page, and lists of what it complains of and asks for: (page, problems, requests)."""
    page, problems, requests = browser.new_page(viewport={"width": 1280, "height": 900}), [], []
    page.set_default_timeout(120_000)
    page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    yield page, problems, requests
    page.close()


def _in_memory():
    """A folder in memory, if there is a roomy one: files on a busy disk take seconds to remove."""
    place = Path("/dev/shm")
    return place if place.is_dir() and shutil.disk_usage(place).free > 2**29 else None


def _binaries():
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "pg_ctl").exists()), None)


def _user():
    if os.getuid() != 0:
        return getpass.getuser()
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
