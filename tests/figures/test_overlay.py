import numpy as np
import pytest
from PIL import Image

from seewhy.errors import ConfigError
from seewhy.figures.overlay import COLORMAPS, boundary, grey, overlay, write_overlay
from seewhy.figures.style import TRUTH

IMAGE = np.random.default_rng(0).integers(0, 255, (30, 20)).astype(np.uint8)


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_no_heat_is_the_image_itself(colormap):
    assert np.array_equal(overlay(IMAGE, np.zeros((30, 20)), colormap=colormap), grey(IMAGE))


def test_full_heat_changes_every_pixel_and_more_heat_changes_more():
    base = np.full((30, 20), 40, np.uint8)
    change = [np.abs(overlay(base, np.full((30, 20), level)).astype(int) - 40).mean() for level in (0.0, 0.3, 0.6, 1.0)]
    assert change == sorted(change)
    assert change[0] == 0 < change[1]


def test_values_outside_the_scale_are_clipped():
    heat = np.linspace(-3, 3, 600).reshape(30, 20)
    assert np.array_equal(overlay(IMAGE, heat), overlay(IMAGE, heat.clip(0, 1)))
    assert np.array_equal(overlay(IMAGE, heat, scale=(-1, 2)), overlay(IMAGE, (heat.clip(-1, 2) + 1) / 3))


def test_the_scale_is_common_and_not_taken_from_the_map():
    weak, strong = np.zeros((30, 20)), np.zeros((30, 20))
    weak[5, 5], strong[5, 5] = 0.2, 1.0
    assert not np.array_equal(overlay(IMAGE, weak), overlay(IMAGE, strong))


def test_heat_that_is_not_a_number_is_no_heat():
    assert np.array_equal(overlay(IMAGE, np.full((30, 20), np.nan)), grey(IMAGE))


def test_the_contour_is_the_edge_of_the_mask_and_nothing_else():
    mask = np.zeros((30, 20), bool)
    mask[10:15, 5:12] = True
    picture = overlay(IMAGE, np.zeros((30, 20)), mask=mask)
    drawn = (picture == TRUTH).all(axis=2)
    edge = mask.copy()
    edge[11:14, 6:11] = False
    assert np.array_equal(drawn, edge)
    assert np.array_equal(picture[~edge], grey(IMAGE)[~edge])


def test_a_mask_that_fills_the_image_ends_at_its_border():
    edge = boundary(np.ones((5, 6), bool))
    assert edge.sum() == 5 * 6 - 3 * 4


def test_grey_of_every_kind_of_image():
    floats = np.array([[-2.0, 0.0], [np.nan, 2.0]], np.float32)
    assert grey(floats)[:, :, 0].tolist() == [[0, 128], [0, 255]]
    assert grey(floats, window=(0, 4))[:, :, 0].tolist() == [[0, 0], [0, 128]]
    assert np.array_equal(grey(IMAGE[:, :, None]), grey(IMAGE))
    colour = np.random.default_rng(1).integers(0, 255, (4, 5, 3)).astype(np.uint8)
    assert np.array_equal(grey(colour), colour)
    assert grey(np.full((3, 3), 7.0)).max() == 0
    with pytest.raises(ValueError, match=r"\(2, 3, 4\)"):
        grey(np.zeros((2, 3, 4)))


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"heat of shape \(3, 3\)"):
        overlay(IMAGE, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="must increase"):
        overlay(IMAGE, np.zeros((30, 20)), scale=(1, 1))
    with pytest.raises(ConfigError, match="'inferno'"):
        overlay(IMAGE, np.zeros((30, 20)), colormap="infreno")


def test_written_picture_holds_the_enlarged_overlay_title_and_bar(tmp_path):
    heat, mask = np.zeros((30, 20)), np.zeros((30, 20))
    heat[5:10, 5:10] = mask[5:10, 5:10] = 1.0
    path = write_overlay(tmp_path / "a" / "x.png", IMAGE, heat, title="BRATS_001_70 p = 0.93", mask=mask, side=100)
    picture = np.asarray(Image.open(path))
    assert [p.name for p in path.parent.iterdir()] == ["x.png"]
    assert picture.shape[2] == 3
    bare = np.asarray(Image.open(write_overlay(tmp_path / "y.png", IMAGE, heat, side=100)))
    assert picture.shape[0] > bare.shape[0] >= 30 * 5
    assert picture.shape[1] == bare.shape[1] > 20 * 5
    assert (picture == TRUTH).all(axis=2).any()
    assert not (bare == TRUTH).all(axis=2).any()
    title = picture[: picture.shape[0] - bare.shape[0]]
    assert (title < 100).any()


def test_a_long_title_is_wrapped_and_stays_inside(tmp_path):
    heat = np.zeros((30, 20))
    sizes = [
        np.asarray(Image.open(write_overlay(tmp_path / f"{n}.png", IMAGE, heat, title="word " * n, side=100))).shape
        for n in (2, 40)
    ]
    assert sizes[1][0] > sizes[0][0]
    assert sizes[1][1] == sizes[0][1]
