"""The pre-pass over a volume, and what is made of it."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seewhy.errors import ConfigError, DataError
from seewhy.io.zarr.mapped import ArraySource
from seewhy.volumes import statistics
from seewhy.volumes.normalization import ChannelNormalization
from seewhy.volumes.statistics import measure

ALL = {"nonzero": None, "percentiles": [(0, 0.5, 37.3, 99.5, 100)] * 2}


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few voxels, so that a small volume takes many."""
    monkeypatch.setattr(statistics, "VOXELS_AT_A_TIME", 500)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
def test_equal_to_numpy(small_blocks, dtype):
    draw = np.random.default_rng(0)
    values = draw.normal(40, 30, (2, 17, 12, 11)) - (0 if dtype.startswith("u") else 60)
    volume = values.clip(0 if dtype.startswith("u") else -300, 250).astype(dtype)
    found = measure(ArraySource(volume), **ALL)
    assert json.loads(json.dumps(found)) == found
    for channel, record in zip(volume, found["channels"], strict=True):
        exact = channel.astype(np.float64)
        assert record["count"] == channel.size
        assert record["mean"] == pytest.approx(exact.mean(), rel=1e-12)
        assert record["std"] == pytest.approx(exact.std(), rel=1e-12)
        assert (record["min"], record["max"]) == (exact.min(), exact.max())
        expected = np.percentile(channel.astype(np.float32).astype(np.float64), ALL["percentiles"][0])
        assert record["percentiles"] == pytest.approx(expected.tolist(), rel=1e-12, abs=1e-12)


def test_only_voxels_that_are_not_zero_count(small_blocks):
    draw = np.random.default_rng(1)
    volume = draw.integers(0, 3, (2, 9, 8, 7)).astype(np.float32)
    inside = (volume != 0).any(0)
    found = measure(ArraySource(volume), nonzero=[True, False])
    assert found["channels"][0]["mean"] == pytest.approx(volume[0][inside].mean(dtype=np.float64))
    assert found["channels"][1]["mean"] == pytest.approx(volume[1].mean(dtype=np.float64))


def test_a_border_of_zeros_counts_no_more_than_for_nnunet(small_blocks):
    """`crop_to_nonzero` cuts to the box of what is not 0 in any channel; zeros inside of it stay."""
    draw = np.random.default_rng(4)
    volume = np.zeros((2, 40, 36, 33), dtype=np.float32)
    volume[0, 9:25, 4:20, 10:26] = draw.normal(500, 50, (16, 16, 16))
    volume[0, 12:15, 8:12, 13:20] = 0
    volume[1, 20:31, 10:12, 11:13] = 7
    box = volume[:, 9:31, 4:20, 10:26].astype(np.float64)
    found = measure(ArraySource(volume), nonzero=["box", "box"])["channels"]
    for channel, record in zip(box, found, strict=True):
        assert record["count"] == channel.size
        assert record["mean"] == pytest.approx(channel.mean(), rel=1e-12)
        assert record["std"] == pytest.approx(channel.std(), rel=1e-12)
        assert (record["min"], record["max"]) == (channel.min(), channel.max())
    full = measure(ArraySource(box[:1, :16, :, :]), nonzero=["box"])["channels"][0]
    assert full["mean"] == pytest.approx(box[0, :16].mean(), rel=1e-12)
    with pytest.raises(DataError, match="all voxels of channel 0 are 0"):
        measure(ArraySource(np.zeros((1, 4, 4, 4))), nonzero=["box"])


def test_a_box_changes_the_statistics_alone():
    volume = np.zeros((1, 8, 8, 8), dtype=np.float32)
    volume[:, 2:6, 2:6, 2:6] = np.random.default_rng(5).normal(500, 50, (4, 4, 4))
    inside = volume[:, 2:6, 2:6, 2:6].astype(np.float64)
    out = normalised(volume, {"scheme": "zscore", "nonzero": "box"})
    assert np.allclose(out, (volume - inside.mean()) / inside.std(), atol=1e-5)
    out = normalised(volume, {"scheme": "rescale", "nonzero": "box"})
    assert np.allclose(out, (volume - inside.min()) / np.ptp(inside), atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False), min_size=1, max_size=40),
    st.floats(0, 100),
)
def test_percentiles_of_any_floats(values, percentile):
    volume = np.array(values, dtype=np.float32).reshape(1, -1, 1, 1)
    found = measure(ArraySource(volume), percentiles=[(percentile,)])["channels"][0]["percentiles"][0]
    assert found == pytest.approx(np.percentile(volume.astype(np.float64), percentile), rel=1e-9, abs=1e-30)


