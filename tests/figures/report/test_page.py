import html.parser
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from seewhy.figures.report.blocks import NONE, Code, Picture, ReportTable, Section, Text
from seewhy.figures.report.page import write_report
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


def test_results_stand_beside_their_floors_and_the_ceiling():
    maps, slices = results_blocks(RESULTS, ceiling={"dice": 0.95}, phantom=True)
    assert maps.columns == ["", "Dice"]
    assert maps.rows == [["refined", "0.800"], ["floor: Otsu", "0.300"], ["ceiling", "0.950"]]
    assert maps.quiet == [False, True, False]
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
