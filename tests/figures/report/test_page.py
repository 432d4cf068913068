"""The page is one file with escaped text; the data of its case browser keep their budget and are not trusted."""

import html.parser
import json
import logging
import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from seewhy.figures.report.blocks import NONE, Code, Picture, ReportTable, Section, Text
from seewhy.figures.report.cases import (
    BrowserCase,
    PictureLayer,
    PicturePlane,
    PictureSlice,
    choose_slices,
    read_cases,
    write_case,
)
from seewhy.figures.report.page import PICTURE_BYTES, CaseBrowser, escape_json, fit_budget, write_report
from seewhy.figures.report.pictures import encode_heat, encode_image, encode_mask, fit_size
from seewhy.figures.results import results_blocks

RESULTS = {"test/refined/dice": 0.8, "test/floor_otsu/dice": 0.3, "test/auroc": 0.9, "test/floor_chance/auroc": 0.5}


class Page(html.parser.HTMLParser):
    """Collects what a browser would load and checks that every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.texts = [], [], []
        self.feed(text.replace("<wbr>", ""))  # a place where a line may break

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def write(tmp_path, **options):
    path = write_report(tmp_path / "run" / "report.html", **{"title": "a run", "sections": [], **options})
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def test_everything_is_inside_one_well_formed_file(tmp_path):
    file = tmp_path / "x.png"
    Image.new("RGB", (4, 4)).save(file)
    figure = Figure()
    figure.subplots().plot([0, 1])
    pictures = [Picture(source, "a caption") for source in (file, figure, np.zeros((5, 6, 3), np.uint8))]
    text = write(tmp_path, sections=[Section("Pictures", [*pictures, Picture(file.read_bytes())])])
    page = Page(text)
    assert page.open == []
    assert len(page.links) == 4
    assert all(link.startswith("data:image/png;base64,iVBOR") for link in page.links)
    assert "://" not in text
    assert not re.search(r"url\(|@import|<script|<link", text)
    assert "default-src 'none'" in text


def test_a_large_picture_becomes_webp_with_its_size(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3)).astype(np.uint8)
    text = write(tmp_path, sections=[Section("s", [Picture(noise, "noise", "what it shows")])])
    assert 'alt="what it shows" width="400" height="300" src="data:image/webp;base64,' in text


def test_long_lists_of_warnings_are_folded(tmp_path):
    text = write(tmp_path, warnings=[f"warning {i}" for i in range(9)])
    assert text.index("warning 4") < text.index("4 more warnings") < text.index("warning 5")


def test_intervals_of_cells_may_break_off_and_stay_text(tmp_path):
    text = write(
        tmp_path, sections=[Section("s", [ReportTable(["", "x"], [["a", "0.5 [0.4, 0.6]"], ["b", "<i> ] ["]])])]
    )
    assert '0.5 <span class="interval">[0.4, 0.6]</span>' in text
    assert "&lt;i&gt; ] [" in text


def test_all_text_is_escaped(tmp_path):
    bad = "<script>alert('x')</script> & \"q\""
    blocks = [
        Text(bad),
        Code(bad),
        Code(bad + "\n" * 30, bad),
        ReportTable([bad], [[bad]], bad),
        Picture(np.zeros((2, 2, 3), np.uint8), bad),
    ]
    text = write(tmp_path, title=bad, sections=[Section(bad, blocks)], facts={bad: bad}, warnings=[bad])
    assert "<script>" not in text
    page = Page(text)
    assert page.open == []
    # title and heading of the page, fact (2), warning, section, text, code, folded code (2), table (3), caption
    assert sum(bad in part for part in page.texts) == 14


def test_braces_in_text_stay_as_they_are(tmp_path):
    assert "{not a field} {style}" in write(tmp_path, sections=[Section("s", [Text("{not a field} {style}")])])


def test_warnings_come_before_the_sections(tmp_path):
    text = write(tmp_path, warnings=["phantom data"], sections=[Section("Results", [Text("numbers")])])
    assert text.index("phantom data") < text.index("Results")


def test_results_stand_beside_their_floors():
    maps, slices = results_blocks(RESULTS, phantom=True)
    assert maps.columns == ["", "Dice"]
    assert maps.rows == [["refined", "0.800"], ["floor: Otsu", "0.300"]]
    assert maps.quiet == [False, True]
    assert "PHANTOM" in maps.caption
    assert slices.rows == [["classifier", "0.900"], ["floor: chance", "0.500"]]


def test_without_masks_only_the_classes_are_scored():
    assert len(results_blocks({"test/auroc": 0.9})) == 1
    assert results_blocks({"test/loss": 0.9}) == []


def test_a_failed_report_leaves_the_old_one(tmp_path):
    path = write_report(tmp_path / "report.html", title="old", sections=[])
    with pytest.raises(FileNotFoundError):
        write_report(path, title="new", sections=[Section("s", [Picture(tmp_path / "missing.png")])])
    assert "old" in path.read_text()


def test_rows_lead_to_pages_below_this_one_whatever_their_names(tmp_path):
    pages = ["3/report.html", None, "javascript:alert(1)", '"><b>/../x']
    table = ReportTable(["run", "score"], [[f"r{i}", "1"] for i in range(4)], pages=pages)
    text = table.html()
    assert '<th scope="row"><a href="./3/report.html">r0</a></th>' in text
    assert '<th scope="row">r1</th>' in text
    assert '<a href="./javascript%3Aalert%281%29">r2</a>' in text
    assert '<a href="./%22%3E%3Cb%3E/../x">r3</a>' in text


def test_columns_of_words_are_left_aligned_and_those_of_numbers_are_not(tmp_path):
    rows = [["1", "COMPLETE", "0.61", NONE, "> 100"], ["2", "", NONE, "", "failed"]]
    page = ReportTable(["member", "state", "score", "none", "mixed"], rows).html()
    assert re.findall(r'<(t[hd])[^>]* class="words"[^>]*>', page) == ["th", "td"]
    assert '<td class="words" data-label="state"><span>COMPLETE' in page


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
