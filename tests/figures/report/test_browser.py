"""The data of a case browser: escaped, within its budget of bytes, and read with suspicion."""

import json
import logging
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from seewhy.figures.report.blocks import Section
from seewhy.figures.report.browser import PICTURE_BYTES, CaseBrowser, escape_json, fit_budget
from seewhy.figures.report.cases import (
    BrowserCase,
    PictureLayer,
    PicturePlane,
    PictureSlice,
    choose_slices,
    read_cases,
    write_case,
)
from seewhy.figures.report.page import write_report
from seewhy.figures.report.pictures import encode_heat, encode_image, encode_mask, fit_size

BAD = "</script><img src=x onerror=alert(1)>"


def make_case(name="P1", slices=3, picture="data:image/webp;base64,AAAA", **options):
    layers = [PictureLayer(kind="image"), PictureLayer(kind="map", name="cam")]
    shown = [PictureSlice(i, [picture, None]) for i in range(slices)]
    return BrowserCase(
        id=name, patient=name, layers=layers, planes=[PicturePlane(slices=shown, total=slices)], **options
    )


def decode(url):
    import base64
    import io

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def test_a_hostile_name_stays_text(tmp_path):
    case = make_case(BAD, doubts=[BAD], label=BAD, facts={BAD: BAD})
    path = write_report(tmp_path / "report.html", title=BAD, sections=[Section("Cases", [CaseBrowser([case])])])
    text = path.read_text()
    assert "<img src=x" not in text
    assert text.count("</script>") == 2  # of the data and of the script
    data = json.loads(re.search(r'<script type="application/json" class="cases">(.*?)</script>', text).group(1))
    assert data["cases"][0]["id"] == BAD
    assert "\\u003c/script" in escape_json(BAD)


def test_every_slice_is_kept_while_the_pictures_fit():
    cases = [make_case(f"P{i}", slices=30) for i in range(4)]
    assert fit_budget(cases) == (cases, "")


def test_slices_are_left_out_evenly_and_the_key_slice_stays():
    case = make_case(slices=30, picture="x" * 100)
    case = replace(case, planes=[replace(case.planes[0], key=17)])
    [kept], note = fit_budget([case], budget=900)
    numbers = [item.number for item in kept.planes[0].slices]
    assert len(numbers) == 8
    assert numbers[kept.planes[0].key] == 17
    assert kept.planes[0].total == 30
    assert "up to 8 slices" in note


def test_without_room_for_one_slice_each_the_first_cases_keep_theirs():
    cases = [make_case(f"P{i}", picture="x" * 100) for i in range(5)]
    kept, note = fit_budget(cases, budget=250)
    assert [bool(case.planes) for case in kept] == [True, True, False, False, False]
    assert "3 cases have no picture" in note


@pytest.mark.parametrize("count", range(1, 12))
def test_chosen_slices_contain_the_key(count):
    for key in range(20):
        chosen = choose_slices(20, count, key)
        assert key in chosen
        assert len(chosen) <= count
        assert chosen == sorted(chosen)


def test_500_cases_fit_into_20_megabytes(tmp_path):
    rng = np.random.default_rng(0)  # noise compresses worse than any scan
    noise = [encode_image(rng.integers(0, 255, (128, 128, 3)).astype(np.uint8), (128, 128)) for _ in range(6)]
    layers = [PictureLayer(kind="image"), *(PictureLayer(kind="map", name=f"m{i}") for i in range(3))]
    cases = []
    for number in range(500):
        slices = [PictureSlice(i, [noise[(number + i + k) % 6] for k in range(4)]) for i in range(24)]
        plane = PicturePlane(slices=slices, key=12, total=155)
        cases.append(BrowserCase(id=f"P{number}", patient=f"P{number}", layers=layers, planes=[plane]))
    assert sum(case.count_bytes() for case in cases) > 200e6
    path = write_report(tmp_path / "report.html", title="500", sections=[Section("Cases", [CaseBrowser(cases)])])
    assert 1e6 < path.stat().st_size < 20e6
    assert path.stat().st_size > PICTURE_BYTES / 2


def test_a_case_comes_back_from_its_file(tmp_path):
    case = make_case("a/b", right=True, probability=0.5, scores={"Dice": 0.25}, doubts=["d"])
    case = replace(case, planes=[replace(case.planes[0], sides=("R", "L"), mm=96.0)])
    write_case(tmp_path, case)
    [read] = read_cases(tmp_path)
    assert read == replace(case, planes=[replace(plane, slices=list(plane.slices)) for plane in case.planes])


@pytest.mark.parametrize(
    "picture",
    [
        "javascript:alert(1)",
        "data:image/svg+xml;base64,AA",
        "https://example.org/x.png",
        'data:image/png;base64,A"onload',
    ],
)
def test_a_foreign_case_without_plain_pictures_is_left_out(picture, tmp_path, caplog):
    write_case(tmp_path, make_case("good"))
    write_case(tmp_path, make_case("bad", picture=picture))
    (tmp_path / "broken.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        assert [case.id for case in read_cases(tmp_path)] == ["good"]
    assert "bad.json" in caplog.text
    assert "broken.json" in caplog.text


def test_pictures_keep_their_values():
    ramp = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    assert abs(decode(encode_heat(ramp, (64, 64)))[..., 0] / 255 - ramp).max() < 0.04
    signed = decode(encode_heat(ramp * 2 - 1, (64, 64), signed=True))[..., 0].astype(float)
    assert abs((signed - 128) / 127 - (ramp * 2 - 1)).max() < 0.08
    mask = np.zeros((64, 64), bool)
    mask[10:20, 30:40] = True
    assert (decode(encode_mask(mask, (64, 64))) == mask).all()
    single = np.zeros((64, 64), bool)
    single[5, 5] = True
    assert decode(encode_mask(single, (16, 16))).sum() == 1  # a lesion of one pixel stays visible
    assert fit_size((10, 20), side=100, aspect=3.0) == (20, 30)
