import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seewhy.data.transforms.normalization import IntensityNormalization, body_mask, channels_first, measure
from seewhy.errors import ConfigError, DataError


def head(noise=0.0, background=0.0, size=48):
    """A disc of textured tissue with a dark hole and a bright spot, and the disc itself."""
    y, x = np.mgrid[:size, :size] - size / 2 + 0.5
    disc = np.hypot(y, x) < 18
    rng = np.random.default_rng(0)
    image = np.where(disc, 100 + 8 * rng.standard_normal((size, size)), background)
    image[20:24, 14:18] = background
    image[28:34, 28:34] = 260
    if noise:
        image = image + np.abs(noise * rng.standard_normal((size, size)))
    return image.astype(np.float32)[None], disc


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (1, 4, 5), (4, 5, 3), (3, 4, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64, bool])
def test_every_layout_becomes_channels_first(shape, dtype):
    rng = np.random.default_rng(0)
    plane = rng.integers(0, 2, (4, 5)).astype(dtype)
    array = np.broadcast_to(plane[..., None] if shape[-1] in (1, 3) else plane, shape)
    for channels in (1, 3):
        image = channels_first(array, channels=channels, where="x.npy")
        assert image.shape == (channels, 4, 5)
        assert image.dtype == np.float32
        np.testing.assert_allclose(image, np.broadcast_to(plane.astype(np.float32), image.shape))


@pytest.mark.parametrize("shape", [(4,), (4, 5, 2), (2, 4, 5), (1, 1, 4, 5)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(DataError, match=r"x\.npy has shape"):
        channels_first(np.zeros(shape), channels=1, where="x.npy")


def test_values_become_finite():
    image = channels_first(np.array([[1.0, np.nan], [np.inf, -np.inf], [5, -2]]), channels=1, where="x.npy")
    np.testing.assert_array_equal(image[0], [[1, -2], [5, -2], [5, -2]])
    with pytest.raises(DataError, match=r"x\.npy holds values from -3e\+38 to 5"):
        channels_first(np.array([[1.0, np.nan], [-3e38, 5]]), channels=1, where="x.npy")
    with pytest.raises(DataError, match=r"x\.npy holds no finite value"):
        channels_first(np.full((2, 2), np.nan), channels=1, where="x.npy")


def test_zscore_is_zero_and_one_over_the_body():
    image, disc = head()
    disc = disc & (image[0] != 0)
    statistics = measure([image])
    out = IntensityNormalization("zscore")(image, statistics)[0]
    assert out[disc].mean() == pytest.approx(0, abs=1e-5)
    assert out[disc].std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("noise", "background"), [(0, 0), (0, 37), (6, 0)])
def test_robust_is_zero_and_one_by_median_and_deviation_and_marks_what_is_no_tissue(noise, background):
    image, disc = head(noise, background)
    statistics = measure([image])
    out = IntensityNormalization("robust")(image, statistics)[0]
    tissue = disc & (head(0, -1)[0][0] != -1)
    assert np.median(out[tissue]) == pytest.approx(0, abs=0.05)
    assert 1.4826 * np.median(np.abs(out[tissue])) == pytest.approx(1, abs=0.05)
    assert out.max() == 5, "the bright spot is 20 deviations away"
    assert np.mean(out[~disc] == -4) > 0.98


def test_a_bright_lesion_moves_robust_values_less_than_zscores():
    image, disc = head()
    lesion = image.copy()
    lesion[0, 12:24, 20:32] = 400
    elsewhere = disc & (lesion[0] == image[0]) & (image[0] > 0) & (image[0] < 250)
    moved = {}
    for kind in ("robust", "zscore"):
        before, after = (IntensityNormalization(kind)(x, measure([x]))[0][elsewhere] for x in (image, lesion))
        moved[kind] = np.abs(after - before).mean() / before.std()
    assert moved["robust"] < 0.3
    assert moved["zscore"] > 2 * moved["robust"]


@settings(max_examples=30, deadline=None)
@given(gain=st.floats(0.01, 100), offset=st.floats(-500, 500), kind=st.sampled_from(["robust", "zscore", "window"]))
def test_gain_and_offset_of_the_scanner_do_not_matter(gain, offset, kind):
    image, _ = head()
    changed = (image * np.float64(gain) + offset).astype(np.float32)
    normalization = IntensityNormalization(kind)
    expected = normalization(image, measure([image]))
    np.testing.assert_allclose(normalization(changed, measure([changed])), expected, atol=2e-2)
    np.testing.assert_array_equal(body_mask(changed, measure([changed])), body_mask(image, measure([image])))


@pytest.mark.parametrize("kind", ["robust", "zscore", "window", "imagenet"])
@pytest.mark.parametrize("value", [0.0, 7.0, -3.0])
def test_constant_slices_stay_finite(kind, value):
    image = np.full((3, 8, 8), value, np.float32)
    statistics = measure([image])
    out = IntensityNormalization(kind)(image, statistics)
    assert np.isfinite(out).all()
    assert np.ptp(out[0]) == 0
    assert body_mask(image, statistics).shape == (8, 8)


def test_imagenet_takes_bytes_as_they_are_and_stretches_the_rest():
    image = np.arange(256, dtype=np.float32).reshape(1, 16, 16).repeat(3, 0)
    out = IntensityNormalization("imagenet")(image, measure([image]))
    assert out[0, 0, 0] == pytest.approx(-123.675 / 58.395, rel=1e-5)
    assert out[2, -1, -1] == pytest.approx((255 - 103.53) / 57.375, rel=1e-5)
    raw = image * 10 + 1000
    stretched = IntensityNormalization("imagenet", percentiles=(0, 100))(raw, measure([raw], percentiles=(0, 100)))
    assert stretched[0].max() == pytest.approx((255 - 123.675) / 58.395, rel=1e-5)


def test_window_ends_at_the_percentiles():
    image, _ = head()
    normalization = IntensityNormalization("window", percentiles=(5, 95))
    out = normalization(image, measure([image], percentiles=(5, 95)))
    assert out.min() == 0
    assert out.max() == 1


@pytest.mark.parametrize(("noise", "background"), [(0, 0), (0, -122), (0, 37), (6, 0)])
def test_body_is_the_disc_with_its_holes_filled(noise, background):
    image, disc = head(noise, background)
    found = body_mask(image, measure([image]))
    overlap = 2 * (found & disc).sum() / (found.sum() + disc.sum())
    assert overlap == 1 if noise == 0 else overlap > 0.98


def test_body_drops_what_lies_apart():
    image, disc = head()
    image[0, :2, :2] = 90
    np.testing.assert_array_equal(body_mask(image, measure([image])), disc)


def test_body_of_an_empty_slice_is_empty():
    image, _ = head()
    assert not body_mask(np.zeros_like(image), measure([image, np.zeros_like(image)])).any()


def test_padding_is_normalised_background():
    image, _ = head(background=20)
    statistics = measure([image])
    normalization = IntensityNormalization("zscore")
    assert normalization.background(statistics, 1)[0, 0, 0] == normalization(image, statistics)[0, 0, 0]


@pytest.mark.parametrize(("options", "said"), [
    ({"kind": "zscores"}, "nearest: 'zscore'"),
    ({"over": "pateint"}, "nearest: 'patient'"),
    ({"percentiles": (99, 1)}, "must rise"),
])  # fmt: skip
def test_wrong_options(options, said):
    with pytest.raises(ConfigError, match=said):
        IntensityNormalization(**options)
