"""A small slice data set on disk."""

import numpy as np
import pytest


def write_set(root, patients, *, slices=6, size=32, masks=True, name="BRATS_{patient}_{index}_{label}.npy"):
    """Write noisy squares; slices 2 and 3 of every patient show a brighter one, and have label 1."""
    images, annotations = root / "imageSlice", root / "maskSlice"
    images.mkdir(parents=True)
    if masks:
        annotations.mkdir()
    for number, patient in enumerate(patients):
        rng = np.random.default_rng(number)
        for index in range(slices):
            label = int(index in (2, 3))
            image = np.zeros((size, size), np.float32)
            image[4:-4, 4:-4] = (100 + 50 * number) + 10 * rng.standard_normal((size - 8, size - 8))
            mask = np.zeros((size, size), np.uint8)
            if label:
                mask[8:14, 8:14] = 1
                image[8:14, 8:14] += 60
            file = name.format(patient=patient, index=index, label=label)
            np.save(images / file, image)
            if masks:
                np.save(annotations / file, mask)
    return root


@pytest.fixture
def slice_set(tmp_path):
    """A data set of eight patients with six slices each."""
    return write_set(tmp_path / "set", [f"{number:03d}" for number in range(1, 9)])


@pytest.fixture
def make_slice_set(tmp_path):
    """A function that writes a data set under a new name."""

    def make(folder, patients, **options):
        return write_set(tmp_path / folder, patients, **options)

    return make
