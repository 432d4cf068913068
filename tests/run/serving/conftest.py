"""The web application of a run with random weights, called without a network: no upload is left, no run changed."""

import threading
from contextlib import ExitStack

import pytest

import seewhy

pytest.importorskip("fastapi", reason="pip install 'seewhy[serve]'")
pytest.importorskip("python_multipart", reason="pip install 'seewhy[serve]'")

from starlette.testclient import TestClient

from seewhy.run.serving.app import build_app
from seewhy.run.serving.options import ServingOptions
from seewhy.run.serving.served_run import describe_run
from seewhy.run.serving.server import remove_folders, temporary_files
from seewhy.run.serving.worker import CaseWorker

ADDRESS = "http://127.0.0.1:8000"


def list_files(folder):
    """Path → time of its last change."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def model_of(run_of):
    """The loaded run of a system: `model_of("amd")`."""
    made = {}

    def call(system):
        if system not in made:
            made[system] = seewhy.load(run_of(system)[0], device="cpu")
        return made[system]

    return call


@pytest.fixture
def serve(model_of):
    """A client of the application of a system: `serve("amd", max_upload="1MiB")`; no upload may be left at the end."""
    with ExitStack() as stack:
        folders, runs = [], {}

        def call(system, model=None, **options):
            model, chosen = model or model_of(system), ServingOptions(**options)
            runs.setdefault(model.checkpoint.parents[1], list_files(model.checkpoint.parents[1]))
            uploads, scratch = stack.enter_context(temporary_files())
            worker = CaseWorker(most_waiting=chosen.max_waiting, tidy=lambda: remove_folders(scratch))
            app = build_app(model, describe_run(model, chosen), worker, chosen, uploads)
            thread = threading.Thread(target=worker.run, daemon=True)
            thread.start()
            stack.callback(thread.join, 60)
            stack.callback(worker.stop)
            folders.extend((uploads, scratch))
            client = stack.enter_context(TestClient(app, base_url=ADDRESS))
            client.uploads, client.scratch, client.worker = uploads, scratch, worker
            return client

        yield call
        assert [path for folder in folders for path in folder.iterdir()] == []
        assert {run: list_files(run) for run in runs} == runs
