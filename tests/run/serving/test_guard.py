"""Limits and checks of every request: names, other sites, sizes, time, the queue, and that nothing is left."""

import asyncio
import re
import threading
import time

import bad_files as bad
import pytest

from seewhy.errors import ConfigError
from seewhy.run.serving import app as module
from seewhy.run.serving.guard import Guard
from seewhy.run.serving.options import ServingOptions
from seewhy.run.serving.served_run import describe_run
from seewhy.run.serving.server import temporary_files

FILE = {"mnv": ("a.png", bad.png())}
NONE = {"method": "none"}


# -- names and other sites ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200), ("localhost", 200), ("[::1]:8000", 200), ("10.1.2.3", 200),
        ("Scanner.Example:8000", 200),
        ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("", 421), ("[::1", 421),
        ("localhost.evil.example", 421),
    ],
)  # fmt: skip
def test_only_names_of_the_server_are_answered(serve, host, status):
    client = serve("amd", allow_hosts=["scanner.example"])
    for path in ("/", "/run", "/openapi.json"):
        answer = client.get(path, headers={"host": host})
        assert answer.status_code == status
        if status != 200:
            assert "--allow-host" in answer.json()["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9000"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_pages_of_other_sites_are_refused(serve, headers, status):
    answer = serve("amd").post("/predict", files=FILE, data=NONE, headers=headers)
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers
    if status != 200:
        assert "another site" in answer.json()["error"]


def test_every_answer_has_the_headers(serve):
    client = serve("amd")
    for answer in (client.get("/"), client.get("/run"), client.get("/nowhere"), client.post("/predict"),
                   client.get("/", headers={"host": "evil.example"})):  # fmt: skip
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_other_pages_and_methods_are_answered_in_words(serve):
    client = serve("amd")
    for answer, status in ((client.get("/../etc/passwd"), 404), (client.get("/x"), 404), (client.put("/predict"), 405),
                           (client.get("/predict"), 405), (client.request("TRACE", "/"), 405)):  # fmt: skip
        assert answer.status_code == status
        assert "openapi.json" in answer.json()["error"]
    assert client.get("/health").json() == {"status": "ok", "cases": 0}


def test_the_page_is_alone(serve):
    page = serve("amd").get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"""(?:src|href|action)=["'](?!data:)""", page.text)
    assert "medical device" in page.text


# -- sizes --------------------------------------------------------------------------------------------------------


def test_a_large_request_is_refused_by_its_announced_size(serve):
    answer = serve("amd", max_upload="1MiB").post("/predict", files={"mnv": ("a.png", bytes(2 << 20))})
    assert answer.status_code == 413
    assert "announces 2.0 MiB" in answer.json()["error"]
    assert "--max-upload" in answer.json()["error"]


@pytest.mark.parametrize("announced", [None, "10"])
def test_a_large_request_is_refused_while_it_is_received(serve, announced):
    sent = []

    def body():
        yield b'--x\r\nContent-Disposition: form-data; name="mnv"; filename="a.png"\r\n\r\n'
        for _ in range(64):
            sent.append(1)
            yield bytes(1 << 20)

    headers = {"content-type": "multipart/form-data; boundary=x"}
    if announced:
        headers["content-length"] = announced
    client = serve("amd", max_upload="4MiB")
    answer = client.post("/predict", content=body(), headers=headers)
    assert answer.status_code == 413
    assert "4.0 MiB" in answer.json()["error"]
    assert client.worker.places_taken == 0


def test_the_body_is_not_read_to_its_end():
    """The application asks for no more than what was allowed, and a bit."""
    received = 0

    async def application(scope, receive, send):
        while True:
            await receive()

    async def receive():
        nonlocal received
        received += 1
        return {"type": "http.request", "body": bytes(1 << 20), "more_body": True}

    answers = []

    async def send(message):
        answers.append(message)

    guard = Guard(application, hosts=(), most_bytes=4 << 20, describe=lambda error: (str(error), error.status))
    scope = {"type": "http", "method": "POST", "headers": [(b"host", b"localhost")]}
    asyncio.run(guard(scope, receive, send))
    assert answers[0]["status"] == 413
    assert received == 5


# -- time and queue -----------------------------------------------------------------------------------------------


@pytest.fixture
def held(monkeypatch):
    """Predictions wait until `held.set()`; `held.running` tells that one has begun."""
    event = threading.Event()
    event.running = threading.Event()
    real = module.examine

    def wait(*arguments):
        event.running.set()
        assert event.wait(60)
        return real(*arguments)

    monkeypatch.setattr(module, "examine", wait)
    yield event
    event.set()


def in_background(client, results, **options):
    thread = threading.Thread(target=lambda: results.append(client.post("/predict", files=FILE, data=NONE, **options)))
    thread.start()
    return thread


def wait_until(fits, seconds=20):
    end = time.monotonic() + seconds
    while not fits():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_requests_wait_and_more_than_that_are_refused(serve, held):
    client, results = serve("amd", max_waiting=1), []
    threads = [in_background(client, results)]
    assert held.running.wait(20)
    threads.append(in_background(client, results))
    wait_until(lambda: client.worker.places_taken == 2)
    refused = client.post("/predict", files=FILE, data=NONE)
    assert refused.status_code == 503
    assert "busy: 2 cases" in refused.json()["error"]
    assert int(refused.headers["retry-after"]) > 0
    assert client.get("/health").json()["cases"] == 2  # answered while a case is predicted
    held.set()
    for thread in threads:
        thread.join(20)
    assert [answer.status_code for answer in results] == [200, 200]
    assert results[0].json()["values"] == results[1].json()["values"]
    assert client.worker.places_taken == 0


