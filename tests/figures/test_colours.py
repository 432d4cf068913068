import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seewhy.errors import ConfigError
from seewhy.figures.colours import COLORMAPS, DIVERGING, NOTHING, apply_colormap, colour_table, run_scale
from seewhy.figures.overlay import STRONGEST, grey, overlay

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 255, (30, 20)).astype(np.uint8)


def lab(rgb):
    """CIELAB (D65) of [n, 3] colours from 0 to 255, written from CIE 15 and independent of OKLab."""
    share = np.asarray(rgb, float) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def test_the_ends_of_the_scale_have_the_first_and_last_colour_and_zero_is_white():
    for name in (*COLORMAPS, DIVERGING):
        ends = apply_colormap(np.array([[-0.3, 0.3, -9.0, 9.0]]), scale=(-0.3, 0.3), colormap=name)[0]
        first, last = (np.floor(colour_table(name)[[0, -1]] + 0.5)).astype(np.uint8)
        assert ends.tolist() == [first.tolist(), last.tolist(), first.tolist(), last.tolist()]
    assert apply_colormap(np.zeros((1, 1)), scale=(-5, 5), colormap=DIVERGING).tolist() == [[[255, 255, 255]]]


def test_negative_is_blue_and_positive_is_red_and_both_are_equally_strong():
    table = colour_table(DIVERGING)
    assert len(table) == 257
    below, above = table[:128][::-1], table[129:]
    assert (below[:, 2] > below[:, 0]).all()
    assert (above[:, 0] > above[:, 2]).all()
    lightness = lab(table)[:, 0]
    assert (np.diff(lightness[:129]) > 0).all()
    assert (np.diff(lightness[128:]) < 0).all()
    assert np.abs(lightness[:128][::-1] - lightness[129:]).max() < 10


def test_equal_steps_of_value_are_nearly_equal_steps_of_colour():
    # Of matplotlib's own: bwr 2.7, seismic 3.7, viridis 2.1.
    step = np.linalg.norm(np.diff(lab(colour_table(DIVERGING)[::16]), axis=0), axis=1)
    assert step.max() / step.min() < 1.5


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_the_same_value_has_the_same_colour_in_every_map(value, other):
    one, two = np.array([[value, other]]), np.array([[0.1], [value]])
    for name, scale in (("inferno", (0.0, 1.0)), (DIVERGING, (-1.0, 1.0))):
        first = apply_colormap(one, scale=scale, colormap=name)[0, 0]
        assert first.tolist() == apply_colormap(two, scale=scale, colormap=name)[1, 0].tolist()


def test_what_is_not_a_number_is_neither_low_nor_high():
    assert apply_colormap(np.array([[np.nan]]), scale=(0, 1)).tolist() == [[list(NOTHING)]]
    table = colour_table(DIVERGING)
    assert np.abs(table - np.array(NOTHING)).max(axis=1).min() > 8


def test_a_signed_overlay_leaves_zero_alone_and_blends_both_ends():
    assert np.array_equal(overlay(IMAGE, np.zeros((30, 20)), scale=(-2, 2), colormap=DIVERGING), grey(IMAGE))
    assert np.array_equal(overlay(IMAGE, np.full((30, 20), np.nan), scale=(-2, 2), colormap=DIVERGING), grey(IMAGE))
    for end, index in ((-2.0, 0), (2.0, -1)):
        expected = grey(IMAGE) * (1 - STRONGEST) + colour_table(DIVERGING)[index] * STRONGEST
        shown = overlay(IMAGE, np.full((30, 20), end), scale=(-2, 2), colormap=DIVERGING)
        assert np.abs(shown - expected).max() <= 0.51


def test_a_signed_scale_must_be_symmetric():
    with pytest.raises(ValueError, match="symmetric"):
        overlay(IMAGE, np.zeros((30, 20)), scale=(-1, 2), colormap=DIVERGING)
    with pytest.raises(ConfigError, match="blue_white_red"):
        colour_table("blue_white_rad")


def test_the_scale_of_a_run_is_the_percentile_of_all_its_maps_together():
    maps = [RNG.normal(size=(40, 50)), 3 * RNG.normal(size=(20, 10))]
    expected = np.percentile(np.abs(np.concatenate([m.ravel() for m in maps])), 99.5)
    (low, high), text = run_scale(iter(maps), signed=True)
    assert (low, high) == pytest.approx((-expected, expected), rel=1e-5)
    assert text == "full colour: 99.5th percentile of |value|, 2 maps of the run"
    assert run_scale(maps, signed=False)[0] == (0.0, high)


def test_one_wild_voxel_does_not_stretch_the_scale_and_large_volumes_are_sampled():
    volume = np.abs(RNG.normal(size=(30, 100, 100))).astype(np.float32)
    (_, high), _ = run_scale([volume], signed=False)
    volume[3, 4, 5], volume[0, 0, 0] = 1e9, np.nan
    (_, spoilt), _ = run_scale([volume], signed=False)
    assert spoilt == pytest.approx(high, rel=1e-3)
    assert high == pytest.approx(np.percentile(volume[np.isfinite(volume)], 99.5), rel=0.03)


def test_sparse_and_empty_maps_have_a_scale_that_says_so():
    spot = np.zeros((100, 100))
    spot[3, 3] = 0.25
    assert run_scale([spot], signed=False) == ((0.0, 0.25), "full colour: largest |value|, 1 map of the run")
    scale, text = run_scale([np.zeros((4, 4))] * 2, signed=True)
    assert scale == (-1.0, 1.0)
    assert text == "all of 2 maps of the run are zero"
