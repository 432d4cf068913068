import numpy as np
import pytest

from seewhy.data.transforms.augmentation import Augmentation, build_augmentation, center_crop
from seewhy.errors import ConfigError

STILL = {"flip": 0.0, "shift": 0.0, "scale": (1.0, 1.0), "gain": 0.0, "offset": 0.0}
PADDING = np.full((1, 1, 1), -9, np.float32)
IMAGE = np.random.default_rng(0).standard_normal((1, 20, 24)).astype(np.float32)


def augment(seed=0, *, size=None, image=IMAGE, **options):
    return Augmentation(**{**STILL, **options})(image, np.random.default_rng(seed), size=size, padding=PADDING)


def test_all_off_is_identity():
    np.testing.assert_array_equal(augment(), IMAGE)


def test_same_generator_same_picture():
    options = {"flip": 0.5, "flip_vertical": 0.5, "shift": 0.2, "scale": (0.5, 2), "gain": 0.2, "offset": 1, "noise": 1}
    first = augment(5, size=16, **options)
    assert first.shape == (1, 16, 16)
    assert first.dtype == np.float32
    assert first.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(first, augment(5, size=16, **options))
    assert not np.array_equal(first, augment(6, size=16, **options))


def test_mirrors():
    np.testing.assert_array_equal(augment(flip=1.0), IMAGE[:, :, ::-1])
    np.testing.assert_array_equal(augment(flip_vertical=1.0), IMAGE[:, ::-1])


def test_crop_is_a_window_of_the_image_and_every_place_is_drawn():
    places = set()
    for seed in range(300):
        out = augment(seed, size=18)
        found = [
            (top, left)
            for top in range(3)
            for left in range(7)
            if np.array_equal(out, IMAGE[:, top : top + 18, left : left + 18])
        ]
        assert len(found) == 1
        places.update(found)
    assert places == {(top, left) for top in range(3) for left in range(7)}


def test_image_smaller_than_the_crop_is_whole_and_padded():
    out = augment(3, size=32)
    inside = out != -9
    assert inside.sum() == IMAGE.size
    np.testing.assert_array_equal(out[inside], IMAGE.ravel())


def test_shift_moves_by_whole_pixels_and_pads():
    moved = [augment(seed, shift=0.1) for seed in range(60)]
    assert any(np.array_equal(out[:, 2:], IMAGE[:, :-2]) and (out[:, :2] == -9).all() for out in moved)
    assert all((out == -9).sum() <= 2 * 24 + 2 * 20 for out in moved)


def test_zoom_keeps_the_size_and_magnifies():
    y, x = np.mgrid[:64, :64]
    disc = (np.hypot(y - 31.5, x - 31.5) < 12).astype(np.float32)[None]
    zero = np.zeros((1, 1, 1), np.float32)
    for zoom in (0.5, 1.5):
        settings = Augmentation(**{**STILL, "scale": (zoom, zoom)})
        out = settings(disc, np.random.default_rng(0), size=None, padding=zero)
        assert out.shape == disc.shape
        if zoom < 1:  # all of the disc is inside
            assert out.sum() == pytest.approx(zoom**2 * disc.sum(), rel=0.05)


def test_rotation_turns_every_channel_alike_about_the_middle():
    y, x = np.mgrid[:48, :40] - np.array([23.5, 19.5])[:, None, None]
    spot = np.exp(-((y + 12) ** 2 + (x - 6) ** 2) / 8).astype(np.float32)
    image, zero = np.stack([spot, 2 * spot]), np.zeros((2, 1, 1), np.float32)
    settings = Augmentation(**{**STILL, "rotate": 30.0})
    angles = []
    for seed in range(20):
        out = settings(image, np.random.default_rng(seed), size=None, padding=zero)
        np.testing.assert_allclose(out[1], 2 * out[0], rtol=1e-5, atol=1e-6)
        place = (out[0] * y).sum() / out[0].sum(), (out[0] * x).sum() / out[0].sum()
        assert np.hypot(*place) == pytest.approx(np.hypot(12, 6), rel=0.02)  # it keeps its distance from the middle
        angles.append(np.degrees(np.arctan2(place[0], place[1]) - np.arctan2(-12, 6)))
    assert max(map(abs, angles)) <= 30.5
    assert min(angles) < -15
    assert max(angles) > 15


