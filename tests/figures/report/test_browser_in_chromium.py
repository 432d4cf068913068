"""The case browser in a real browser: filters, order, slices, keys, no request and no message."""

import os
import time

import numpy as np
import pytest

from seewhy.figures.report.blocks import Section, Text
from seewhy.figures.report.cases import BrowserCase, PictureLayer, PicturePlane, PictureSlice
from seewhy.figures.report.page import CaseBrowser, write_report
from seewhy.figures.report.pictures import encode_heat, encode_image, encode_mask

BAD = "</script><img src=x onerror=window.broken=1>"
SIZE = (32, 32)


def make_cases():
    """Two patients with three slices, whose grey is 40, 80 and 120, one hostile name, and one without pictures."""
    square = np.zeros(SIZE, bool)
    square[8:24, 8:24] = True
    greys = [encode_image(np.full((*SIZE, 3), 40 * (i + 1), np.uint8), SIZE, quality=100) for i in range(3)]
    heat, mask = encode_heat(square.astype(np.float32), SIZE), encode_mask(square, SIZE)
    layers = [
        PictureLayer(kind="image", name="image"), PictureLayer(kind="truth"),
        PictureLayer(kind="map", name="Grad-CAM", top=0.25), PictureLayer(kind="prediction", name="prediction"),
    ]  # fmt: skip
    plane = PicturePlane(slices=[PictureSlice(10 * i, [greys[i], mask, heat, mask]) for i in range(3)], key=1, total=30)
    options = {"layers": layers, "planes": [plane]}
    return [
        BrowserCase(id="P2", patient="P2", label="ill", prediction="ill", right=True, probability=0.9,
                    scores={"Dice": 0.5}, **options),
        BrowserCase(id="P10", patient="P10", label="healthy", prediction="ill", right=False, probability=0.6,
                    scores={"Dice": 0.1}, doubts=["the map peaks low"], **options),
        BrowserCase(id=BAD, patient="P11", label="ill", prediction="healthy", right=False, probability=0.7, **options),
        BrowserCase(id="P1", patient="P1", label="healthy", prediction="healthy", right=True, scores={"Dice": 0.8}),
    ]  # fmt: skip


@pytest.fixture
def page(chromium, tmp_path):
    path = write_report(tmp_path / "report.html", title="t", sections=[Section("Cases", [CaseBrowser(make_cases())])])
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text))
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on(
        "request", lambda request: page.problems.append(request.url) if not request.url.startswith("data:") else None
    )
    page.goto(path.as_uri())
    page.problems.remove(path.as_uri())
    page.wait_for_selector("[data-drawn]")
    yield page
    assert [text for text in page.problems if not text.startswith("data:image/")] == []
    context.close()


def names(page):
    return page.locator(".row").evaluate_all("rows => rows.map(row => row.firstChild.textContent)")


def control(page, text):
    return page.get_by_label(text, exact=True)


def wait_for(page, drawn):
    page.wait_for_function("text => document.querySelector('.browser').dataset.drawn === text", arg=drawn)


def pixel(page, pane, x=2, y=2):
    """Red, green and blue of a pixel of a pane, at a place in pixels of the picture."""
    script = """([pane, x, y]) => { const c = document.querySelectorAll('.panes canvas')[pane], s = c.width / 32;
        return [...c.getContext('2d').getImageData(x * s, y * s, 1, 1).data].slice(0, 3) }"""
    return np.array(page.evaluate(script, [pane, x, y]), dtype=int)


def test_hostile_text_is_only_text(page):
    assert BAD in names(page)
    page.locator(".row").nth(2).click()
    assert page.locator("h3").inner_text() == BAD
    assert page.evaluate("window.broken") is None


def test_filters(page):
    assert names(page) == ["P2", "P10", BAD, "P1"]
    control(page, "truth").select_option("ill")
    assert names(page) == ["P2", BAD]
    control(page, "prediction").select_option("healthy")
    assert names(page) == [BAD]
    assert page.locator(".count").inner_text() == "1 of 4 cases"
    page.get_by_text("show all").click()
    control(page, "outcome").select_option("doubt")
    assert names(page) == ["P10"]
    control(page, "outcome").select_option("wrong")
    assert names(page) == ["P10", BAD]
    page.get_by_text("show all").click()
    control(page, "score from").fill("0.3")
    assert names(page) == ["P2", "P1"]
    control(page, "score to").fill("0.6")
    assert names(page) == ["P2"]
    control(page, "find cases").fill("nobody")
    assert names(page) == []
    assert "none of 4" in page.locator(".count").inner_text()
    assert page.locator(".viewer").is_hidden()


def test_order(page):
    def by(text):
        return page.locator(f"[title='sort by {text}']")

    by("case").click()
    assert names(page) == [BAD, "P1", "P2", "P10"]  # P2 before P10
    by("score").click()
    assert names(page) == ["P10", "P2", "P1", BAD]  # without a score last
    by("score").click()
    assert names(page) == ["P1", "P2", "P10", BAD]
    by("doubts").click()
    assert names(page)[0] == "P10"
    control(page, "score").select_option("probability")
    by("score").click()
    assert names(page) == ["P10", BAD, "P2", "P1"]


