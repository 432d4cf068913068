"""Sheets of images with their maps below."""

import numpy as np
import pytest

from seewhy.figures.explanations.map_sheet import map_sheet
from seewhy.figures.style import blank_figure

IMAGE = np.tile(np.linspace(0, 1, 20), (20, 1))
HEAT = np.zeros((20, 20))
HEAT[2:6, 2:6] = 1.0


def pixels(page):
    return np.asarray(page.to_image()).astype(int)


def find_pictures(page):
    return [item.picture.astype(int) for item in page._items if hasattr(item, "picture")]


def texts(page):
    return " ".join(item.text for item in page._items if hasattr(item, "text"))


def test_each_row_has_its_own_scale_which_is_printed():
    page = map_sheet({"A": IMAGE, "B": IMAGE}, {"grad_cam": [HEAT, HEAT / 2], "saliency": [100 * HEAT, 50 * HEAT]})
    one, half, large, large_half = find_pictures(page)[2:]
    np.testing.assert_array_equal(one, large)
    np.testing.assert_array_equal(half, large_half)
    assert (one != half).any()
    assert "Grad-CAM" in texts(page)
    assert "full colour: 1e+02" in texts(page)


def test_negative_values_are_blue_and_the_label_shows_both_signs():
    page = map_sheet({"A": np.zeros((20, 20))}, {"saliency": [HEAT - HEAT.T[::-1]]})
    picture = find_pictures(page)[1]
    red, blue = picture[20, 20], picture[-20, 20]
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert "±1" in texts(page)


def test_annotations_failures_and_phantoms_are_marked():
    plain = map_sheet({"A": IMAGE}, {"grad_cam": [HEAT]})
    page = map_sheet({"A": IMAGE}, {"grad_cam": [HEAT]}, masks=[HEAT > 0], failed={"grad_cam": "fails"}, phantom=True)
    assert any((picture == (0, 229, 255)).all(-1).any() for picture in find_pictures(page))
    assert "cyan: annotation" in texts(page)
    assert "cyan" not in texts(plain)
    assert "Grad-CAM: fails" in texts(page)
    assert "phantom data" in texts(page)
    assert pixels(page).shape[0] > pixels(plain).shape[0]


def test_images_in_one_window_can_be_compared():
    dark, bright = find_pictures(map_sheet({"A": IMAGE / 2, "B": IMAGE}, window=(0, 1)))
    assert dark.max() < 0.6 * bright.max()
    dark, bright = find_pictures(map_sheet({"A": IMAGE / 2, "B": IMAGE}))
    np.testing.assert_array_equal(dark, bright)


def test_counts_that_differ_are_an_error():
    with pytest.raises(ValueError, match="1 maps of grad_cam, 3 masks for 2 images"):
        map_sheet({"A": IMAGE, "B": IMAGE}, {"grad_cam": [HEAT]}, masks=[None] * 3)


def test_a_figure_shows_itself_in_a_notebook():
    assert blank_figure(1, 1)._repr_png_().startswith(b"\x89PNG")
