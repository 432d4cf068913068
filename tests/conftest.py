"""Shared settings of the tests."""

import os
import shutil
from pathlib import Path

import pytest
from command_server import CommandServer

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_addoption(parser):
    """`--trials` repeats tests of processes that are killed at random."""
    parser.addoption("--trials", type=int, default=2, help="trials of each test of processes that come and go")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With `-n`, run all tests of a file in one worker, so that its trained runs and phantoms are made once."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of real samples next to the checkout; tests that need it are skipped elsewhere."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real samples are not on this machine")
    return folder


@pytest.fixture(scope="session")
def run_command(repository):
    """Run a script of the repository in a forked process: `run_command("train.py", *words, cwd=…, env={…})`.

    `env` is added to the environment of the tests; `processes=2` starts as many, as torchrun does. The result is that
    of `subprocess.run` with captured text.
    """
    server = CommandServer()

    def call(script, *words, cwd=repository, env=None, timeout=300, processes=1):
        environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", **(env or {})}
        environment.pop("HYDRA_FULL_ERROR", None)
        return server.run([repository / script, *words], cwd=cwd, env=environment, timeout=timeout, processes=processes)

    yield call
    server.close()


@pytest.fixture(scope="module")
def chromium():
    """A browser without a window; tests that need it are skipped without Chromium or the extra `browser`."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