def test_slices_by_slider_wheel_and_keys(page):
    wait_for(page, "P2 0 10")  # the key slice is shown first
    assert abs(pixel(page, 0) - 80).max() <= 3
    slider = page.get_by_label("slice", exact=True)
    slider.fill("2")
    wait_for(page, "P2 0 20")
    assert abs(pixel(page, 0) - 120).max() <= 3
    assert slider.get_attribute("aria-valuetext") == "20 (3 of 3)"
    page.locator(".panes").hover()
    page.mouse.wheel(0, -100)
    wait_for(page, "P2 0 10")
    page.locator(".panes").focus()
    page.keyboard.press("ArrowLeft")
    wait_for(page, "P2 0 0")
    page.keyboard.press("End")
    wait_for(page, "P2 0 20")
    assert "3 of 30 slices" in page.locator(".legend").inner_text()


def test_overlay_opacity_and_colour_scale(page):
    wait_for(page, "P2 0 10")
    inside = (16, 16)
    shared = pixel(page, 2, *inside)
    assert abs(pixel(page, 2) - 80).max() <= 3  # no heat there: the image is unchanged
    assert abs(shared - 80).max() > 5
    control(page, "colour scale").select_option("own")
    page.wait_for_timeout(100)
    own = pixel(page, 2, *inside)
    assert abs(own - 80).max() > 2 * abs(shared - 80).max()
    control(page, "opacity").fill("0")
    page.wait_for_timeout(100)
    assert abs(pixel(page, 2, *inside) - 80).max() <= 3
    control(page, "opacity").fill("100")
    control(page, "overlay").uncheck()
    page.wait_for_timeout(100)
    for pane in range(4):
        assert abs(pixel(page, pane, 8, 16) - 80).max() <= 3
    control(page, "overlay").check()
    page.wait_for_timeout(100)
    assert pixel(page, 1, 8, 16).tolist() == [0, 229, 255]  # the outline of the truth


def test_everything_works_by_keyboard_alone(page):
    page.get_by_label("find cases").focus()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "list":
            break
    page.keyboard.press("ArrowDown")
    wait_for(page, "P10 0 10")
    assert "the map peaks low" in page.locator(".viewer .warning").inner_text()
    assert page.locator(".row[aria-selected=true]").get_attribute("aria-label") == (
        "P10, truth healthy, prediction ill, wrong, Dice 0.100, 1 doubt"
    )
    page.keyboard.press("ArrowRight")
    wait_for(page, "P10 0 20")
    page.keyboard.press("o")
    assert not control(page, "overlay").is_checked()
    page.keyboard.press("-")
    assert control(page, "opacity").input_value() == "90"
    page.keyboard.press("ArrowUp")
    wait_for(page, "P2 0 10")
    label = page.locator(".panes canvas").nth(2).get_attribute("aria-label")
    assert label == "P2: Grad-CAM, slice 10"


def test_a_case_without_pictures_says_so(page):
    page.locator(".row").nth(3).click()
    assert "no picture" in page.locator(".panes").inner_text()


@pytest.mark.parametrize("width", [1400, 390])
def test_nothing_is_wider_than_the_screen(chromium, tmp_path, width):
    sections = [Section("Text", [Text("word " * 50)]), Section("Cases", [CaseBrowser(make_cases())])]
    path = write_report(tmp_path / "report.html", title="a/very/long/name_" * 8, sections=sections)
    context = chromium.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_500_cases_open_within_two_seconds(chromium, tmp_path):
    rng = np.random.default_rng(0)
    noise = [encode_image(rng.integers(0, 255, (128, 128, 3)).astype(np.uint8), (128, 128)) for _ in range(8)]
    layers = [PictureLayer(kind="image"), PictureLayer(kind="map", name="cam")]
    cases = [
        BrowserCase(id=f"P{i}", patient=f"P{i}", layers=layers,
                    planes=[PicturePlane(slices=[PictureSlice(k, [noise[k % 8]] * 2) for k in range(16)], total=16)])
        for i in range(500)
    ]  # fmt: skip
    path = write_report(tmp_path / "report.html", title="500", sections=[Section("Cases", [CaseBrowser(cases)])])
    assert 8e6 < path.stat().st_size < 20e6
    page = chromium.new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("[data-drawn]")
    spent = page.evaluate("performance.timing.domContentLoadedEventEnd - performance.timing.navigationStart") / 1000
    assert len(names(page)) == 500
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    assert spent < 2 * max(1, busy), f"{spent} s at a load of {busy:.1f} per core"
    started = time.perf_counter()
    page.get_by_label("find cases").fill("P49")
    assert len(names(page)) == 11
    assert time.perf_counter() - started < 2 * max(1, busy)
    page.close()