def test_rotation_fills_the_corners_with_the_padding_and_leaves_other_draws_alone():
    turned = augment(4, rotate=45.0, gain=0.0)
    assert turned.shape == IMAGE.shape
    assert turned[0, 0, 0] == pytest.approx(-9, abs=1e-4)
    np.testing.assert_array_equal(augment(4, rotate=0.0), augment(4))
    with pytest.raises(ConfigError, match=r"rotate=200 .*from 0 to 180"):
        Augmentation(rotate=200)


def test_gain_and_offset_stay_in_range():
    for seed in range(30):
        out = augment(seed, gain=0.1, offset=0.2)
        slope, offset = np.polyfit(IMAGE.ravel(), out.ravel(), 1)
        assert 0.9 <= slope <= 1.1
        assert -0.2001 <= offset <= 0.2001


def test_hidden_tiles_have_the_mean_of_their_channel_and_the_rest_stays():
    image = np.concatenate([IMAGE, 10 + 3 * IMAGE])
    mean = image.mean((1, 2))
    shares, starts = [], set()
    for seed in range(200):
        out = augment(seed, image=image, hide=0.3, hide_size=5)
        assert out.dtype == np.float32
        hidden = (out != image).any(0)
        np.testing.assert_array_equal(out[:, hidden], np.broadcast_to(mean[:, None], (2, hidden.sum())))
        np.testing.assert_array_equal(out[:, ~hidden], image[:, ~hidden])
        rows, columns = np.flatnonzero(np.diff(hidden.any(1))) + 1, np.flatnonzero(np.diff(hidden.any(0))) + 1
        assert len(set(rows % 5)) <= 1
        assert len(set(columns % 5)) <= 1
        starts.update((int(row % 5), -1) for row in rows)
        starts.update((-1, int(column % 5)) for column in columns)
        shares.append(hidden.mean())
    assert len(starts) == 10  # every place of the grid is drawn
    assert np.mean(shares) == pytest.approx(0.3, abs=0.03)


def test_hiding_leaves_the_other_draws_alone_and_its_options_are_checked():
    kept = augment(3, gain=0.2, noise=0.5, hide=0.2)
    plain = augment(3, gain=0.2, noise=0.5)
    assert (kept == plain).mean() > 0.5
    np.testing.assert_array_equal(augment(hide=1.0), np.full_like(IMAGE, IMAGE.mean()))
    with pytest.raises(ConfigError, match=r"hide=1\.5 .*from 0 to 1"):
        Augmentation(hide=1.5)
    with pytest.raises(ConfigError, match="hide_size=0"):
        Augmentation(hide_size=0)


def test_center_crop():
    np.testing.assert_array_equal(center_crop(IMAGE, size=10, padding=PADDING), IMAGE[:, 5:15, 7:17])
    out = center_crop(IMAGE, size=30, padding=PADDING)
    np.testing.assert_array_equal(out[:, 5:25, 3:27], IMAGE)
    assert (out == -9).sum() == 900 - IMAGE.size


def test_options_are_checked():
    assert build_augmentation(Augmentation, None) is None
    assert build_augmentation(Augmentation, {"scale": [0.5, 2]}) == Augmentation(scale=(0.5, 2.0))
    with pytest.raises(ConfigError, match=r"data\.augmentation\.flips`.*nearest: 'flip'"):
        build_augmentation(Augmentation, {"flips": 1})
    with pytest.raises(ConfigError, match=r"flip=2 .*from 0 to 1"):
        Augmentation(flip=2)
    with pytest.raises(ConfigError, match="two rising numbers"):
        Augmentation(scale=(2, 1))
