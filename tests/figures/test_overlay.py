import numpy as np
import pytest

from seewhy.errors import ConfigError
from seewhy.figures.overlay import COLORMAPS, draw_outline, grey, overlay
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
    picture = draw_outline(grey(IMAGE), mask)
    drawn = (picture == TRUTH).all(axis=2)
    edge = mask.copy()
    edge[11:14, 6:11] = False
    assert np.array_equal(drawn, edge)
    assert np.array_equal(picture[~edge], grey(IMAGE)[~edge])


def test_a_mask_that_fills_the_image_ends_at_its_border():
    drawn = (draw_outline(np.zeros((5, 6, 3), np.uint8), np.ones((5, 6))) == TRUTH).all(axis=2)
    assert drawn.sum() == 5 * 6 - 3 * 4


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


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.uint16])
def test_a_bright_outlier_does_not_darken_the_image(kind):
    tissue = np.random.default_rng(0).integers(100, 200, (64, 64)).astype(kind)
    spoilt = tissue.copy()
    spoilt[0, :4] = 30000
    change = np.abs(grey(spoilt).astype(int) - grey(tissue)).max(axis=2)
    change[0, :4] = 0
    assert change.max() <= 3
    assert grey(spoilt).std() > 60
    assert grey(spoilt)[0, :4].min() == 255


def test_an_image_of_almost_one_value_shows_the_rest():
    spot = np.zeros((64, 64), np.float32)
    spot[3, 3] = 5
    assert np.unique(grey(spot)).tolist() == [0, 255]
    assert grey(spot)[3, 3, 0] == 255


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"heat of shape \(3, 3\)"):
        overlay(IMAGE, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="must increase"):
        overlay(IMAGE, np.zeros((30, 20)), scale=(1, 1))
    with pytest.raises(ConfigError, match="'inferno'"):
        overlay(IMAGE, np.zeros((30, 20)), colormap="infreno")
