"""Small subjects of two domains on disk, whose every voxel says where it is."""

import nibabel as nib
import numpy as np
import pytest

MODALITIES = ("t1", "t1ce", "t2", "flair")
SHAPE = (20, 24, 10)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def head(number=0, *, shape=SHAPE):
    """Modality → [X, Y, Z] int16: 0 outside an off-centre block, inside a value of its own for every voxel."""
    x, y, z = np.indices(shape)
    inside = (x >= 4) & (x < 15) & (y >= 5) & (y < 21) & (z >= 1)
    return {
        name: np.where(inside, 100 + 3000 * place + 100 * z + 7 * y + x + number, 0).astype(np.int16)
        for place, name in enumerate(MODALITIES)
    }


def write_subject(folder, name, volumes, *, affine=LPS, names=None, seg=True):
    """Write one subject as `<folder>/<name>/<name>_<modality>.nii.gz`."""
    (folder / name).mkdir(parents=True)
    for modality, values in volumes.items():
        known = (names or {}).get(modality, modality)
        nib.save(nib.Nifti1Image(values, affine), folder / name / f"{name}_{known}.nii.gz")
    if seg:
        labels = np.zeros(next(iter(volumes.values())).shape, np.uint8)
        labels[8:11, 9:13, 3:6] = 4
        nib.save(nib.Nifti1Image(labels, affine), folder / name / f"{name}_seg.nii.gz")


@pytest.fixture
def write():
    """`write_subject` and `head`."""
    return write_subject


@pytest.fixture
def volumes():
    """The maker of heads."""
    return head


@pytest.fixture
def domains(tmp_path):
    """A data set of five subjects in a and four in b."""
    for domain, count in (("a", 5), ("b", 4)):
        for number in range(count):
            write_subject(tmp_path / "set" / domain, f"{domain.upper()}_{number}", head(10 * number + (domain == "b")))
    return tmp_path / "set"
