"""The page in a real browser: a real upload, the answer, no request to elsewhere and no message in the console."""

import base64
import hashlib
import socket
import threading

import bad_files as bad
import pytest

uvicorn = pytest.importorskip("uvicorn", reason="pip install 'seewhy[serve]'")
SUMS = """[...document.querySelectorAll(".panes canvas")].map((canvas) => canvas.getContext("2d")
    .getImageData(0, 0, canvas.width, canvas.height).data.reduce((sum, value) => sum + value, 0))"""
"""Script: sum of the values of each picture."""


@pytest.fixture
def open_page(chromium, serve):
    """Open the page of a system at a size and in a scheme: `open_page("amd", width=390, scheme="dark")`."""
    contexts, servers, pages = [], [], []

    def call(system, *, width=1400, scheme="light", **options):
        client = serve(system, **options)
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(client.app, log_level="error", lifespan="off", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        listening.listen()
        thread.start()
        servers.append((server, thread))
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.problems = []
        page.on("console", lambda message: page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        own = ("data:", "blob:", address)
        page.on("request", lambda one: None if one.url.startswith(own) else page.problems.append(one.url))
        page.goto(address)
        pages.append(page)
        return page

    yield call
    for context in contexts:
        context.close()
    for server, thread in servers:
        server.should_exit = True
        thread.join(20)
    for page in pages:
        assert page.problems == []


def eye(run_of):
    _, datamodule = run_of("amd")
    return {name: path for name, path in datamodule.items_of("test")[0].files.items() if path is not None}


def predict(page):
    page.locator(".send").click()
    page.wait_for_selector("[data-drawn], .problem:not([hidden])")


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_a_case_is_uploaded_and_answered(run_of, open_page, width, scheme):
    page, files = open_page("amd", width=width, scheme=scheme), eye(run_of)
    assert "medical device" in page.locator(".warning").first.inner_text()
    assert page.locator(".send").is_disabled()
    for name, path in files.items():
        page.set_input_files(f"input[name={name}]", path)
    assert files["mnv"].name in page.locator(".drop").first.inner_text()
    page.get_by_label("explained", exact=True).select_option("early")
    predict(page)
    text = page.locator(".answer").inner_text()
    assert "Grad-CAM explains: early" in text
    assert "Not judged:" in text
    assert "temperature 1.7" in text
    assert page.locator(".answer meter").count() == 4
    assert page.locator(".panes canvas").count() == 2 * len(files)
    before = page.evaluate(f"JSON.stringify({SUMS})")
    page.get_by_label("opacity", exact=True).fill("0")
    page.wait_for_function(f"before => JSON.stringify({SUMS}) !== before", arg=before)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".state").is_hidden()


def test_a_file_is_saved_as_it_came(run_of, open_page):
    page = open_page("amd")
    page.set_input_files("input[name=mnv]", eye(run_of)["mnv"])
    with page.expect_response("**/predict") as waiting:
        predict(page)
    [entry] = waiting.value.json()["files"]
    with page.expect_download() as saving:
        page.locator(".saved button").click()
    content = saving.value.path().read_bytes()
    assert content == base64.b64decode(entry["content"])
    assert hashlib.sha256(content).hexdigest() == entry["sha256"]


def test_dropped_files_find_their_inputs(run_of, open_page):
    page = open_page("amd")
    page.evaluate(
        """() => { const data = new DataTransfer();
        for (const name of ["P1_ga.png", "P1_drusen.png"]) data.items.add(new File(["x"], name));
        const event = new DragEvent("drop", { dataTransfer: data, bubbles: true });
        document.querySelector(".drop").dispatchEvent(event); }"""
    )
    texts = dict(zip(["mnv", "fluid", "ga", "drusen"], page.locator(".drop .chosen").all_inner_texts(), strict=True))
    assert texts["ga"].startswith("P1_ga.png")
    assert texts["drusen"].startswith("P1_drusen.png")
    assert texts["mnv"].startswith("drop")
    page.locator(".clear").click()
    assert page.locator(".send").is_disabled()


def test_problems_are_shown_as_text(open_page):
    page = open_page("amd", max_upload="1MiB")
    page.set_input_files("input[name=mnv]", {"name": "<img src=x onerror=window.broken=1>.png", "mimeType": "image/png",
                                             "buffer": b"nonsense"})  # fmt: skip
    predict(page)
    assert "is not a readable PNG" in page.locator(".problem").inner_text()
    assert page.locator(".answer").is_hidden()
    assert page.evaluate("window.broken") is None
    assert any("422" in text for text in page.problems)
    page.problems.clear()  # the browser reports the status of the answer
    page.set_input_files("input[name=mnv]", {"name": "a.png", "mimeType": "image/png", "buffer": bytes(2 << 20)})
    predict(page)
    assert "up to 1.0 MiB" in page.locator(".problem").inner_text()
    page.set_input_files("input[name=mnv]", {"name": "a.png", "mimeType": "image/png", "buffer": bad.png()})
    predict(page)
    assert page.locator(".problem").is_hidden()


def test_slices_of_a_patient(run_of, open_page):
    page = open_page("brats", width=390)
    _, datamodule = run_of("brats")
    page.set_input_files("input[name=image]", [record.path for record in datamodule.items_of("test")[0]])
    page.get_by_label("name", exact=True).fill("P7")
    predict(page)
    assert page.locator(".answer h2").first.inner_text() == "P7"
    assert "4 files" in page.locator(".drop").inner_text()
    assert page.locator(".panes canvas").count() > 2
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
