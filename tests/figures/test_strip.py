import numpy as np
import pytest
from PIL import Image

from seewhy.figures.overlay import GAP, grey, overlay, strip, write_strip
from seewhy.figures.style import TRUTH

IMAGE = np.random.default_rng(0).integers(0, 255, (30, 20)).astype(np.uint8)
MASK = np.zeros((30, 20), np.uint8)
MASK[10:15, 5:12] = 1
HEAT = MASK * np.float32(0.8)


def cells(picture, count):
    width = (picture.shape[1] - (count - 1) * GAP) // count
    return [picture[:, i * (width + GAP) : i * (width + GAP) + width] for i in range(count)]


def test_cells_are_the_image_and_one_overlay_per_map_with_white_between():
    picture = strip(IMAGE, {"cam": HEAT, "refined": HEAT * 0}, side=20)
    first, cam, refined = cells(picture, 3)
    assert picture.shape == (30, 3 * 20 + 2 * GAP, 3)
    np.testing.assert_array_equal(first, grey(IMAGE))
    np.testing.assert_array_equal(cam, overlay(IMAGE, HEAT))
    np.testing.assert_array_equal(refined, grey(IMAGE))
    assert (picture[:, 20 : 20 + GAP] == 255).all()


def test_the_true_outline_is_drawn_on_the_image_alone():
    first, cam = cells(strip(IMAGE, {"cam": HEAT}, mask=MASK, side=20), 2)
    edge = MASK.astype(bool)
    edge[11:14, 6:11] = False
    np.testing.assert_array_equal((first == TRUTH).all(axis=2), edge)
    np.testing.assert_array_equal(cam, overlay(IMAGE, HEAT))


def test_small_images_are_enlarged_by_a_whole_factor_and_large_ones_left():
    assert strip(IMAGE, {}, side=100).shape == (150, 100, 3)
    assert strip(IMAGE, {}, side=8).shape == (30, 20, 3)
    enlarged = strip(IMAGE * 0, {}, mask=MASK, side=40)
    outline = (enlarged == TRUTH).all(axis=2)
    rows, columns = np.nonzero(outline)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (20, 30, 10, 24)


def test_the_scale_ends_at_1_for_all_maps():
    above = strip(IMAGE, {"cam": 2 * MASK.astype(np.float32)}, side=20)
    full = strip(IMAGE, {"cam": MASK.astype(np.float32)}, side=20)
    np.testing.assert_array_equal(above, full)
    assert (strip(IMAGE, {"cam": HEAT}, side=20) != full).any()


def test_a_written_strip_has_its_pictures_names_title_and_bar(tmp_path):
    path = write_strip(tmp_path / "a" / "x.png", IMAGE, {"cam": HEAT}, title="BRATS_001_70", mask=MASK, side=120)
    written = np.asarray(Image.open(path))
    first, cam = cells(strip(IMAGE, {"cam": HEAT}, mask=MASK, side=120), 2)
    height, width = first.shape[:2]
    assert [p.name for p in path.parent.iterdir()] == ["x.png"]
    windows = np.lib.stride_tricks.sliding_window_view(written, (1, width, 3))[:, :, 0, 0]
    middle = height // 2  # a row in which the map is not empty
    places = [np.argwhere((windows == picture[middle]).all(axis=(2, 3))) for picture in (first, cam)]
    (top, left), (other_top, other_left) = (own[0] - (middle, 0) for own in places)
    assert top == other_top
    assert other_left > left + width
    for picture, x in ((first, left), (cam, other_left)):
        np.testing.assert_array_equal(written[top : top + height, x : x + width], picture)
        assert (written[top - 16 : top - 2, x : x + width] < 100).any(), "no name above"
    assert (written[: top - 30] < 100).any(), "no title"
    assert (written[top + height + 8 :] < 130).any(), "no small print on the outline"


@pytest.mark.parametrize("words", [2, 60])
def test_a_long_title_is_wrapped_and_stays_inside(tmp_path, words):
    short = np.asarray(Image.open(write_strip(tmp_path / "s.png", IMAGE, {}, title="x", side=100)))
    page = np.asarray(Image.open(write_strip(tmp_path / "l.png", IMAGE, {}, title="word " * words, side=100)))
    assert page.shape[1] == short.shape[1]
    assert (page.shape[0] > short.shape[0]) == (words == 60)
    assert (page[:, -4:] == 255).all()


def test_a_distrusted_map_is_marked_and_the_reason_is_in_a_banner(tmp_path):
    doubts = {"cam": ["the map covers half of the body"], "other": []}
    maps = {"cam": HEAT, "other": HEAT}
    clean, marked = (
        np.asarray(Image.open(write_strip(tmp_path / f"{number}.png", IMAGE, maps, title="x", doubts=found)))
        for number, found in enumerate(({}, doubts))
    )
    assert marked.shape[0] > clean.shape[0], "the banner takes space"
    phantom = np.asarray(Image.open(write_strip(tmp_path / "p.png", IMAGE, maps, title="x", phantom=True)))
    assert not np.array_equal(phantom, clean), "the title says that the data are phantoms"
