import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seewhy_run.arrays.slicing import (
    convert_intensities,
    find_background,
    find_value_range,
    measure_tissue_fraction,
)
from seewhy_run.errors import RunError

IMAGES = [np.arange(12, dtype=np.int16).reshape(3, 4) * 10 - 30, np.full((3, 4), -30, np.int16)]


def test_minmax_spans_the_volume_not_the_slice():
    limits = find_value_range(IMAGES, window="minmax", background=None)
    assert limits == (-30.0, 80.0)
    first = convert_intensities(IMAGES[0], limits, "float32")
    assert first.dtype == np.float32
    np.testing.assert_allclose(first, (IMAGES[0] + 30) / 110, atol=1e-7)
    assert not convert_intensities(IMAGES[1], limits, "float32").any()
    np.testing.assert_array_equal(
        convert_intensities(IMAGES[0], limits, "uint8"), np.rint((IMAGES[0] + 30) / 110 * 255)
    )


def test_percentiles_are_of_the_tissue_alone():
    rng = np.random.default_rng(0)
    image = np.zeros((100, 100))
    image[20:80, 20:80] = rng.normal(100, 10, (60, 60))
    expected = np.percentile(image[image != 0], (0.5, 99.5))
    np.testing.assert_allclose(find_value_range([image], window="percentile", background=0.0), expected)


@settings(max_examples=50)
@given(gain=st.floats(0.1, 10), offset=st.floats(-100, 100), window=st.sampled_from(["minmax", "percentile"]))
def test_windows_undo_gain_and_offset(gain, offset, window):
    images = [np.random.default_rng(0).normal(size=(8, 9))]
    changed = [image * gain + offset for image in images]
    before = convert_intensities(images[0], find_value_range(images, window=window, background=None), "float32")
    after = convert_intensities(changed[0], find_value_range(changed, window=window, background=None), "float32")
    np.testing.assert_allclose(before, after, atol=1e-5)
    assert before.min() >= 0
    assert before.max() <= 1


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "source"])
def test_none_keeps_values(dtype):
    image = np.arange(12, dtype=np.int16).reshape(3, 4)
    found = convert_intensities(image, find_value_range([image], window="none", background=None), dtype)
    np.testing.assert_array_equal(found, image)
    assert found.dtype == (np.int16 if dtype == "source" else dtype)


@pytest.mark.parametrize(
    ("image", "dtype"),
    [(np.array([[-1.0, 3]]), "uint8"), (np.array([[0, 256]]), "uint8"), (np.array([[0.5, 3]]), "uint8"),
     (np.array([[0.0, 1e5]]), "float16")],
)  # fmt: skip
def test_values_are_never_damaged_silently(image, dtype):
    with pytest.raises(RunError, match=dtype):
        convert_intensities(image, None, dtype)


def test_a_volume_of_one_value_has_no_range():
    with pytest.raises(RunError, match="7"):
        find_value_range([np.full((3, 3), 7)], window="minmax", background=None)
    with pytest.raises(RunError, match="percentile"):
        find_value_range([np.full((3, 3), 7)], window="percentile", background=7.0)


def test_background():
    image = np.full((10, 10), -54)
    image[3:6, 3:6] = 9
    assert find_background([image]) == -54
    assert measure_tissue_fraction(image, -54) == 0.09
    noise = np.random.default_rng(0).normal(size=(10, 10))
    assert find_background([noise]) is None
    assert measure_tissue_fraction(noise, None) == 1.0
