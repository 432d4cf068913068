import numpy as np
import pytest

from seewhy.figures.colours import COLORMAPS, DIVERGING, colour_table
from seewhy.figures.page import Page, font
from seewhy.figures.sheet import AMBER, FRAME, Bar, Cell, hatch_pattern, sheet, wrap_text, write_sheet

RNG = np.random.default_rng(0)


def noise(height, width):
    return RNG.integers(1, 250, (height, width, 3)).astype(np.uint8)


def places(page, picture):
    """Upper left corners at which the picture stands in the page, pixel by pixel."""
    pixels = np.asarray(page)
    height, width = picture.shape[:2]
    rows, columns = np.nonzero((pixels == picture[0, 0]).all(axis=2))
    return [
        (int(r), int(c))
        for r, c in zip(rows, columns, strict=True)
        if np.array_equal(pixels[r : r + height, c : c + width], picture)
    ]


def amber(page):
    return int((np.asarray(page) == AMBER).all(axis=2).sum())


@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_every_picture_is_there_once_and_whole_whatever_the_sizes(count):
    rows = [[Cell(picture=noise(20 + 7 * i, 40 + 5 * i), name=f"in {i}") for i in range(count)] for _ in range(2)]
    page = sheet(rows, title="t " * 200, warnings=["w " * 90], bar=Bar(scale=(0, 1)), foot="f " * 200).to_image()
    found = [places(page, cell.picture) for row in rows for cell in row]
    assert [len(own) for own in found] == [1] * (2 * count)
    tops = [own[0][0] for own in found]
    assert len(set(tops[:count])) == len(set(tops[count:])) == 1
    lefts = [own[0][1] for own in found]
    assert lefts[:count] == lefts[count:] == sorted(lefts[:count])


def test_the_bar_runs_through_all_colours_with_the_highest_above():
    for name in (*COLORMAPS, DIVERGING):
        cell = np.full((220, 100, 3), 90, np.uint8)
        pixels = np.asarray(sheet([[Cell(picture=cell)]], bar=Bar(scale=(-1, 1), colormap=name)).to_image()).reshape(
            -1, 3
        )
        ends = [(colour_table(name)[i] + 0.5).astype(np.uint8) for i in (-2, 1)]
        first = [np.flatnonzero((pixels == end).all(axis=1)) for end in ends]
        assert all(len(own) for own in first), name
        assert first[0][0] < first[1][0]


def test_a_marked_cell_has_a_hatched_frame_outside_its_pixels_and_others_have_none():
    left, right = noise(40, 60), noise(40, 60)
    page = sheet([[Cell(picture=left), Cell(picture=right, marked=True)]]).to_image()
    ((top, x),) = places(page, right)
    ((_, x0),) = places(page, left)
    pixels = np.asarray(page)
    frame = pixels[top - FRAME : top + 40 + FRAME, x - FRAME : x + 60 + FRAME].copy()
    expected = hatch_pattern(40 + 2 * FRAME, 60 + 2 * FRAME)
    expected[FRAME:-FRAME, FRAME:-FRAME] = right
    assert np.array_equal(frame, expected)
    assert amber(page.crop((0, 0, x0 + 60 + 1, page.height))) == 0


def test_a_warning_is_a_banner_and_its_absence_is_not():
    cell = Cell(picture=noise(40, 60))
    calm, warned, twice = (sheet([[cell]], warnings=["completeness error 38 %"] * n).to_image() for n in (0, 1, 2))
    assert amber(calm) == 0
    assert 0 < amber(warned) < amber(twice)
    assert calm.height < warned.height < twice.height


def test_long_labels_make_their_row_higher_and_do_not_reach_the_next():
    cells = [[Cell(picture=noise(30, 60))] for _ in range(2)]
    page = sheet(cells, labels=["id\n" + "a long story " * 30, "next"]).to_image()
    ((first, _),) = places(page, cells[0][0].picture)
    ((second, _),) = places(page, cells[1][0].picture)
    assert second - first > 200
    left = np.asarray(page)[first + 220 : second - 1, :200]
    assert left[-10:].min() == 255


@pytest.mark.parametrize("text", ["one two three " * 20, "case002_with_a_very_long_identifier_" * 4, "x" * 300])
def test_no_line_is_wider_than_the_page_and_no_letter_is_lost(text):
    face = font(12)
    lines = wrap_text(text, face, 150)
    assert max(face.getlength(line) for line in lines) <= 150
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_a_long_id_is_broken_after_a_separator():
    assert wrap_text("subject_number_one_of_many", font(12), 100)[0].endswith("_")
    assert wrap_text("", font(12), 100) == []


def test_all_signs_that_the_pictures_use_have_a_letter():
    nothing = font(12).getmask("\uffff")
    for sign in "≥≤⚠·–−→←%|×µ":  # noqa: RUF001
        mask = font(12).getmask(sign)
        assert (mask.size, bytes(mask)) != (nothing.size, bytes(nothing)), sign


def test_a_page_without_pictures_is_an_error():
    with pytest.raises(ValueError, match="at least one cell"):
        sheet([[]])


def test_a_failed_write_leaves_the_old_page(tmp_path):
    path = write_sheet(tmp_path / "a" / "x.png", sheet([[Cell(picture=noise(4, 4))]]))
    before = path.read_bytes()

    class Broken(Page):
        def to_image(self, **_):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_sheet(path, Broken(4, 4))
    assert [p.name for p in path.parent.iterdir()] == ["x.png"]
    assert path.read_bytes() == before
