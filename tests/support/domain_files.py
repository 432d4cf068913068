"""Small subjects of two domains on disk, with a different value in every voxel."""

import nibabel as nib
import numpy as np

MODALITIES = ("t1", "t1ce", "t2", "flair")
SHAPE = (20, 24, 10)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def make_volumes(number=0, *, shape=SHAPE):
    """Modality → [X, Y, Z] int16: 0 outside an off-centre block, inside a different value for every voxel."""
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
        alias = (names or {}).get(modality, modality)
        nib.save(nib.Nifti1Image(values, affine), folder / name / f"{name}_{alias}.nii.gz")
    if seg:
        labels = np.zeros(next(iter(volumes.values())).shape, np.uint8)
        labels[8:11, 9:13, 3:6] = 4
        nib.save(nib.Nifti1Image(labels, affine), folder / name / f"{name}_seg.nii.gz")


def write_domains(root, counts=(5, 4)):
    """Write a data set with so many subjects in a and b."""
    for domain, count in zip("ab", counts, strict=True):
        for number in range(count):
            volumes = make_volumes(10 * number + (domain == "b"))
            write_subject(root / domain, f"{domain.upper()}_{number}", volumes)
    return root
