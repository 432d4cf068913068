"""Format and resolution of all figures: files, sizes, fonts, and that nothing remains after a command."""

import io
import itertools
import threading

import numpy as np
import pytest
from PIL import Image

from seewhy.errors import ConfigError
from seewhy.figures.overlay import write_strip
from seewhy.figures.page import Page
from seewhy.figures.sheet import Bar, Cell, sheet, write_sheet
from seewhy.figures.style import (
    FigureOptions,
    add_captions,
    blank_figure,
    current_figure_options,
    style_axes,
    turn_upright,
    use_figure_options,
    write_figure,
)
from seewhy.io.geometry import Display
from seewhy.options import parse_options

ARRAY = np.arange(6).reshape(2, 3)


def test_nothing_to_turn_is_the_same_array():
    np.testing.assert_array_equal(turn_upright(ARRAY, Display()), ARRAY)


def test_transpose_comes_before_the_flips():
    turned = turn_upright(ARRAY, Display(transpose=True, flip_rows=True))
    assert turned.tolist() == [[2, 5], [1, 4], [0, 3]]
    assert turn_upright(ARRAY, Display(flip_columns=True)).tolist() == [[2, 1, 0], [5, 4, 3]]


@pytest.mark.parametrize("flags", itertools.product((False, True), repeat=3))
def test_colours_go_with_their_pixels(flags):
    display = Display(**dict(zip(("transpose", "flip_rows", "flip_columns"), flags, strict=True)))
    colour = np.stack([ARRAY, ARRAY + 10, ARRAY + 20], axis=-1)
    turned = turn_upright(colour, display)
    assert turned.flags["C_CONTIGUOUS"]
    for channel in range(3):
        np.testing.assert_array_equal(turned[..., channel], turn_upright(ARRAY, display) + 10 * channel)


PICTURE = np.random.default_rng(0).integers(0, 250, (37, 53, 3)).astype(np.uint8)


def curve():
    figure = blank_figure(3, 2)
    style_axes(figure.add_subplot()).plot([0, 1, 2], [1, 0, 2])
    return add_captions(figure, head="Dice by epoch")


def page():
    row = [Cell(picture=PICTURE, name="image", note="slice 12"), Cell(picture=PICTURE[::-1], name="map", marked=True)]
    return sheet(
        [row], title="subject 7 · Grad-CAM", warnings=["completeness error 38 %"], bar=Bar(scale=(0, 2)),
        labels=["subject 7\nright eye"], foot="phantom",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["pdf", "svg"])
def test_the_other_format_is_written_beside_the_png_with_the_same_stem(tmp_path, kind):
    with use_figure_options(FigureOptions(format=kind)):
        written = [
            write_figure(tmp_path / "a_0.075.png", curve()),
            write_sheet(tmp_path / "b.png", page()),
            write_strip(tmp_path / "c.png", PICTURE, {"cam": PICTURE[:, :, 0] / 250}),
        ]
    assert [path.suffix for path in written] == [".png"] * 3
    stems = ["a_0.075", "b", "c"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        f"{stem}.{end}" for stem in stems for end in (kind, "png")
    )
    head = {"pdf": b"%PDF", "svg": b"<?xml"}[kind]
    assert all((tmp_path / f"{stem}.{kind}").read_bytes().startswith(head) for stem in stems)


def test_a_pdf_has_text_as_text_in_whole_fonts_and_the_same_bytes_again(tmp_path):
    with use_figure_options(FigureOptions(format="pdf")):
        for place in ("one", "two"):
            write_figure(tmp_path / place / "a.png", curve())
            write_sheet(tmp_path / place / "b.png", page())
    for name in ("a.pdf", "b.pdf"):
        data = (tmp_path / "one" / name).read_bytes()
        assert b"/FontFile2" in data
        assert b"/Type3" not in data
        assert data == (tmp_path / "two" / name).read_bytes()
    width = round(page().width * 72 / 100, 3)
    assert f"/MediaBox [ 0 0 {width:g} ".encode() in (tmp_path / "one" / "b.pdf").read_bytes()


@pytest.mark.parametrize("dpi", [50, 150, 300])
def test_the_resolution_gives_the_size_in_pixels(tmp_path, dpi):
    with use_figure_options(FigureOptions(dpi=dpi)):
        curves = Image.open(write_figure(tmp_path / "a.png", curve()))
        maps = Image.open(write_sheet(tmp_path / "b.png", page()))
    assert curves.size == (3 * dpi, 2 * dpi)
    assert maps.size == (round(page().width * dpi / 100), round(page().height * dpi / 100))
    assert [round(value) for value in maps.info["dpi"]] == [dpi, dpi]


def test_pictures_in_a_sheet_keep_their_pixels_at_every_resolution():
    drawn = Page(80, 60)
    drawn.add_picture((11, 9), PICTURE)
    tripled = np.asarray(drawn.to_image(dpi=300))[27 : 27 + 3 * 37, 33 : 33 + 3 * 53]
    np.testing.assert_array_equal(tripled, PICTURE.repeat(3, axis=0).repeat(3, axis=1))


def test_the_figure_of_a_page_shows_what_its_bitmap_shows():
    drawn = page()
    buffer = io.BytesIO()
    drawn.to_figure().savefig(buffer, format="png", dpi=100)
    vector, bitmap = (np.asarray(image.convert("RGB")).astype(int) for image in (Image.open(buffer), drawn.to_image()))
    assert vector.shape == bitmap.shape
    found = [np.argwhere((image == PICTURE[5, 5]).all(axis=2)).tolist() for image in (vector, bitmap)]
    assert found[0] == found[1] != []
    inked = [(image.sum(axis=2) < 3 * 200).reshape(-1) for image in (vector, bitmap)]
    rows = [np.flatnonzero((image.sum(axis=2) < 300).any(axis=1)) for image in (vector, bitmap)]
    assert abs(rows[0][0] - rows[1][0]) <= 1, "the title stands at the same height"
    assert np.corrcoef(*inked)[0, 1] > 0.85


def test_options_end_with_their_block_also_after_an_error_and_do_not_reach_other_threads():
    seen = []

    def fail():
        with use_figure_options(FigureOptions(dpi=300)):
            thread = threading.Thread(target=lambda: seen.append(current_figure_options().dpi))
            thread.start()
            thread.join()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert seen == [None]
    assert current_figure_options() == FigureOptions()


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"format": "pgn"}, ["figures.format='pgn'", "nearest: 'png'"]),
        ({"format": "tiff"}, ["figures.format='tiff'", "'pdf'"]),
        ({"dpi": 10}, ["figures.dpi=10", "50"]),
        ({"dpi": "high"}, ["figures.dpi='high'", "integer"]),
        ({"dip": 300}, ["figures.dip", "nearest: 'dpi'"]),
    ],
)
def test_wrong_options_are_refused_with_the_nearest(options, facts):
    with pytest.raises(ConfigError) as error:
        parse_options(FigureOptions, options, where="figures")
    assert all(fact in str(error.value) for fact in facts), str(error.value)
