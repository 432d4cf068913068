import numpy as np
import pytest
from scipy import ndimage

from seewhy.data.transforms.augmentation import VolumeAugmentation, build_augmentation
from seewhy.errors import ConfigError

STILL = {"shift": 0, "shift_slices": 0, "rotate": 0, "scale": (1, 1), "gain": 0, "offset": 0}


@pytest.fixture(scope="module")
def volume():
    return np.random.default_rng(0).standard_normal((5, 12, 16)).astype(np.float32)


def augment(volume, seed=0, left_right=2, padding=0.0, **options):
    rng = np.random.default_rng(seed)
    return VolumeAugmentation(**{**STILL, **options})(volume, rng, padding=padding, left_right=left_right)


def blob(shape, centre):
    at = np.indices(shape)
    return np.exp(-sum((a - c) ** 2 for a, c in zip(at, centre, strict=True)) / 4).astype(np.float32)


def test_nothing_switched_on_changes_nothing(volume):
    np.testing.assert_array_equal(augment(volume), volume)


def test_the_same_draw_is_the_same_volume_and_the_input_stays(volume):
    before = volume.copy()
    options = {"rotate": 9, "shift": 0.1, "shift_slices": 2, "scale": (0.8, 1.2), "gain": 0.2, "noise": 0.1}
    one, same, other = (augment(volume, seed, **options) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(volume, before)
    frozen = volume.copy()
    frozen.setflags(write=False)
    np.testing.assert_array_equal(augment(frozen, 3, **options), one)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_left_and_right_are_mirrored_on_their_own_axis(volume, axis):
    np.testing.assert_array_equal(augment(volume, flip=1.0, left_right=axis), np.flip(volume, axis))
    np.testing.assert_array_equal(augment(volume, flip=1.0, left_right=None), volume)


def test_the_side_is_kept_unless_asked_otherwise(volume):
    assert VolumeAugmentation().flip == 0
    heavy = np.zeros_like(volume)
    heavy[..., 12:] = 1
    for seed in range(20):
        moved = VolumeAugmentation()(heavy, np.random.default_rng(seed), padding=0, left_right=2)
        assert moved[..., 8:].mean() > moved[..., :8].mean() + 0.2


def test_slices_move_whole(volume):
    seen = set()
    for seed in range(30):
        moved = augment(volume, seed, shift_slices=2, padding=-9.0)
        expected = {
            shift: np.concatenate([np.full((max(shift, 0), 12, 16), -9.0), volume, np.full((4, 12, 16), -9.0)])
            for shift in range(-2, 3)
        }
        hits = [s for s, e in expected.items() if np.array_equal(moved, e[max(-s, 0) :][:5])]
        assert len(hits) == 1
        seen.update(hits)
    assert seen == {-2, -1, 0, 1, 2}


def test_a_turn_is_a_turn_in_slices_that_are_no_square():
    centre = np.array([9.5, 19.5])
    start = np.array([9.5, 27.5])
    volume = blob((20, 40), start)[None].repeat(3, 0)
    for seed in range(6):
        moved = augment(volume, seed, rotate=40)
        angle = np.deg2rad(40 * (2 * np.random.default_rng(seed).random(8)[3] - 1))
        found = np.array(ndimage.center_of_mass(moved[1])) - centre
        assert np.hypot(*found) == pytest.approx(8, abs=0.15)
        assert abs(np.arctan2(found[0], found[1])) == pytest.approx(abs(angle), abs=0.03)
        np.testing.assert_array_equal(moved[0], moved[2])


def test_a_zoom_and_a_shift_move_as_far_as_they_say():
    volume = blob((24, 40), (11.5, 25.5))[None]
    for seed in range(5):
        u = np.random.default_rng(seed).random(8)
        zoom = 0.8 * (1.25 / 0.8) ** u[2]
        found = ndimage.center_of_mass(augment(volume, seed, scale=(0.8, 1.25))[0])
        np.testing.assert_allclose(found, [11.5, 19.5 + 6 * zoom], atol=0.1)
        columns, rows = 0.1 * 40 * (2 * u[4] - 1), 0.1 * 24 * (2 * u[5] - 1)
        found = ndimage.center_of_mass(augment(volume, seed, shift=0.1)[0])
        np.testing.assert_allclose(found, [11.5 + rows, 25.5 + columns], atol=0.1)


def test_what_comes_from_outside_is_padding(volume):
    moved = augment(np.full_like(volume, 5), 1, scale=(0.5, 0.5), padding=-4.0)
    assert set(np.round(moved[:, [0, -1]].ravel(), 4)) == {-4.0}
    np.testing.assert_allclose(moved[:, 5:7, 7:9], 5, atol=1e-5)


def test_intensities_change_within_their_limits(volume):
    for seed in range(5):
        moved = augment(volume, seed, gain=0.2, offset=0.3)
        gain, offset = np.polyfit(volume.ravel(), moved.ravel(), 1)
        assert abs(gain - 1) <= 0.2
        assert abs(offset) <= 0.3
    noise = augment(volume, noise=0.5) - volume
    assert noise.std() == pytest.approx(0.5, rel=0.1)


def test_options_are_checked():
    with pytest.raises(ConfigError, match=r"data\.augmentation\.rotation`.*nearest: 'rotate'"):
        build_augmentation(VolumeAugmentation, {"rotation": 3})
    with pytest.raises(ConfigError) as caught:
        build_augmentation(VolumeAugmentation, {"flip": 2, "noise": -1, "scale": [1.2, 0.8]})
    for name in ("flip", "noise", "scale"):
        assert f"data.augmentation.{name}" in str(caught.value)
    assert build_augmentation(VolumeAugmentation, None) is None
    assert build_augmentation(VolumeAugmentation, {"scale": [0.9, 1.1]}).scale == (0.9, 1.1)
