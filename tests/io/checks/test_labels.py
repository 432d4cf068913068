import numpy as np
import pytest

from seewhy.errors import DataError
from seewhy.io.checks.labels import read_whole_labels


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_scaled_labels_are_whole_numbers(dtype):
    stored = np.array([0, 100, 200], np.uint8)
    labels = read_whole_labels((stored * np.float64(0.01)).astype(dtype), "seg")
    assert labels.tolist() == [0, 1, 2]
    assert labels.dtype == np.int64


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint64])
def test_integers_stay_as_they_are(dtype):
    labels = np.array([0, 1], dtype)
    assert read_whole_labels(labels, "seg") is labels


@pytest.mark.parametrize("wrong", [0.5, np.nan, np.inf, 1.01])
def test_other_values_are_refused_by_name(wrong):
    with pytest.raises(DataError, match=rf"seg\.nii contains 1 values .*{wrong:g}"):
        read_whole_labels(np.array([0, 1, wrong]), "seg.nii")