def test_a_long_prediction_is_given_up_and_its_files_removed_when_it_ends(serve, held):
    client = serve("amd", timeout=0.5)
    answer = client.post("/predict", files=FILE, data=NONE)
    assert answer.status_code == 503
    assert "the prediction took longer than 0.5 s" in answer.json()["error"]
    assert client.worker.places_taken == 1  # it still runs
    assert list(client.uploads.iterdir()) != []
    held.set()
    wait_until(lambda: client.worker.places_taken == 0 and not list(client.uploads.iterdir()))


def test_a_case_that_waits_too_long_is_never_predicted(serve, held):
    client, results = serve("amd", timeout=1.5), []
    first = in_background(client, results)
    assert held.running.wait(20)
    answer = client.post("/predict", files=FILE, data=NONE)
    assert answer.status_code == 503
    first.join(20)
    assert results[0].status_code == 503
    assert len(list(client.uploads.iterdir())) == 1  # of the one that runs
    held.set()
    wait_until(lambda: client.worker.places_taken == 0 and not list(client.uploads.iterdir()))


def call(app, messages):
    """The answers of an application to a form whose messages `messages` yields."""

    async def receive():
        return await asyncio.to_thread(next, messages, {"type": "http.disconnect"})

    async def send(message):
        answers.append(message)

    answers = []
    headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=x")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers, "query_string": b"",
             "http_version": "1.1", "scheme": "http", "root_path": "", "client": None, "server": None}  # fmt: skip
    asyncio.run(app(scope, receive, send))
    return answers


PART = b'--x\r\nContent-Disposition: form-data; name="mnv"; filename="a.png"\r\n\r\n'


def test_a_slow_upload_is_given_up(serve):
    client = serve("amd", timeout=0.3)

    def upload():
        yield {"type": "http.request", "body": PART, "more_body": True}
        time.sleep(1)
        yield {"type": "http.request", "body": b"more", "more_body": False}

    answers = call(client.app, upload())
    assert answers[0]["status"] == 503
    assert b"the upload took longer than 0.3 s" in answers[1]["body"]
    assert client.worker.places_taken == 0


def test_an_upload_that_breaks_off_leaves_nothing(serve):
    client = serve("amd")
    upload = [{"type": "http.request", "body": PART + bytes(3 << 20), "more_body": True}, {"type": "http.disconnect"}]
    answers = call(client.app, iter(upload))
    assert answers[0]["status"] == 400
    assert client.worker.places_taken == 0
    assert list(client.uploads.iterdir()) == list(client.scratch.iterdir()) == []


def test_errors_of_seewhy_show_no_code(serve, monkeypatch, caplog):
    def fail(*_):
        raise KeyError("secret")

    monkeypatch.setattr(module, "examine", fail)
    answer = serve("amd").post("/predict", files=FILE, data=NONE)
    assert answer.status_code == 500
    assert "KeyError" in answer.json()["error"]
    assert "secret" not in answer.text
    assert "secret" in caplog.text  # for the operator


def test_too_little_memory_is_said(serve, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(module, "examine", fail)
    answer = serve("amd").post("/predict", files=FILE, data=NONE)
    assert answer.status_code == 503
    assert "not enough memory" in answer.json()["error"]


# -- files --------------------------------------------------------------------------------------------------------


def test_uploads_lie_in_a_private_folder_and_are_removed(serve, held):
    client, results = serve("amd"), []
    thread = in_background(client, results)
    assert held.running.wait(20)
    [folder] = client.uploads.iterdir()
    for path in (client.uploads, client.scratch, folder, client.uploads.parent):
        assert path.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in folder.rglob("*.png")] == ["a.png"]
    held.set()
    thread.join(20)
    assert results[0].status_code == 200
    assert list(client.uploads.iterdir()) == []


def test_temporary_files_are_where_they_are_removed():
    import tempfile

    before = tempfile.gettempdir()
    with temporary_files() as (uploads, scratch):
        assert tempfile.gettempdir() == str(scratch)
        assert uploads.parent.stat().st_mode & 0o777 == 0o700
    assert tempfile.gettempdir() == before
    assert not uploads.parent.exists()


# -- options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"port": 70000}, "--port 70000"), ({"max_waiting": -1}, "--max-waiting"), ({"timeout": 0}, "--timeout"),
        ({"max_upload": "much"}, "--max-upload much"), ({"max_unpacked": "0"}, "--max-unpacked"),
    ],
)  # fmt: skip
def test_options_are_checked(options, fact):
    with pytest.raises(ConfigError, match=fact):
        ServingOptions(**options)


def test_a_run_that_reads_no_cases_is_refused(model_of, monkeypatch):
    model = model_of("brats")
    monkeypatch.setattr(model.datamodule, "modalities", ["t1", "t2"])
    with pytest.raises(ConfigError, match="cannot be served"):
        describe_run(model, ServingOptions())


def test_an_unknown_method_is_refused(model_of):
    with pytest.raises(ConfigError, match="nearest: 'grad_cam'"):
        describe_run(model_of("amd"), ServingOptions(methods=["grad_cm"]))


def test_methods_can_be_chosen(serve):
    answer = serve("amd", methods=["occlusion"]).get("/run").json()
    assert [method["name"] for method in answer["methods"]] == ["occlusion"]
    assert answer["usual_method"] == "occlusion"
