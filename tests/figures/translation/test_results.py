"""The picture and the table of a translation: every cell where it belongs, floors beside what must beat them."""

import io

import numpy as np
import pytest
from rich.console import Console

from seewhy.figures.style import png_bytes
from seewhy.figures.training import _panels
from seewhy.figures.translation.case import TranslationCase
from seewhy.figures.translation.results import (
    translation_blocks,
    translation_panel,
    translation_rows,
    translation_table,
)

MODALITIES = ("t1", "t1ce", "t2", "flair")
RESULTS = {
    "test/a2b/translation/ssim": 0.8, "test/a2b/translation/psnr": 20.5, "test/a2b/translation/mae": 0.2,
    "test/a2b/identity/ssim": 0.7, "test/a2b/identity/psnr": 21.0, "test/a2b/identity/mae": 0.25,
    "test/a2b/cycle/ssim": 0.99, "test/a2b/cycle/psnr": 30.0, "test/a2b/cycle/mae": 0.01,
    "test/b2a/cycle/ssim": 0.98, "test/b2a/cycle/psnr": 31.0, "test/b2a/cycle/mae": 0.02,
    "test/loss": 1.0, "val/a2b/cycle/ssim": 0.5,
}  # fmt: skip


def case(direction, *, truth=True, back=True, spacing=(1.0, 1.0)):
    body = np.zeros((20, 16), np.uint8)
    body[4:16, 3:13] = 1
    image = np.where(body > 0, np.linspace(-1, 1, 16), -1.0)[None].repeat(4, axis=0)
    scores = {"identity": [0.5, 0.6, 0.7, 0.8], "translation": [0.9, 0.91, 0.92, 0.9996], "cycle": [1.0] * 4}
    return TranslationCase(
        subject="A1", number=7, direction=direction, input=image, translated=-image, body=body, spacing=spacing,
        reconstructed=image if back else None, truth=image if truth else None, scores=scores,
    )  # fmt: skip


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda one: hasattr(one, "get_text"))]


def test_every_row_and_score_is_shown():
    figure = translation_panel([case("a2b"), case("b2a")], modalities=MODALITIES, title="test", phantom=True)
    found = texts(figure)
    for text in ("A → B: A1, slice 7", "B → A: A1, slice 7", "test · phantom data", "T1ce", "reconstructed", "truth"):
        assert text in found
    assert found.count("0.920") == 2
    assert "> 0.999" in found
    drawn = [axes for part in figure.subfigs for block in part.subfigs for axes in block.axes]
    assert len(drawn) == 32
    picture = drawn[4].images[0].get_array()  # translated: the input's dark side is bright
    assert drawn[0].images[0].get_array()[8, 2].tolist() == (255 - picture[8, 2]).tolist()
    assert picture.shape == (16, 14, 3)  # cut to the head and two pixels around it
    assert png_bytes(figure)


def test_what_is_not_known_has_no_row():
    figure = translation_panel([case("a2b", truth=False, back=False)], modalities=MODALITIES)
    figure.canvas.draw()
    assert figure._supxlabel.get_window_extent().x1 <= figure.bbox.x1  # the small print is broken, not cut off
    assert {"truth", "reconstructed"}.isdisjoint(texts(figure))
    both = translation_panel([case("a2b", truth=False), case("b2a")], modalities=MODALITIES)
    assert "truth" in texts(both)
    with pytest.raises(ValueError, match="no cases to draw"):
        translation_panel([], modalities=MODALITIES)


def test_each_translation_stands_beside_its_floor():
    rows = translation_rows(RESULTS)
    assert [row.name for row in rows] == [
        "A → B: translated, against the truth",
        "A → B: floor: not translated, against the truth",
        "A → B: cycle, against the input",
        "B → A: cycle, against the input",
    ]
    assert rows[0].cells == ("0.800", "20.50", "0.200")
    assert rows[0].wins == (True, False, True)
    assert rows[1].wins == (False, True, False)
    assert [row.quiet for row in rows] == [False, True, False, False]
    assert [row.first for row in rows] == [True, False, False, True]


def test_the_table_in_the_terminal_and_in_the_report():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    console.print(translation_table(RESULTS, phantom=True))
    said = console.file.getvalue()
    assert "\x1b[1m0.800" in said  # better than its floor: bold
    assert "31m21.00" in said  # a floor that wins: red
    assert "PHANTOM" in said
    (block,) = translation_blocks(RESULTS, phantom=True)
    assert "0.800" in block.html()
    assert "PHANTOM" in block.html()
    assert translation_blocks({"test/auroc": 1.0}) == []
    assert translation_table({"test/auroc": 1.0}).row_count == 0


def test_curves_of_translations_share_panels_by_what_they_are_compared_with():
    names = [f"val/{way}/{kind}/ssim" for way in ("a2b", "b2a") for kind in ("translation", "identity", "cycle")]
    panels = _panels({name: [(0, 1.0)] for name in [*names, "train/a2b/cycle", "train/b2a/cycle"]})
    assert len(panels["ssim against the truth"]) == 4
    assert len(panels["ssim of the cycle"]) == 2
    assert len(panels["cycle"]) == 2