def test_moments_far_from_zero_keep_their_digits(small_blocks):
    volume = 1e6 + np.random.default_rng(2).normal(0, 1e-2, (1, 20, 20, 20))
    assert measure(ArraySource(volume))["channels"][0]["std"] == pytest.approx(volume.std(), rel=1e-6)


def test_an_empty_or_infinite_channel_is_named():
    empty = np.zeros((1, 4, 4, 4), dtype=np.uint8)
    with pytest.raises(DataError, match="all voxels of channel 0 are 0"):
        measure(ArraySource(empty), nonzero=[True])
    with pytest.raises(DataError, match="not finite"):
        measure(ArraySource(np.full((1, 4, 4, 4), np.nan, dtype=np.float32)))


def normalised(volume, *schemes):
    normalize = ChannelNormalization(schemes, channels=len(volume))
    if normalize.needs:
        normalize.bind(measure(ArraySource(volume), nonzero=normalize.nonzero, percentiles=normalize.percentiles))
    out = np.full(volume.shape, np.nan, dtype=np.float32)
    normalize(volume, out)
    return out


def test_schemes_do_what_they_say():
    volume = np.random.default_rng(3).normal(100, 50, (1, 6, 7, 8)).astype(np.float32)
    volume[:, :2] = 0
    exact = volume.astype(np.float64)
    ct = normalised(volume, {"scheme": "ct", "lower": 20, "upper": 150, "mean": 90, "std": 40})
    assert np.allclose(ct, (exact.clip(20, 150) - 90) / 40, atol=1e-6)
    assert np.allclose(normalised(volume, {"scheme": "zscore"}), (exact - exact.mean()) / exact.std(), atol=1e-5)
    rescaled = normalised(volume, {"scheme": "rescale"})
    assert (rescaled.min(), rescaled.max()) == (0, pytest.approx(1))
    low, high = np.percentile(volume, (10, 90))
    clipped = normalised(volume, {"scheme": "percentile", "low": 10, "high": 90})
    assert np.allclose(clipped, (exact.clip(low, high) - low) / (high - low), atol=1e-5)
    assert np.array_equal(normalised(volume, {"scheme": "none"}), volume)
    assert np.allclose(normalised(volume, {"scheme": "scale", "by": 255}), volume / 255)
    patch = normalised(volume, {"scheme": "patch_zscore"})
    assert abs(patch.mean()) < 1e-5
    assert patch.std() == pytest.approx(1, abs=1e-5)
    inside = volume != 0
    masked = normalised(volume, {"scheme": "zscore", "nonzero": True})
    assert not masked[~inside].any()
    assert masked[inside].std() == pytest.approx(1, abs=1e-5)


def test_channels_have_their_own_schemes():
    volume = np.stack([np.full((2, 2, 2), 51.0), np.full((2, 2, 2), 7.0)])
    out = normalised(volume, {"scheme": "scale", "by": 51}, {"scheme": "none"})
    assert (out[0] == 1).all()
    assert (out[1] == 7).all()


@pytest.mark.parametrize(
    ("schemes", "words"),
    [
        ([{"scheme": "zscor"}], "'zscore'"),
        ([{"scheme": "ct", "mean": 1}], "needs lower, upper, std"),
        (
            [{"scheme": "ct", "lower": 0, "upper": 1, "mean": 0, "std": 1, "nonzro": True}],
            r"normalization\.nonzro` of ct",
        ),
        ([{"scheme": "none"}] * 2, "has 2 entries, the volume has 3"),
        ([{"scheme": "percentile", "low": 60, "high": 40}], "low=60, high=40"),
        ([{"scheme": "percentile", "nonzero": "box"}], "nonzero='box'; expected true or false"),
        ([{"scheme": "zscore", "nonzero": "bx"}], "nonzero='bx'; expected true, false or box"),
    ],
)
def test_bad_schemes_are_refused(schemes, words):
    with pytest.raises(ConfigError, match=words):
        ChannelNormalization(schemes, channels=3)
